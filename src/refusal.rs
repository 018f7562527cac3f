//! The response future of a layer that either calls the inner service or refuses the request.

use crate::body::ResponseBody;
use http::Response;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// A call of the inner service, or the response with which the layer refused the request.
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct CallOrRefusal<F, B> {
    #[pin]
    state: State<F, B>,
}

#[pin_project(project = StateProj)]
enum State<F, B> {
    Called {
        #[pin]
        future: F,
    },
    /// Boxed, so that the future of an accepted request is not as large as a response.
    Refused {
        response: Option<Box<Response<ResponseBody<B>>>>,
    },
}

impl<F, B> CallOrRefusal<F, B> {
    pub(crate) const fn called(future: F) -> Self {
        Self {
            state: State::Called { future },
        }
    }

    pub(crate) fn refused(response: Response<ResponseBody<B>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(Box::new(response)),
            },
        }
    }
}

impl<F, B, E> Future for CallOrRefusal<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => {
                let result = ready!(future.poll(cx));
                Poll::Ready(result.map(|response| response.map(ResponseBody::inner)))
            }
            StateProj::Refused { response } => {
                // Invariant: taken only here, at the end.
                #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                let response = response.take().expect("polled after completion");
                Poll::Ready(Ok(*response))
            }
        }
    }
}

impl<F, B> fmt::Debug for CallOrRefusal<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOrRefusal").finish_non_exhaustive()
    }
}
