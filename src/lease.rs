//! Claims that expire, and the tokens that prove them.
//!
//! A worker claims a stored thing (an idempotency key, a job, a dead letter) for the time of a lease, and
//! renews the lease while it works. If it dies, the lease ends and another worker can claim it. Each claim
//! has a [`FencingToken`], which every later change compares: a slow holder whose claim has passed to another
//! can change nothing ([Kleppmann, "How to do distributed
//! locking"](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)).

use std::fmt;

/// Proves a claim. A later claim of the same thing has a greater token, so a resource that the work
/// writes to can refuse a holder whose claim has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FencingToken(u64);

impl FencingToken {
    /// A token with this value, for stores.
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

/// The result of a change that compares a [`FencingToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled {
    /// The token was current, and the change is made.
    Done,
    /// The claim had ended, by its lease or because it was settled before. Nothing was changed.
    Lost,
}
