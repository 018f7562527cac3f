//! The wall clock beside the monotonic one, which tells a clock that was set from time that passed.
//!
//! Leases, waits and retention end by the wall clock, because processes share the file and restarts do not end them.
//! When it leaps ahead, the work that holds a lease has not had the time that the lease was granted for. So the
//! writing thread looks at both clocks when a transaction begins, and has the [chores](super::Chore) grant such
//! leases again before anything else runs. A leap also counts in no [age](super::Transaction::age).

use crate::stored;
use std::{collections::VecDeque, time::Duration};
use tower_webhook::clock::WallClock;

/// A smaller difference is a clock that is corrected little by little, in milliseconds.
const SHORTEST: i64 = 1000;

/// The leaps that are remembered. What is older than that many has the leaps before in its age.
const MOST: usize = 16;

/// What the clocks showed at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// The wall clock, in milliseconds since 1970.
    pub(super) wall: i64,
    passed: Duration,
}

impl Look {
    pub(super) fn new(clock: &WallClock) -> Self {
        Self {
            wall: stored::now(clock),
            passed: clock.elapsed(),
        }
    }

    /// What the wall clock would show after this time if it was not set.
    fn after(self, passed: Duration) -> i64 {
        let since = i64::try_from(passed.saturating_sub(self.passed).as_millis());
        self.wall.saturating_add(since.unwrap_or(i64::MAX))
    }

    /// The wall clock now, if it was not set since.
    pub(super) fn later(self, clock: &WallClock) -> i64 {
        self.after(clock.elapsed())
    }

    /// As if the wall clock had not leapt.
    pub(super) const fn without(self, leap: Leap) -> Self {
        Self {
            wall: leap.from,
            ..self
        }
    }
}

/// The wall clock was set ahead, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leap {
    /// What it would show.
    pub(crate) from: i64,
    /// What it shows.
    pub(crate) to: i64,
}

/// The leaps that a handle has seen.
#[derive(Debug, Default)]
pub(super) struct Leaps {
    /// The clocks in the last transaction that was committed.
    seen: Option<Look>,
    known: VecDeque<Leap>,
}

impl Leaps {
    /// The leap between the last transaction that was committed and this one.
    pub(super) fn leap(&self, look: Look) -> Option<Leap> {
        let (from, to) = (self.seen?.after(look.passed), look.wall);
        (to.saturating_sub(from) > SHORTEST).then_some(Leap { from, to })
    }

    /// The transaction that began at this look is committed.
    pub(super) fn committed(&mut self, look: Look) {
        if let Some(leap) = self.leap(look) {
            if self.known.len() == MOST {
                self.known.pop_front();
            }
            self.known.push_back(leap);
        }
        self.seen = Some(look);
    }

    /// How much of the time between then and the look was leapt over.
    pub(super) fn since(&self, then: i64, look: Look) -> i64 {
        let leaps = self.known.iter().copied().chain(self.leap(look));
        leaps
            .map(|leap| leap.to.saturating_sub(leap.from.max(then)).max(0))
            .fold(0, i64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    const fn at(wall: i64, passed: u64) -> Look {
        let passed = Duration::from_millis(passed);
        Look { wall, passed }
    }

    #[test]
    fn a_clock_that_is_set_ahead_leaps_and_one_that_is_corrected_does_not() {
        let mut leaps = Leaps::default();
        assert_eq!(leaps.leap(at(HOUR, 0)), None, "nothing to compare it with");
        leaps.committed(at(0, 0));
        assert_eq!(leaps.leap(at(HOUR, HOUR.unsigned_abs())), None);
        assert_eq!(leaps.leap(at(1500, 500)), None);
        assert_eq!(leaps.leap(at(-HOUR, 500)), None, "it goes back");
        let (from, to) = (500, 1501);
        assert_eq!(leaps.leap(at(1501, 500)), Some(Leap { from, to }));
    }

    #[test]
    fn an_age_has_of_a_leap_what_was_before() {
        let mut leaps = Leaps::default();
        leaps.committed(at(0, 0));
        let now = at(2 * HOUR + 1000, 1000);
        for _ in 0..2 {
            // Also within the transaction that meets it.
            assert_eq!(leaps.since(0, now), 2 * HOUR);
            assert_eq!(leaps.since(1000, now), 2 * HOUR);
            assert_eq!(
                leaps.since(HOUR, now),
                HOUR + 1000,
                "a clock that went back"
            );
            assert_eq!(leaps.since(2 * HOUR + 1000, now), 0);
            leaps.committed(now);
        }
        for n in 1..=100 {
            leaps.committed(at((n + 2) * HOUR, 1000));
        }
        assert_eq!(leaps.known.len(), MOST);
        assert_eq!(leaps.since(101 * HOUR + 1, now), HOUR - 1);
        assert_eq!(leaps.since(i64::MAX, now), 0);
        assert!(leaps.since(i64::MIN, now) > 0);
    }
}
