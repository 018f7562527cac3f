use super::{Depth, Engine, Enqueued, NewJob, Task, TaskId};
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
