use crate::{BoxError, deadline::DeadlineExceeded};
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// Response future of [`PropagateDeadline`](super::PropagateDeadline).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct PropagateDeadlineFuture<F> {
    #[pin]
    state: State<F>,
}

#[pin_project(project = StateProj)]
enum State<F> {
    Called {
        #[pin]
        future: F,
    },
    Failed {
        error: DeadlineExceeded,
    },
}

impl<F> PropagateDeadlineFuture<F> {
    pub(super) const fn called(future: F) -> Self {
        Self {
            state: State::Called { future },
        }
    }

    pub(super) const fn failed(error: DeadlineExceeded) -> Self {
        Self {
            state: State::Failed { error },
        }
    }
}

impl<F, T, E> Future for PropagateDeadlineFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<BoxError>,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => future.poll(cx).map_err(Into::into),
            StateProj::Failed { error } => Poll::Ready(Err((*error).into())),
        }
    }
}

impl<F> fmt::Debug for PropagateDeadlineFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PropagateDeadlineFuture")
            .finish_non_exhaustive()
    }
}
