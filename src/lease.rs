//! Claims that end by themselves, and the proof of holding one.
//!
//! Whoever works on something that is stored (a key, a job, a dead letter) claims it for a while,
//! and renews the claim while it works; when it dies, the claim ends. Each claim has a [`FencingToken`],
//! which every later change compares, so that a holder that was slow and whose claim has passed to
//! another changes nothing
//! ([Kleppmann, "How to do distributed locking"](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)).

use std::fmt;

/// Proof of a claim. A later claim of the same thing has a greater token, so that a resource that
/// the work writes to can refuse a holder that came too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FencingToken(u64);

impl FencingToken {
    /// A token of this value. For stores.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Its value.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a change that compares a [`FencingToken`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// The token was the current one, and the change is made.
    Done,
    /// The claim had ended: its lease is over, or it was settled before. Nothing was changed.
    Lost,
}
