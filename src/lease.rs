//! Claims that expire, and the tokens that prove them.
//!
//! A worker claims a stored thing (an idempotency key, a job, a dead letter) for the time of a lease, and
//! renews the lease while it works. If it dies, the lease ends and another worker can claim it. Each claim
//! has a [`FencingToken`], which every later change compares ([Kleppmann, "How to do distributed
//! locking"](https://martin.kleppmann.com/2016/02/08/how-to-do-distributed-locking.html)).
//!
//! The time decides when another can claim a thing, and the token alone who can change it. A holder whose lease
//! has ended can still renew or settle its claim, as long as nobody else has claimed the thing since: what was
//! done while a machine slept, or while a store was away, is not done again. A holder whose claim has passed to
//! another can change nothing. This holds for idempotency keys, jobs and dead letters, in every store.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// Proves a claim. A later claim of the same thing has a greater token, so a resource that the work
/// writes to can refuse a holder whose claim has passed to another.
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
    /// The token was that of the newest claim, which was not settled yet. The change is made.
    Done,
    /// Another has claimed the thing since, or the claim was settled before, or the thing is gone. Nothing was
    /// changed.
    Lost,
}

/// When a claim is renewed, and when it counts as lost. Everything that holds claims follows it: the worker of a queue,
/// a re-drive, the idempotency layer.
///
/// A claim is due after a third of its lease. A renewal that fails is tried again a twelfth of the lease later, and one
/// that hangs is given up after a sixth, so that a claim has several tries. A claim that was not renewed counts as lost a
/// tenth of the lease before it ends, so that its work can be dropped before another has the claim. A process that stood
/// still for that long tries it once: the store knows whether another has the claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    lease: Duration,
    due: Instant,
    lost: Instant,
}

impl Schedule {
    /// Of a claim that was asked for then: it was granted then or later.
    pub(crate) fn new(lease: Duration, asked: Instant) -> Self {
        // Thirty years, to which an instant can be added.
        let lease = lease.min(Duration::from_secs(946_080_000));
        Self {
            lease,
            // Never at once, which would loop.
            due: asked + (lease / 3).max(Duration::from_millis(1)),
            lost: asked + lease.saturating_sub(lease / 10),
        }
    }

    /// The renewal that was asked for then succeeded.
    pub(crate) fn renewed(&mut self, asked: Instant) {
        *self = Self::new(self.lease, asked);
    }

    /// A renewal has failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        self.due = now + (self.lease / 12).max(Duration::from_millis(1));
    }

    /// When the claim is due, or lost.
    #[cfg(feature = "dead-letter")]
    pub(crate) fn wake(&self) -> Instant {
        self.due.min(self.lost)
    }

    /// When the claim is due.
    #[cfg(feature = "idempotency")]
    pub(crate) const fn due(&self) -> Instant {
        self.due
    }

    /// Whether another may have the claim: it counts as lost unless a renewal succeeds.
    #[cfg(feature = "dead-letter")]
    pub(crate) fn may_be_over(&self, now: Instant) -> bool {
        self.lost <= now
    }

    /// The time limit of a renewal; `None` if the claim counts as lost.
    pub(crate) fn limit(&self, now: Instant) -> Option<Duration> {
        let (left, most) = (self.lost.saturating_duration_since(now), self.lease / 6);
        if left.is_zero() {
            // It was due earlier, and nothing ran then.
            return (self.due < self.lost).then_some(most);
        }
        Some(left.min(most))
    }
}

#[cfg(all(test, feature = "dead-letter"))]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(60);

    #[test]
    fn a_claim_is_renewed_in_time_and_lost_before_its_lease_ends() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut claim = Schedule::new(LEASE, start);
        assert_eq!(claim.wake(), start + 20 * second);
        assert_eq!(claim.limit(start + 20 * second), Some(10 * second));
        claim.renewed(start + 20 * second);
        assert_eq!(claim.wake(), start + 40 * second);
        // A store that hangs leaves time for other tries.
        let mut now = start + 40 * second;
        let mut tries = 0;
        while let Some(limit) = claim.limit(now) {
            now += limit;
            claim.failed(now);
            now = claim.wake();
            tries += 1;
        }
        assert_eq!((tries, now), (3, start + (20 + 54) * second));
    }

    #[test]
    fn a_claim_that_nobody_could_renew_in_time_is_tried_once() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut claim = Schedule::new(LEASE, start);
        let late = start + 600 * second;
        assert_eq!(claim.limit(late), Some(10 * second));
        claim.failed(late);
        assert_eq!(claim.limit(late), None);
        claim.renewed(late);
        assert_eq!(claim.wake(), late + 20 * second);
    }
}
