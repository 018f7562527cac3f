//! Accept now, process later: durable jobs, workers that process them, and their status.
//!
//! An [`Engine`] keeps jobs; a [`Queue`] is a handle to it. A [`Worker`] claims jobs and calls a function or any tower
//! service with each. [`EnqueueService`] makes jobs of requests, and [`TaskStatusService`] reports what became of them.
//!
//! # Examples
//!
//! Jobs with a [type of their own](JobKind):
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use std::time::Duration;
//! use tower_webhook::queue::{JobContext, JobError, JobKind, MemoryQueue, Queue, Worker};
//!
//! #[derive(Serialize, Deserialize)]
//! struct SendInvoice {
//!     id: u64,
//! }
//!
//! impl JobKind for SendInvoice {
//!     const KIND: &'static str = "send-invoice";
//! }
//!
//! async fn send_invoice(invoice: SendInvoice, job: JobContext) -> Result<(), JobError> {
//!     println!("invoice {}, attempt {}", invoice.id, job.attempt);
//!     Ok(())
//! }
//!
//! # tokio_test::block_on(async {
//! let queue = Queue::new(MemoryQueue::default());
//! let worker = Worker::builder(queue.clone()).handle(send_invoice).build()?.spawn();
//!
//! let accepted = queue.push(SendInvoice { id: 7 }).key("invoice-7").await?;
//! # while !queue.task(accepted.id).await?.is_some_and(|task| task.status.is_final()) {
//! #     tokio::time::sleep(Duration::from_millis(5)).await;
//! # }
//! let task = queue.task(accepted.id).await?.ok_or("finished tasks are kept for 7 days")?;
//! assert_eq!(task.status.as_str(), "succeeded");
//! worker.stop(Duration::from_secs(5)).await;
//! # Ok::<_, tower_webhook::BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Order
//!
//! ```text
//! receive   buffer body > verify signature > ENQUEUE
//! work      WORKER > attempt stack > client
//! ```
//!
//! - Outside [`EnqueueService`]: everything that checks the request, because a worker does not verify
//!   jobs. With a [deduplication key](EnqueueService::dedup_key), a sender that repeats a request gets
//!   the id of the first job.
//! - Inside a [`Worker`]: a [`stack::attempt()`](crate::stack::attempt()). The worker itself retries:
//!   its waits are stored in the queue and survive a restart. A retry layer inside would multiply the
//!   attempts. A circuit breaker belongs inside: a job that it refuses is released without counting an
//!   attempt.
//! - No dead-letter layer inside, because it would write an entry for each failed attempt. The worker
//!   [writes one](WorkerBuilder::dead_letters) for the job.
//!
//! # Settings
//!
//! Of a [`Worker`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`handle`](WorkerBuilder::handle), [`handle_http`](WorkerBuilder::handle_http), [`handle_service`](WorkerBuilder::handle_service) | none | a function, an HTTP client or a service for a kind of jobs |
//! | [`kinds`](WorkerBuilder::kinds) | all; with handlers, theirs; with [`http`](Worker::http), [`NewJob::HTTP`] | kinds that it claims |
//! | [`concurrency`](WorkerBuilder::concurrency) | 64 | jobs that run at the same time |
//! | [`lease`](WorkerBuilder::lease) | 30 s | time that the jobs of a dead worker wait for another |
//! | [`attempt_timeout`](WorkerBuilder::attempt_timeout) | 10 min | time limit of one attempt |
//! | [`retry`](WorkerBuilder::retry) | 3 attempts: [`RetryConfig::default`](crate::retry::RetryConfig) | when and how often a job is tried again |
//! | [`classifier`](WorkerBuilder::classifier) | `Ok` succeeds, an error is judged; [`http`](Worker::http): [`HttpClassifier`](crate::outcome::HttpClassifier) | decides the outcome of an attempt |
//! | [`request`](WorkerBuilder::request) of [`http`](Worker::http) | that in the job | makes the request of a job, and names the kinds |
//! | [`result`](WorkerBuilder::result) | none | takes the result of a task from a response |
//! | [`dead_letters`](WorkerBuilder::dead_letters) | none | sink for jobs that failed for good |
//! | [`describe`](WorkerBuilder::describe) | none | completes the entry of a job |
//! | [`entry_body`](WorkerBuilder::entry_body) | 1 MiB | bytes of a payload that an entry keeps |
//! | [`redaction`](WorkerBuilder::redaction) | [`Redaction::new`](crate::dead_letter::Redaction::new) | removes secrets from entries |
//! | [`grace`](WorkerBuilder::grace) | 5 s | time that jobs have to end when [`run`](Worker::run) stops |
//! | [`clock`](WorkerBuilder::clock) | the system clock | dates entries |
//! | [`observe`](WorkerBuilder::observe) | none except `tracing` | adds an observer of the jobs |
//!
//! Of the queue, for a [`MemoryQueue`]; other engines document theirs:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`attempts`](MemoryQueueBuilder::attempts) | 25 | attempts of a job at most; a worker may allow fewer |
//! | [`per_target`](MemoryQueueBuilder::per_target) | 8 | jobs of one target that run at the same time |
//! | [`retention`](MemoryQueueBuilder::retention) | 7 days | time for which status, result and key of a finished task are kept |
//! | [`max_jobs`](MemoryQueueBuilder::max_jobs) | 100,000 | unfinished jobs |
//! | [`max_bytes`](MemoryQueueBuilder::max_bytes) | 256 MiB | bytes of unfinished jobs |
//! | [`max_payload`](MemoryQueueBuilder::max_payload) | 16 MiB | bytes of a payload |
//! | [`max_keys`](MemoryQueueBuilder::max_keys) | 2,000,000 | deduplication keys |
//! | [`max_finished`](MemoryQueueBuilder::max_finished) | 100,000 | finished tasks |
//! | [`max_results`](MemoryQueueBuilder::max_results) | 64 MiB | bytes of all results |
//! | [`clock`](MemoryQueueBuilder::clock) | the system clock | dates the acceptance of a job |
//! | [`observe`](MemoryQueueBuilder::observe) | none except `tracing` | adds an observer of cancelled jobs and of trouble |
//!
//! Of a [job](NewJob), and of a [`Push`] alike:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`dedup_key`](NewJob::dedup_key), [`key`](Push::key) | none | a job with a key that is known is not added again |
//! | [`target`](NewJob::target), [`target`](Push::target) | `""` | where it goes, for the limit of jobs of one target |
//! | [`fifo_group`](NewJob::fifo_group), [`fifo_group`](Push::fifo_group) | none | jobs of a group run one after another, in their order |
//! | [`delay`](NewJob::delay), [`delay`](Push::delay) | zero | wait before the first attempt |
//! | [`run_at`](NewJob::run_at), [`run_at`](Push::run_at) | at once | time of the first attempt, in its place |
//! | [`about`](NewJob::about), [`about`](Push::about) | none | facts for the dead-letter entry of the job |
//!
//! Of [`EnqueueService`] and [`TaskStatusService`]:
//!
//! | Setting | Default | Meaning |
//! | --- | --- | --- |
//! | [`dedup_key`](EnqueueService::dedup_key) | none | where the id of a request is, by which a repeat is known |
//! | [`time_limit`](EnqueueService::time_limit) | 10 s | time limit for the queue to accept a job |
//! | [`retry_after`](EnqueueService::retry_after) | 5 s | `Retry-After` of a 503 |
//! | [`answer`](EnqueueService::answer) | 202 with the id of the task | makes the answer to an accepted job |
//! | [`refuse_with`](EnqueueService::refuse_with) | `application/problem+json` | makes the answer to a job that was not accepted |
//! | [`observe`](EnqueueService::observe) | none except `tracing` | adds an observer of accepted and refused jobs |
//! | [`content_type`](TaskStatusService::content_type) | `application/json` | content type of results |
//! | [`failed`](TaskStatusService::failed) | 500 | makes the answer for a task that failed for good |
//! | [`observe`](TaskStatusService::observe) | none except `tracing` | adds an observer of errors of the queue |
//!
//! # Answers
//!
//! [`EnqueueService`] answers 202 once the job is safe, 400, 413 or 422 to what cannot be a job, and 503 with
//! `Retry-After` while the queue takes none. [`TaskStatusService`] answers by the status of the task: 200, 202, 410 or
//! 500, and 404 where there is none. Both list their answers. The methods of a [`Queue`] return a [`StoreError`].
//!
//! # Cancel safety
//!
//! If a future of a [`Queue`] is dropped, the job is in the queue or not. Dropping [`Worker::run`] drops
//! the running jobs; other workers get them when their leases end. Dropping a [`WorkerHandle`] stops
//! its worker, which releases its jobs.
//!
//! # Guarantees
//!
//! A job is processed at least once: if a worker dies after the work and before it has settled the
//! claim, the job is processed again. The work can recognize a repetition by [`Job::id`], and a stale
//! worker by its smaller [`Job::token`].
//!
//! | Event | Effect on the job |
//! | --- | --- |
//! | it succeeds | the status and the result are kept for the retention |
//! | it fails, panics or takes too long | it is tried again after the delay of [`WorkerBuilder::retry`], and dead-lettered after the last attempt |
//! | it is refused locally: an open circuit, an exhausted budget | it is released without counting an attempt |
//! | its worker dies | another worker claims it when the lease ends, or earlier where the engine knows that its process is gone; the attempt counts, so that a payload that kills its workers is dead-lettered |
//! | its claim is lost | its work is dropped; the newer claim counts |
//! | the queue cannot be reached | the worker waits and tries again; a finished attempt is settled later, while its claim lasts |
//! | it fails for good | its entry is written, however long that takes; then the task has failed. In one transaction if queue and dead letters are [in one database](Engine::moves) |
//! | its entry is [put back](crate::dead_letter::redrive::RedriveBuilder::requeue) | it is queued again, with its id and new attempts |
//! | the worker stops | it is released if it does not end within the grace period |
//!
//! # Jobs that are HTTP requests
//!
//! They are sent by a stack of one attempt:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     body::BufferedBody,
//!     context::JudgedInside,
//!     observe::observer_fn,
//!     queue::{MemoryQueue, NewJob, Queue, Worker},
//!     retry::{RetryConfig, Schedule},
//!     stack::attempt,
//! };
//!
//! # tokio_test::block_on(async {
//! let queue = Queue::new(MemoryQueue::default());
//!
//! // The producer enqueues a request:
//! let req = Request::post("https://peer.example/hooks")
//!     .header("idempotency-key", "evt_1")
//!     .body(BufferedBody::from(r#"{"paid":true}"#))?;
//! let accepted = queue.enqueue(NewJob::http(req)).await?;
//!
//! // A worker, in this process or another. Each of its calls is one attempt.
//! let client = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! });
//! let client = ServiceBuilder::new().layer(attempt().build()?).service(client);
//! let schedule = RetryConfig::builder().schedule(Schedule::standard_webhooks()).build()?;
//! let worker = Worker::http(queue.clone())
//!     .classifier(JudgedInside) // as the stack judged it
//!     .retry(schedule)
//!     .observe(observer_fn(|event| eprintln!("{event:?}")))
//!     .build(client)?
//!     .spawn();
//!
//! # for _ in 0..1_000 {
//! #     if queue.task(accepted.id).await?.is_some_and(|task| task.status.is_final()) { break }
//! #     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
//! # }
//! let task = queue.task(accepted.id).await?.ok_or("finished tasks are kept for 7 days")?;
//! assert_eq!(task.status.as_str(), "succeeded");
//! assert_eq!(worker.stop(std::time::Duration::from_secs(5)).await, 0);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```

pub mod contract;
mod engine;
mod http;
mod job;
mod jobs;
mod memory;
mod requeue;
mod typed;
mod worker;

pub use self::{
    engine::{Ask, Claim, Claims, Depth, End, Engine, Kinds, Mark, Moves, Promises, Tasks},
    http::{EnqueueError, EnqueueService, TaskStatusService},
    job::{About, Enqueued, Job, NewJob, Status, Task, TaskId},
    jobs::{JobFilter, JobListing, JobSummary, Jobs},
    memory::{MemoryQueue, MemoryQueueBuilder},
    requeue::{Requeue, ToQueue},
    typed::{HttpJob, HttpResponse, JobContext, JobError, JobKind, Push},
    worker::{Handlers, Worker, WorkerBuilder, WorkerHandle},
};

use crate::{BoxFuture, StoreError, StoreErrorKind, idempotency::IdempotencyKey};
use bytes::Bytes;
use std::sync::Arc;

/// A handle to an [`Engine`], to enqueue jobs and ask for their status. Clones share the engine.
#[derive(Clone, Debug)]
pub struct Queue {
    engine: Arc<dyn Engine>,
}

impl Queue {
    /// Makes a queue on this engine.
    pub fn new(engine: impl Engine) -> Self {
        Self::shared(Arc::new(engine))
    }

    /// Makes a queue on a shared engine.
    pub const fn shared(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// Adds a job to the queue. Returns once the job is as safe as the engine's documentation says.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the job may be in the queue or not. It is safe to enqueue it again if it has a
    /// [deduplication key](NewJob::dedup_key) or the same id.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job is in the queue or not.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        first(self.engine.enqueue(vec![job]).await?)
    }

    /// Adds jobs to the queue, in one step of its engine. The results are in the order of the jobs: an error
    /// is the refusal of one job, and does not keep out the others.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: each job may be in the queue or not. It is safe to enqueue those again that have a
    /// [deduplication key](NewJob::dedup_key) or the same id.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, each job is in the queue or not.
    pub async fn enqueue_all(
        &self,
        jobs: Vec<NewJob>,
    ) -> Result<Vec<Result<Enqueued, StoreError>>, StoreError> {
        self.engine.enqueue(jobs).await
    }

    /// The status of a task. `None` if the id is unknown, or its retention is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the engine did not answer, or it does not [report](Engine::tasks) tasks
    /// ([`Rejected`](StoreErrorKind::Rejected)).
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.tasks()?.task(id).await
    }

    /// The task that was added with this deduplication key.
    ///
    /// # Errors
    ///
    /// As with [`task`](Self::task).
    pub async fn find(&self, key: IdempotencyKey) -> Result<Option<Task>, StoreError> {
        self.tasks()?.find(key).await
    }

    /// Marks a task that failed for good as succeeded, with this result: its dead-letter entry was delivered in
    /// another way, by a [re-drive](crate::dead_letter::redrive). Returns `false`, and changes nothing, if there is
    /// no such task or it has not failed.
    ///
    /// # Errors
    ///
    /// As with [`task`](Self::task), and [`TooLarge`](StoreErrorKind::TooLarge) if the result is longer than
    /// [`Promises::max_result`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the task is marked or not.
    pub async fn resolve(&self, id: TaskId, result: Option<Bytes>) -> Result<bool, StoreError> {
        self.tasks()?.resolve(id, result).await
    }

    /// The number of jobs.
    ///
    /// # Errors
    ///
    /// As with [`task`](Self::task).
    pub async fn depth(&self) -> Result<Depth, StoreError> {
        self.tasks()?.depth().await
    }

    /// Cancels a job. Returns the status of its task then: [`Cancelled`](Status::Cancelled); another final status if
    /// it had ended, or had failed for good; `None` if the id is unknown. A worker that runs the job drops the work
    /// when it next renews the lease, after a third of it at most; until then the job keeps its place in its FIFO group
    /// and at its target. See [`Jobs::cancel`].
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the engine did not answer, or it cannot [cancel](Engine::jobs) jobs
    /// ([`Rejected`](StoreErrorKind::Rejected)).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job is cancelled or not.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio_test::block_on(async {
    /// use std::time::Duration;
    /// use tower_webhook::queue::{JobFilter, MemoryQueue, NewJob, Queue, Status};
    ///
    /// let queue = Queue::new(MemoryQueue::default());
    /// let later = NewJob::new("mail", "hello").delay(Duration::from_secs(3600));
    /// let id = queue.enqueue(later).await?.id;
    /// assert_eq!(queue.list(JobFilter::default().kinds(["mail"]), None, 10).await?.jobs[0].id, id);
    ///
    /// assert_eq!(queue.cancel(id).await?, Some(Status::Cancelled));
    /// assert!(queue.list(JobFilter::default(), None, 10).await?.jobs.is_empty());
    /// # Ok::<_, tower_webhook::BoxError>(())
    /// # }).unwrap();
    /// ```
    pub async fn cancel(&self, id: TaskId) -> Result<Option<Status>, StoreError> {
        self.jobs()?.cancel(id).await
    }

    /// Cancels the job that was added with this deduplication key, as [`cancel`](Self::cancel) does.
    ///
    /// # Errors
    ///
    /// As with [`cancel`](Self::cancel) and [`find`](Self::find).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the job is cancelled or not.
    pub async fn cancel_by_key(&self, key: IdempotencyKey) -> Result<Option<Status>, StoreError> {
        let jobs = self.jobs()?;
        match self.find(key).await? {
            Some(task) => jobs.cancel(task.id).await,
            None => Ok(None),
        }
    }

    /// Lists jobs that are queued or running, oldest first, a page at a time: at most `limit` of those that match
    /// `filter`, after the [`next`](JobListing::next) of the page before. See [`Jobs::list`].
    ///
    /// # Errors
    ///
    /// As with [`cancel`](Self::cancel).
    pub async fn list(
        &self,
        filter: JobFilter,
        after: Option<u64>,
        limit: usize,
    ) -> Result<JobListing, StoreError> {
        self.jobs()?.list(filter, after, limit).await
    }

    fn jobs(&self) -> Result<&dyn Jobs, StoreError> {
        let why = "the engine of this queue cannot cancel and list jobs";
        let no = || StoreError::new(StoreErrorKind::Rejected).caused_by(why);
        self.engine.jobs().ok_or_else(no)
    }

    fn tasks(&self) -> Result<&dyn Tasks, StoreError> {
        let why = "the engine of this queue does not report the status of tasks";
        let no = || StoreError::new(StoreErrorKind::Rejected).caused_by(why);
        self.engine.tasks().ok_or_else(no)
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }
}

/// Accepts jobs: a [`Queue`], or a function of your own, such as one that writes an event and its job in
/// one transaction.
///
/// # Examples
///
/// ```
/// use tower_webhook::{
///     StoreError,
///     queue::{Accept, Enqueued, NewJob},
/// };
///
/// let nowhere = |job: NewJob| async move {
///     Ok::<_, StoreError>(Enqueued { id: job.id, repeated: false })
/// };
/// # tokio_test::block_on(async {
/// assert!(!nowhere.accept(NewJob::new("event", "{}")).await?.repeated);
/// # Ok::<_, StoreError>(())
/// # }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` accepts no jobs",
    note = "`EnqueueService::new` takes a `Queue`, or a function that stores the job: `|job: NewJob| async move {{ .. }}`, which returns a `Result<Enqueued, StoreError>`"
)]
pub trait Accept: Send + Sync + 'static {
    /// Accepts a job. When the future is ready, the job is safe.
    ///
    /// # Errors
    ///
    /// [`StoreError`], from the future: the job may be stored or not.
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>>;
}

impl Accept for Queue {
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        let adding = self.engine.enqueue(vec![job]);
        Box::pin(async { first(adding.await?) })
    }
}

/// The result of a batch of one.
fn first(results: Vec<Result<Enqueued, StoreError>>) -> Result<Enqueued, StoreError> {
    let none = || Err(StoreError::new(StoreErrorKind::Corrupt));
    results.into_iter().next().unwrap_or_else(none)
}

impl<T: Accept + ?Sized> Accept for Arc<T> {
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        (**self).accept(job)
    }
}

impl<F, Fut> Accept for F
where
    F: Fn(NewJob) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Enqueued, StoreError>> + Send + 'static,
{
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        Box::pin(self(job))
    }
}
