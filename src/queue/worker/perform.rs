//! What a job is done with: a service, what judges its results, and what is kept of them.

use crate::{
    BoxError, BoxFuture,
    attempt::Attempt,
    body::{BufferedBody, collect},
    catch_panic::catch_panic,
    dead_letter::Reason,
    deadline::Deadline,
    outcome::{Classify, MakeClassifier, Outcome, Unsendable, links},
    queue::{Job, NotARequest},
    retry::{ExchangeResponse, HttpExchange},
    trace::trouble,
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::timeout;
use tower_service::Service;

/// The longest result that is kept, in bytes.
pub(super) const MAX_RESULT: usize = 64 << 10;

/// How long the rest of a successful answer is read for its result.
const RESULT_TIME: Duration = Duration::from_secs(5);

/// How one attempt of a job went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) outcome: Outcome,
    pub(super) result: Option<Bytes>,
    pub(super) error: Option<BoxError>,
    /// Why it would be dead-lettered, where the outcome does not say it.
    pub(super) reason: Option<Reason>,
    /// It was not called: this release cannot read the job, and a newer one can.
    pub(super) is_newer: bool,
}

impl Done {
    const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            result: None,
            error: None,
            reason: None,
            is_newer: false,
        }
    }

    pub(super) fn failed(outcome: Outcome, error: Option<BoxError>) -> Self {
        Self {
            error,
            ..Self::new(outcome)
        }
    }

    /// It was not called, for this reason.
    pub(super) fn held_back(reason: Reason, error: Option<BoxError>) -> Self {
        Self {
            reason: Some(reason),
            ..Self::failed(Outcome::refused(None), error)
        }
    }

    pub(super) fn panicked() -> Self {
        Self {
            reason: Some(Reason::Panicked),
            ..Self::new(Outcome::transient())
        }
    }

    pub(super) fn overdue() -> Self {
        Self::failed(
            Outcome::transient(),
            Some("the time limit of the attempt is over".into()),
        )
    }
}

/// Whether the service was called: until then, nothing has happened that counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Called(Arc<AtomicBool>);

impl Called {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does jobs.
pub(super) trait Perform: Send {
    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done>;
}

/// Calls a service with each job.
pub(super) struct CallJob<S, M, T> {
    pub(super) service: S,
    pub(super) make: M,
    pub(super) take: T,
}

impl<S, M, T> Perform for CallJob<S, M, T>
where
    S: Service<Job> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: Into<BoxError>,
    M: MakeClassifier<Job> + Send,
    M::Classifier: Classify<S::Response, BoxError> + Send + 'static,
    T: TakeResult<S::Response> + Clone + Send + 'static,
{
    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        let mut service = self.service.clone();
        let (classifier, take) = (self.make.make_classifier(&job), self.take.clone());
        Box::pin(async move {
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                return Done::held_back(Reason::NotReady, Some(error.into()));
            }
            called.set();
            let calling = service.call(job);
            let result = calling.await.map_err(Into::into);
            let outcome = classifier.classify(result.as_ref());
            match result {
                Err(error) => Done::failed(outcome, Some(error)),
                Ok(res) => Done {
                    result: bounded(outcome, || take.take(&res)),
                    ..Done::new(outcome)
                },
            }
        })
    }
}

pub(super) type MakeRequest =
    Arc<dyn Fn(&Job) -> Result<Request<BufferedBody>, BoxError> + Send + Sync>;

/// Calls a client with the request that each job is.
pub(super) struct CallHttp<S, M, T> {
    pub(super) service: S,
    pub(super) make: M,
    pub(super) take: T,
    pub(super) request: MakeRequest,
}

impl<S, M, T, B> Perform for CallHttp<S, M, T>
where
    S: Service<Request<BufferedBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    M: MakeClassifier<Request<BufferedBody>> + Send,
    M::Classifier: Classify<Response<B>, BoxError> + Send + 'static,
    T: TakeResult<Response<BufferedBody>> + Clone + Send + 'static,
{
    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        let req = match (self.request)(&job) {
            Ok(req) => req,
            Err(error) => {
                let is_newer = links(&*error)
                    .filter_map(|link| link.downcast_ref::<NotARequest>())
                    .any(NotARequest::is_newer);
                let error = BoxError::from(Unsendable::because(error));
                let done = Done {
                    is_newer,
                    ..Done::failed(Outcome::unsendable(), Some(error))
                };
                return Box::pin(async { done });
            }
        };
        let mut service = self.service.clone();
        let (classifier, take) = (self.make.make_classifier(&req), self.take.clone());
        Box::pin(async move {
            if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                return Done::held_back(Reason::NotReady, Some(error.into()));
            }
            called.set();
            let calling = service.call(req);
            let result = calling.await.map_err(Into::into);
            let outcome = classifier.classify(result.as_ref());
            match result {
                Err(error) => Done::failed(outcome, Some(error)),
                Ok(res) if outcome.is_failure() || !T::TAKES => {
                    HttpExchange::new().discard(res).await;
                    Done::new(outcome)
                }
                Ok(res) => {
                    let res = read(res).await;
                    Done {
                        result: res.and_then(|res| bounded(outcome, || take.take(&res))),
                        ..Done::new(outcome)
                    }
                }
            }
        })
    }
}

/// A successful answer with its body, where that is short and comes soon. The work is done whatever
/// comes of this.
async fn read<B: Body>(res: Response<B>) -> Option<Response<BufferedBody>> {
    let (head, body) = res.into_parts();
    if let Ok(Ok(body)) = timeout(RESULT_TIME, collect(body, MAX_RESULT)).await {
        Some(Response::from_parts(head, body))
    } else {
        trouble!("worker", "a result could not be read, and is not kept");
        None
    }
}

fn bounded(outcome: Outcome, take: impl FnOnce() -> Option<Bytes>) -> Option<Bytes> {
    if outcome.is_failure() {
        return None;
    }
    let Some(result) = catch_panic(take) else {
        trouble!("worker", "a result was not taken: the function panicked");
        return None;
    };
    let result = result?;
    if result.len() > MAX_RESULT {
        trouble!(
            "worker",
            "a result is too long to be kept",
            length = result.len()
        );
        return None;
    }
    Some(result)
}

/// What is kept of a success. [`NoResult`] or a function.
pub trait TakeResult<Res>: sealed::Sealed {
    #[doc(hidden)]
    const TAKES: bool;

    #[doc(hidden)]
    fn take(&self, res: &Res) -> Option<Bytes>;
}

mod sealed {
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Sealed {}
}

/// Nothing is kept of a success but that it was one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoResult;

impl sealed::Sealed for NoResult {}

impl<Res> TakeResult<Res> for NoResult {
    const TAKES: bool = false;

    fn take(&self, _: &Res) -> Option<Bytes> {
        None
    }
}

/// A function that takes the result out of a success. Made by
/// [`WorkerBuilder::result`](super::WorkerBuilder::result).
#[derive(Clone, Copy)]
pub struct ResultFn<F>(pub(super) F);

impl<F> sealed::Sealed for ResultFn<F> {}

impl<F, Res> TakeResult<Res> for ResultFn<F>
where
    F: Fn(&Res) -> Option<Bytes>,
{
    const TAKES: bool = true;

    fn take(&self, res: &Res) -> Option<Bytes> {
        (self.0)(res)
    }
}

impl<F> fmt::Debug for ResultFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResultFn").finish_non_exhaustive()
    }
}

/// Judges by `Ok` and `Err`: a success, or what the error says
/// ([`Outcome::of_error`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByResult;

impl<Req> MakeClassifier<Req> for ByResult {
    type Classifier = Self;

    fn make_classifier(&self, _: &Req) -> Self {
        *self
    }
}

impl<Res> Classify<Res, BoxError> for ByResult {
    fn classify(self, result: Result<&Res, &BoxError>) -> Outcome {
        match result {
            Ok(_) => Outcome::success(),
            Err(error) => Outcome::of_error(&**error),
        }
    }
}

/// An attempt under way: what is inside knows its number and its deadline, and may panic.
pub(super) struct Performing {
    inner: Option<BoxFuture<Done>>,
    attempt: Attempt,
    deadline: Option<Deadline>,
}

impl Performing {
    pub(super) fn begin(
        perform: impl FnOnce() -> BoxFuture<Done>,
        attempt: Attempt,
        deadline: Option<Deadline>,
    ) -> Self {
        Self {
            inner: catch_panic(perform),
            attempt,
            deadline,
        }
    }
}

impl Future for Performing {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        let (attempt, deadline) = (self.attempt, self.deadline);
        let Some(inner) = &mut self.inner else {
            return Poll::Ready(Done::panicked());
        };
        let mut poll = || catch_panic(|| inner.as_mut().poll(cx));
        let polled = attempt.scope(|| match deadline {
            Some(deadline) => deadline.scope(poll),
            None => poll(),
        });
        match polled {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(done)) => Poll::Ready(done),
            None => Poll::Ready(Done::panicked()),
        }
    }
}

/// What is dropped is a user's code too.
impl Drop for Performing {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _ = catch_panic(|| drop(inner));
    }
}
