//! Jobs with types of their own.

use super::{About, Enqueued, Job, NewJob, Queue};
use crate::{
    BoxError, BoxFuture, StoreError, StoreErrorKind, body::BufferedBody,
    idempotency::IdempotencyKey, json, outcome::Unsendable,
};
use http::{Request, Response};
use http_body::Body;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt,
    future::IntoFuture,
    ops::Deref,
    time::{Duration, SystemTime},
};

/// A job with a type of its own, kept as JSON.
///
/// # Examples
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
/// use tower_webhook::queue::{
///     JobContext, JobError, JobKind, MemoryQueue, Queue, Worker,
/// };
///
/// #[derive(Serialize, Deserialize)]
/// struct SendInvoice {
///     id: u64,
/// }
///
/// impl JobKind for SendInvoice {
///     const KIND: &'static str = "send-invoice";
/// }
///
/// async fn send_invoice(invoice: SendInvoice, context: JobContext) -> Result<(), JobError> {
///     if invoice.id == 0 {
///         return Err(JobError::permanent("there is no invoice 0"));
///     }
///     println!("attempt {} at invoice {}", context.attempt, invoice.id);
///     Ok(())
/// }
///
/// # tokio_test::block_on(async {
/// let queue = Queue::new(MemoryQueue::default());
/// let accepted = queue.push(SendInvoice { id: 7 }).key("invoice-7").await?;
/// assert!(queue.push(SendInvoice { id: 7 }).key("invoice-7").await?.repeated);
///
/// let worker = Worker::builder(queue.clone())
///     .handle(send_invoice)
///     .concurrency(16)
///     .build()?
///     .spawn();
/// # while !queue.task(accepted.id).await?.is_some_and(|task| task.status.is_final()) {
/// #     tokio::time::sleep(Duration::from_millis(5)).await;
/// # }
/// # assert_eq!(queue.task(accepted.id).await?.unwrap().status.as_str(), "succeeded");
/// worker.stop(Duration::from_secs(5)).await;
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no type of jobs",
    label = "needs `JobKind`",
    note = "put `#[derive(Serialize, Deserialize)]` of serde on it, and write `impl JobKind for {Self} {{ const KIND: &'static str = \"a-fixed-name\"; }}`"
)]
pub trait JobKind: Serialize + DeserializeOwned + Send + 'static {
    /// The kind: a short fixed name. Jobs that are in a queue keep it, so it must not change.
    const KIND: &'static str;
}

/// A typed job that is an HTTP request, for [`WorkerBuilder::handle_http`](super::WorkerBuilder::handle_http).
#[diagnostic::on_unimplemented(
    message = "a job of type `{Self}` is no HTTP request",
    note = "write `impl HttpJob for {Self} {{ fn request(&self) -> Result<Request<BufferedBody>, BoxError> {{ .. }} }}`",
    note = "for jobs that are not requests there is `.handle(..)`, with an async function"
)]
pub trait HttpJob: JobKind {
    /// Makes the request. Called for each attempt.
    ///
    /// # Errors
    ///
    /// Why there is no request: the job is dead-lettered as
    /// [`Unsendable`](crate::dead_letter::Reason::Unsendable).
    fn request(&self) -> Result<Request<BufferedBody>, BoxError>;
}

/// A response of a client, whatever its body.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no `http::Response` whose body can cross threads",
    note = "the client of `handle_http` answers an `http::Response`: a stack, `transport::hyper(..)` or `transport::reqwest(..)`"
)]
pub trait HttpResponse: Send + 'static {
    /// Its body.
    type Body: Body<Data: Send> + Send + 'static;

    /// The response.
    fn into_response(self) -> Response<Self::Body>;
}

impl<B: Body<Data: Send> + Send + 'static> HttpResponse for Response<B> {
    type Body = B;

    fn into_response(self) -> Self {
        self
    }
}

/// A job that is about to be enqueued, made by [`Queue::push`]. Nothing is enqueued until it is awaited.
///
/// # Errors
///
/// When it is awaited, [`StoreError`]: [`Rejected`](StoreErrorKind::Rejected) if the job cannot be
/// written as JSON, its [key](Self::key) is none, or its queue [does not take](NewJob::admit) it; else as with
/// [`Queue::enqueue`].
#[must_use = "nothing is enqueued until it is awaited"]
#[derive(Debug)]
pub struct Push {
    queue: Queue,
    job: Result<NewJob, StoreError>,
}

impl Queue {
    /// Adds a typed job to the queue, when the result is awaited.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "a job that was handed over is not changed any more"
    )]
    pub fn push<J: JobKind>(&self, job: J) -> Push {
        Push {
            queue: self.clone(),
            job: NewJob::typed(&job),
        }
    }
}

impl NewJob {
    /// Makes a job of a typed one.
    ///
    /// # Errors
    ///
    /// [`Rejected`](StoreErrorKind::Rejected) if it cannot be written as JSON; the source says why.
    pub fn typed<J: JobKind>(job: &J) -> Result<Self, StoreError> {
        match serde_json::to_vec(job) {
            Ok(payload) => Ok(Self::new(J::KIND, payload)),
            Err(error) => Err(StoreError::new(StoreErrorKind::Rejected).caused_by(error)),
        }
    }
}

impl Job {
    /// Reads the payload of a typed job.
    ///
    /// # Errors
    ///
    /// [`Unsendable`]: the payload is not of the type. The source names the field, and quotes no value. The job of a service that returns
    /// this error is dead-lettered at once.
    pub fn typed<J: JobKind>(&self) -> Result<J, Unsendable> {
        json::read(&self.payload).map_err(|error| {
            let kind = J::KIND;
            Unsendable::because(format!("its payload is not that of a `{kind}`: {error}"))
        })
    }
}

impl Push {
    /// Sets the [deduplication key](NewJob::dedup_key), by its id; its scope is the [kind](JobKind::KIND).
    /// Default: none.
    pub fn key(mut self, id: &str) -> Self {
        self.job = self.job.and_then(|job| {
            let key = IdempotencyKey::new(&job.kind, id)
                .map_err(|error| StoreError::new(StoreErrorKind::Rejected).caused_by(error))?;
            Ok(job.dedup_key(key))
        });
        self
    }

    /// Sets the [time of the first attempt](NewJob::run_at), by the wall clock of the queue's engine. Default: at once.
    pub fn run_at(self, at: SystemTime) -> Self {
        self.with(|job| job.run_at(at))
    }

    /// Sets the [wait before the first attempt](NewJob::delay). Default: zero.
    pub fn delay(self, delay: Duration) -> Self {
        self.with(|job| job.delay(delay))
    }

    /// Sets the [target](NewJob::target). Default: `""`.
    pub fn target(self, target: impl Into<String>) -> Self {
        self.with(|job| job.target(target))
    }

    /// Sets the [FIFO group](NewJob::fifo_group). Default: none.
    pub fn fifo_group(self, group: impl Into<String>) -> Self {
        self.with(|job| job.fifo_group(group))
    }

    /// Sets the facts for the dead-letter entry of the job. Default: none.
    pub fn about(self, about: About) -> Self {
        self.with(|job| job.about(about))
    }

    fn with(mut self, set: impl FnOnce(NewJob) -> NewJob) -> Self {
        self.job = self.job.map(set);
        self
    }
}

impl IntoFuture for Push {
    type Output = Result<Enqueued, StoreError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.queue.enqueue(self.job?).await })
    }
}

/// The claimed job of a typed handler: its id, its attempt, and everything else of a [`Job`].
#[derive(Clone, Debug)]
pub struct JobContext {
    job: Job,
}

impl JobContext {
    pub(super) const fn new(job: Job) -> Self {
        Self { job }
    }
}

impl Deref for JobContext {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

/// The failure of a typed job. Made from any error with `?`: the job is tried again, unless it is
/// [permanent](Self::permanent). [`Outcome::of_error`](crate::outcome::Outcome::of_error) says how long to wait where the
/// error asks for that, and whether it counts as an attempt.
pub struct JobError {
    pub(super) error: BoxError,
    pub(super) is_permanent: bool,
}

impl JobError {
    /// A failure that every further attempt would meet again: the job is dead-lettered at once, as
    /// [`Rejected`](crate::dead_letter::Reason::Rejected) and with this message.
    pub fn permanent(error: impl Into<BoxError>) -> Self {
        Self {
            error: error.into(),
            is_permanent: true,
        }
    }

    /// Whether it is [permanent](Self::permanent).
    pub const fn is_permanent(&self) -> bool {
        self.is_permanent
    }
}

impl fmt::Debug for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobError")
            .field("error", &self.error)
            .field("is_permanent", &self.is_permanent)
            .finish()
    }
}

// Not an error itself, so that any error can become one.
impl<E: Into<BoxError>> From<E> for JobError {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            is_permanent: false,
        }
    }
}
