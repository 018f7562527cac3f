//! The engine in this process's memory.

mod bell;
mod lanes;
mod state;

use self::state::{Limits, State, after};
use super::{Claims, Depth, Engine, Enqueued, NewJob, Task, TaskId, Terms, Verdict};
use crate::{
    BoxFuture, InvalidConfig, StoreError,
    clock::WallClock,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
};
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

/// An [`Engine`] in this process's memory. Clones share what they keep.
///
/// What it keeps dies with the process: use it for tests, and where what was accepted may be lost
/// with the process that accepted it. Everything else is as with an engine that keeps it: claims
/// end, attempts are counted, keys are known again, and all of it has a bound.
///
/// One lock is held for a few microseconds by each operation; nothing waits while it is held.
/// Tokens count up from 1, over all jobs. Durations are measured by the clock of [`tokio::time`],
/// which tests pause.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::queue::{Engine, MemoryQueue, NewJob, Status, Terms, Verdict};
///
/// # tokio_test::block_on(async {
/// let queue = MemoryQueue::default();
/// let id = queue.enqueue(NewJob::new("event", "payload")).await?.id;
///
/// let claims = queue.claim(Terms::new(10, Duration::from_secs(30))).await?;
/// let job = &claims.jobs[0];
/// assert_eq!((job.id, &job.payload[..], job.attempt), (id, &b"payload"[..], 1));
///
/// let done = Verdict::Done { result: None, retention: Duration::from_secs(60) };
/// queue.settle(id, job.token, done).await?;
/// let task = queue.task(id).await?.expect("it is kept for a minute");
/// assert_eq!(task.status, Status::Succeeded { result: None });
/// # Ok::<_, tower_webhook::BoxError>(())
/// # }).unwrap();
/// ```
///
/// # Cancel safety
///
/// Each operation is done whole when its future is polled for the first time, and not at all when
/// it never is. A [`wait`](Engine::wait) that is dropped takes nothing with it.
#[derive(Clone)]
pub struct MemoryQueue {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    bell: Notify,
    clock: WallClock,
}

/// Settings of a [`MemoryQueue`].
#[derive(Clone, Debug)]
#[must_use]
pub struct MemoryQueueBuilder {
    limits: Limits,
    clock: WallClock,
}

impl MemoryQueueBuilder {
    /// The most jobs that are not over: queued, running or to be dead-lettered. Default: 100,000. Past it
    /// a new job is refused as [`Full`](super::StoreErrorKind::Full).
    pub const fn max_jobs(mut self, jobs: usize) -> Self {
        self.limits.jobs = jobs;
        self
    }

    /// The most memory that jobs which are not over take, in bytes: their payloads and the texts
    /// beside them (kind, target, keys, ids). Default: 256 MiB. Past it a new job is refused as
    /// [`Full`](super::StoreErrorKind::Full). The bookkeeping comes on top, about 1 KiB for each
    /// job, and as much again for the history of one that failed often.
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.limits.bytes = bytes;
        self
    }

    /// The largest payload, in bytes. Default: 16 MiB. A larger one is refused as
    /// [`TooLarge`](super::StoreErrorKind::TooLarge).
    pub const fn max_payload(mut self, bytes: usize) -> Self {
        self.limits.payload = bytes;
        self
    }

    /// The most finished tasks of which the status is kept. Default: 100,000. Past it those leave
    /// whose time to live ends first, and a repeat of their key is put in again: choose it above
    /// what finishes within the time to live.
    pub const fn max_finished(mut self, tasks: usize) -> Self {
        self.limits.finished = tasks;
        self
    }

    /// The most memory that the results of finished tasks take, in bytes. Default: 64 MiB. Past it
    /// tasks leave as with [`max_finished`](Self::max_finished). A single result that is larger is
    /// refused as [`TooLarge`](super::StoreErrorKind::TooLarge), and the claim stands: settle it
    /// again without the result.
    pub const fn max_results(mut self, bytes: usize) -> Self {
        self.limits.results = bytes;
        self
    }

    /// Where the time comes from at which a job was accepted. The system clock by default.
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// Builds the queue.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`] when a bound is zero, or `max_payload` is above `max_bytes`.
    pub fn build(self) -> Result<MemoryQueue, InvalidConfig> {
        let limits = self.limits;
        for (setting, value) in [
            ("max_jobs", limits.jobs),
            ("max_bytes", limits.bytes),
            ("max_payload", limits.payload),
            ("max_finished", limits.finished),
            ("max_results", limits.results),
        ] {
            if value == 0 {
                return Err(InvalidConfig::new(setting, "must be at least 1"));
            }
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
                bytes: 256 << 20,
                payload: 16 << 20,
                finished: 100_000,
                results: 64 << 20,
            },
            clock: WallClock::system(),
        }
    }
}

impl MemoryQueue {
    /// Settings to change before building.
    pub fn builder() -> MemoryQueueBuilder {
        MemoryQueueBuilder::default()
    }

    fn build(settings: MemoryQueueBuilder) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(State::new(settings.limits, Instant::now())),
                bell: Notify::new(),
                clock: settings.clock,
            }),
        }
    }

    /// The operation, when it is polled.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State, Instant) -> T + Send + 'static,
    ) -> BoxFuture<T> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.with(work) })
    }
}

impl Default for MemoryQueue {
    /// A queue with the defaults of [`MemoryQueueBuilder`].
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
    /// A poisoned lock is taken all the same: no code that can panic runs while it is held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn enqueue(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // Before the lock is taken: it may be anybody's code.
            let accepted_at = shared.clock.now();
            shared.with(|state, now| state.enqueue(now, job, accepted_at))
        })
    }

    fn claim(&self, terms: Terms) -> BoxFuture<Result<Claims, StoreError>> {
        self.run(move |state, now| Ok(state.claim(now, &terms)))
    }

    fn renew(
        &self,
        claims: Vec<(TaskId, FencingToken)>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>> {
        self.run(move |state, now| Ok(state.renew(now, &claims, lease)))
    }

    fn settle(
        &self,
        id: TaskId,
        token: FencingToken,
        verdict: Verdict,
    ) -> BoxFuture<Result<Settled, StoreError>> {
        self.run(move |state, now| state.settle(now, id, token, verdict))
    }

    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.run(move |state, now| Ok(state.task(now, id)))
    }

    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>> {
        self.run(move |state, now| Ok(state.find(now, &key)))
    }

    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>> {
        self.run(|state, now| Ok(state.depth(now)))
    }

    fn wait(&self, at_most: Duration) -> BoxFuture<()> {
        let shared = Arc::clone(&self.shared);
        // What happens from here on is news, not only from the first poll on.
        let seen = shared.lock().bell().version();
        let began = Instant::now();
        let end = after(began, at_most);
        Box::pin(async move {
            loop {
                let mut rung = pin!(shared.bell.notified());
                // In line before the look: what happens after it wakes us.
                rung.as_mut().enable();
                let Some(until) = shared.with(|state, now| state.sleep(now, seen, began, end))
                else {
                    return;
                };
                drop(timeout_at(until, rung).await);
            }
        })
    }
}
