use super::{
    BodyError, BufferedBody, Collect, CollectError, ResponseBody, collect, layer::Settings,
};
use crate::trace::{Scope, scope};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header, request};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::time::{Sleep, sleep};
use tower_service::Service;

/// Response future of [`BufferBody`](super::BufferBody).
#[pin_project]
pub struct ResponseFuture<S, B>
where
    S: Service<Request<BufferedBody>>,
{
    #[pin]
    state: State<S, S::Future, B>,
}

#[pin_project(project = StateProj)]
enum State<S, F, B> {
    Collecting {
        /// Taken when the body is whole.
        call: Option<(request::Parts, S)>,
        settings: Settings,
        scope: Scope,
        /// The length that the headers declare; a body may not tell it by itself.
        declared: u64,
        #[pin]
        body: Collect<B>,
        /// Set when the body makes us wait: a body that is already here costs no timer.
        #[pin]
        deadline: Option<Sleep>,
    },
    Calling {
        #[pin]
        future: F,
    },
}

impl<S, B> ResponseFuture<S, B>
where
    S: Service<Request<BufferedBody>>,
    B: Body,
{
    pub(super) fn new(inner: S, req: Request<B>, settings: Settings) -> Self {
        let (head, body) = req.into_parts();
        Self {
            state: State::Collecting {
                declared: declared(&head.headers).max().unwrap_or(0),
                body: collect(body, settings.limit),
                call: Some((head, inner)),
                settings,
                scope: scope!("buffer_body"),
                deadline: None,
            },
        }
    }
}

impl<S, B, ResB> Future for ResponseFuture<S, B>
where
    S: Service<Request<BufferedBody>, Response = Response<ResB>>,
    B: Body,
    ResB: Body<Data = Bytes>,
{
    type Output = Result<Response<ResponseBody<ResB>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let future = match state.as_mut().project() {
                StateProj::Calling { future } => {
                    return future
                        .poll(cx)
                        .map_ok(|response| response.map(ResponseBody::inner));
                }
                StateProj::Collecting {
                    call,
                    settings,
                    scope,
                    declared,
                    body,
                    mut deadline,
                } => {
                    let limit = settings.limit;
                    let collected = match (*declared <= limit as u64)
                        .then(|| scope.in_scope(|| body.poll(cx)))
                    {
                        None => Err(BodyError::TooLarge { limit }),
                        Some(Poll::Ready(collected)) => collected.map_err(|error| match error {
                            CollectError::Read(_) => BodyError::Unreadable,
                            CollectError::TooLarge { limit } => BodyError::TooLarge { limit },
                        }),
                        Some(Poll::Pending) => {
                            if deadline.is_none() {
                                deadline.set(Some(sleep(settings.deadline)));
                            }
                            if let Some(timer) = deadline.as_mut().as_pin_mut() {
                                ready!(timer.poll(cx));
                            }
                            Err(BodyError::Deadline {
                                deadline: settings.deadline,
                            })
                        }
                    };
                    // Invariant: taken here alone, on the way to `Calling` or to the end.
                    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                    let (head, mut inner) = call.take().expect("polled after completion");
                    let checked = collected.and_then(|body| {
                        check_length(&head.headers, body.as_bytes().len())?;
                        Ok(body)
                    });
                    match checked {
                        Ok(body) => inner.call(Request::from_parts(head, body)),
                        Err(reason) => {
                            crate::trace::refused!("buffer_body", reason);
                            return Poll::Ready(Ok(settings.refuser.response(reason)));
                        }
                    }
                }
            };
            state.set(State::Calling { future });
        }
    }
}

/// A server that speaks HTTP/1 or HTTP/2 has checked this; a body from elsewhere has not been.
fn check_length(headers: &HeaderMap, received: usize) -> Result<(), BodyError> {
    let received = received as u64;
    match declared(headers).find(|declared| *declared != received) {
        Some(declared) => Err(BodyError::Length { declared, received }),
        None => Ok(()),
    }
}

/// Every length that the headers declare: two that differ are one too many.
fn declared(headers: &HeaderMap) -> impl Iterator<Item = u64> {
    let values = headers.get_all(header::CONTENT_LENGTH).iter();
    values.filter_map(|value| value.to_str().ok()?.parse().ok())
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<BufferedBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
