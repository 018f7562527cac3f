use crate::dead_letter::{EntryId, NotAnId};
use bytes::Bytes;
use std::{fmt, str::FromStr, time::SystemTime};

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
