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

/// Keeps jobs: the state machine of a queue, in memory, in a file or on a server.
///
/// ```text
///             enqueue                claim: attempt + 1              settle(Done)
///   (new) ------------> queued(due) --------------------> running --------------> succeeded
///                        ^      ^                         |  |  |
///                        |      |  settle(Retry, HandBack)|  |  | settle(Bury), or the lease of
///                        |      +-------------------------+  |  | the last attempt is over
///                        |           lease over              |  v
///                        +-----------------------------------+  burying(due) -----> failed
///                                                                    settle(Dead-lettered)
/// ```
///
/// An engine has no opinion on how often or when: a worker says so when it claims and settles.
/// [`contract`](super::contract) has the tests that every engine must pass.
///
/// # What every operation promises
///
/// - `enqueue` answers after the job is as safe as the engine's documentation says. A key that is
///   there already gives the first job's id, whatever the state of that job, and puts nothing in.
/// - `claim` counts the attempt. A job is claimed by one worker at a time; each of its claims has a
///   greater token than the one before. What is due first is given first.
/// - A job whose lease is over is queued again, at once, and what it did is lost to its holder:
///   every change compares the token. On its last attempt it goes to `dead_lettering` in the same
///   transaction that finds it, with [`Reason::WorkerLost`](crate::dead_letter::Reason).
/// - Of the jobs of a target no more than so many run at once; those of the others go on. Of the
///   jobs with the same order key one at a time is queued or running, oldest first.
/// - Enqueuing, claiming and settling take O(log n) time, whatever waits and whatever was done.
/// - What is done or dead-lettered leaves after its time to live; its payload leaves at once.
/// - Nothing grows without a bound: a full engine refuses with [`StoreErrorKind::Full`].
/// - Time is the engine's own clock. When it goes back, no lease and no wait takes longer than it
///   was granted, from the next look on.
///
/// # Cancel safety
///
/// Dropping a future leaves the operation either done or not done, never half done. A claim whose
/// future is dropped gives its jobs back, at once or when their lease ends.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Puts a job in.
    fn enqueue(&self, job: NewJob) -> BoxFuture<Result<Enqueued, StoreError>>;

    /// Claims what is due.
    fn claim(&self, terms: Terms) -> BoxFuture<Result<Claims, StoreError>>;

    /// Extends claims to `lease` from now. Gives what came of each, in their order.
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

    /// How a task is. `None` where there is none, or where its time is over.
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// The task that has this key.
    fn find(&self, key: IdempotencyKey) -> BoxFuture<Result<Option<Task>, StoreError>>;

    /// How much there is, without counting it: O(1).
    fn depth(&self) -> BoxFuture<Result<Depth, StoreError>>;

    /// Waits until there may be something to claim that was not there before: a job was put in or
    /// given back, one became due, a lease ended, or a target has room again. It may return without
    /// any of these, and within `at_most` it returns in any case. From the same process it is woken
    /// at once, from others within 50 ms.
    fn wait(&self, at_most: Duration) -> BoxFuture<()>;
}

/// What a worker asks for when it claims.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terms {
    /// The most jobs.
    pub jobs: usize,
    /// The most failed jobs.
    pub failed_jobs: usize,
    /// How long the claims last, unless they are renewed.
    pub lease: Duration,
    /// How many jobs of one target may run at once, those of other workers among them.
    pub per_target: u32,
    /// How many attempts a job has. One that has had as many and whose lease is over is dead-lettered.
    pub attempts: u32,
}

impl Terms {
    /// Up to so many jobs, and as many failed jobs, for so long. No bound per target, and 3 attempts.
    pub const fn new(jobs: usize, lease: Duration) -> Self {
        Self {
            jobs,
            failed_jobs: jobs,
            lease,
            per_target: u32::MAX,
            attempts: 3,
        }
    }

    /// Sets the most failed jobs.
    #[must_use]
    pub const fn failed_jobs(mut self, most: usize) -> Self {
        self.failed_jobs = most;
        self
    }

    /// Sets how many jobs of one target may run at once.
    #[must_use]
    pub const fn per_target(mut self, most: u32) -> Self {
        self.per_target = most;
        self
    }

    /// Sets how many attempts a job has.
    #[must_use]
    pub const fn attempts(mut self, most: u32) -> Self {
        self.attempts = most;
        self
    }
}

/// What a worker got.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims {
    /// Jobs to be done, due first first.
    pub jobs: Vec<Job>,
    /// DeadLetterDesk to be written.
    pub failed_jobs: Vec<FailedJob>,
}

impl Claims {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.failed_jobs.is_empty()
    }
}

/// How a claim ends. `Debug` shows the length of a result, not what is in it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Of a job: it failed for good. Its entry is to be written next.
    Failed {
        /// Why.
        cause: Cause,
        /// How all of its attempts went.
        history: History,
    },
    /// Of a failed job: the entry is written. The status of the task is kept for so long.
    DeadLettered {
        /// The time to live.
        retention: Duration,
    },
    /// Of a job: it is done. Status and result are kept for so long.
    Done {
        /// What came of it.
        result: Option<Bytes>,
        /// The time to live.
        retention: Duration,
    },
    /// Of a job or a failed job: nothing was done, by no fault of its own. The attempt is not counted.
    Release {
        /// When it may be claimed again.
        after: Duration,
        /// How its attempts went.
        history: History,
    },
    /// Of a job: it failed, and is to be tried again. Of a failed job: the entry could not be written.
    Retry {
        /// When it may be claimed again.
        after: Duration,
        /// How its attempts went.
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

/// How much there is in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Depth {
    /// Jobs that wait: for a worker, for their time, for the one before them.
    pub queued: u64,
    /// Jobs that a worker has.
    pub running: u64,
    /// DeadLetterDesk to be written.
    pub dead_lettering: u64,
}

impl Depth {
    /// For engines.
    pub const fn new(queued: u64, running: u64, dead_lettering: u64) -> Self {
        Self {
            queued,
            running,
            dead_lettering,
        }
    }

    /// All that is not over yet: what the bound of an engine counts.
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
