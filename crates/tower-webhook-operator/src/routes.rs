//! The routes and their answers.

use crate::{
    EventLog, Shared, Trigger,
    redrives::{AnyRedrive, OPERATOR},
    trouble,
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{
        DefaultBodyLimit, FromRequest, Path, Query, Request, State, rejection::PathRejection,
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{str::FromStr, sync::Arc, time::Duration};
use tower::ServiceBuilder;
use tower_webhook::{
    BufferBodyLayer, LoopGuardLayer, SignatureVerifyLayer, StoreError, StoreErrorKind,
    body::BufferedBody,
    dead_letter::{Cursor, Discarded, EntryId, Filter, LetterStore, Page, Reason, json as record},
    idempotency::{IdempotencyKey, KeySource},
    loop_guard::Hops,
    observe::{Event, Id},
    problem::Problem,
    queue::{Enqueued, Status, TaskId},
    signature::scheme::SharedToken,
};

/// The largest number of entries in a list whose query has no `limit`.
const PAGE: usize = 100;

/// The longest `Idempotency-Key`, and the longest id in a triggered payload.
const MAX_KEY: usize = 255;

pub(crate) fn router(
    shared: Arc<Shared>,
    token: SharedToken,
    bodies: BufferBodyLayer,
    loops: Option<LoopGuardLayer>,
) -> Router {
    let routes = Router::new()
        .route("/webhooks/events/{event_id}", get(event))
        .route("/webhooks/replay/{event_id}", post(replay))
        .route("/dead-letters", get(list))
        .route("/dead-letters/redrive", post(redrive_many))
        .route("/dead-letters/{id}", get(one).delete(discard))
        .route("/dead-letters/{id}/redrive", post(redrive_one))
        .route("/api/v2/webhooks/trigger", post(trigger));
    let refusals = middleware::from_fn_with_state(Arc::clone(&shared), tell_refusals);
    let verify = SignatureVerifyLayer::new(token).observe(shared.observers.clone());
    let routes = match loops {
        Some(loops) => routes.route_layer(loops),
        None => routes,
    };
    let guarded = routes.route_layer(refusals).route_layer(
        ServiceBuilder::new()
            .layer(verify.before_body())
            .layer(bodies)
            .layer(verify)
            // The extractors' own limit of 2 MiB, which would hide ours.
            .layer(DefaultBodyLimit::disable()),
    );
    guarded.with_state(shared)
}

impl Shared {
    fn redrive(&self) -> Result<&dyn AnyRedrive, Refused> {
        let missing = || not_here(&self.no_dead_letters);
        self.redrive.as_deref().ok_or_else(missing)
    }

    fn store(&self) -> Result<&dyn LetterStore, Refused> {
        self.redrive().map(AnyRedrive::store)
    }

    fn events(&self) -> Result<&dyn EventLog, Refused> {
        let missing =
            || not_here("no store of events is set: give the operator routes an `EventLog`");
        self.events.as_deref().ok_or_else(missing)
    }

    /// Records an action, before it: nothing is done that the audit log does not have.
    async fn audit(&self, action: &'static str, subject: &str) -> Result<(), Refused> {
        match &self.events {
            Some(events) => self.asked(events.audit(action, subject)).await,
            None => Ok(()),
        }
    }

    /// Waits for the answer of a store. If the store fails: 413 if it finds the event too large, otherwise
    /// 503 with `Retry-After`, and the failure is reported.
    async fn asked<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, Refused> {
        let error = match answer.await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if error.kind() == StoreErrorKind::TooLarge {
            return Err(Refused(Problem::new(StatusCode::PAYLOAD_TOO_LARGE)));
        }
        trouble(&self.observers, "a store failed", &error);
        Err(Refused(unavailable()))
    }
}

/// A refusal, as `application/problem+json`.
#[derive(Clone)]
struct Refused(Problem);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut answer = self.0.clone().into_response().map(Body::new);
        answer.extensions_mut().insert(self);
        answer
    }
}

/// Tells the observers of what the routes refuse. A store that failed has been told of as trouble.
async fn tell_refusals(State(shared): State<Arc<Shared>>, req: Request, next: Next) -> Response {
    let answer = next.run(req).await;
    if let Some(Refused(problem)) = answer.extensions().get() {
        let reason = match problem.status() {
            StatusCode::BAD_REQUEST => "invalid",
            StatusCode::CONFLICT => "in_progress",
            StatusCode::NOT_FOUND => "not_found",
            StatusCode::NOT_IMPLEMENTED => "not_configured",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            _ => return answer,
        };
        // Not the detail: it may quote the body.
        let title = problem.title_text();
        shared.observers.tell(|| Event::Refused {
            by: OPERATOR,
            reason,
            detail: Id::new(&title),
        });
    }
    answer
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

fn unavailable() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(Duration::from_secs(2))
}

fn not_found() -> Refused {
    Refused(Problem::new(StatusCode::NOT_FOUND))
}

fn bad(field: &'static str, expected: impl Into<String>) -> Refused {
    let problem = Problem::new(StatusCode::BAD_REQUEST);
    Refused(problem.detail(expected.into()).member("field", field))
}

fn not_here(detail: &str) -> Refused {
    Refused(Problem::new(StatusCode::NOT_IMPLEMENTED).detail(detail.to_owned()))
}

/// Text that is not an id belongs to no entry: 404.
fn entry_id(path: Result<Path<String>, PathRejection>) -> Result<EntryId, Refused> {
    let id = path.map(|Path(id)| id).unwrap_or_default();
    id.parse().map_err(|_| not_found())
}

/// The selected entries: the query of a list, or the body of a re-drive.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wanted {
    reason: Option<String>,
    target: Option<String>,
    event_id: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

impl Wanted {
    /// For a list: a parameter with an empty value counts as absent. Not for a re-drive, where a
    /// mistake must not mean "all".
    fn without_empty(self) -> Self {
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            reason: said(self.reason),
            target: said(self.target),
            event_id: said(self.event_id),
            limit: said(self.limit),
            cursor: said(self.cursor),
        }
    }

    fn filter(&self) -> Result<Filter, Refused> {
        let mut filter = Filter::all();
        if let Some(name) = &self.reason {
            let reason = Reason::from_name(name).ok_or_else(|| {
                let names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
                bad(
                    "reason",
                    format!("`reason` must be one of {}", names.join(", ")),
                )
            })?;
            filter = filter.reason(reason);
        }
        if let Some(target) = &self.target {
            filter = filter.target(target);
        }
        if let Some(event_id) = &self.event_id {
            filter = filter.event_id(event_id);
        }
        Ok(filter)
    }

    fn page(&self) -> Result<Page, Refused> {
        let limit = match &self.limit {
            None => PAGE,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=Page::MAX).contains(limit))
                .ok_or_else(|| bad("limit", format!("`limit` must be 1 to {}", Page::MAX)))?,
        };
        let page = Page::first(limit);
        match &self.cursor {
            None => Ok(page),
            Some(text) => Cursor::from_str(text)
                .map(|cursor| page.after(cursor))
                .map_err(|_| bad("cursor", "`cursor` must be the `nextCursor` of a list")),
        }
    }
}

/// `GET /dead-letters`: newest first.
async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = query.map_err(|error| bad("query", error.body_text()))?;
    let wanted = wanted.without_empty();
    let (filter, page) = (wanted.filter()?, wanted.page()?);
    let store = shared.store()?;
    let listing = shared.asked(store.list(&filter, &page)).await?;
    Ok(as_json(record::listing_json(&listing)))
}

fn as_json(body: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body.into()).into_response()
}

/// `GET /dead-letters/{id}`: the whole record.
async fn one(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = entry_id(id)?;
    let store = shared.store()?;
    let entry = shared.asked(store.get(id)).await?;
    let entry = entry.ok_or_else(not_found)?;
    Ok(as_json(record::to_json(&entry)))
}

/// `DELETE /dead-letters/{id}`: removes an entry without sending it.
async fn discard(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refused> {
    let id = entry_id(id)?;
    let store = shared.store()?;
    let entry = shared.asked(store.get(id)).await?;
    entry.ok_or_else(not_found)?;
    shared.audit("discard", &id.to_string()).await?;
    match shared.asked(store.discard(id)).await? {
        Discarded::Done => {
            shared.observers.tell(|| Event::Discarded {
                entry: Id::new(&id),
                by: OPERATOR,
            });
            Ok(StatusCode::NO_CONTENT)
        }
        Discarded::InProgress => {
            let detail = "the entry is being sent again";
            Err(Problem::new(StatusCode::CONFLICT).detail(detail).into())
        }
        Discarded::Missing => Err(not_found()),
    }
}

/// `POST /dead-letters/{id}/redrive`: sends an entry again, in the background. It is removed when it is
/// delivered.
async fn redrive_one(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = entry_id(id)?;
    let store = shared.store()?;
    let entry = shared.asked(store.get(id)).await?;
    entry.ok_or_else(not_found)?;
    let redrive = shared.redrive()?;
    shared.audit("redrive", &id.to_string()).await?;
    let queued = shared.redrives.one(redrive, id, &shared.observers).await;
    Ok(started(1, u64::from(queued)))
}

/// `POST /dead-letters/redrive`: sends all entries again that match the filter in the body.
async fn redrive_many(State(shared): State<Arc<Shared>>, body: Bytes) -> Result<Response, Refused> {
    let wanted: Wanted = match body.as_ref() {
        [] => Wanted::default(),
        body => serde_json::from_slice(body).map_err(|error| bad("filter", error.to_string()))?,
    };
    if wanted.limit.is_some() || wanted.cursor.is_some() {
        return Err(bad("filter", "`limit` and `cursor` are for lists"));
    }
    let filter = wanted.filter()?;
    let store = shared.store()?;
    let matched = shared.asked(store.count(&filter)).await?;
    let subject = serde_json::to_string(&json!({
        "reason": wanted.reason, "target": wanted.target, "eventId": wanted.event_id,
    }));
    shared
        .audit("redrive", &subject.unwrap_or_default())
        .await?;
    let redrive = shared.redrive()?;
    let began = shared.redrives.many(redrive, filter, &shared.observers);
    let queued = if began { matched } else { 0 };
    Ok(started(matched, queued))
}

fn started(matched: u64, queued: u64) -> Response {
    let counts = json!({ "status": "queued", "matched": matched, "queued": queued });
    (StatusCode::ACCEPTED, Json(counts)).into_response()
}

/// `GET /webhooks/events/{eventId}`: what became of an event. It is as far as the worst of its deliveries.
async fn event(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let found = shared.asked(shared.events()?.status(&id)).await?;
    let deliveries = found.ok_or_else(not_found)?.deliveries;
    let worst = deliveries.iter().map(|of| progress(&of.task.status)).max();
    let attempts: u64 = deliveries
        .iter()
        .map(|of| u64::from(of.task.attempts))
        .sum();
    let deliveries = deliveries.iter().map(|of| {
        let at = Timestamp::try_from(of.task.accepted_at).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut delivery = json!({
            "taskId": of.task.id.to_string(),
            "status": progress(&of.task.status).as_str(),
            "attempts": of.task.attempts,
            "acceptedAt": at.to_string(),
        });
        if let Some(name) = &of.name {
            delivery["name"] = json!(name);
        }
        delivery
    });
    let answer = json!({
        "eventId": id,
        "status": worst.map_or("received", Progress::as_str),
        "attempts": attempts,
        "deliveries": deliveries.collect::<Vec<_>>(),
    });
    Ok(Json(answer).into_response())
}

/// How far a delivery is, from the best to the worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    Delivered,
    Queued,
    Cancelled,
    DeadLettered,
}

impl Progress {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Queued => "queued",
            Self::Cancelled => "cancelled",
            Self::DeadLettered => "dead-lettered",
        }
    }
}

const fn progress(status: &Status) -> Progress {
    match status {
        Status::Succeeded { .. } => Progress::Delivered,
        Status::Queued | Status::Running => Progress::Queued,
        Status::Cancelled => Progress::Cancelled,
        Status::Failed => Progress::DeadLettered,
    }
}

/// `POST /webhooks/replay/{eventId}`: delivers a stored event once more. It was verified when it was
/// received: neither its signature nor the age of its timestamp is checked again.
async fn replay(
    State(shared): State<Arc<Shared>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    let id = id.map(|Path(id)| id).unwrap_or_default();
    let queued = shared.asked(shared.events()?.replay(&id)).await?;
    let queued = queued.ok_or_else(not_found)?;
    Ok(queued_as(queued))
}

/// `POST /api/v2/webhooks/trigger`: delivers a JSON object that did not come from a sender. Requests
/// with the same `Idempotency-Key` are one delivery.
async fn trigger(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    req: Request,
) -> Result<Response, Refused> {
    let hops = req.extensions().get::<Hops>().cloned();
    let body = Bytes::from_request(req, &())
        .await
        .map_err(|_| bad("body", "the body cannot be read"))?;
    let payload: Value =
        serde_json::from_slice(&body).map_err(|error| bad("body", error.to_string()))?;
    let Some(payload) = payload.as_object() else {
        return Err(bad("body", "the body must be a JSON object"));
    };
    let key = trigger_key(headers)?;
    let event_id = ["id", "eventId"].iter().find_map(|name| payload.get(*name));
    let event_id = event_id.and_then(Value::as_str).map(str::to_owned);
    if event_id.as_ref().is_some_and(|id| id.len() > MAX_KEY) {
        return Err(bad("id", format!("an id has at most {MAX_KEY} bytes")));
    }
    let trigger = Trigger {
        key,
        event_id,
        payload: body,
        hops,
    };
    let queued = shared.asked(shared.events()?.trigger(trigger)).await?;
    Ok(queued_as(queued))
}

/// The key of a trigger: the header, quoted or bare, or else random, so that no other trigger is its repeat.
fn trigger_key(headers: HeaderMap) -> Result<IdempotencyKey, Refused> {
    const HEADER: &str = "idempotency-key";
    let mut head = http::Request::new(BufferedBody::default());
    *head.headers_mut() = headers;
    let id = KeySource::header(HeaderName::from_static(HEADER)).find(&head);
    let id = id.map(|id| id.unwrap_or_else(|| TaskId::random().to_string().into()));
    let key = id.and_then(|id| IdempotencyKey::new("trigger", &id));
    let key = key.map_err(|error| bad(HEADER, error.to_string()))?;
    // It goes to the receiver in this form, which may be a service with this limit too.
    if key.to_text().len() > MAX_KEY {
        return Err(bad(HEADER, "the key is too long"));
    }
    Ok(key)
}

fn queued_as(queued: Enqueued) -> Response {
    let answer = json!({ "status": "queued", "taskId": queued.id.to_string() });
    (StatusCode::ACCEPTED, Json(answer)).into_response()
}
