use super::{Definition, Input, Routes};
use futures_util::{StreamExt, stream};
use http::Request;
use std::{
    convert::Infallible,
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::timeout;
use tower::ServiceExt;
use tower_layer::Layer;
use tower_service::Service;
use tower_webhook::{
    BoxError, BoxFuture, IntoBoxError,
    body::BufferedBody,
    outcome::{Outcome, TransportError},
};

/// The deliveries of one event that run at the same time, by default.
const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();

/// Delivers each event to all definitions that match it. See the [module docs](super).
#[derive(Clone, Debug)]
#[must_use]
pub struct RouterLayer {
    routes: Routes,
    concurrency: NonZeroUsize,
}

impl RouterLayer {
    /// A router over these definitions.
    pub const fn new(routes: Routes) -> Self {
        Self {
            routes,
            concurrency: CONCURRENCY,
        }
    }

    /// Sets how many deliveries of one event run at the same time. Default: 16.
    pub const fn concurrency(mut self, concurrency: NonZeroUsize) -> Self {
        self.concurrency = concurrency;
        self
    }
}

impl<S> Layer<S> for RouterLayer {
    type Service = Router<S>;

    fn layer(&self, inner: S) -> Router<S> {
        Router {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`RouterLayer`].
#[derive(Clone, Debug)]
pub struct Router<S> {
    inner: S,
    layer: RouterLayer,
}

/// What became of an event for one of the definitions that matched it.
#[non_exhaustive]
pub struct Routed<T> {
    /// The definition.
    pub definition: Arc<Definition>,
    /// The target's response, or the error of the inner service; a [`RouteError`](super::RouteError) if there was no
    /// request to send.
    pub result: Result<T, BoxError>,
}

impl<T> fmt::Debug for Routed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Routed")
            .field("definition", &self.definition.name())
            .field("result", &self.result.as_ref().map(drop))
            .finish()
    }
}

impl<S> Service<Input> for Router<S>
where
    S: Service<Request<BufferedBody>> + Clone + Send + 'static,
    S::Response: Send,
    S::Error: IntoBoxError,
    S::Future: Send,
{
    type Response = Vec<Routed<S::Response>>;
    type Error = Infallible;
    /// Boxed: it stands for several calls.
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    /// Always ready: each delivery waits for a clone of the inner service, so that one that is not ready keeps none of the
    /// others.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, input: Input) -> Self::Future {
        let RouterLayer {
            routes,
            concurrency,
        } = self.layer.clone();
        let deliveries: Vec<_> = routes
            .matching(&input)
            .into_iter()
            .map(|definition| {
                let delivery = deliver(
                    routes.clone(),
                    Arc::clone(&definition),
                    input.clone(),
                    self.inner.clone(),
                );
                async move {
                    let result = delivery.await;
                    Routed { definition, result }
                }
            })
            .collect();
        Box::pin(async move {
            let all = stream::iter(deliveries).buffered(concurrency.get());
            Ok(all.collect().await)
        })
    }
}

async fn deliver<S>(
    routes: Routes,
    definition: Arc<Definition>,
    input: Input,
    inner: S,
) -> Result<S::Response, BoxError>
where
    S: Service<Request<BufferedBody>>,
    S::Error: IntoBoxError,
{
    let req = routes.render(&definition, &input).await?;
    let sent = timeout(definition.timeout(), inner.oneshot(req)).await;
    sent.map_err(|_| {
        TransportError::new(Outcome::transient(), "no response within timeout_seconds")
    })?
    .map_err(Into::into)
}
