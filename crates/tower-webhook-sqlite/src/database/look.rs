//! The wall clock beside the monotonic one, which tells a clock that was set from time that passed.

use crate::stored;
use std::time::Duration;
use tower_webhook::clock::WallClock;

/// A smaller difference is a clock that is corrected little by little.
const LEAP_MS: i64 = 1000;

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

    /// What they would show now if the wall clock had not been set since.
    pub(super) fn later(self, clock: &WallClock) -> Self {
        let passed = clock.elapsed();
        let since = i64::try_from(passed.saturating_sub(self.passed).as_millis());
        Self {
            wall: self.wall.saturating_add(since.unwrap_or(i64::MAX)),
            passed,
        }
    }

    /// Whether the clock leapt ahead, if it was expected to show another time.
    pub(super) const fn leapt(self, expected: Self) -> bool {
        self.wall.saturating_sub(expected.wall) > LEAP_MS
    }
}
