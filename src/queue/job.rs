//! Jobs, as they enter and leave a queue, and tasks, by which their status is known.

use super::{Claim, Promises};
use crate::{
    StoreError, StoreErrorKind,
    attempt::History,
    clock::WallClock,
    dead_letter::{self, Cause, EntryId, NotAnId},
    idempotency::IdempotencyKey,
    lease::FencingToken,
};
use bytes::Bytes;
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// A job to add to a queue.
///
/// `Debug` shows the length of the payload, not its content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct NewJob {
    /// The id, with which the status can be requested. [Made](TaskId::random) now by default.
    pub id: TaskId,
    /// The kind of job, which determines how the payload is read. A short fixed name: `http`, `event`.
    pub kind: String,
    /// The payload. It is kept byte for byte.
    pub payload: Bytes,
    /// The deduplication key. A second job with the same key is not added and gets the id of the first,
    /// until the retention of the first is over. A queue whose engine [looks at no keys](super::Promises::dedup)
    /// refuses a job that has one.
    pub dedup_key: Option<IdempotencyKey>,
    /// The target: a host, a tenant. The queue limits how many
    /// jobs of one target run at the same time, if its engine has [such a limit](super::Promises::per_target). Default: `""`.
    pub target: String,
    /// The FIFO group. Jobs of one group run one after another, in the order in which they were added:
    /// each begins when the one before has succeeded, has failed for good or was cancelled. A queue whose engine has
    /// [no groups](super::Promises::fifo_groups) refuses a job that has one.
    pub fifo_group: Option<String>,
    /// Facts for the dead-letter entry of the job.
    pub about: About,
    /// Whether a task with this id that has failed for good is queued again, with this job. Default: `false`, then
    /// the job is a repetition of it. A task that has not failed is not queued again, as long as the engine knows the task or
    /// its deduplication key. If it knows neither, the job is added as new.
    pub requeue: bool,
    due: Due,
}

/// When the first attempt of a job is due.
#[derive(Clone, Copy, PartialEq)]
enum Due {
    After(Duration),
    At(SystemTime),
}

/// Facts about a job that its dead-letter entry contains, besides the payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The id of the event, as its sender set it.
    pub event_id: Option<String>,
    /// When the event happened, according to its sender.
    pub event_time: Option<SystemTime>,
    /// The idempotency key, by which a receiver recognizes a repetition.
    pub idempotency_key: Option<String>,
    /// The deployments that the message has passed, as [`Hops::as_str`](crate::loop_guard::Hops::as_str) writes them. Whoever
    /// sends it on reads them from here, so that a [loop](crate::loop_guard) ends that goes through a queue.
    pub hops: Option<String>,
    /// The event, task or entry that this job repeats.
    pub replay_of: Option<String>,
    /// The number of times that an operator had it sent again.
    pub replays: u32,
    /// The id of its trace.
    pub trace_id: Option<String>,
    /// The id of its dead-letter entry, if it fails for good. Default: that of the task. A job that is queued again has
    /// a new one, because an entry that was removed is not written again.
    pub entry_id: Option<EntryId>,
}

impl NewJob {
    /// The longest kind, target and FIFO group, in bytes: 1024, as much as a dead-letter entry keeps. A queue refuses a
    /// job with a longer one as [`TooLarge`](StoreErrorKind::TooLarge).
    pub const LONGEST_NAME: usize = dead_letter::MOST_TEXT;

    /// Makes a job of this kind, with a new id.
    pub fn new(kind: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            id: TaskId::random(),
            kind: kind.into(),
            payload: payload.into(),
            dedup_key: None,
            target: String::new(),
            fifo_group: None,
            about: About::default(),
            requeue: false,
            due: Due::After(Duration::ZERO),
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

    /// Sets the wait before the first attempt. Default: zero. A queue refuses a job whose wait is longer than
    /// its engine [promises](super::Promises::longest_delay).
    #[must_use]
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.due = Due::After(delay);
        self
    }

    /// Sets the time of the first attempt, by the wall clock of the queue's engine, in place of a
    /// [delay](Self::delay). A time that has passed: at once. Default: at once.
    #[must_use]
    pub const fn run_at(mut self, at: SystemTime) -> Self {
        self.due = Due::At(at);
        self
    }

    /// Checks this job against what an engine promises, and returns the wait before its first attempt, if the engine's
    /// wall clock shows `now`. For engines, which do it first with each job.
    ///
    /// # Errors
    ///
    /// The source names the field. [`TooLarge`](StoreErrorKind::TooLarge) if the kind, the target or the FIFO group is
    /// [too long](Self::LONGEST_NAME). [`Rejected`](StoreErrorKind::Rejected) if the job has a deduplication key, a FIFO
    /// group or a wait that the engine does not promise.
    pub fn admit(&self, promises: &Promises, now: SystemTime) -> Result<Duration, StoreError> {
        let refused = |kind, why: String| Err(StoreError::new(kind).caused_by(why));
        for (field, name) in [
            ("kind", Some(&self.kind)),
            ("target", Some(&self.target)),
            ("fifo_group", self.fifo_group.as_ref()),
        ] {
            let (length, most) = (name.map_or(0, String::len), Self::LONGEST_NAME);
            if length > most {
                let why = format!("`{field}` has {length} bytes, and may have {most}");
                return refused(StoreErrorKind::TooLarge, why);
            }
        }
        for (field, is_refused) in [
            (
                "dedup_key",
                self.dedup_key.is_some() && promises.dedup.is_none(),
            ),
            (
                "fifo_group",
                self.fifo_group.is_some() && !promises.fifo_groups,
            ),
        ] {
            if is_refused {
                let why = format!("`{field}` is set, and the engine of this queue has none");
                return refused(StoreErrorKind::Rejected, why);
            }
        }
        let (field, wait) = match self.due {
            Due::After(wait) => ("delay", wait),
            Due::At(at) => ("run_at", at.duration_since(now).unwrap_or_default()),
        };
        let longest = promises.longest_delay;
        if wait > longest {
            let why = format!(
                "`{field}` is {} s from now, and this queue keeps a job for at most {} s before its first attempt",
                wait.as_secs(),
                longest.as_secs()
            );
            return refused(StoreErrorKind::Rejected, why);
        }
        Ok(wait)
    }

    /// Sets the facts for the dead-letter entry of the job. Default: none.
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

/// The result of an enqueue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enqueued {
    /// The id of the job in the queue: for a repetition, the id of the first job.
    pub id: TaskId,
    /// Whether a job with the same deduplication key or id existed already.
    pub repeated: bool,
}

impl Enqueued {
    /// Fails if nothing was added because the deduplication key is that of another task than `id`. For what is given up
    /// once it is queued, such as a dead letter.
    ///
    /// # Errors
    ///
    /// [`Rejected`](StoreErrorKind::Rejected), with the other task as its source.
    pub fn as_task(self, id: TaskId) -> Result<Self, StoreError> {
        if self.repeated && self.id != id {
            let why = format!("its deduplication key is that of task {}", self.id);
            return Err(StoreError::new(StoreErrorKind::Rejected).caused_by(why));
        }
        Ok(self)
    }
}

/// A job that a worker has claimed, with which it calls its service.
///
/// `Debug` shows the length of the payload, not its content.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Job {
    /// The id.
    pub id: TaskId,
    /// The fencing token of the claim. It grows with each claim of this job, so that a resource that the
    /// work writes to can refuse a worker whose claim has passed to another.
    pub token: FencingToken,
    /// The number of this attempt, from 1.
    pub attempt: u32,
    /// The kind, as it was enqueued.
    pub kind: String,
    /// The payload, as it was enqueued.
    pub payload: Bytes,
    /// The deduplication key, as it was enqueued.
    pub dedup_key: Option<IdempotencyKey>,
    /// The target, as it was enqueued.
    pub target: String,
    /// The FIFO group, as it was enqueued.
    pub fifo_group: Option<String>,
    /// Facts for the dead-letter entry of the job.
    pub about: About,
    /// When the queue accepted it.
    pub accepted_at: SystemTime,
    /// The history of the earlier attempts. Its times are ages of the job.
    pub history: History,
    /// Why it failed for good, if it has: then nothing is left to do but to write its dead-letter entry.
    pub cause: Option<Cause>,
    /// The age when it was claimed.
    age: Duration,
    claimed: Instant,
}

impl Job {
    /// Makes the first claim of a job, which has had this `age` by the clock of the engine. For engines, which
    /// set the other fields.
    pub fn new(job: NewJob, token: FencingToken, accepted_at: SystemTime, age: Duration) -> Self {
        Self {
            id: job.id,
            token,
            attempt: 1,
            kind: job.kind,
            payload: job.payload,
            dedup_key: job.dedup_key,
            target: job.target,
            fifo_group: job.fifo_group,
            about: job.about,
            accepted_at,
            history: History::new(),
            cause: None,
            age,
            claimed: Instant::now(),
        }
    }

    /// The claim, by which it is renewed and settled.
    pub const fn claim(&self) -> Claim {
        Claim {
            id: self.id,
            token: self.token,
        }
    }

    /// The id of its dead-letter entry, if it fails for good. A job has one, so that an entry that is written twice is
    /// one entry.
    pub fn entry_id(&self) -> EntryId {
        self.about.entry_id.unwrap_or(self.id.entry_id())
    }

    /// The time since the queue accepted it. Unlike the time since [`accepted_at`](Self::accepted_at), it does
    /// not follow a wall clock that is set: it is what the engine measured until the claim, and goes on with
    /// the monotonic clock.
    pub fn age(&self) -> Duration {
        self.age.saturating_add(self.claimed.elapsed())
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

/// The id of a task: 128 bits, shown as 32 hexadecimal digits. The first 48 are the milliseconds since 1970 when it
/// was made, so that an engine adds new ids at the end of its index; the other 80 are from the random source of the
/// operating system. It cannot be guessed, because anybody who knows it may request the status of the task.
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
    /// Makes an id of the time by the system's clock and of random bytes.
    ///
    /// # Panics
    ///
    /// If the operating system has no random bytes, which does not happen on a supported system that has
    /// started.
    pub fn random() -> Self {
        let now = WallClock::system().unix_millis();
        Self::made_at(now, *EntryId::random().as_bytes())
    }

    /// The id of this time, in milliseconds since 1970, with the last 80 bits of `random`.
    const fn made_at(millis: u64, random: [u8; 16]) -> Self {
        const RANDOM: u128 = u128::MAX >> 48;
        let bits = (millis as u128) << 80 | u128::from_be_bytes(random) & RANDOM;
        Self::from_bytes(bits.to_be_bytes())
    }

    /// Makes an id of these bytes. For engines.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(EntryId::from_bytes(bytes))
    }

    /// The bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id of the first dead-letter entry of this task. A job that is queued again has [another](Job::entry_id).
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

/// A task, as a queue reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Task {
    /// The id.
    pub id: TaskId,
    /// The status.
    pub status: Status,
    /// When the queue accepted it.
    pub accepted_at: SystemTime,
    /// The number of attempts that were begun.
    pub attempts: u32,
}

impl Task {
    /// Makes a task. For engines.
    pub const fn new(id: TaskId, status: Status, accepted_at: SystemTime, attempts: u32) -> Self {
        Self {
            id,
            status,
            accepted_at,
            attempts,
        }
    }
}

/// The status of a task. `Debug` shows the length of a result, not its content.
#[derive(Clone, PartialEq, Eq)]
pub enum Status {
    /// The task was [cancelled](crate::queue::Queue::cancel).
    Cancelled,
    /// The task failed for good. The cause is in the dead-letter entry, for operators.
    Failed,
    /// The task waits for a worker, or for its next attempt.
    Queued,
    /// A worker has claimed it.
    Running,
    /// The task succeeded.
    Succeeded {
        /// The result, if the worker keeps results.
        result: Option<Bytes>,
    },
}

impl Status {
    /// The name in lower case.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded { .. } => "succeeded",
        }
    }

    /// Whether the status is final.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Cancelled | Self::Failed | Self::Succeeded { .. }
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_the_order_of_their_times_and_otherwise_random() {
        let (before, after) = (TaskId::made_at(1, [0xff; 16]), TaskId::made_at(2, [0; 16]));
        assert!(before < after);
        assert_eq!(after.to_string(), "00000000000200000000000000000000");
        let of_both = TaskId::made_at(0x0123_4567_89ab, [0xcd; 16]);
        assert_eq!(of_both.to_string(), "0123456789abcdcdcdcdcdcdcdcdcdcd");
        // The highest bits of a time beyond the year 10889 are left out.
        assert_eq!(
            TaskId::made_at(1 << 48 | 7, [0; 16]),
            TaskId::made_at(7, [0; 16])
        );

        let now = WallClock::system().unix_millis();
        let made = [TaskId::random(), TaskId::random()];
        assert_ne!(made[0].as_bytes()[6..], made[1].as_bytes()[6..]);
        let soon = TaskId::made_at(now + 60_000, [0; 16]);
        assert!(
            made.iter()
                .all(|id| TaskId::made_at(now, [0; 16]) <= *id && *id < soon)
        );
    }
}
