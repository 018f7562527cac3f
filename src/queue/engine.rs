use super::{Enqueued, FailedJob, Job, NewJob, Task, TaskId};
use crate::{
    BoxFuture, StoreError,
    attempt::History,
    dead_letter::Cause,
    idempotency::IdempotencyKey,
    lease::{FencingToken, Settled},
};
use bytes::Bytes;
use std::{fmt, time::Duration};

/// Keeps jobs. An engine is the state machine of a queue, in memory, in a file or on a server.
///
/// ```text
///             enqueue                claim: attempt + 1              settle(Done)
///   (new) ------------> queued(due) --------------------> running --------------> succeeded
///                        ^      ^                         |  |  |
///                        |      |  settle(Retry, Release) |  |  | settle(Failed), or the lease of
///                        |      +-------------------------+  |  | the last attempt ended
///                        |        the lease ended            |  v
///                        +-----------------------------------+  dead_lettering(due) -----> failed
///                                                                     settle(DeadLettered)
/// ```
///
/// An engine does not decide how often or when a job is tried: the worker sets this when it claims and
/// settles. [`contract`](super::contract) has the tests that every engine must pass.
///
/// # What an engine promises
///
/// - `enqueue` returns once the job is as safe as the engine's documentation says. If the deduplication
///   key is known, it returns the id of the first job, whatever its state, and adds no job.
/// - `claim` counts the attempt. At most one worker holds a job. Each claim of a job has a greater
///   token than the claim before. Jobs are claimed in the order in which they are due.
/// - A job whose lease ends is queued again at once. Its former holder cannot change it any more,
///   because every change compares the token. If the lease of the last attempt ends, the transaction
///   that finds it turns the job into a failed job with
///   [`Reason::WorkerLost`](crate::dead_letter::Reason).
/// - At most [`Terms::per_target`] jobs of a target run; jobs of other targets do not wait for them. Of
///   the jobs of a FIFO group, one at a time is due or running, oldest first.
/// - Enqueuing, claiming and settling take O(log n) time, whatever the backlog and the history.
/// - The payload of a finished task is removed at once; its status, result and key are removed after
///   the retention.
/// - Everything has a bound: a full engine refuses with
///   [`StoreErrorKind::Full`](crate::StoreErrorKind::Full).
/// - The engine uses its own clock. If the clock goes back, no lease and no wait takes longer than it
///   was granted, counted from when the engine notices.
/// # Cancel safety
///
/// If a future is dropped, its operation is done or not done, never half done. If the future of a claim
/// is dropped, its jobs are released, at once or when their leases end.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Adds a job to the queue.
    fn enqueue(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>>;

    /// Claims jobs and failed jobs that are due.
    fn claim(&self, terms: Terms) -> BoxFuture<Result<Claims, StoreError>>;

    /// Extends the leases of claims to `lease` from now. The results are in the order of the claims.
    fn renew(
        &self,
        claims: Vec<(TaskId, FencingToken)>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, StoreError>>;

    /// Ends a claim.
    fn settle(
        &self,
        id: TaskId,
        token: FencingToken,
        verdict: Verdict,
    ) -> BoxFuture<Result<Settled, StoreError>>;

    /// The status of a task. `None` if the id is unknown, or its retention is over.
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// The task that was added with this deduplication key.
    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// The number of jobs, in O(1).
    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>>;

    /// Waits until there may be something to claim: a job was added or released, a job became due, a
    /// lease ended, or a target has room again. It may return earlier, and returns after `at_most` in
    /// any case. It returns at once on a change by this process, and within 50 ms on a change by another.
    fn wait(&self, at_most: Duration) -> BoxFuture<()>;
}

/// The terms of a claim, which a worker sets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// The largest number of jobs.
    pub jobs: usize,
    /// The largest number of failed jobs.
    pub failed_jobs: usize,
    /// The lease of the claims.
    pub lease: Duration,
    /// How many jobs of one target may run at the same time, counting those of other workers.
    pub per_target: u32,
    /// The number of attempts of a job. If the lease of the last one ends, the job has failed for good.
    pub attempts: u32,
}

impl Terms {
    /// Terms for at most `jobs` jobs and as many failed jobs, with this lease. No limit per target; 3
    /// attempts.
    pub const fn new(jobs: usize, lease: Duration) -> Self {
        Self {
            jobs,
            failed_jobs: jobs,
            lease,
            per_target: u32::MAX,
            attempts: 3,
        }
    }

    /// Sets the largest number of failed jobs to claim. Default: the number of jobs.
    #[must_use]
    pub const fn failed_jobs(mut self, most: usize) -> Self {
        self.failed_jobs = most;
        self
    }

    /// Sets how many jobs of one target may run at the same time. Default: no bound.
    #[must_use]
    pub const fn per_target(mut self, most: u32) -> Self {
        self.per_target = most;
        self
    }

    /// Sets the number of attempts of a job. Default: 3.
    #[must_use]
    pub const fn attempts(mut self, most: u32) -> Self {
        self.attempts = most;
        self
    }
}

/// The result of a claim.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Jobs to do, in the order in which they were due.
    pub jobs: Vec<Job>,
    /// Failed jobs, whose dead-letter entries must be written.
    pub failed_jobs: Vec<FailedJob>,
}

impl Claims {
    /// Whether the claim is empty.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.failed_jobs.is_empty()
    }
}

/// How a claim ends. `Debug` shows the length of a result, not its content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Ends a job that failed for good. It becomes a failed job, whose entry is written next.
    Failed {
        /// The cause.
        cause: Cause,
        /// The history of its attempts.
        history: History,
    },
    /// Ends a failed job whose entry is written. The task has failed.
    DeadLettered {
        /// How long the status of the task is kept.
        retention: Duration,
    },
    /// Ends a job that succeeded.
    Done {
        /// The result.
        result: Option<Bytes>,
        /// How long the status and the result of the task are kept.
        retention: Duration,
    },
    /// Queues a job or a failed job again, without counting the attempt.
    Release {
        /// The wait before it is due again.
        after: Duration,
        /// The history of its attempts.
        history: History,
    },
    /// Queues a job again after a failed attempt, or a failed job whose entry could not be written.
    Retry {
        /// The wait before it is due again.
        after: Duration,
        /// The history of its attempts.
        history: History,
    },
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, after, history) = match self {
            Self::Failed { cause, history } => {
                return f
                    .debug_struct("Failed")
                    .field("cause", cause)
                    .field("history", history)
                    .finish();
            }
            Self::DeadLettered { retention } => {
                return f
                    .debug_struct("DeadLettered")
                    .field("retention", retention)
                    .finish();
            }
            Self::Done { result, retention } => {
                return f
                    .debug_struct("Done")
                    .field("result", &result.as_ref().map(Bytes::len))
                    .field("retention", retention)
                    .finish();
            }
            Self::Release { after, history } => ("Release", after, history),
            Self::Retry { after, history } => ("Retry", after, history),
        };
        f.debug_struct(name)
            .field("after", after)
            .field("history", history)
            .finish()
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
    fn a_verdict_does_not_show_its_result() {
        let (result, retention) = (Some(Bytes::from_static(b"SECRET")), Duration::ZERO);
        let shown = format!("{:?}", Verdict::Done { result, retention });
        assert_eq!(shown, "Done { result: Some(6), retention: 0ns }");
    }
}
