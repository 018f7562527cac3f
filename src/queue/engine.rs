use super::{Enqueued, Job, Jobs, NewJob, Task, TaskId};
use crate::{
    BoxFuture, StoreError,
    attempt::History,
    dead_letter::{Cause, Entry, EntryId, Sink},
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
};
use bytes::Bytes;
use std::{fmt, sync::Arc, time::Duration};

/// Keeps jobs. An engine is the state machine of a queue, in memory, in a file or on a server.
///
/// ```text
///             enqueue                claim: attempt + 1              settle(Done)
///   (new) ------------> queued(due) --------------------> running --------------> succeeded
///                        ^      ^                         |  |  |
///                        |      |  settle(Retry, Release) |  |  | settle(Failed), or the lease of
///                        |      +-------------------------+  |  | the last attempt ended
///                        |        the lease ended            |  v
///                        +-----------------------------------+  held with its cause -----> failed
///                                                                              settle(Done)
/// ```
///
/// A job that failed for good stays in the queue, with its [cause](Job::cause), until its dead-letter entry
/// is written. It is claimed, renewed and settled like any other job, but the claim counts no attempt.
///
/// The settings of a queue (the number of attempts, the limit per target, the retention, the bounds) belong
/// to its engine, because all workers share them. [`contract`](super::contract) has the tests that every
/// engine must pass; it leaves out the rules that an engine does not [promise](Promises).
///
/// # What every engine does
///
/// - `enqueue` returns once the jobs are as safe as the engine's documentation says. One job that is refused
///   does not keep out the others.
/// - `claim` counts the attempt. At most one worker holds a job. Each claim of a job has a greater
///   token than the claim before.
/// - A job whose lease ends is queued again at once. Its former holder can still renew or settle it as long as
///   nobody has claimed it since, because every change compares the [token](crate::lease) alone. If the lease of the
///   last attempt ends, the transaction that finds it marks the job as failed, with
///   [`Reason::WorkerLost`](crate::dead_letter::Reason).
/// - Enqueuing, claiming and settling take O(log n) time for each job, whatever the backlog and the history.
/// - The payload of a finished task is removed at once.
/// - A job is queued [again](NewJob::requeue) if its task has failed for good, with its attempts and history anew. The
///   task keeps its id and deduplication key.
/// - Everything has a bound: a full engine refuses with
///   [`StoreErrorKind::Full`](crate::StoreErrorKind::Full).
/// - The engine uses its own clock. If the clock goes back, no lease and no wait takes longer than it
///   was granted, counted from when the engine notices.
///
/// # Cancel safety
///
/// If a future is dropped, its operation is done or not done, never half done. If the future of a claim
/// is dropped, its jobs are released, at once or when their leases end.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no engine of a queue",
    note = "`MemoryQueue::default()` is one, and `SqliteQueue` of `tower-webhook-sqlite`, by value; of a `Result`, take what is in it with `?`",
    note = "for an engine of your own, implement `Engine`"
)]
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// What this engine keeps beyond what [every engine](Engine#what-every-engine-does) does, and the
    /// settings of its queue.
    fn promises(&self) -> Promises;

    /// Adds jobs to the queue. The results are in the order of the jobs: an error is the refusal of one job.
    /// [`NewJob::admit`] says what is refused whatever the state of the queue.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: each job may be in the queue or not.
    fn enqueue(
        &self,
        jobs: Vec<NewJob>,
    ) -> BoxFuture<Result<Vec<Result<Enqueued, StoreError>>, StoreError>>;

    /// Claims jobs that are due.
    fn claim(&self, ask: Ask) -> BoxFuture<Result<Claims, StoreError>>;

    /// Extends the leases of claims to `lease` from now. The results are in the order of the claims.
    /// [`Settled::Lost`]: another has claimed the job since, the claim was ended, or the job is gone or
    /// [cancelled](Jobs::cancel).
    fn renew(
        &self,
        claims: Vec<Claim>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>>;

    /// Ends claims. The results are in the order of the claims. [`Settled::Lost`] as for [`renew`](Self::renew); if the
    /// job was cancelled, what waits for it may run then.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: each claim may be ended or not. It is safe to settle it again.
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge) if a result is longer than
    /// [`Promises::max_result`]; then no claim is ended.
    fn settle(&self, ends: Vec<(Claim, End)>) -> BoxFuture<Result<Vec<Settled>, StoreError>>;

    /// Waits until there may be something to claim that a claim with the mark `seen` has not seen: a job was
    /// added or released, a job became due, a lease ended, or a target has room again. It may return
    /// earlier, and returns after `at_most` in any case. It returns at once on a change by this process, and
    /// within 50 ms on a change by another.
    fn wait(&self, seen: Mark, at_most: Duration) -> BoxFuture<()>;

    /// The status of the tasks, if the engine promises it. Default: `None`.
    fn tasks(&self) -> Option<&dyn Tasks> {
        None
    }

    /// Cancelling and listing of jobs, if the engine promises it. Default: `None`.
    fn jobs(&self) -> Option<&dyn Jobs> {
        None
    }

    /// The moves between this queue and these dead letters, if both are in one database. Default: `None`. Without
    /// them a worker marks a job as failed, writes its entry, and then ends it; and a job is queued again before its
    /// entry is removed. The engine knows its own sink by its type: `sink` can be downcast as [`Any`](std::any::Any).
    fn moves(&self, sink: &dyn Sink) -> Option<Box<dyn Moves>> {
        let _ = sink;
        None
    }
}

/// Moves a job between a queue and the dead letters in the same database, each in one transaction.
pub trait Moves: Send + Sync {
    /// Ends a claim and writes the entry of the job, which failed for good. [`Settled::Lost`]: nothing was written; if
    /// the job was [cancelled](Jobs::cancel), what waits for it may run.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: both are done, or neither. [`Full`](crate::StoreErrorKind::Full) and
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge): neither.
    fn dead_letter(
        &self,
        claim: Claim,
        entry: &Arc<Entry>,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// Adds a job to the queue and removes the claimed entry that it repeats. The token alone decides, as of
    /// [`LetterStore::remove`](crate::dead_letter::LetterStore::remove): the lease may have ended. `None`: the claim is
    /// lost, because another has claimed the entry since, or the claim has ended, or the entry is gone. Nothing was
    /// changed.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: both are done, or neither. [`Full`](crate::StoreErrorKind::Full) and
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge): neither; nor
    /// [`Rejected`](crate::StoreErrorKind::Rejected), if the deduplication key is [that of another task](Enqueued::as_task).
    fn requeue(
        &self,
        entry: EntryId,
        token: FencingToken,
        job: NewJob,
    ) -> BoxFuture<Result<Option<Enqueued>, StoreError>>;
}

/// Reports the tasks of an engine.
pub trait Tasks: Send + Sync {
    /// The status of a task. `None` if the id is unknown, or its retention is over.
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// The task that was added with this deduplication key.
    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// Marks a task that failed for good as succeeded, with this result, because its dead-letter entry was
    /// delivered in another way. The status is kept for the retention from now on. Returns `false`, and changes
    /// nothing, if there is no such task or it has not failed.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::StoreErrorKind::TooLarge) if the result is longer than [`Promises::max_result`].
    fn resolve(&self, id: TaskId, result: Option<Bytes>) -> BoxFuture<Result<bool, StoreError>>;

    /// The number of jobs, in O(1). It may be approximate.
    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>>;
}

/// What an engine keeps, and the settings of its queue.
///
/// The default promises nothing beyond what [every engine](Engine#what-every-engine-does) does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Promises {
    /// How long a deduplication key is known after its job has ended: until then, a second job with the key
    /// is not added and gets the id of the first. The status of a task may leave earlier, its key may not: an engine
    /// that keeps as many keys as it may refuses jobs with new ones. `None`: a job with a key is refused.
    pub dedup: Option<Duration>,
    /// Whether jobs are claimed in the order in which they are due.
    pub due_order: bool,
    /// Whether the jobs of a [FIFO group](NewJob::fifo_group) run one after another, oldest first. If not, a job with
    /// one is refused.
    pub fifo_groups: bool,
    /// How many jobs of one target run at the same time, over all workers. `None`: there is no limit.
    pub per_target: Option<u32>,
    /// The longest wait before a job is due. A job that is to wait longer for its first attempt is refused, and a
    /// worker whose retries wait longer cannot be built.
    pub longest_delay: Duration,
    /// The number of attempts of a job. If the lease of the last one ends, the job has failed for good.
    pub attempts: u32,
    /// The longest result of a task that is kept, in bytes. Zero: none is kept, and a worker that takes results cannot
    /// be built.
    pub max_result: usize,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            dedup: None,
            due_order: false,
            fifo_groups: false,
            per_target: None,
            longest_delay: Duration::ZERO,
            attempts: ATTEMPTS,
            max_result: 0,
        }
    }
}

/// The default number of attempts of a job.
pub(super) const ATTEMPTS: u32 = 25;

/// The jobs that a claim asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ask {
    /// The kinds of jobs.
    pub kinds: Kinds,
    /// The largest number of jobs to do.
    pub most: usize,
    /// The largest number of jobs that have failed for good, in addition.
    pub most_failed: usize,
    /// The lease of the claims.
    pub lease: Duration,
}

impl Ask {
    /// Asks for at most `most` jobs of any kind, and as many that have failed for good, with this lease.
    pub const fn new(most: usize, lease: Duration) -> Self {
        Self {
            kinds: Kinds::All,
            most,
            most_failed: most,
            lease,
        }
    }

    /// Sets the kinds of jobs. Default: all.
    #[must_use]
    pub fn kinds(mut self, kinds: impl Into<Kinds>) -> Self {
        self.kinds = kinds.into();
        self
    }

    /// Sets the largest number of jobs that have failed for good. Default: the number of jobs.
    #[must_use]
    pub const fn most_failed(mut self, most: usize) -> Self {
        self.most_failed = most;
        self
    }
}

/// Kinds of jobs.
///
/// # Examples
///
/// ```
/// use tower_webhook::queue::Kinds;
///
/// let kinds = Kinds::from(["http", "event"]);
/// assert!(kinds.has("event") && !kinds.has("mail"));
/// assert!(Kinds::All.has("mail"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kinds {
    /// Every kind.
    #[default]
    All,
    /// These kinds alone.
    Only(Arc<[String]>),
}

impl Kinds {
    /// Whether this kind is among them.
    pub fn has(&self, kind: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(kinds) => kinds.iter().any(|one| one == kind),
        }
    }
}

impl<T: Into<String>, const N: usize> From<[T; N]> for Kinds {
    fn from(kinds: [T; N]) -> Self {
        Self::Only(kinds.into_iter().map(Into::into).collect())
    }
}

/// The result of a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// The jobs to do, and those that have failed for good, whose [cause](Job::cause) is set.
    pub jobs: Vec<Job>,
    /// What the claim has seen of the queue, for [`Engine::wait`].
    pub mark: Mark,
}

/// What a claim has seen of a queue. The default has seen nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    changes: u64,
    time: u64,
}

impl Mark {
    /// Makes a mark. For engines, which give these numbers any meaning; most count the changes that made
    /// something claimable, and add their time.
    pub const fn new(changes: u64, time: u64) -> Self {
        Self { changes, time }
    }

    /// The first number.
    pub const fn changes(self) -> u64 {
        self.changes
    }

    /// The second number.
    pub const fn time(self) -> u64 {
        self.time
    }
}

/// A claim on a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The id of the job.
    pub id: TaskId,
    /// The token of the claim.
    pub token: FencingToken,
}

/// How a claim ends. `Debug` shows the length of a result, not its content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum End {
    /// Ends a job that succeeded; or one that failed for good, when its entry is written.
    Done {
        /// The result of a job that succeeded.
        result: Option<Bytes>,
    },
    /// Marks a job as failed for good. Its entry is written next.
    Failed {
        /// The cause.
        cause: Cause,
        /// The history of its attempts.
        history: History,
    },
    /// Queues a job again, without counting the attempt.
    Release {
        /// The wait before it is due again.
        after: Duration,
        /// The history of its attempts.
        history: History,
    },
    /// Queues a job again after a failed attempt, or after its entry could not be written.
    Retry {
        /// The wait before it is due again.
        after: Duration,
        /// The history of its attempts.
        history: History,
    },
}

impl fmt::Debug for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { result } => f
                .debug_struct("Done")
                .field("result", &result.as_ref().map(Bytes::len))
                .finish(),
            Self::Failed { cause, history } => f
                .debug_struct("Failed")
                .field("cause", cause)
                .field("history", history)
                .finish(),
            Self::Release { after, history } => f
                .debug_struct("Release")
                .field("after", after)
                .field("history", history)
                .finish(),
            Self::Retry { after, history } => f
                .debug_struct("Retry")
                .field("after", after)
                .field("history", history)
                .finish(),
        }
    }
}

/// The number of jobs in a queue, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Jobs that wait for a worker, for their due time, or for the job before them in their group.
    pub queued: u64,
    /// Jobs that a worker has claimed.
    pub running: u64,
    /// Failed jobs whose entries are not written yet.
    pub dead_lettering: u64,
}

impl Depth {
    /// Makes a depth from these numbers. For engines.
    pub const fn new(queued: u64, running: u64, dead_lettering: u64) -> Self {
        Self {
            queued,
            running,
            dead_lettering,
        }
    }

    /// The sum: all unfinished jobs. The bound of an engine applies to those that are queued or running, and another
    /// one of the same size to those that wait for their dead letters.
    pub const fn unfinished(&self) -> u64 {
        self.queued
            .saturating_add(self.running)
            .saturating_add(self.dead_lettering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_does_not_show_its_result() {
        let result = Some(Bytes::from_static(b"SECRET"));
        assert_eq!(
            format!("{:?}", End::Done { result }),
            "Done { result: Some(6) }"
        );
    }
}
