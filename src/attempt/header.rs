use super::Attempt;
use http::{HeaderName, HeaderValue, Request};
use std::task::{Context, Poll};
use tower_layer::Layer;
use tower_service::Service;

/// Writes the number of the attempt into a header of each request, from 1.
///
/// Stands inside the layer that repeats calls; where there is none, the number is 1. Futures,
/// responses and errors pass through.
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use tower_webhook::{BoxError, attempt::AttemptHeaderLayer};
///
/// # tokio_test::block_on(async {
/// let client = ServiceBuilder::new()
///     .layer(AttemptHeaderLayer::new())
///     .service(service_fn(|req: Request<()>| async move {
///         assert_eq!(req.headers()["x-webhook-attempt"], "1");
///         Ok::<_, BoxError>(Response::new(()))
///     }));
/// client.oneshot(Request::new(())).await?;
/// # Ok::<_, BoxError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct AttemptHeaderLayer {
    name: HeaderName,
}

impl AttemptHeaderLayer {
    /// In `x-webhook-attempt`.
    pub const fn new() -> Self {
        Self::named(HeaderName::from_static("x-webhook-attempt"))
    }

    /// In a header of this name.
    pub const fn named(name: HeaderName) -> Self {
        Self { name }
    }
}

impl Default for AttemptHeaderLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for AttemptHeaderLayer {
    type Service = AttemptHeader<S>;

    fn layer(&self, inner: S) -> Self::Service {
        AttemptHeader {
            inner,
            name: self.name.clone(),
        }
    }
}

/// Writes the number of the attempt into a header. See [`AttemptHeaderLayer`].
#[derive(Clone, Debug)]
pub struct AttemptHeader<S> {
    inner: S,
    name: HeaderName,
}

impl<S, B> Service<Request<B>> for AttemptHeader<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Request<B>) -> S::Future {
        let attempt = Attempt::current().unwrap_or(Attempt::first());
        // The usual ones cost no allocation.
        let value = match attempt.number() {
            1 => HeaderValue::from_static("1"),
            2 => HeaderValue::from_static("2"),
            3 => HeaderValue::from_static("3"),
            number => HeaderValue::from(number),
        };
        req.headers_mut().insert(self.name.clone(), value);
        self.inner.call(req)
    }
}
