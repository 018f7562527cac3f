use super::{Burial, Enqueued, Job, NewJob, Task, TaskId};
use crate::{
    BoxError, BoxFuture,
    attempt::History,
    dead_letter::Cause,
    fence::{Settled, Token},
    idempotency::Key,
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
///                                                                    settle(Buried)
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
///   every change compares the token. On its last attempt it goes to `burying` in the same
///   transaction that finds it, with [`Reason::WorkerLost`](crate::dead_letter::Reason).
/// - Of the jobs of a target no more than so many run at once; those of the others go on. Of the
///   jobs with the same order key one at a time is queued or running, oldest first.
/// - Enqueuing, claiming and settling take O(log n) time, whatever waits and whatever was done.
/// - What is done or buried leaves after its time to live; its payload leaves at once.
/// - Nothing grows without a bound: a full engine refuses with [`QueueErrorKind::Full`].
/// - Time is the engine's own clock. When it goes back, no lease and no wait takes longer than it
///   was granted, from the next look on.
///
/// # Cancel safety
///
/// Dropping a future leaves the operation either done or not done, never half done. A claim whose
/// future is dropped gives its jobs back, at once or when their lease ends.
pub trait Engine: fmt::Debug + Send + Sync + 'static {
    /// Puts a job in.
    fn enqueue(&self, job: NewJob) -> BoxFuture<Result<Enqueued, QueueError>>;

    /// Claims what is due.
    fn claim(&self, terms: Terms) -> BoxFuture<Result<Claims, QueueError>>;

    /// Extends claims to `lease` from now. Gives what came of each, in their order.
    fn renew(
        &self,
        claims: Vec<(TaskId, Token)>,
        lease: Duration,
    ) -> BoxFuture<Result<Vec<Settled>, QueueError>>;

    /// Ends a claim.
    fn settle(
        &self,
        id: TaskId,
        token: Token,
        verdict: Verdict,
    ) -> BoxFuture<Result<Settled, QueueError>>;

    /// How a task is. `None` where there is none, or where its time is over.
    fn task(&self, id: TaskId) -> BoxFuture<Result<Option<Task>, QueueError>>;

    /// The task that has this key.
    fn find(&self, key: Key) -> BoxFuture<Result<Option<Task>, QueueError>>;

    /// How much there is, without counting it: O(1).
    fn depth(&self) -> BoxFuture<Result<Depth, QueueError>>;

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
    /// The most burials.
    pub burials: usize,
    /// How long the claims last, unless they are renewed.
    pub lease: Duration,
    /// How many jobs of one target may run at once, those of other workers among them.
    pub per_target: u32,
    /// How many attempts a job has. One that has had as many and whose lease is over is buried.
    pub attempts: u32,
}

impl Terms {
    /// Up to so many jobs, and as many burials, for so long. No bound per target, and 3 attempts.
    pub const fn new(jobs: usize, lease: Duration) -> Self {
        Self {
            jobs,
            burials: jobs,
            lease,
            per_target: u32::MAX,
            attempts: 3,
        }
    }

    /// Sets the most burials.
    #[must_use]
    pub const fn burials(mut self, most: usize) -> Self {
        self.burials = most;
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
    /// Letters to be written.
    pub burials: Vec<Burial>,
}

impl Claims {
    /// Whether there was nothing.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.burials.is_empty()
    }
}

/// How a claim ends. `Debug` shows the length of a result, not what is in it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum Verdict {
    /// Of a job: it failed for good. Its letter is to be written next.
    Bury {
        /// Why.
        cause: Cause,
        /// How all of its attempts went.
        history: History,
    },
    /// Of a burial: the letter is written. The status of the task is kept for so long.
    Buried {
        /// The time to live.
        keep: Duration,
    },
    /// Of a job: it is done. Status and result are kept for so long.
    Done {
        /// What came of it.
        result: Option<Bytes>,
        /// The time to live.
        keep: Duration,
    },
    /// Of a job or a burial: nothing was done, by no fault of its own. The attempt is not counted.
    HandBack {
        /// When it may be claimed again.
        after: Duration,
        /// How its attempts went.
        history: History,
    },
    /// Of a job: it failed, and is to be tried again. Of a burial: the letter could not be written.
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
            Self::Bury { cause, history } => {
                return f
                    .debug_struct("Bury")
                    .field("cause", cause)
                    .field("history", history)
                    .finish();
            }
            Self::Buried { keep } => {
                return f.debug_struct("Buried").field("keep", keep).finish();
            }
            Self::Done { result, keep } => {
                return f
                    .debug_struct("Done")
                    .field("result", &result.as_ref().map(Bytes::len))
                    .field("keep", keep)
                    .finish();
            }
            Self::HandBack { after, history } => ("HandBack", after, history),
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
    /// Letters to be written.
    pub burying: u64,
}

impl Depth {
    /// For engines.
    pub const fn new(queued: u64, running: u64, burying: u64) -> Self {
        Self {
            queued,
            running,
            burying,
        }
    }

    /// All that is not over yet: what the bound of an engine counts.
    pub const fn unfinished(&self) -> u64 {
        self.queued
            .saturating_add(self.running)
            .saturating_add(self.burying)
    }
}

/// A queue that could not do what it was asked.
#[derive(Debug)]
pub struct QueueError {
    kind: QueueErrorKind,
    source: Option<BoxError>,
}

/// What kind of trouble a queue has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueErrorKind {
    /// It was closed.
    Closed,
    /// What is stored cannot be read.
    Corrupt,
    /// As much waits as may wait, or the disk is full: what was not accepted may be sent again
    /// later.
    Full,
    /// It did not answer in time.
    Timeout,
    /// The job is larger than the queue takes.
    TooLarge,
    /// It cannot be reached, or failed.
    Unavailable,
}

impl QueueErrorKind {
    /// A fixed name, fit for a metric's label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Corrupt => "corrupt",
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
        }
    }
}

impl QueueError {
    /// An error of this kind.
    pub const fn new(kind: QueueErrorKind) -> Self {
        Self { kind, source: None }
    }

    /// Adds what caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Its kind.
    pub const fn kind(&self) -> QueueErrorKind {
        self.kind
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            QueueErrorKind::Closed => "the queue is closed",
            QueueErrorKind::Corrupt => "what the queue has stored cannot be read",
            QueueErrorKind::Full => "the queue is full",
            QueueErrorKind::Timeout => "the queue did not answer in time",
            QueueErrorKind::TooLarge => "the job is larger than the queue takes",
            QueueErrorKind::Unavailable => "the queue is unavailable",
        })
    }
}

impl std::error::Error for QueueError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_does_not_show_its_result() {
        let (result, keep) = (Some(Bytes::from_static(b"SECRET")), Duration::ZERO);
        let shown = format!("{:?}", Verdict::Done { result, keep });
        assert_eq!(shown, "Done { result: Some(6), keep: 0ns }");
    }
}
