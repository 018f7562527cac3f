//! Accept now, process later: what was answered with "accepted" is done, or ends where an operator
//! sees it.
//!
//! A [`Queue`] is the way to an [`Engine`], which keeps jobs. [`EnqueueService`] stands at the end of
//! a receive stack: it puts a job in and answers when that is safe. A [`Worker`] claims jobs and has
//! any tower service do them. [`TaskStatusService`] says how a task is to whoever knows its id.
//!
//! # Order
//!
//! ```text
//! receive   buffer body > verify signature > ENQUEUE
//! work      WORKER > deliver stack of one attempt > client
//! ```
//!
//! - Outside [`EnqueueService`]: what decides whether a request is to be believed. What is put in
//!   unverified is done unverified. Give it a [deduplication key](EnqueueService::dedup_key), and a sender that asks
//!   again gets the first id.
//! - Inside a [`Worker`]: the `stack::deliver()` that is told to deliver `once`. The
//!   worker is what tries again: its waits are in the queue, where they outlive the process, and not
//!   in a task that sleeps. Attempts inside multiply with those of the worker. A breaker belongs
//!   inside: what it refuses is given back, and costs no attempt.
//! - No dead letter layer inside: each failed attempt would be an entry. The worker
//!   [has its own](WorkerBuilder::dead_letters), for the job as a whole.
//!
//! # What it promises
//!
//! A job is done at least once: where a worker dies after the work and before it is noted, it is
//! done again. What does it can tell by [`Job::id`] that it has seen it, and by [`Job::token`] that
//! it is the late one of two.
//!
//! | What happens | What becomes of the job |
//! | --- | --- |
//! | it succeeds | done; status and result are kept for a while |
//! | it fails, or panics, or takes too long | again, after the delay that [`WorkerBuilder::retry`] says; dead-lettered after the last attempt |
//! | our side refuses it: an open circuit, a spent budget | given back; no attempt is counted |
//! | its worker dies | another's when the lease ends; the attempt counts, so that a payload that kills its workers is dead-lettered |
//! | its claim is lost | what runs is dropped; the newer claim is the one that counts |
//! | the queue cannot be reached | the worker waits and asks again; what is done is noted when it can be, while its claim lasts |
//! | it fails for good | its entry is written, for as long as that takes; only then is the task over |
//! | the worker stops | what does not end within the grace is given back |
//!
//! # Examples
//!
//! Jobs that are HTTP requests, sent by the deliver stack:
//!
//! ```
//! use http::{Request, Response};
//! use tower::{ServiceBuilder, service_fn};
//! use tower_webhook::{
//!     BoxError,
//!     body::BufferedBody,
//!     observe::observer_fn,
//!     queue::{MemoryQueue, NewJob, Queue, Worker},
//!     retry::{RetryConfig, Schedule},
//!     stack::deliver,
//! };
//!
//! # tokio_test::block_on(async {
//! let queue = Queue::new(MemoryQueue::default());
//!
//! // Wherever something is to be sent:
//! let req = Request::post("https://peer.example/hooks")
//!     .header("idempotency-key", "evt_1")
//!     .body(BufferedBody::from(r#"{"paid":true}"#))?;
//! let accepted = queue.enqueue(NewJob::http(req)).await?;
//!
//! // A worker, in this process or another. Of the client there is one attempt at a time.
//! let client = service_fn(|_: Request<BufferedBody>| async {
//!     Ok::<_, BoxError>(Response::new(BufferedBody::default()))
//! });
//! let client = ServiceBuilder::new().layer(deliver().once().build()?).service(client);
//! let schedule = RetryConfig::builder().schedule(Schedule::standard_webhooks()).build()?;
//! let worker = Worker::http(queue.clone())
//!     .retry(schedule)
//!     .observe(observer_fn(|event| eprintln!("{event:?}")))
//!     .build(client)?
//!     .spawn();
//!
//! # for _ in 0..1_000 {
//! #     if queue.task(accepted.id).await?.is_some_and(|task| task.status.is_final()) { break }
//! #     tokio::time::sleep(std::time::Duration::from_millis(5)).await;
//! # }
//! let task = queue.task(accepted.id).await?.ok_or("it is kept for 7 days")?;
//! assert_eq!(task.status.as_str(), "succeeded");
//! assert_eq!(worker.stop(std::time::Duration::from_secs(5)).await, 0);
//! # Ok::<_, BoxError>(())
//! # }).unwrap();
//! ```
//!
//! # Cancel safety
//!
//! Dropping a future of a [`Queue`] leaves the job either there or not. Dropping
//! [`Worker::run`] drops what runs; its jobs are others' when their leases end. A
//! [`WorkerHandle`] that is dropped stops its worker, which gives back what it has.

pub mod contract;
mod engine;
mod http;
mod job;
mod memory;
mod renotify;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod worker;

#[cfg(feature = "sqlite")]
#[doc(inline)]
pub use self::sqlite::{SqliteQueue, SqliteQueueBuilder};
pub use self::{
    engine::{Claims, Depth, Engine, Terms, Verdict},
    http::{
        ByRequest, EnqueueError, EnqueueFuture, EnqueueService, NotARequest, TaskStatusFuture,
        TaskStatusService,
    },
    job::{About, Enqueued, FailedJob, Job, NewJob, Status, Task, TaskId},
    memory::{MemoryQueue, MemoryQueueBuilder},
    worker::{
        ByJob, ByResult, NoResult, ResultFn, TakeResult, Worker, WorkerBuilder, WorkerHandle,
    },
};

use crate::{BoxFuture, StoreError, idempotency::IdempotencyKey};
use std::{fmt, sync::Arc};

/// The way to an [`Engine`]: what accepts jobs and what asks how they are. Clones share everything.
#[derive(Clone, Debug)]
pub struct Queue {
    engine: Arc<dyn Engine>,
}

impl Queue {
    /// Over this engine.
    pub fn new(engine: impl Engine) -> Self {
        Self::shared(Arc::new(engine))
    }

    /// Over an engine that others use too.
    pub const fn shared(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// Puts a job in. When this answers, the job is as safe as the engine's documentation says.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the job is not known to be there. Putting in a job with the same
    /// [deduplication key](NewJob::dedup_key) again is safe.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the job is either there or not.
    pub async fn enqueue(&self, job: NewJob) -> Result<Enqueued, StoreError> {
        self.engine.enqueue(job).await
    }

    /// How a task is. `None` where there is none, or where its time is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the engine did not answer.
    pub async fn task(&self, id: TaskId) -> Result<Option<Task>, StoreError> {
        self.engine.task(id).await
    }

    /// The task that has this key.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the engine did not answer.
    pub async fn find(&self, key: IdempotencyKey) -> Result<Option<Task>, StoreError> {
        self.engine.find(key).await
    }

    /// How much there is.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the engine did not answer.
    pub async fn depth(&self) -> Result<Depth, StoreError> {
        self.engine.depth().await
    }

    /// The engine.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }
}

/// Takes a job into its keeping: a [`Queue`], or a transaction of your own that stores more beside
/// it (see [`accept_fn`]).
pub trait Accept: Send + Sync + 'static {
    /// Takes a job. When the future answers, the job is safe.
    ///
    /// # Errors
    ///
    /// [`StoreError`], in its future: the job is not known to be taken.
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>>;
}

impl Accept for Queue {
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        self.engine.enqueue(job)
    }
}

impl<T: Accept + ?Sized> Accept for Arc<T> {
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        (**self).accept(job)
    }
}

/// Takes a job by a function. Made by [`accept_fn`].
#[derive(Clone, Copy)]
pub struct AcceptFn<F> {
    accept: F,
}

/// Takes a job by a function: one that writes event and job in one transaction, say.
///
/// # Examples
///
/// ```
/// use tower_webhook::queue::{Accept, Enqueued, NewJob, StoreError, accept_fn};
///
/// let nowhere = accept_fn(|job: NewJob| async move {
///     Ok::<_, StoreError>(Enqueued { id: job.id, repeated: false })
/// });
/// # tokio_test::block_on(async {
/// assert!(!nowhere.accept(NewJob::new("event", "{}")).await?.repeated);
/// # Ok::<_, StoreError>(())
/// # }).unwrap();
/// ```
pub const fn accept_fn<F, Fut>(accept: F) -> AcceptFn<F>
where
    F: Fn(NewJob) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Enqueued, StoreError>> + Send + 'static,
{
    AcceptFn { accept }
}

impl<F, Fut> Accept for AcceptFn<F>
where
    F: Fn(NewJob) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Enqueued, StoreError>> + Send + 'static,
{
    fn accept(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        Box::pin((self.accept)(job))
    }
}

impl<F> fmt::Debug for AcceptFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcceptFn").finish_non_exhaustive()
    }
}
