//! The clock of the queue: the wall clock, but it never goes back.
//!
//! All processes share the wall clock, and it runs while none of them does, but it may be set. When it
//! is set back, the queue stores how far its own time is `ahead` of it, and goes on from where it was
//! last stored. It stays ahead when the clock is set right again, because leases were granted by it.
//!
//! For that, the queue's time is stored with every grant, so that no lease lasts longer than it was granted,
//! and by an operation that finds the stored time a second old: often enough, without a write for each read
//! of an idle queue.

use super::{ledger::Counts, schema};
use crate::database::{Leap, Transaction};
use rusqlite::Connection;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How old the stored time may be before it is stored again, in milliseconds.
const STALE: i64 = 1000;

/// The stored state of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clock {
    /// How far the queue's time is ahead of the wall clock.
    pub(super) ahead: i64,
    /// The queue's time when it was last stored.
    pub(super) last: i64,
}

impl Clock {
    /// The time now, by a wall clock that shows `wall`, and the state to store.
    pub(super) fn read(self, wall: i64) -> (i64, Self) {
        let ahead = self.ahead.max(self.last.saturating_sub(wall));
        let now = wall.saturating_add(ahead);
        (now, Self { ahead, last: now })
    }
}

/// The time now, in a transaction that writes.
pub(super) fn now(transaction: &Transaction<'_>) -> rusqlite::Result<i64> {
    let mut counts = Counts::of(transaction)?;
    let kept = counts.clock;
    // Within the transaction: whoever wrote before has read its clock before.
    let (now, next) = kept.read(transaction.now());
    if next.ahead != kept.ahead || now.saturating_sub(kept.last) >= STALE {
        counts.clock = next;
        counts.set(transaction);
    }
    Ok(now)
}

/// The wall clock leapt: every lease ends as much later as the queue's time has leapt since it was last stored. What
/// another process did about the same leap is no part of that, because it stored the time.
pub(super) fn leapt(connection: &Connection, leap: Leap) -> rusqlite::Result<()> {
    let mut counts = Counts::read(connection)?;
    let (now, next) = counts.clock.read(leap.to);
    let by = (leap.to - leap.from).min(now.saturating_sub(counts.clock.last));
    connection.prepare_cached(schema::EXTEND)?.execute([by])?;
    counts.clock = next;
    counts.write(connection)
}

/// Leases of this owner that are over, but were not when the time was last stored, end as much later.
pub(super) fn keep_claims(transaction: &Transaction<'_>, owner: i64) -> rusqlite::Result<()> {
    let kept = Counts::of(transaction)?.clock;
    let (now, _) = kept.read(transaction.now());
    transaction
        .connection()
        .prepare_cached(schema::KEEP_CLAIMS)?
        .execute([owner, now, now.saturating_sub(kept.last)])
        .map(drop)
}

/// A stored time as a `SystemTime`; the epoch if it is out of range.
pub(super) fn system_time(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_clock_that_goes_back_goes_on_from_where_it_was_last_seen() {
        let clock = Clock { ahead: 0, last: 0 };
        let (now, clock) = clock.read(1000);
        assert_eq!(now, 1000);
        let (now, clock) = clock.read(400);
        assert_eq!(now, 1000);
        let (now, clock) = clock.read(450);
        assert_eq!(now, 1050);
        let (now, _) = clock.read(1100);
        assert_eq!(now, 1700);
    }

    proptest! {
        /// However the wall clock jumps, the queue's never goes back, and goes on with it.
        #[test]
        fn it_never_goes_back_and_never_stands_still(walls in proptest::collection::vec(0..5000_i64, 1..50)) {
            let mut clock = Clock { ahead: 0, last: 0 };
            let mut before: Option<(i64, i64)> = None;
            for wall in walls {
                let (now, next) = clock.read(wall);
                if let Some((wall_before, now_before)) = before {
                    prop_assert!(now >= now_before);
                    if wall >= wall_before {
                        prop_assert_eq!(now - now_before, wall - wall_before);
                    }
                }
                clock = next;
                before = Some((wall, now));
            }
        }
    }
}
