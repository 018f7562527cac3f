use crate::body::{BodyBudget, BufferBody, BufferBodyLayer, BufferedBody, BufferedFrom};
use axum_core::body::Body;
use http::Request;
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Puts a layer that takes axum's requests, such as `axum::middleware::from_fn`, between layers that take a
/// `Request<`[`BufferedBody`]`>`.
///
/// `from_fn` makes a service of axum's own `Request`, and calls the next one with it. Outside of all layers, and on a
/// `Router` inside of them, it therefore needs nothing. Between them this layer gives it the buffered body as an axum
/// `Body`, and reads what it passes on again. A body that was passed on as it came is not copied and not waited for.
///
/// It costs an allocation, for axum's body. What a middleware between `verify` and the handler changes in the body is
/// no longer what was signed: the bytes that were are [`Verified::body`](crate::signature::Verified::body).
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "moka")] {
/// use axum::{Router, extract::Request, http::StatusCode, middleware::{Next, from_fn}, response::Response, routing::post};
/// use tower::ServiceBuilder;
/// use tower_webhook::{
///     BufferBodyLayer, IdempotencyLayer, SignatureVerifyLayer,
///     idempotency::{KeySource, MemoryStore},
///     signature::{Verified, scheme::StandardWebhooks},
///     stack::BetweenLayer,
/// };
///
/// const LIMIT: usize = 1 << 20;
///
/// async fn only_new_secrets(req: Request, next: Next) -> Result<Response, StatusCode> {
///     let verified = req.extensions().get::<Verified>().ok_or(StatusCode::INTERNAL_SERVER_ERROR)?;
///     if verified.secret_label() == Some("2024") {
///         return Err(StatusCode::FORBIDDEN);
///     }
///     Ok(next.run(req).await)
/// }
///
/// let scheme = StandardWebhooks::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
/// let app: Router = Router::new().route("/hooks", post(|| async { "handled" })).layer(
///     ServiceBuilder::new() // outermost first
///         .layer(BufferBodyLayer::new(LIMIT))
///         .layer(SignatureVerifyLayer::new(scheme))
///         .layer(BetweenLayer::new(from_fn(only_new_secrets), LIMIT))
///         .layer(IdempotencyLayer::webhook(MemoryStore::default(), KeySource::verified_id())),
/// );
/// # drop(app);
/// # }
/// # Ok::<_, tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct BetweenLayer<L> {
    layer: L,
    buffer: BufferBodyLayer,
}

impl<L> BetweenLayer<L> {
    /// Puts `layer` between others. What it passes on may be a body of at most `limit` bytes, otherwise the answer is 413:
    /// give it the limit of the [`BufferBodyLayer`] outside. The [budget](BodyBudget) of that one counts the body
    /// already.
    pub fn new(layer: L, limit: usize) -> Self {
        let buffer = BufferBodyLayer::new(limit);
        let unbounded = buffer.clone().budget(BodyBudget::new(usize::MAX));
        Self {
            layer,
            buffer: unbounded.unwrap_or(buffer),
        }
    }
}

impl<S, L> Layer<S> for BetweenLayer<L>
where
    L: Layer<BufferBody<S>>,
{
    type Service = Between<L::Service>;

    fn layer(&self, inner: S) -> Self::Service {
        Between {
            inner: self.layer.layer(self.buffer.layer(inner)),
        }
    }
}

/// Middleware of [`BetweenLayer`].
#[derive(Clone, Debug)]
pub struct Between<S> {
    inner: S,
}

impl<S, B> Service<Request<B>> for Between<S>
where
    S: Service<Request<Body>>,
    BufferedBody: BufferedFrom<B>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> S::Future {
        self.inner.call(BufferedBody::buffered(req).map(Body::new))
    }
}
