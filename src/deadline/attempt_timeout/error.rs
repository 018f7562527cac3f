use std::{fmt, time::Duration};

/// One attempt took too long.
///
/// Its [outcome](crate::outcome) is [`Transient`](crate::outcome::OutcomeKind::Transient): the peer
/// may have done it, and it is evidence against the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptTimeout {
    pub(super) after: Duration,
    pub(super) attempt: u32,
    pub(super) by_deadline: bool,
}

impl AttemptTimeout {
    /// The time that the attempt had.
    pub const fn after(&self) -> Duration {
        self.after
    }

    /// Its number, from 1; 1 where nothing counts the attempts.
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether it was cut short by the [`Deadline`](crate::deadline::Deadline) of the whole call.
    pub const fn by_deadline(&self) -> bool {
        self.by_deadline
    }
}

impl fmt::Display for AttemptTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cut = if self.by_deadline {
            ", cut short by the deadline"
        } else {
            ""
        };
        let (attempt, after) = (self.attempt, self.after);
        write!(f, "attempt {attempt} timed out after {after:?}{cut}")
    }
}

impl std::error::Error for AttemptTimeout {}
