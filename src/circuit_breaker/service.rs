use super::{Breakers, ResponseFuture};
use crate::{
    BoxError,
    outcome::{Classify, HttpClassifier, MakeClassifier},
    peer::{ByHost, PeerKey},
};
use std::task::{Context, Poll};
use tower_service::Service;

/// Middleware of [`CircuitBreakerLayer`](super::CircuitBreakerLayer). See the [module docs](super).
///
/// Its error is a [`BoxError`]: that of the service inside, or a
/// [`CircuitOpen`](super::CircuitOpen).
#[derive(Clone, Debug)]
pub struct CircuitBreaker<S, M = HttpClassifier, K = ByHost> {
    pub(super) inner: S,
    pub(super) breakers: Breakers,
    pub(super) make: M,
    pub(super) key: K,
}

impl<S, M, K, Req> Service<Req> for CircuitBreaker<S, M, K>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = ResponseFuture<S::Future, M::Classifier>;

    /// The readiness of the service inside: an open breaker refuses in `call`, because an error
    /// here would tell the caller that this service is gone for good.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        match self.breakers.admit(&self.key.key(&req)) {
            Ok(permit) => {
                let classifier = self.make.make_classifier(&req);
                ResponseFuture::called(self.inner.call(req), permit, classifier)
            }
            Err(open) => ResponseFuture::refused(open),
        }
    }
}
