//! An engine in the memory of this process.

mod bell;
mod keys;
mod lanes;
mod state;

use self::state::{Cancelled, Limits, Refused, State, after};
use super::{
    Ask, Claim, Claims, Depth, End, Engine, Enqueued, JobFilter, JobListing, Jobs, Mark, NewJob,
    Promises, Status, Task, TaskId, Tasks, engine::ATTEMPTS,
};
use crate::{
    BoxFuture, InvalidConfig, StoreError,
    clock::WallClock,
    idempotency::IdempotencyKey,
    lease::Settled,
    observe::{Event, Id, Observer, Observers},
};
use bytes::Bytes;
use std::{
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// An [`Engine`] in the memory of this process. Clones share their jobs.
///
/// Its jobs are lost with the process: use it in tests, and where that is acceptable. Otherwise it works
/// like a durable engine: leases end, attempts are counted, deduplication keys are known, and everything
/// has a bound.
///
/// Each operation holds one lock for a few microseconds, and does not await while it holds it. Tokens
/// count up from 1, over all jobs. Durations are measured by the clock of [`tokio::time`], which tests
/// can pause.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::queue::{Ask, End, Engine, MemoryQueue, NewJob, Queue, Status};
///
/// # tokio_test::block_on(async {
/// let engine = MemoryQueue::default();
/// let queue = Queue::new(engine.clone());
/// let id = queue.enqueue(NewJob::new("event", "payload")).await?.id;
///
/// let claims = engine.claim(Ask::new(10, Duration::from_secs(30))).await?;
/// let job = &claims.jobs[0];
/// assert_eq!((job.id, &job.payload[..], job.attempt), (id, &b"payload"[..], 1));
///
/// engine.settle(vec![(job.claim(), End::Done { result: None })]).await?;
/// let task = queue.task(id).await?.expect("it is kept for 7 days");
/// assert_eq!(task.status, Status::Succeeded { result: None });
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Each operation is carried out as a whole when its future is first polled, and not at all if it is
/// never polled. Dropping a [`wait`](Engine::wait) has no effect.
#[derive(Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    bell: Notify,
    clock: WallClock,
    max_keys: usize,
    observers: Observers,
}

/// Settings of a [`MemoryQueue`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryQueueBuilder {
    limits: Limits,
    clock: WallClock,
    observers: Observers,
}

impl MemoryQueueBuilder {
    /// Sets the largest number of jobs that are queued or running. Default: 100,000. As many again may have failed and
    /// wait for their dead letters. Further jobs are refused as [`Full`](crate::StoreErrorKind::Full).
    pub const fn max_jobs(mut self, jobs: usize) -> Self {
        self.limits.jobs = jobs;
        self
    }

    /// Sets the memory limit for jobs that are queued or running, in bytes: their payloads and texts (kind, target,
    /// keys, ids). Default: 256 MiB, and as much again for those that have failed and wait for their dead letters. When it is exceeded, a new job is refused as
    /// [`Full`](crate::StoreErrorKind::Full). Bookkeeping is not included: about 1 KiB for each job, and
    /// as much again for the history of a job that failed often.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// Sets the largest payload, in bytes. Default: 16 MiB. A larger one is refused as
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge).
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.limits.payload = bytes;
        self
    }

    /// Sets the largest number of deduplication keys: those of unfinished jobs, and those of finished tasks
    /// until their retention is over. Default: 2,000,000, which is 3 jobs a second with a retention of 8 days. A
    /// key whose task was removed takes 90 to 140 bytes.
    ///
    /// A job with a new key beyond that is refused as [`Full`](crate::StoreErrorKind::Full), because a key
    /// that is forgotten early would let a repetition pass as new. Each refusal is told to the
    /// [observers](Self::observe), and when the number of keys reaches nine tenths of the bound. Jobs without a
    /// key, and repetitions, are accepted as before.
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.limits.keys = keys;
        self
    }

    /// Sets the largest number of finished tasks that are kept. Default: 100,000. When it is exceeded, the
    /// tasks whose retention ends first are removed: their status can no longer be requested, and their
    /// deduplication keys stay known until the retention is over.
    pub const fn max_finished(mut self, tasks: usize) -> Self {
        self.limits.finished = tasks;
        self
    }

    /// Sets the memory limit for the results of finished tasks, in bytes. Default: 64 MiB. When it is
    /// exceeded, tasks are removed as with [`max_finished`](Self::max_finished). A single result above the
    /// limit is refused as [`TooLarge`](crate::StoreErrorKind::TooLarge); its claim remains, and can be
    /// settled without the result.
    pub const fn max_results(mut self, bytes: usize) -> Self {
        self.limits.results = bytes;
        self
    }

    /// Sets the number of attempts of a job: if the lease of the last one ends, the job has failed for good.
    /// Default: 25. A [worker](super::WorkerBuilder::retry) may allow fewer, and not more.
    pub const fn attempts(mut self, attempts: u32) -> Self {
        self.limits.attempts = attempts;
        self
    }

    /// Sets how many jobs of one [target](NewJob::target) run at the same time, over all workers. The limit
    /// keeps a slow target from using all of the concurrency. Default: 8. `u32::MAX`: no limit.
    pub const fn per_target(mut self, jobs: u32) -> Self {
        self.limits.per_target = jobs;
        self
    }

    /// Sets how long the status, the result and the deduplication key of a finished task are kept.
    /// Default: 7 days.
    pub const fn retention(mut self, retention: Duration) -> Self {
        self.limits.retention = retention;
        self
    }

    /// Sets the clock that gives the time at which a job is accepted. Default: the system clock.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Adds an observer of [`Event::JobCancelled`], and of [`Event::Trouble`]: there are nearly too many [keys](Self::max_keys), or a job was
    /// refused because there are too many. Default: none except `tracing`.
    pub fn observe(mut self, observer: impl Observer) -> Self {
        self.observers = self.observers.and(observer);
        self
    }

    /// Builds the queue.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] names the setting: one that is zero, or `max_payload` if it is above `max_bytes`.
    pub fn build(self) -> Result<MemoryQueue, InvalidConfig> {
        let limits = self.limits;
        for (setting, value) in [
            ("max_jobs", limits.jobs),
            ("max_keys", limits.keys),
            ("max_bytes", limits.bytes),
            ("max_payload", limits.payload),
            ("max_finished", limits.finished),
            ("max_results", limits.results),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        for (setting, value) in [
            ("attempts", limits.attempts),
            ("per_target", limits.per_target),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
        }
        if limits.retention.is_zero() {
            return Err(InvalidConfig::new("retention", "must be longer than zero"));
        }
        if limits.payload > limits.bytes {
            let problem = "must not be above `max_bytes`";
            return Err(InvalidConfig::new("max_payload", problem));
        }
        Ok(MemoryQueue::build(self))
    }
}

impl Default for MemoryQueueBuilder {
    fn default() -> Self {
        Self {
            limits: Limits {
                jobs: 100_000,
                keys: 2_000_000,
                bytes: 256 << 20,
                payload: 16 << 20,
                finished: 100_000,
                results: 64 << 20,
                attempts: ATTEMPTS,
                per_target: 8,
                retention: Duration::from_secs(7 * 24 * 60 * 60),
            },
            clock: WallClock::system(),
            observers: Observers::none(),
        }
    }
}

impl MemoryQueue {
    /// Returns a builder with the default settings.
    pub fn builder() -> MemoryQueueBuilder {
        MemoryQueueBuilder::default()
    }

    fn build(settings: MemoryQueueBuilder) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(settings.limits, Instant::now())),
                bell: Notify::new(),
                clock: settings.clock,
                max_keys: settings.limits.keys,
                observers: settings.observers,
            }),
        }
    }

    /// Runs an operation when its future is first polled.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State, Instant) -> T + Send + 'static,
    ) -> BoxFuture<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.with(work) })
    }
}

impl Default for MemoryQueue {
    /// Makes a queue with the defaults of [`MemoryQueueBuilder`].
    fn default() -> Self {
        Self::build(MemoryQueueBuilder::default())
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let depth = self.shared.with(State::depth);
        f.debug_struct("MemoryQueue")
            .field("depth", &depth)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Ignores poisoning: no code that can panic runs while the lock is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, what: &'static str) {
        self.observers.tell(|| Event::Trouble {
            part: "queue",
            what,
            detail: Some(Id::new(&self.max_keys)),
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let result = work(&mut state, Instant::now());
        let ring = state.bell().take_ring();
        drop(state);
        if ring {
            self.bell.notify_waiters();
        }
        result
    }
}

impl Engine for MemoryQueue {
    fn promises(&self) -> Promises {
        self.shared.lock().limits().promises()
    }

    fn enqueue(
        &self,
        jobs: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // Before the lock is taken, because the clock may be user code.
            let accepted_at = shared.clock.now();
            let jobs = jobs.into_iter();
            let (results, before, keys) = shared.with(|state, now| {
                let before = state.number_of_keys();
                let results: Vec<_> = jobs
                    .map(|job| state.enqueue(now, job, accepted_at))
                    .collect();
                (results, before, state.number_of_keys())
            });
            let many = shared.max_keys - shared.max_keys / 10;
            let is_full_of_keys = |result: &_| matches!(result, Err(Refused::FullOfKeys));
            if results.iter().any(is_full_of_keys) {
                shared.tell("as many deduplication keys are kept as may be, and a job with a new key was refused");
            } else if before < many && keys >= many {
                shared.tell("nine tenths of the deduplication keys that may be are kept");
            }
            let results = results.into_iter();
            Ok(results.map(|result| Ok(result?)).collect())
        })
    }

    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>> {
        self.run(move |state, now| Ok(state.claim(now, &ask)))
    }

    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |state, now| Ok(state.renew(now, &claims, lease)))
    }

    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |state, now| state.settle(now, ends))
    }

    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let end = after(Instant::now(), at_most);
            loop {
                let mut rung = pin!(shared.bell.notified());
                // Registered before the state is read, so that no change in between is missed.
                rung.as_mut().enable();
                let Some(until) = shared.with(|state, now| state.sleep(now, seen, end)) else {
                    return;
                };
                drop(timeout_at(until, rung).await);
            }
        })
    }

    fn tasks(&self) -> Option<&dyn Tasks> {
        Some(self)
    }

    fn jobs(&self) -> Option<&dyn Jobs> {
        Some(self)
    }
}

impl Jobs for MemoryQueue {
    fn cancel(&self, id: TaskId) -> BoxFuture<Result<Option<Status>, StoreError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let Some((status, cancelled)) = shared.with(|state, now| state.cancel(now, id)) else {
                return Ok(None);
            };
            if let Some(Cancelled { was_running, key }) = cancelled {
                shared.observers.tell(|| Event::JobCancelled {
                    task: Id::new(&id),
                    running: was_running,
                    dedup_key: key.as_ref().map(|key| (key.scope(), key.id())),
                });
            }
            Ok(Some(status))
        })
    }

    fn list(
        &self,
        filter: JobFilter,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<Result<JobListing, StoreError>> {
        self.run(move |state, now| Ok(state.list(now, &filter, after, limit)))
    }
}

impl Tasks for MemoryQueue {
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.run(move |state, now| Ok(state.task(now, id)))
    }

    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.run(move |state, now| Ok(state.find(now, &key)))
    }

    fn resolve(&self, id: TaskId, result: Option<Bytes>) -> BoxFuture<Result<bool, StoreError>> {
        self.run(move |state, now| state.resolve(now, id, result))
    }

    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>> {
        self.run(|state, now| Ok(state.depth(now)))
    }
}
