//! The settings as the core needs them: checked, in nanoseconds.

use std::time::Duration;

/// A point in time: nanoseconds since a fixed one, enough for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u64);

impl Tick {
    pub(super) const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// How long `earlier` is ago: nothing, where it is not earlier.
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Where the core gets the time and its randomness from, each asked for only where it matters.
pub(super) trait World {
    fn now(&self) -> Tick;
    /// From 0 to 1.
    fn random(&self) -> f64;
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WindowRule {
    Calls(u32),
    /// So many buckets of so many nanoseconds.
    Time {
        buckets: u32,
        width: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) window: WindowRule,
    pub(super) min_calls: u32,
    pub(super) failure_rate: Option<f64>,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) slow_call: Option<u64>,
    pub(super) slow_call_rate: f64,
    pub(super) open_for: u64,
    pub(super) max_open_for: u64,
    pub(super) open_growth: f64,
    pub(super) open_jitter: f64,
    pub(super) probes: u32,
    pub(super) probe_successes: u32,
    pub(super) probe_lease: u64,
    pub(super) forget_after: u64,
}

impl Rules {
    /// How long to stay open after `rounds` rounds of probes that failed.
    ///
    /// Jitter only shortens the own time, so that it is there at the cap too. A hint is a floor, so
    /// there it lengthens; a hint beyond the cap is not honoured anyway and is treated as the cap.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "both ends are clamped; what rounding loses is less than a microsecond in a century"
    )]
    pub(super) fn open_time(&self, rounds: u32, hint: Option<u64>, random: f64) -> u64 {
        let cap = self.max_open_for as f64;
        let spread = self.open_jitter * random.clamp(0.0, 1.0);
        let rounds = i32::try_from(rounds).unwrap_or(i32::MAX);
        let own = (self.open_for as f64 * self.open_growth.powi(rounds)).min(cap);
        let own = own * (1.0 - spread);
        let hinted = match hint {
            None => 0.0,
            Some(hint) if hint >= self.max_open_for => cap * (1.0 - spread),
            Some(hint) => (hint as f64 * (1.0 + spread)).min(cap),
        };
        // A cast of a float saturates.
        own.max(hinted) as u64
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
