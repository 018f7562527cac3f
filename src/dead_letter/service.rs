use super::{
    CallError, Describe, DescribeAnswer, ResponseFuture,
    case::{Case, caught},
    layer::Shared,
};
use crate::{
    outcome::{Classify, MakeClassifier},
    peer::PeerKey,
};
use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`DeadLetterLayer`](super::DeadLetterLayer). See the [module docs](super).
pub struct DeadLetter<S, M, K, D> {
    pub(super) inner: S,
    pub(super) make: M,
    pub(super) shared: Arc<Shared<K, D>>,
}

impl<S, M, K, D, Req> Service<Req> for DeadLetter<S, M, K, D>
where
    S: Service<Req>,
    S::Error: CallError,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
    K: PeerKey<Req> + Send + Sync + 'static,
    D: Describe<Req, Kept: Send + 'static> + DescribeAnswer<S::Response> + Send + Sync + 'static,
    Req: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, M::Classifier, K, D, Req>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let classifier = self.make.make_classifier(&req);
        let (case, kept, thrown) = Case::open(&self.shared, &req);
        if let Some(thrown) = thrown {
            return ResponseFuture::panicked(&case, false, thrown);
        }
        let called = caught(|| match kept.filter(|_| self.shared.settings.share_copy) {
            Some(kept) => kept.offer(|| self.inner.call(req)),
            None => self.inner.call(req),
        });
        match called {
            Ok(future) => ResponseFuture::new(future, classifier, case),
            Err(thrown) => ResponseFuture::panicked(&case, true, thrown),
        }
    }
}

impl<S: Clone, M: Clone, K, D> Clone for DeadLetter<S, M, K, D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            make: self.make.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: fmt::Debug, M, K, D> fmt::Debug for DeadLetter<S, M, K, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("inner", &self.inner)
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}
