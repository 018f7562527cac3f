//! The leaps of the queue's time, so that a job is not older than it is.
//!
//! The queue's time follows the wall clock, which may be set ahead. Each handle compares it, at each claim, with
//! the monotonic clock of its process: what one has run more than the other is a leap, and is no part of the age of
//! the jobs that were accepted before it. Time in which no process runs the queue is not measured by anything
//! else, and counts in full.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// A shorter leap between two claims is not told from a clock that is slewed, in milliseconds.
const SHORTEST: i64 = 1000;

/// The leaps that are remembered. Jobs that are older than that many count the leaps before in their age.
const MOST: usize = 16;

#[derive(Clone, Debug, Default)]
pub(super) struct Leaps {
    /// The queue's time at the last claim, and when that was.
    last: Option<(i64, Instant)>,
    /// The time before each leap, and its length.
    known: VecDeque<(i64, i64)>,
}

impl Leaps {
    /// Compares the queue's time with the monotonic clock.
    pub(super) fn look(&mut self, time: i64, now: Instant) {
        if let Some((before, then)) = self.last {
            let passed = now.saturating_duration_since(then).as_millis();
            let passed = i64::try_from(passed).unwrap_or(i64::MAX);
            let expected = before.saturating_add(passed);
            let leap = time.saturating_sub(expected);
            if leap > SHORTEST {
                if self.known.len() == MOST {
                    self.known.pop_front();
                }
                self.known.push_back((expected, leap));
            }
        }
        self.last = Some((time, now));
    }

    /// The age, now, of a job that was accepted at this time.
    pub(super) fn age(&self, accepted: i64) -> Duration {
        let now = self.last.map_or(accepted, |(now, _)| now);
        let leapt = |(before, leap): &(i64, i64)| (accepted <= *before).then_some(*leap);
        let leapt: i64 = self.known.iter().filter_map(leapt).sum();
        let age = now.saturating_sub(accepted).saturating_sub(leapt);
        Duration::from_millis(u64::try_from(age).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    #[test]
    fn a_leap_is_no_part_of_the_age_of_jobs_that_were_there() {
        let began = Instant::now();
        let at = |millis: i64| began + Duration::from_millis(millis.unsigned_abs());
        let millis = |age: Duration| i64::try_from(age.as_millis()).unwrap();
        let mut leaps = Leaps::default();
        leaps.look(0, at(0));
        leaps.look(500, at(400));
        assert_eq!(millis(leaps.age(0)), 500, "no leap");
        leaps.look(2 * HOUR + 1500, at(1400));
        assert_eq!(millis(leaps.age(0)), 1500);
        assert_eq!(millis(leaps.age(1500)), 0, "accepted just before it");
        assert_eq!(millis(leaps.age(2 * HOUR + 1000)), 500, "after it");
        // Many leaps: the last ones are known.
        for n in 1..=100 {
            leaps.look((n + 2) * HOUR + 1500, at(1400));
        }
        assert_eq!(leaps.known.len(), MOST);
        assert_eq!(millis(leaps.age(101 * HOUR)), 1500);
        assert_eq!(leaps.age(i64::MAX), Duration::ZERO);
        assert!(leaps.age(i64::MIN) > Duration::ZERO);
    }
}
