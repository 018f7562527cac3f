//! What goes into a queue and what comes out: jobs, and the tasks by which their status is known.

use crate::{
    attempt::History,
    dead_letter::{Cause, EntryId, NotAnId},
    idempotency::IdempotencyKey,
    lease::FencingToken,
};
use bytes::Bytes;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// Something to be done later: what is put into a queue.
///
/// `Debug` shows the length of the payload, not what is in it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewJob {
    /// Its name, by which its status can be asked for.
    pub id: TaskId,
    /// What kind of job it is, so that a worker knows what to make of the payload. A short fixed
    /// name: `http`, `event`.
    pub kind: String,
    /// What the job is about, to the byte.
    pub payload: Bytes,
    /// The deduplication key. A second job with the same key is not put in and gets the id of the
    /// first, until the retention of the first is over.
    pub dedup_key: Option<IdempotencyKey>,
    /// The target: a host, a tenant. [`WorkerBuilder::per_target`](super::WorkerBuilder::per_target)
    /// bounds how many jobs of one target run at the same time. Default: `""`.
    pub target: String,
    /// The FIFO group. Jobs of one group run one after another, in the order in which they were put
    /// in: the next begins when the one before has succeeded or failed for good.
    pub fifo_group: Option<String>,
    /// How long it waits at first.
    pub delay: Duration,
    /// What its dead letter would tell.
    pub about: About,
}

/// Where a job comes from: what its dead letter tells beside the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The id of the event, as its sender said.
    pub event_id: Option<String>,
    /// When the event happened, as its sender said.
    pub event_time: Option<SystemTime>,
    /// The key by which the receiver knows a repetition.
    pub idempotency_key: Option<String>,
    /// The event, task or entry that this is a repetition of.
    pub replay_of: Option<String>,
    /// How often it was tried again by an operator.
    pub replays: u32,
    /// The trace that it belongs to.
    pub trace_id: Option<String>,
}

impl NewJob {
    /// A job of this kind, with an id that nobody can guess.
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: TaskId::random(),
            kind: kind.into(),
            payload: payload.into(),
            dedup_key: None,
            target: String::new(),
            fifo_group: None,
            delay: Duration::ZERO,
            about: About::default(),
        }
    }

    /// Sets the [deduplication key](Self::dedup_key). Default: none.
    #[must_use]
    pub fn dedup_key(mut self, key: IdempotencyKey) -> Self {
        self.dedup_key = Some(key);
        self
    }

    /// Sets the [target](Self::target). Default: `""`.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// Sets the [FIFO group](Self::fifo_group). Default: none.
    #[must_use]
    pub fn fifo_group(mut self, group: impl Into<String>) -> Self {
        self.fifo_group = Some(group.into());
        self
    }

    /// Sets how long it waits at first.
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Sets what its dead letter would tell.
    #[must_use]
    pub fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }
}

impl fmt::Debug for NewJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewJob")
            .field("id", &self.id)
            .field("kind", &self.kind)
            .field("payload", &self.payload.len())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// What came of putting a job in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The id of the job that is in the queue: of the first one, where this was a repetition.
    pub id: TaskId,
    /// Whether a job with the same key was there already.
    pub repeated: bool,
}

/// A job that a worker has claimed: what its service is called with.
///
/// `Debug` shows the length of the payload, not what is in it.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// Its name.
    pub id: TaskId,
    /// Proof of the claim. Greater with each claim of this job: a resource that the work writes to
    /// can refuse a worker that came too late.
    pub token: FencingToken,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The kind that it was put in with.
    pub kind: String,
    /// The payload that it was put in with.
    pub payload: Bytes,
    /// The deduplication key that it was put in with.
    pub dedup_key: Option<IdempotencyKey>,
    /// The target that it was put in with.
    pub target: String,
    /// What its dead letter would tell.
    pub about: About,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// How the attempts before went. Their times count from [`accepted_at`](Self::accepted_at).
    pub history: History,
}

impl Job {
    /// For engines: a job as it was put in, claimed for the first time. The rest is set field by
    /// field.
    pub fn new(job: NewJob, token: FencingToken, accepted_at: SystemTime) -> Self {
        Self {
            id: job.id,
            token,
            attempt: 1,
            kind: job.kind,
            payload: job.payload,
            dedup_key: job.dedup_key,
            target: job.target,
            about: job.about,
            accepted_at,
            history: History::new(),
        }
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("token", &self.token)
            .field("attempt", &self.attempt)
            .field("kind", &self.kind)
            .field("payload", &self.payload.len())
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// A job that has failed for good, and whose entry is still to be written.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct FailedJob {
    /// The job. Its token is that of the claim on the failed job.
    pub job: Job,
    /// Why it failed.
    pub cause: Cause,
}

impl FailedJob {
    /// For engines.
    pub const fn new(job: Job, cause: Cause) -> Self {
        Self { job, cause }
    }
}

/// The name of a task: 128 bits from the operating system's random source, as 32 hexadecimal
/// digits. Whoever knows it may ask how the task is, so nobody can guess one.
///
/// # Examples
///
/// ```
/// use tower_webhook::queue::TaskId;
///
/// let id = TaskId::random();
/// assert_eq!(id.to_string().parse(), Ok(id));
/// assert!("1 OR 1=1".parse::<TaskId>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(EntryId);

impl TaskId {
    /// An id that nobody can guess.
    ///
    /// # Panics
    ///
    /// When the operating system has no randomness to give, which no supported one does once it
    /// has started.
    pub fn random() -> Self {
        Self(EntryId::random())
    }

    /// An id of these bytes. For engines.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EntryId::from_bytes(bytes))
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of the entry that this task becomes when it fails for good. One of each task, so
    /// that an entry that is written twice is one entry.
    pub const fn entry_id(self) -> EntryId {
        self.0
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskId({self})")
    }
}

impl FromStr for TaskId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        text.parse().map(Self)
    }
}

/// How a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// Its name.
    pub id: TaskId,
    /// What became of it so far.
    pub status: Status,
    /// When it was accepted.
    pub accepted_at: SystemTime,
    /// Attempts that were begun.
    pub attempts: u32,
}

impl Task {
    /// For engines: a task as it is.
    pub const fn new(id: TaskId, status: Status, accepted_at: SystemTime, attempts: u32) -> Self {
        Self {
            id,
            status,
            accepted_at,
            attempts,
        }
    }
}

/// What became of a task so far. `Debug` shows the length of a result, not what is in it.
#[derive(Clone, PartialEq, Eq)]
pub enum Status {
    /// It failed for good. Why is for operators: it is in the dead letter.
    Failed,
    /// It waits for a worker, or for its next attempt.
    Queued,
    /// A worker has it.
    Running,
    /// It is done.
    Succeeded {
        /// What came of it, where the worker keeps results.
        result: Option<Bytes>,
    },
}

impl Status {
    /// The name in lower case.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded { .. } => "succeeded",
        }
    }

    /// Whether nothing more will become of it.
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Failed | Self::Succeeded { .. })
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Succeeded {
                result: Some(result),
            } => write!(f, "Succeeded({} bytes)", result.len()),
            _ => f.write_str(self.as_str()),
        }
    }
}
