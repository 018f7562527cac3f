use super::AttemptTimeout;
use crate::{
    BoxError,
    deadline::{DeadlineExceeded, bounded::Bounded},
    trace::passed,
};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::Instant;

/// Response future of [`WithAttemptTimeout`](super::WithAttemptTimeout).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct AttemptTimeoutFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
enum State<F> {
    Called {
        #[pin]
        call: Bounded<F>,
        error: AttemptTimeout,
    },
    TimedOut {
        error: AttemptTimeout,
    },
    TooLate,
}

impl<F> AttemptTimeoutFuture<F> {
    pub(super) fn called(
        due: Option<Instant>,
        error: AttemptTimeout,
        call: impl FnOnce() -> F,
    ) -> Self {
        let call = Bounded::new(due, call);
        Self {
            state: State::Called { call, error },
        }
    }

    pub(super) const fn too_late() -> Self {
        Self {
            state: State::TooLate,
        }
    }
}

impl<F, T, E> Future for AttemptTimeoutFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let error = match state.as_mut().project() {
            StateProj::Called { call, error } => match ready!(call.poll(cx)) {
                Some(result) => return Poll::Ready(result.map_err(Into::into)),
                None => *error,
            },
            StateProj::TimedOut { error } => *error,
            StateProj::TooLate => {
                return Poll::Ready(Err(DeadlineExceeded::before_sending().into()));
            }
        };
        passed!("attempt_timeout", "gave up", error = error);
        // What is inside ends now, and gives back what it holds, even where this future is kept.
        state.set(State::TimedOut { error });
        Poll::Ready(Err(error.into()))
    }
}

impl<F> fmt::Debug for AttemptTimeoutFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttemptTimeoutFuture")
            .finish_non_exhaustive()
    }
}
