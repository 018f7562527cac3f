use crate::{
    body::ResponseBody,
    signature::{KeyLabel, replay::Claim},
};
use http::Response;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Response future of [`SignatureVerify`](super::SignatureVerify).
#[must_use = "futures do nothing unless polled"]
#[pin_project]
pub struct ResponseFuture<F, B> {
    #[pin]
    state: State<F, B>,
}

#[pin_project(project = StateProj)]
enum State<F, B> {
    Called {
        #[pin]
        future: F,
        /// Dropped with the future when there is no answer: the message was not received.
        claim: Option<Claim>,
        label: Option<KeyLabel>,
    },
    /// Boxed: the future of a request that passes need not be as large as an answer.
    Refused {
        response: Option<Box<Response<ResponseBody<B>>>>,
    },
}

impl<F, B> ResponseFuture<F, B> {
    pub(super) const fn called(future: F, claim: Option<Claim>, label: Option<KeyLabel>) -> Self {
        Self {
            state: State::Called {
                future,
                claim,
                label,
            },
        }
    }

    pub(super) fn refused(response: Response<ResponseBody<B>>) -> Self {
        Self {
            state: State::Refused {
                response: Some(Box::new(response)),
            },
        }
    }
}

impl<F, B, E> Future for ResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called {
                future,
                claim,
                label,
            } => {
                let result = ready!(future.poll(cx));
                let claim = claim.take();
                Poll::Ready(result.map(|mut response| {
                    if let Some(claim) = claim {
                        claim.settle(response.status());
                    }
                    if let Some(label) = label.take() {
                        response.extensions_mut().insert(label);
                    }
                    response.map(ResponseBody::inner)
                }))
            }
            StateProj::Refused { response } => {
                // Invariant: taken here alone, at the end.
                #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                let response = response.take().expect("polled after completion");
                Poll::Ready(Ok(*response))
            }
        }
    }
}

impl<F, B> fmt::Debug for ResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
