use super::{ResponseFuture, Round, Targets, Uris, layer::Shared};
use crate::outcome::{Classify, HttpClassifier, MakeClassifier};
use std::{
    fmt, mem,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`FailoverLayer`](super::FailoverLayer). See the [module docs](super).
pub struct Failover<S, T = Uris, M = HttpClassifier> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared<T, M>>,
}

impl<S, Req, T, M> Service<Req> for Failover<S, T, M>
where
    S: Service<Req> + Clone,
    Req: Clone,
    T: Targets<Req, S::Response>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future =
        ResponseFuture<S::Future, Round<S, Req, S::Response, S::Error, T, M, M::Classifier>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut req: Req) -> Self::Future {
        let shared = self.shared.clone();
        if shared.count == 1 {
            shared.targets.aim(&mut req, 0);
            return ResponseFuture::only(self.inner.call(req), shared);
        }
        // The instance that was polled ready is the one that is called, now and for the targets
        // that follow; its clone takes its place and will be polled before it is called.
        let spare = self.inner.clone();
        let mut ready = mem::replace(&mut self.inner, spare);
        let start = shared.start();
        let mut first = req.clone();
        shared.targets.aim(&mut first, start);
        let classifier = shared.make.make_classifier(&first);
        let future = ready.call(first);
        ResponseFuture::first(future, shared, classifier, start, ready, req)
    }
}

impl<S: Clone, T, M> Clone for Failover<S, T, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
        }
    }
}

impl<S: fmt::Debug, T: fmt::Debug, M: fmt::Debug> fmt::Debug for Failover<S, T, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Failover")
            .field("inner", &self.inner)
            .field("shared", &self.shared)
            .finish()
    }
}
