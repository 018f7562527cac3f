//! What the layers of whole bodies ask of a request and of the service inside, with what the compiler says otherwise.

use super::BufferedBody;
use http::{Request, Response};
use tower_service::Service;

/// Says of a layer which bodies it takes: a [`BufferedBody`], and no other.
///
/// It is a bound of the layers that need the whole body, so that the compiler tells what to write where another body
/// arrives. Implemented for `BufferedBody` alone, and sealed.
#[diagnostic::on_unimplemented(
    message = "the body `{B}` is not buffered, and this needs a `BufferedBody`",
    label = "needs requests with a `BufferedBody`",
    note = "to receive, put `BufferBodyLayer::new(limit)` outside of this layer: in a `ServiceBuilder`, before it",
    note = "to send, make the request with `.body(BufferedBody::from(..))` or `transport::post_json(..)`"
)]
pub trait BufferedFrom<B>: sealed::Sealed {
    /// The request, as it is.
    fn buffered(req: Request<B>) -> Request<BufferedBody>;
}

impl BufferedFrom<BufferedBody> for BufferedBody {
    fn buffered(req: Request<BufferedBody>) -> Request<BufferedBody> {
        req
    }
}

/// A service of requests whose bodies were read: what may stand inside of [`BufferBodyLayer`](super::BufferBodyLayer).
///
/// Every `Service<Request<BufferedBody>, Response = Response<_>>` is one. It is a bound of the layers, so that the
/// compiler tells what to write where something else stands.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take a `Request<BufferedBody>`, or does not answer with a `Response`, or holds what is not `Clone`",
    label = "stands inside of a layer that calls it with a `Request<BufferedBody>`",
    note = "a handler is `async fn(Request<BufferedBody>) -> Result<Response<_>, _>` in a `service_fn`, or a whole axum `Router`",
    note = "for axum's `from_fn` between layers: `.layer(BetweenLayer::new(from_fn(..), limit))` of `tower_webhook::stack`, with feature `axum`; outside of all layers it needs nothing",
    note = "what stands inside must be `Clone`: derive it for your service, and for what your closure holds; tower's `BoxService` is not, its `BoxCloneSyncService` is"
)]
pub trait BufferedService:
    Service<Request<BufferedBody>, Response = Response<<Self as BufferedService>::Body>>
{
    /// The body of its responses.
    type Body;
}

// Otherwise the compiler would tell of `Service`, in its own words.
#[diagnostic::do_not_recommend]
impl<S, B> BufferedService for S
where
    S: Service<Request<BufferedBody>, Response = Response<B>>,
{
    type Body = B;
}

/// A service that is cloned for each request: what may stand inside of a layer that waits before it calls.
///
/// Every `Clone` type is one. It is a bound of the layers, so that the compiler tells what to write where a service is not.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not `Clone`",
    label = "stands inside of a layer that calls a clone of it for each request",
    note = "derive `Clone` for your service, and for what your closure holds: in an `Arc` if it is shared",
    note = "tower's `BoxService` has no `Clone`: use its `BoxCloneSyncService`"
)]
pub trait CloneService: Clone {}

// Otherwise the compiler would tell of `Clone`, in its own words.
#[diagnostic::do_not_recommend]
impl<S: Clone> CloneService for S {}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::BufferedBody {}
}
