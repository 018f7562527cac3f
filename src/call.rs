//! The response future of a layer that either calls the inner service or fails with its own error.

use crate::BoxError;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

/// A call of the inner service, or the error if the layer did not call it.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct CallOrError<F, E> {
    #[pin]
    state: State<F, E>,
}

#[pin_project(project = StateProj)]
enum State<F, E> {
    Called {
        #[pin]
        future: F,
    },
    Failed {
        error: E,
    },
}

impl<F, E> CallOrError<F, E> {
    pub(crate) const fn called(future: F) -> Self {
        Self {
            state: State::Called { future },
        }
    }

    pub(crate) const fn failed(error: E) -> Self {
        Self {
            state: State::Failed { error },
        }
    }
}

impl<F, T, I, E> Future for CallOrError<F, E>
where
    F: Future<Output = Result<T, I>>,
    I: Into<BoxError>,
    E: Into<BoxError> + Copy,
{
    type Output = Result<T, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => future.poll(cx).map_err(Into::into),
            StateProj::Failed { error } => Poll::Ready(Err((*error).into())),
        }
    }
}

impl<F, E> fmt::Debug for CallOrError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOrError").finish_non_exhaustive()
    }
}
