//! One call of the service: its classifier, and the result to keep.

use crate::{
    BoxError, BoxFuture, IntoBoxError,
    attempt::Attempt,
    catch_panic::catch_panic,
    context::{self, CallContext, Made},
    dead_letter::Reason,
    deadline::Deadline,
    observe::{Event, Id, Observers, Scope},
    outcome::{Classify, MakeClassifier, Outcome},
    queue::Job,
};
use bytes::Bytes;
use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tower_service::Service;

/// The longest result that is kept, in bytes.
pub(in crate::queue) const MAX_RESULT: usize = 64 << 10;

/// The result of one attempt at a job.
#[derive(Debug)]
pub(in crate::queue) struct Done {
    pub(in crate::queue) outcome: Outcome,
    pub(in crate::queue) result: Option<Bytes>,
    pub(in crate::queue) error: Option<BoxError>,
    /// The reason for a dead letter, if the outcome does not determine it.
    pub(in crate::queue) reason: Option<Reason>,
    /// Whether only a newer release can read the job; the service was not called.
    pub(in crate::queue) is_newer: bool,
}

impl Done {
    pub(in crate::queue) const fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            result: None,
            error: None,
            reason: None,
            is_newer: false,
        }
    }

    pub(in crate::queue) fn failed(outcome: Outcome, error: Option<BoxError>) -> Self {
        Self {
            error,
            ..Self::new(outcome)
        }
    }

    /// The service was not called, for this reason.
    pub(in crate::queue) fn held_back(reason: Reason, error: Option<BoxError>) -> Self {
        Self {
            reason: Some(reason),
            ..Self::failed(Outcome::refused(None), error)
        }
    }

    pub(in crate::queue) fn panicked() -> Self {
        Self {
            reason: Some(Reason::Panicked),
            ..Self::new(Outcome::transient())
        }
    }

    pub(in crate::queue) fn timed_out() -> Self {
        Self::failed(
            Outcome::transient(),
            Some("the attempt timeout is over".into()),
        )
    }
}

/// Set when the service is called. Before that, no attempt was made.
#[derive(Clone, Debug, Default)]
pub(in crate::queue) struct Called(Arc<AtomicBool>);

impl Called {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(in crate::queue) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Processes jobs.
pub(in crate::queue) trait Perform: Send {
    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done>;

    /// Counts what the service sends in this attempt at a job.
    fn counter(&self, job: &Job, attempt: Attempt) -> Made;
}

/// Calls a service with each job.
pub(super) struct CallJob<S, M, T> {
    pub(super) service: S,
    pub(super) make: M,
    pub(super) take: T,
    pub(super) observers: Observers,
}

impl<S, M, T> Perform for CallJob<S, M, T>
where
    S: Service<Job> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
    S::Error: IntoBoxError,
    M: MakeClassifier<Job> + Send,
    M::Classifier: Classify<S::Response, BoxError> + Send + 'static,
    T: TakeResult<S::Response> + Clone + Send + 'static,
{
    fn counter(&self, _: &Job, attempt: Attempt) -> Made {
        Made::of_job(attempt)
    }

    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        let mut service = self.service.clone();
        let (classifier, take) = (self.make.make_classifier(&job), self.take.clone());
        let observers = self.observers.clone();
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
                    result: bounded(outcome, &observers, || take.take(&res)),
                    ..Done::new(outcome)
                },
            }
        })
    }
}

/// Takes the result of a success. Drops one that is too long, and catches a panic of the function.
pub(in crate::queue) fn bounded(
    outcome: Outcome,
    observers: &Observers,
    take: impl FnOnce() -> Option<Bytes>,
) -> Option<Bytes> {
    if outcome.is_failure() {
        return None;
    }
    let trouble = |what, detail| Event::Trouble {
        part: "queue",
        what,
        detail,
    };
    let Some(result) = catch_panic(take) else {
        observers.tell(|| trouble("the function that takes a result panicked", None));
        return None;
    };
    let result = result?;
    let length = result.len();
    if length > MAX_RESULT {
        let what = "a result is too long, and is not kept";
        observers.tell(|| trouble(what, Some(Id::new(&length))));
        return None;
    }
    Some(result)
}

/// Takes the result to keep from a successful response: a function, or `()` for none.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no result from a response of type `{Res}`",
    note = "write `.result(|res: &{Res}| -> Option<Bytes> {{ .. }})`"
)]
pub trait TakeResult<Res> {
    /// Whether this type takes results at all.
    const TAKES: bool;

    /// Returns the result of this response.
    fn take(&self, res: &Res) -> Option<Bytes>;
}

impl<Res> TakeResult<Res> for () {
    const TAKES: bool = false;

    fn take(&self, _: &Res) -> Option<Bytes> {
        None
    }
}

impl<F, Res> TakeResult<Res> for F
where
    F: Fn(&Res) -> Option<Bytes>,
{
    const TAKES: bool = true;

    fn take(&self, res: &Res) -> Option<Bytes> {
        self(res)
    }
}

/// Decides the outcome of an attempt by its `Result`: `Ok` is a success, and
/// [`Outcome::of_error`] judges an error.
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

/// A running attempt. The work inside can read its number and deadline, and may panic.
pub(super) struct Performing {
    inner: Option<BoxFuture<Done>>,
    attempt: Attempt,
    counter: Made,
    deadline: Option<Deadline>,
    scope: Scope,
}

impl Performing {
    pub(super) fn begin(
        perform: impl FnOnce() -> BoxFuture<Done>,
        attempt: Attempt,
        counter: Made,
        deadline: Option<Deadline>,
        scope: Scope,
    ) -> Self {
        Self {
            inner: scope.enter(|| catch_panic(perform)),
            attempt,
            counter,
            deadline,
            scope,
        }
    }
}

impl Future for Performing {
    type Output = Done;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        let Self {
            inner,
            attempt,
            counter,
            deadline,
            scope,
        } = &mut *self;
        let Some(inner) = inner else {
            return Poll::Ready(Done::panicked());
        };
        let mut within = CallContext::current().with_attempt(*attempt, None);
        if let Some(deadline) = deadline {
            within = within.with_deadline(*deadline);
        }
        let _judging = context::judging();
        let _guards = (scope.entered(), within.entered(), counter.count());
        let polled = catch_panic(|| inner.as_mut().poll(cx));
        match polled {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(done)) => Poll::Ready(done),
            None => Poll::Ready(Done::panicked()),
        }
    }
}

/// Dropping the work runs user code, which may panic.
impl Drop for Performing {
    fn drop(&mut self) {
        let inner = self.inner.take();
        let _ = catch_panic(|| drop(inner));
    }
}
