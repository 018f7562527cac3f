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
    time::Duration,
};
use tokio::time::Instant;

/// Response future of [`WithDeadline`](super::WithDeadline).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct DeadlineFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
enum State<F> {
    Called {
        #[pin]
        call: Bounded<F>,
        allowed: Duration,
    },
    Over {
        error: DeadlineExceeded,
    },
}

impl<F> DeadlineFuture<F> {
    pub(super) fn until(due: Instant, now: Instant, call: impl FnOnce() -> F) -> Self {
        Self::called(Some(due), due.saturating_duration_since(now), call)
    }

    pub(super) fn unbounded(call: impl FnOnce() -> F) -> Self {
        Self::called(None, Duration::MAX, call)
    }

    pub(super) const fn too_late() -> Self {
        let error = DeadlineExceeded::before_sending();
        Self {
            state: State::Over { error },
        }
    }

    fn called(due: Option<Instant>, allowed: Duration, call: impl FnOnce() -> F) -> Self {
        let call = Bounded::new(due, call);
        Self {
            state: State::Called { call, allowed },
        }
    }
}

impl<F, T, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        let error = match state.as_mut().project() {
            StateProj::Called { call, allowed } => match ready!(call.poll(cx)) {
                Some(result) => return Poll::Ready(result.map_err(Into::into)),
                None => DeadlineExceeded::after(*allowed),
            },
            StateProj::Over { error } => *error,
        };
        passed!("deadline", "gave up", error = error);
        // What is inside ends now, and gives back what it holds, even where this future is kept.
        state.set(State::Over { error });
        Poll::Ready(Err(error.into()))
    }
}

impl<F> fmt::Debug for DeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadlineFuture").finish_non_exhaustive()
    }
}
