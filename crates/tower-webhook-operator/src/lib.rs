//! Operator routes for [`tower_webhook`], as an axum router, which is a tower service: mount it in any
//! axum or hyper server.
//!
//! | Route | Does | Answers |
//! | --- | --- | --- |
//! | `GET /dead-letters?reason=&target=&eventId=&limit=&cursor=` | lists entries, newest first | 200 `{"items":[...],"nextCursor":...}` |
//! | `GET /dead-letters/{id}` | shows one entry, whole | 200, 404 |
//! | `DELETE /dead-letters/{id}` | discards it | 204, 404, 409 while it is being sent again |
//! | `POST /dead-letters/{id}/redrive` | sends it again, in the background | 202 `{"status":"queued","matched":1,"queued":1}`, 404 |
//! | `POST /dead-letters/redrive` | sends all entries again that match the filter in the body | 202 with counts |
//! | `GET /webhooks/events/{eventId}` | shows what became of an event: `received`, `queued`, `delivered`, `dead-lettered` or `cancelled` | 200, 404 |
//! | `POST /webhooks/replay/{eventId}` | delivers a stored event once more | 202 `{"status":"queued","taskId":ID}`, 404 |
//! | `POST /api/v2/webhooks/trigger` | delivers a JSON object that an operator made | 202 with a task id |
//!
//! Every route requires `Authorization: Bearer TOKEN`, compared in constant time, and answers 401
//! without it, before the body is read. Bodies are read up to [`OperatorBuilder::max_body`]. Refusals are
//! `application/problem+json`; a store that fails is answered 503 with `Retry-After`.
//!
//! A deployment whose deliveries could end at one of these routes gives them its loop guard
//! ([`OperatorBuilder::loop_guard`]): what it sent itself is then answered 508.
//!
//! Dead letters come from a [`Redrive`] and its store, events from an [`EventLog`]. The routes of the one
//! that is not set answer 501.
//!
//! # Examples
//!
//! ```
//! use std::{convert::Infallible, sync::Arc};
//! use http::{Request, Response, StatusCode};
//! use tower::{ServiceExt, service_fn};
//! use tower_webhook::{
//!     body::BufferedBody,
//!     dead_letter::{MemoryDeadLetters, redrive::Redrive},
//! };
//! use tower_webhook_operator::Operator;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Your delivery stack, and the store that its dead letters are written to.
//! let client = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, Infallible>(Response::new(BufferedBody::default()))
//! });
//! let store = Arc::new(MemoryDeadLetters::default());
//! let redrive = Redrive::builder(store).build(client)?;
//!
//! let operator = Operator::builder("a long random operator token")
//!     .redrive(redrive)
//!     .build()?;
//! let app = operator.router(); // or `.merge(operator.router())` into yours
//!
//! let list = Request::get("/dead-letters").body(axum::body::Body::empty())?;
//! assert_eq!(app.clone().oneshot(list).await?.status(), StatusCode::UNAUTHORIZED);
//!
//! let list = Request::get("/dead-letters")
//!     .header("authorization", "Bearer a long random operator token")
//!     .body(axum::body::Body::empty())?;
//! assert_eq!(app.oneshot(list).await?.status(), StatusCode::OK);
//!
//! operator.stop(std::time::Duration::from_secs(1)).await;
//! # Ok(())
//! # }
//! ```

mod redrives;
mod routes;

use axum::Router;
use bytes::Bytes;
use redrives::{AnyRedrive, Redrives};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};
use tower_service::Service;
use tower_webhook::{
    BoxError, BoxFuture, BufferBodyLayer, InvalidConfig, LoopGuardLayer, StoreError,
    body::BodyBudget,
    dead_letter::{
        DescribeResponse,
        redrive::{Redrive, Resend},
    },
    idempotency::IdempotencyKey,
    loop_guard::Hops,
    observe::{Event, Id, Observer, Observers},
    outcome::{Classify, MakeClassifier},
    queue::{Enqueued, Task},
    signature::{Secrets, scheme::SharedToken},
};

/// The store of accepted events, for the routes replay and trigger, and for the audit log.
///
/// Nothing is done that the audit log does not have: each action is recorded durably before it, or in one
/// transaction with it. If the record fails, nothing is done, and the operator gets 503. So the log has what
/// operators asked for, and an action that failed or was refused afterwards may be among it. That is why the log
/// is not an [`Observer`], which can neither wait nor fail.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no store of events",
    note = "implement `EventLog` for the store of your events; without `.events(..)` the routes replay and trigger answer 501"
)]
pub trait EventLog: Send + Sync + 'static {
    /// Records `replay` in the audit log and queues the stored event `event_id` once more. Returns `None` if there
    /// is no such event. `event_id` is text from the path of the request: an implementation that stores events of
    /// several scopes must look up one of them, such as the one that [`IdempotencyKey::from_text`] reads.
    fn replay(&self, event_id: &str) -> BoxFuture<Result<Option<Enqueued>, StoreError>>;

    /// Records `trigger` in the audit log, and stores and queues an event that an operator made. A second one with
    /// the same key gets the first one's task.
    fn trigger(&self, trigger: Trigger) -> BoxFuture<Result<Enqueued, StoreError>>;

    /// What became of the event with this id, which is that of [`replay`](Self::replay). `None` if it is not known, or
    /// not any more.
    fn status(&self, event_id: &str) -> BoxFuture<Result<Option<EventStatus>, StoreError>>;

    /// Records that an operator asked for `action` (`discard`, `redrive`) on `subject`: an id, or a filter as JSON.
    /// Called before the action.
    fn audit(&self, action: &'static str, subject: &str) -> BoxFuture<Result<(), StoreError>>;
}

/// What became of an event: its deliveries. None, if it is stored and its delivery is not queued yet, or it goes nowhere: its
/// status is then `received`.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct EventStatus {
    /// The deliveries of the event.
    pub deliveries: Vec<EventDelivery>,
}

/// One delivery of an event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EventDelivery {
    /// What tells it apart from the other deliveries of the event, such as the name of a route. Default: nothing.
    pub name: Option<String>,
    /// The task of the delivery.
    pub task: Task,
}

impl EventDelivery {
    /// A delivery that needs no name.
    pub const fn new(task: Task) -> Self {
        Self { name: None, task }
    }

    /// Sets the name.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl From<Vec<EventDelivery>> for EventStatus {
    fn from(deliveries: Vec<EventDelivery>) -> Self {
        Self { deliveries }
    }
}

/// An event that an operator made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Trigger {
    /// Scope `trigger`, and the request's `Idempotency-Key` or a random id. Send its
    /// [text](IdempotencyKey::to_text) to the receiver, at most 255 bytes, and not the id: an event may have the
    /// same id.
    pub key: IdempotencyKey,
    /// The payload's own `id` or `eventId`, if it has one.
    pub event_id: Option<String>,
    /// A JSON object, as it was sent.
    pub payload: Bytes,
    /// Where the request has been, if it came from a deployment that marks what it sends: see
    /// [`OperatorBuilder::loop_guard`]. The delivery must carry it on.
    pub hops: Option<Hops>,
}

/// The operator routes, and the re-drives that they started. Clones share both.
#[derive(Clone)]
pub struct Operator {
    shared: Arc<Shared>,
    token: SharedToken,
    bodies: BufferBodyLayer,
    loops: Option<LoopGuardLayer>,
}

pub(crate) struct Shared {
    redrive: Option<Box<dyn AnyRedrive>>,
    /// The reason if there is no re-drive.
    no_dead_letters: Cow<'static, str>,
    events: Option<Box<dyn EventLog>>,
    redrives: Redrives,
    observers: Observers,
}

impl Operator {
    /// Returns a builder with the default settings. Every request must have `Authorization: Bearer TOKEN`
    /// with this token, or with one of several during rotation.
    pub fn builder(token: impl Into<Secrets>) -> OperatorBuilder {
        OperatorBuilder {
            token: token.into(),
            max_body: 1 << 20,
            body_budget: None,
            loops: None,
            redrive: None,
            no_dead_letters: Cow::Borrowed(
                "no store of dead letters is set: give the operator routes a `Redrive`",
            ),
            events: None,
            observers: Observers::none(),
        }
    }

    /// The routes, as a tower service for any axum or hyper server.
    pub fn router(&self) -> Router {
        routes::router(
            Arc::clone(&self.shared),
            self.token.clone(),
            self.bodies.clone(),
            self.loops.clone(),
        )
    }

    /// Refuses further re-drives, and ends each running one after the entry that it is sending. Those that
    /// have not ended after `grace` are dropped, which releases their entries.
    pub async fn stop(&self, grace: Duration) {
        self.shared.redrives.stop(grace).await;
    }
}

/// Builder of an [`Operator`]. Made by [`Operator::builder`].
#[must_use]
pub struct OperatorBuilder {
    token: Secrets,
    max_body: usize,
    body_budget: Option<BodyBudget>,
    loops: Option<LoopGuardLayer>,
    redrive: Option<Box<dyn AnyRedrive>>,
    no_dead_letters: Cow<'static, str>,
    events: Option<Box<dyn EventLog>>,
    observers: Observers,
}

impl OperatorBuilder {
    /// Sets the [`Redrive`] that sends dead letters again, and with it their store. Default: none; the
    /// dead-letter routes answer 501.
    pub fn redrive<S, M, R>(mut self, redrive: Redrive<S, M, R>) -> Self
    where
        S: Service<R::Request> + Clone + Send + Sync + 'static,
        S::Future: Send,
        S::Response: Send,
        S::Error: Into<BoxError> + Send,
        M: MakeClassifier<R::Request> + Clone + Send + Sync + 'static,
        M::Classifier: Classify<S::Response, S::Error> + Send,
        R: Resend + DescribeResponse<S::Response> + Clone + Send + Sync + 'static,
        R::Request: Send,
    {
        self.redrive = Some(Box::new(redrive));
        self
    }

    /// Sets the `detail` of the answer 501 of the dead-letter routes, if no re-drive is set: the reason, such
    /// as a callback that entries are posted to. Default: that no store of dead letters is set.
    pub fn no_dead_letters(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.no_dead_letters = detail.into();
        self
    }

    /// Sets the store of events, which also records the actions of operators. Default: none; replay and
    /// trigger answer 501, and only observers get the other actions: [`Event::Discarded`] those of
    /// [`observe`](Self::observe), [`Event::Redriven`] those of the re-drive.
    pub fn events(mut self, events: impl EventLog) -> Self {
        self.events = Some(Box::new(events));
        self
    }

    /// Sets the longest request body, in bytes. Default: 1 MiB. A longer one is answered 413.
    pub const fn max_body(mut self, bytes: usize) -> Self {
        self.max_body = bytes;
        self
    }

    /// Sets the budget for the bytes of all bodies in flight, to share it with your other routes. Default: a
    /// budget of these routes alone, as [`BufferBodyLayer::budget`] says.
    pub fn body_budget(mut self, budget: BodyBudget) -> Self {
        self.body_budget = Some(budget);
        self
    }

    /// Sets the guard against loops, that of your receiving routes: whatever was sent from this deployment, such as a
    /// delivery to the trigger route, is answered 508. It comes after the token. Default: none.
    pub fn loop_guard(mut self, guard: LoopGuardLayer) -> Self {
        self.loops = Some(guard);
        self
    }

    /// Adds an observer of entries that are discarded ([`Event::Discarded`]), of requests that are refused
    /// ([`Event::Refused`]), and of stores that fail ([`Event::Trouble`]). Default: none except `tracing`.
    ///
    /// Entries that are sent again are reported to the [observers of the re-drive].
    ///
    /// [observers of the re-drive]: tower_webhook::dead_letter::redrive::RedriveBuilder::observe
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Builds the routes.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`]: the token is empty, or no header can hold it; `budget` does not hold a body of
    /// [`max_body`](Self::max_body).
    pub fn build(self) -> Result<Operator, InvalidConfig> {
        let mut bodies = BufferBodyLayer::new(self.max_body).observe(self.observers.clone());
        if let Some(budget) = self.body_budget {
            bodies = bodies.budget(budget)?;
        }
        Ok(Operator {
            token: SharedToken::bearer(self.token)?,
            bodies,
            loops: self.loops,
            shared: Arc::new(Shared {
                redrive: self.redrive,
                no_dead_letters: self.no_dead_letters,
                events: self.events,
                redrives: Redrives::default(),
                observers: self.observers,
            }),
        })
    }
}

/// Reports a failure to the observers.
fn trouble(observers: &Observers, what: &'static str, error: &dyn fmt::Display) {
    observers.tell(|| Event::Trouble {
        part: "operator",
        what,
        detail: Some(Id::new(error)),
    });
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operator")
            .field("bodies", &self.bodies)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OperatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorBuilder")
            .field("max_body", &self.max_body)
            .finish_non_exhaustive()
    }
}

/// The code of the README, as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
