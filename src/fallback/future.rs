use super::{Answer, Failure, layer::Kinds};
use crate::{outcome::Classify, trace::passed};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// Response future of [`Fallback`](super::Fallback).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, A, C> {
    #[pin]
    future: F,
    answer: Arc<A>,
    /// Taken at the end.
    classifier: Option<C>,
    when: Kinds,
}

impl<F, A, C> ResponseFuture<F, A, C> {
    pub(super) const fn new(future: F, answer: Arc<A>, classifier: C, when: Kinds) -> Self {
        Self {
            future,
            answer,
            classifier: Some(classifier),
            when,
        }
    }
}

impl<F, Res, Err, A, C> Future for ResponseFuture<F, A, C>
where
    F: Future<Output = Result<Res, Err>>,
    A: Answer<Res, Err>,
    C: Classify<Res, Err>,
{
    type Output = Result<A::Response, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if let Some(classifier) = this.classifier.take() {
            let result = result.as_ref();
            let outcome = classifier.classify(result);
            if outcome.is_failure() && this.when.has(outcome.kind()) {
                let failure = Failure { result, outcome };
                if let Some(answer) = this.answer.instead(&failure) {
                    passed!("fallback", "answered instead", outcome = outcome.kind());
                    return Poll::Ready(Ok(answer));
                }
            }
        }
        Poll::Ready(result.map(|res| this.answer.pass(res)))
    }
}

impl<F, A, C> fmt::Debug for ResponseFuture<F, A, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
