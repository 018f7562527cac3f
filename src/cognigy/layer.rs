//! The layer that reads the event of a verified request.

use super::{CognigyEvent, EventRejection};
use crate::{
    body::{BufferedBody, ResponseBody},
    observe::{Observer, Observers},
    problem::{Problem, Refuser},
    refusal::CallOrRefusal,
    signature::Verified,
};
use http::{Extensions, Request, Response};
use std::task::{Context, Poll};
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
/// not an event is refused (400) before it takes an idempotency key, and a request that no layer has verified
/// with 500: see [`EventRejection`].
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
/// use tower_webhook::cognigy::EventLayer;
/// use tower_webhook::signature::{Verified, scheme::BasicAuth};
///
/// # tokio_test::block_on(async {
/// let service = ServiceBuilder::new()
///     .layer(SignatureVerifyLayer::new(BasicAuth::new("cognigy", "a long random text")?))
///     .layer(EventLayer::new())
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
    refuser: Refuser<EventRejection>,
    observers: Observers,
}

impl EventLayer {
    /// Makes the layer.
    pub const fn new() -> Self {
        Self {
            refuser: Refuser::new(),
            observers: Observers::none(),
        }
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
    /// layer, [`Event::Trouble`](crate::observe::Event::Trouble). Default: none except `tracing`.
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

fn read(extensions: &mut Extensions) -> Result<(), EventRejection> {
    let verified = extensions.get_mut::<Verified>();
    let with_body = verified.and_then(|verified| Some((verified.body()?.clone(), verified)));
    let (body, verified) = with_body.ok_or(EventRejection::Unverified)?;
    let event = CognigyEvent::from_bytes(body).map_err(EventRejection::Event)?;
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
        match read(req.extensions_mut()) {
            Ok(()) => CallOrRefusal::called(self.inner.call(req)),
            Err(reason) => {
                reason.tell(&self.layer.observers);
                CallOrRefusal::refused(self.layer.refuser.response(reason))
            }
        }
    }
}
