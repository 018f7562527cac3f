use super::{CircuitOpen, Permit};
use crate::{BoxError, outcome::Classify};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Response future of [`CircuitBreaker`](super::CircuitBreaker).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, C> {
    #[pin]
    state: State<F, C>,
}

#[pin_project(project = StateProj)]
enum State<F, C> {
    Called {
        #[pin]
        future: F,
        /// Dropped with the future when there is no result: then the call was cancelled.
        settle: Option<(Permit, C)>,
    },
    Refused {
        open: Option<CircuitOpen>,
    },
}

impl<F, C> ResponseFuture<F, C> {
    pub(super) const fn called(future: F, permit: Permit, classifier: C) -> Self {
        Self {
            state: State::Called {
                future,
                settle: Some((permit, classifier)),
            },
        }
    }

    pub(super) const fn refused(open: CircuitOpen) -> Self {
        Self {
            state: State::Refused { open: Some(open) },
        }
    }
}

impl<F, C, Res, E> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, E>>,
    C: Classify<Res, E>,
    E: Into<BoxError>,
{
    type Output = Result<Res, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future, settle } => {
                let result = ready!(future.poll(cx));
                if let Some((mut permit, classifier)) = settle.take() {
                    match classifier.late(result.as_ref()) {
                        None => permit.settle(classifier.classify(result.as_ref())),
                        Some(late) => {
                            permit.answered();
                            late.then(move |outcome| permit.settle(outcome));
                        }
                    }
                }
                Poll::Ready(result.map_err(Into::into))
            }
            StateProj::Refused { open } => {
                // Invariant: taken here alone, at the end.
                #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                let open = open.take().expect("polled after completion");
                Poll::Ready(Err(open.into()))
            }
        }
    }
}

impl<F, C> fmt::Debug for ResponseFuture<F, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
