use super::{
    BodyBudget, BufferedBody, BufferedService, CloneService, Collect, CollectError, ResponseBody,
    budget::{Counted, CountedError, Share, WAIT},
    collect,
};
use crate::{
    InvalidConfig,
    observe::{Event, Id, Observer, Observers, Scope},
    problem::{Problem, Refusal, Refuser},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use pin_project::pin_project;
use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};
use tower_layer::Layer;
use tower_service::Service;

/// Reads each request body into memory, once, under a limit and a deadline.
///
/// See the [module docs](super) for the refusals, and for its place in a stack.
#[derive(Clone, Debug)]
#[must_use]
pub struct BufferBodyLayer {
    limit: usize,
    deadline: Duration,
    budget: BodyBudget,
    refuser: Refuser<BodyError>,
    observers: Observers,
}

impl BufferBodyLayer {
    /// Makes a layer that accepts bodies of at most `limit` bytes, within 10 s.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            deadline: Duration::from_secs(10),
            budget: BodyBudget::for_limit(limit),
            refuser: Refuser::new(),
            observers: Observers::none(),
        }
    }

    /// Sets the time limit of a body, from the first poll to its last byte. Default: 10 s. With zero, only
    /// bodies that have already arrived are accepted.
    ///
    /// Keep it short: a sender that sends slowly holds memory and a connection for this long.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the budget for the bytes of all bodies in flight, to share it with the layers of other routes.
    /// Default: a budget of this layer alone, of 64 MiB or of twice the limit, whichever is more.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] for `budget` if three quarters of it do not hold a body as long as the limit.
    pub fn budget(mut self, budget: BodyBudget) -> Result<Self, InvalidConfig> {
        budget.admit(self.limit)?;
        self.budget = budget;
        Ok(self)
    }

    /// Sets a function that makes the response to a refused request. Default: the [`Problem`] that the
    /// function gets, as `application/problem+json`.
    pub fn refuse_with(
        mut self,
        respond: impl Fn(&BodyError, Problem) -> Response<BufferedBody> + Send + Sync + 'static,
    ) -> Self {
        self.refuser = Refuser::with(respond);
        self
    }

    /// Adds an observer of [`Event::Refused`]. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }
}

impl<S> Layer<S> for BufferBodyLayer {
    type Service = BufferBody<S>;

    fn layer(&self, inner: S) -> BufferBody<S> {
        BufferBody {
            inner,
            layer: self.clone(),
        }
    }
}

/// Middleware of [`BufferBodyLayer`]. See the [module docs](super).
#[derive(Clone, Debug)]
pub struct BufferBody<S> {
    inner: S,
    layer: BufferBodyLayer,
}

impl<S, B> Service<Request<B>> for BufferBody<S>
where
    S: BufferedService<Body: Body<Data = Bytes>> + CloneService,
    B: Body,
{
    type Response = Response<ResponseBody<<S as BufferedService>::Body>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, req: Request<B>) -> Self::Future {
        // The future takes the instance that was polled ready. A clone, which is polled before its first
        // call, replaces it.
        let spare = self.inner.clone();
        let inner = mem::replace(&mut self.inner, spare);
        let (head, body) = req.into_parts();
        let declared = declared(&head.headers).max();
        let share = self
            .layer
            .budget
            .share(&head, declared.or_else(|| body.size_hint().exact()));
        let limit = self.layer.limit;
        ResponseFuture {
            state: State::Collecting {
                declared: declared.unwrap_or(0),
                body: collect(Counted::new(body, share, limit), limit),
                call: Some((head, inner)),
                layer: self.layer.clone(),
                scope: Scope::receive(),
                timer: None,
            },
        }
    }
}

/// Response future of [`BufferBody`].
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
        /// Taken when the body is complete.
        call: Option<(Parts, S)>,
        layer: BufferBodyLayer,
        scope: Scope,
        /// The length in the headers, which the body may not know.
        declared: u64,
        #[pin]
        body: Collect<Counted<B>>,
        /// Started at the first poll that is pending: a body that has arrived costs no timer.
        #[pin]
        timer: Option<Sleep>,
    },
    Calling {
        #[pin]
        future: F,
        scope: Scope,
        /// Given back when the future ends.
        share: Share,
    },
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
            let (future, scope, share) = match state.as_mut().project() {
                StateProj::Calling { future, scope, .. } => {
                    return scope
                        .enter(|| future.poll(cx))
                        .map_ok(|response| response.map(ResponseBody::inner));
                }
                StateProj::Collecting {
                    call,
                    layer,
                    scope,
                    declared,
                    mut body,
                    mut timer,
                } => {
                    let (limit, deadline) = (layer.limit, layer.deadline);
                    let collected = if *declared > limit as u64 {
                        Err(BodyError::TooLarge { limit })
                    } else {
                        match scope.enter(|| body.as_mut().poll(cx)) {
                            Poll::Ready(collected) => collected.map_err(BodyError::from),
                            Poll::Pending => {
                                if timer.is_none() {
                                    timer.set(Some(sleep(deadline)));
                                }
                                if let Some(timer) = timer.as_mut().as_pin_mut() {
                                    ready!(timer.poll(cx));
                                }
                                Err(BodyError::Deadline { deadline })
                            }
                        }
                    };
                    // Invariant: only taken here, on the way to `Calling` or to the end.
                    #[expect(clippy::expect_used, reason = "a future is not polled after its end")]
                    let (head, mut inner) = call.take().expect("polled after completion");
                    let checked = collected.and_then(|body| {
                        check_length(&head.headers, body.as_bytes().len())?;
                        Ok(body)
                    });
                    match checked {
                        Ok(whole) => {
                            let share = body.body().hand_over();
                            let req = Request::from_parts(head, whole);
                            (scope.enter(|| inner.call(req)), scope.clone(), share)
                        }
                        Err(reason) => {
                            let observers = &layer.observers;
                            scope.enter(|| observers.tell(|| refused(&reason)));
                            return Poll::Ready(Ok(layer.refuser.response(reason)));
                        }
                    }
                }
            };
            state.set(State::Calling {
                future,
                scope,
                share,
            });
        }
    }
}

fn refused(reason: &BodyError) -> Event<'_> {
    Event::Refused {
        by: "buffer_body",
        reason: reason.as_str(),
        detail: Id::new(reason),
    }
}

/// A server with HTTP/1 or HTTP/2 has checked this; a body from elsewhere is not checked yet.
fn check_length(headers: &HeaderMap, received: usize) -> Result<(), BodyError> {
    let received = received as u64;
    match declared(headers).find(|declared| *declared != received) {
        Some(declared) => Err(BodyError::Length { declared, received }),
        None => Ok(()),
    }
}

/// Every length in the headers: if two differ, one of them is wrong.
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

/// Why [`BufferBody`] refused a request. Stored in the extensions of the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BodyError {
    /// The [`BodyBudget`] had no room in time: 503.
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The body did not arrive in time: 408.
    Deadline {
        /// The time limit of the body.
        deadline: Duration,
    },
    /// The length of the body is not its `Content-Length`: 400.
    Length {
        /// The length in the header, in bytes.
        declared: u64,
        /// The length that arrived, in bytes.
        received: u64,
    },
    /// The body is longer than the limit: 413.
    TooLarge {
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body could not be read to its end: 400.
    Unreadable,
}

impl BodyError {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Busy { .. } => "busy",
            Self::Deadline { .. } => "deadline",
            Self::Length { .. } => "length",
            Self::TooLarge { .. } => "too_large",
            Self::Unreadable => "unreadable",
        }
    }
}

impl<E> From<CollectError<CountedError<E>>> for BodyError {
    fn from(error: CollectError<CountedError<E>>) -> Self {
        match error {
            CollectError::Read(CountedError::Busy) => Self::Busy { retry_after: WAIT },
            CollectError::Read(CountedError::Read(_)) => Self::Unreadable,
            CollectError::TooLarge { limit } => Self::TooLarge { limit },
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy { .. } => f.write_str("too many bodies are in flight"),
            Self::Deadline { deadline } => {
                write!(f, "the body did not arrive within {deadline:?}")
            }
            Self::Length { declared, received } => write!(
                f,
                "the body has {received} bytes and its `content-length` says {declared}"
            ),
            Self::TooLarge { limit } => write!(f, "the body is longer than {limit} bytes"),
            Self::Unreadable => f.write_str("the body could not be read to its end"),
        }
    }
}

impl std::error::Error for BodyError {}

impl Refusal for BodyError {
    fn problem(&self) -> Problem {
        let status = match self {
            Self::Busy { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline { .. } => StatusCode::REQUEST_TIMEOUT,
            Self::Length { .. } | Self::Unreadable => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        };
        let problem = Problem::new(status).detail(self.to_string());
        match self {
            Self::Busy { retry_after } => problem.retry_after(*retry_after),
            _ => problem,
        }
    }
}
