use super::{Series, guard::InFlight};
use crate::outcome::Classify;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Response future of [`Measure`](super::Measure).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, C, X: Series> {
    #[pin]
    future: F,
    /// `None` once there is a result.
    open: Option<(InFlight<X>, C)>,
}

impl<F, C, X: Series> ResponseFuture<F, C, X> {
    pub(super) const fn new(future: F, flight: InFlight<X>, classifier: C) -> Self {
        Self {
            future,
            open: Some((flight, classifier)),
        }
    }
}

impl<F, C, X, Res, Err> Future for ResponseFuture<F, C, X>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
    X: Series,
{
    type Output = Result<Res, Err>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some((flight, _)) = this.open else {
            // Polled after its end: what that does is up to the future inside.
            return this.future.poll(cx);
        };
        let result = ready!(flight.scope(|| this.future.poll(cx)));
        if let Some((flight, classifier)) = this.open.take() {
            let late = classifier.late(result.as_ref());
            let outcome = classifier.classify(result.as_ref());
            flight.answered(outcome);
            match late {
                None => flight.finish(outcome),
                Some(late) => late.then(move |outcome| flight.finish(outcome)),
            }
        }
        Poll::Ready(result)
    }
}

impl<F, C, X: Series> fmt::Debug for ResponseFuture<F, C, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
