use super::{Answer, ResponseFuture, layer::Kinds};
use crate::outcome::{Classify, HttpClassifier, MakeClassifier};
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tower_service::Service;

/// Middleware of [`FallbackLayer`](super::FallbackLayer). See the [module docs](super).
#[derive(Debug)]
pub struct Fallback<S, A, M = HttpClassifier> {
    pub(super) inner: S,
    pub(super) answer: Arc<A>,
    pub(super) make: M,
    pub(super) when: Kinds,
}

impl<S, Req, A, M> Service<Req> for Fallback<S, A, M>
where
    S: Service<Req>,
    A: Answer<S::Response, S::Error>,
    M: MakeClassifier<Req>,
    M::Classifier: Classify<S::Response, S::Error>,
{
    type Response = A::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, A, M::Classifier>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Req) -> Self::Future {
        let classifier = self.make.make_classifier(&req);
        let future = self.inner.call(req);
        ResponseFuture::new(future, self.answer.clone(), classifier, self.when)
    }
}

impl<S: Clone, A, M: Clone> Clone for Fallback<S, A, M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            answer: self.answer.clone(),
            make: self.make.clone(),
            when: self.when,
        }
    }
}
