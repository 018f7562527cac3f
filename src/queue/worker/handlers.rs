//! A worker with a handler for each kind of job.

use super::{
    Worker, WorkerBuilder,
    perform::{ByResult, CallJob, Called, Done, Perform},
};
use crate::{
    BoxFuture, IntoBoxError, InvalidConfig,
    attempt::Attempt,
    body::BufferedBody,
    context::Made,
    observe::Observers,
    outcome::{Outcome, Unsendable},
    queue::{HttpJob, HttpResponse, Job, JobContext, JobError, JobKind, Kinds, http::calling},
};
use http::Request;
use std::{collections::BTreeMap, fmt, future::Future, marker::PhantomData};
use tower_service::Service;

/// The handlers of a worker, by kind.
#[derive(Default)]
pub struct Handlers {
    by_kind: BTreeMap<String, Box<dyn Perform>>,
    is_ambiguous: bool,
}

impl From<()> for Handlers {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_kind.keys()).finish()
    }
}

impl<C: Into<Handlers>> WorkerBuilder<ByResult, (), C> {
    /// Adds a handler of a kind of jobs: an async function of the [typed job](JobKind) and its context. The
    /// worker claims the kinds that it has handlers for, and leaves others to workers that know them.
    ///
    /// A payload that is not of the type is dead-lettered as
    /// [`Unsendable`](crate::dead_letter::Reason::Unsendable), with the field that failed.
    pub fn handle<J, F, Fut>(self, handler: F) -> WorkerBuilder<ByResult, (), Handlers>
    where
        J: JobKind,
        F: Fn(J, JobContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let kind = PhantomData::<fn(J)>;
        self.with(J::KIND.to_owned(), |_| {
            Box::new(CallHandler { handler, kind })
        })
    }

    /// Adds an HTTP client for a kind of jobs: a tower service that is called with the
    /// [request](HttpJob::request) of each, as with [`Worker::http`], and classified with
    /// [`HttpClassifier`](crate::outcome::HttpClassifier).
    pub fn handle_http<J: HttpJob>(
        self,
        client: impl Service<
            Request<BufferedBody>,
            Response: HttpResponse,
            Error: IntoBoxError,
            Future: Send,
        > + Clone
        + Send
        + 'static,
    ) -> WorkerBuilder<ByResult, (), Handlers> {
        let request = |job: &Job| job.typed::<J>()?.request();
        self.with(J::KIND.to_owned(), |observers| {
            calling(client, request, observers)
        })
    }

    /// Adds a tower service for a kind of jobs: a clone of it is called with each [`Job`], as with
    /// [`Worker::builder`]. `Ok` is a success, whatever it holds, and
    /// [`Outcome::of_error`](crate::outcome::Outcome::of_error) judges an error. [`Job::typed`] reads a typed
    /// payload.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tower::{ServiceBuilder, service_fn};
    /// use tower_webhook::{BoxError, queue::{Job, MemoryQueue, Queue, Worker}};
    ///
    /// # fn build(queue: Queue) -> Result<Worker, BoxError> {
    /// let thumbnails = ServiceBuilder::new()
    ///     .concurrency_limit(2)
    ///     .service(service_fn(|job: Job| async move {
    ///         println!("{} bytes of an image", job.payload.len());
    ///         Ok::<_, BoxError>(())
    ///     }));
    /// let worker = Worker::builder(queue)
    ///     .handle_service("thumbnail", thumbnails)
    ///     .concurrency(16)
    ///     .build()?;
    /// # Ok(worker) }
    /// # build(Queue::new(MemoryQueue::default())).unwrap();
    /// ```
    pub fn handle_service(
        self,
        kind: impl Into<String>,
        service: impl Service<Job, Response: Send, Error: IntoBoxError, Future: Send>
        + Clone
        + Send
        + 'static,
    ) -> WorkerBuilder<ByResult, (), Handlers> {
        self.with(kind.into(), |observers| {
            Box::new(CallJob {
                service,
                make: ByResult,
                take: (),
                observers,
            })
        })
    }

    fn with(
        self,
        kind: String,
        make: impl FnOnce(Observers) -> Box<dyn Perform>,
    ) -> WorkerBuilder<ByResult, (), Handlers> {
        let mut call: Handlers = self.call.into();
        let perform = make(self.settings.observers.clone());
        call.is_ambiguous |= call.by_kind.insert(kind, perform).is_some();
        WorkerBuilder {
            settings: self.settings,
            make: self.make,
            take: self.take,
            call,
        }
    }
}

impl WorkerBuilder<ByResult, (), Handlers> {
    /// Builds the worker. It calls its handlers in separate tasks. A panic of a handler is caught.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: `concurrency`, `handle` if a kind has two handlers, `kinds` if they were
    /// set too, `lease`, `attempt_timeout` or `retry`.
    pub fn build(mut self) -> Result<Worker, InvalidConfig> {
        if self.call.is_ambiguous {
            return Err(InvalidConfig::new(
                "handle",
                "must not be set twice for a kind",
            ));
        }
        let kinds = self.call.by_kind.keys().cloned().collect();
        if self.settings.kinds.replace(Kinds::Only(kinds)).is_some() {
            let problem =
                "must not be set on a worker with handlers, which claims the kinds that have one";
            return Err(InvalidConfig::new("kinds", problem));
        }
        self.settings.build(Box::new(self.call))
    }
}

impl Perform for Handlers {
    fn counter(&self, job: &Job, attempt: Attempt) -> Made {
        match self.by_kind.get(job.kind.as_str()) {
            Some(perform) => perform.counter(job, attempt),
            None => Made::of_job(attempt),
        }
    }

    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        if let Some(perform) = self.by_kind.get(job.kind.as_str()) {
            return perform.perform(job, called);
        }
        // An engine gave what was not asked for.
        Box::pin(async { unreadable(Unsendable::because("no handler for this kind")) })
    }
}

/// Calls a function with each job.
struct CallHandler<F, J> {
    handler: F,
    kind: PhantomData<fn(J)>,
}

impl<F, J, Fut> Perform for CallHandler<F, J>
where
    J: JobKind,
    F: Fn(J, JobContext) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), JobError>> + Send + 'static,
{
    fn counter(&self, _: &Job, attempt: Attempt) -> Made {
        Made::of_job(attempt)
    }

    fn perform(&self, job: Job, called: Called) -> BoxFuture<Done> {
        let typed = match job.typed() {
            Ok(typed) => typed,
            Err(error) => return Box::pin(async { unreadable(error) }),
        };
        called.set();
        let handling = (self.handler)(typed, JobContext::new(job));
        Box::pin(async move {
            let Err(error) = handling.await else {
                return Done::new(Outcome::success());
            };
            let outcome = if error.is_permanent {
                Outcome::permanent()
            } else {
                // That a call inside cannot be repeated says nothing of the job: its handler would.
                let judged = Outcome::of_error(&*error.error);
                if judged.may_retry() {
                    judged
                } else {
                    Outcome::transient()
                }
            };
            Done::failed(outcome, Some(error.error))
        })
    }
}

fn unreadable(error: Unsendable) -> Done {
    Done::failed(Outcome::unsendable(), Some(error.into()))
}
