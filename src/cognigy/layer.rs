//! The layer that reads the event of a verified request.

use super::{CognigyEvent, EventRejection};
use crate::{
    body::{BufferedBody, ResponseBody},
    clock::WallClock,
    observe::{Observer, Observers},
    problem::{Problem, Refuser},
    refusal::CallOrRefusal,
    signature::Verified,
};
use http::{Extensions, Request, Response};
use std::{
    task::{Context, Poll},
    time::Duration,
};
use tower_layer::Layer;
use tower_service::Service;

/// Reads the [`CognigyEvent`] of a verified request, once: for the idempotency layer, for the handler, and for
/// every service between them.
///
/// The event goes into the extensions of the request. Its `eventId` becomes the [id](Verified::id) of the verified
/// message, unless the signature scheme has signed one in a header, so that
/// `KeySource::verified_id` finds it. In axum, the [extractors](super#in-axum) take the event out of
/// the extensions without reading it again.
///
/// It reads the [bytes that were verified](Verified::body), whatever the body of the request is by then. A body that is
/// not an event is refused (400) before it takes an idempotency key, so is an event that is [too old](Self::kept) to be
/// recognised as a repeat, and a request that no layer has verified is refused with 500: see [`EventRejection`].
///
/// A dialog event has no timestamp, so its age is not checked: unless the signature scheme signs a timestamp, a
/// captured one works again when its key is forgotten.
///
/// # Order
///
/// Inside the signature layer; outside the idempotency layer.
///
/// # Cancel safety
///
/// The event is read in `call`, before there is a future to drop. Dropping the response future drops the
/// handler's future.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use std::convert::Infallible;
/// use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
/// use tower_webhook::{CognigyEvent, SignatureVerifyLayer, body::BufferedBody};
/// use std::time::{Duration, UNIX_EPOCH};
/// use tower_webhook::{clock::WallClock, cognigy::EventLayer};
/// use tower_webhook::signature::{Verified, scheme::BasicAuth};
///
/// # tokio_test::block_on(async {
/// let now = WallClock::fixed(UNIX_EPOCH + Duration::from_secs(1_705_312_800)); // the time of the event below
/// let service = ServiceBuilder::new()
///     .layer(SignatureVerifyLayer::new(BasicAuth::new("cognigy", "a long random text")?))
///     .layer(EventLayer::new().clock(now))
///     .service(service_fn(|req: Request<BufferedBody>| async move {
///         let event = req.extensions().get::<CognigyEvent>();
///         assert_eq!(event.and_then(CognigyEvent::event_id), Some("evt_1"));
///         let verified = req.extensions().get::<Verified>();
///         assert_eq!(verified.and_then(Verified::id), Some("evt_1"));
///         Ok::<_, Infallible>(Response::new(BufferedBody::default()))
///     }));
///
/// let req = Request::post("/hooks")
///     .header("authorization", "Basic Y29nbmlneTphIGxvbmcgcmFuZG9tIHRleHQ=")
///     .body(BufferedBody::from(
///         r#"{"eventId":"evt_1","timestamp":"2024-01-15T10:00:00Z","type":"DIALOG_STARTED","payload":{}}"#,
///     ))?;
/// assert_eq!(service.oneshot(req).await?.status(), 200);
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct EventLayer {
    clock: WallClock,
    kept: Duration,
    refuser: Refuser<EventRejection>,
    observers: Observers,
}

impl EventLayer {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self {
            clock: WallClock::system(),
            kept: Duration::from_secs(7 * 24 * 60 * 60),
            refuser: Refuser::new(),
            observers: Observers::none(),
        }
    }

    /// Sets how long an accepted id is recognised as a repeat, at most the TTL of the idempotency layer. Default: 7
    /// days, as that of `IdempotencyLayer::webhook`. An event whose `timestamp` is
    /// older than this, less a day, or more than a day in the future, is refused with 400; where `kept` is under two
    /// days, one that is more than half of `kept` old or in the future: see
    /// [`Envelope::require_recent`](super::Envelope::require_recent). A captured request is thus worth nothing once
    /// its key is forgotten. `Duration::MAX` takes events of any age.
    pub const fn kept(mut self, kept: Duration) -> Self {
        self.kept = kept;
        self
    }

    /// Sets the clock that the age of an event is measured with. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets a function that makes the response to a refused request. Default: the [`Problem`] that the function
    /// gets, as `application/problem+json`.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&EventRejection, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.refuser = Refuser::with(respond);
        self
    }

    /// Adds an observer of [`Event::Refused`](crate::observe::Event::Refused) and, on a route without a signature
    /// layer, [`Event::MissingLayer`](crate::observe::Event::MissingLayer). Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl Default for EventLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for EventLayer {
    type Service = ReadEvent<S>;

    fn layer(&self, inner: S) -> ReadEvent<S> {
        ReadEvent {
            inner,
            layer: self.clone(),
        }
    }
}

fn read(extensions: &mut Extensions, layer: &EventLayer) -> Result<(), EventRejection> {
    let verified = extensions.get_mut::<Verified>();
    let with_body = verified.and_then(|verified| Some((verified.body()?.clone(), verified)));
    let (body, verified) = with_body.ok_or(EventRejection::Unverified)?;
    let event = CognigyEvent::from_bytes(body)?.require_recent(layer.clock.now(), layer.kept)?;
    if let Some(id) = event.event_id() {
        verified.name_event(event.shared(id));
    }
    extensions.insert(event);
    Ok(())
}

/// Middleware of [`EventLayer`].
#[derive(Clone, Debug)]
pub struct ReadEvent<S> {
    inner: S,
    layer: EventLayer,
}

impl<S, B, ResB> Service<Request<B>> for ReadEvent<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = CallOrRefusal<S::Future, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> Self::Future {
        match read(req.extensions_mut(), &self.layer) {
            Ok(()) => CallOrRefusal::called(self.inner.call(req)),
            Err(reason) => {
                reason.tell(&self.layer.observers, req.uri(), req.extensions());
                CallOrRefusal::refused(self.layer.refuser.response(reason))
            }
        }
    }
}
