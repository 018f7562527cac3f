//! The vocabulary of a breaker: modes, reasons and counts for users; rules and ticks for the state
//! machine.

pub use crate::observe::BreakerState;
use std::time::Duration;

/// Whether the breaker decides about calls, or an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BreakerMode {
    /// The breaker decides. The default.
    #[default]
    Auto,
    /// Calls pass, and nothing is counted.
    Disabled,
    /// Calls pass and are counted. The breaker does not open, however many fail.
    ForcedClosed,
    /// Calls are refused.
    ForcedOpen,
    /// A dry run: calls pass and are judged, but never refused. When the breaker would have opened,
    /// [`held_back`](Totals::held_back) grows and the evidence is cleared.
    MetricsOnly,
}

/// Why a breaker changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// That many calls failed one after another.
    ConsecutiveFailures,
    /// It was removed from the map to make room for another peer.
    Evicted,
    /// Too large a part of the calls in the window failed.
    FailureRate,
    /// The open time has passed, and a call arrived.
    OpenTimeOver,
    /// An operator changed it.
    Operator,
    /// A probe failed, or was slow.
    ProbeFailed,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Too large a part of the calls in the window were slow.
    SlowCallRate,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::Evicted => "evicted",
            Self::FailureRate => "failure_rate",
            Self::OpenTimeOver => "open_time_over",
            Self::Operator => "operator",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::SlowCallRate => "slow_call_rate",
        }
    }
}

/// Counts of one breaker since it was made, or of all breakers together.
///
/// A [`reset`](super::PeerBreaker::reset) clears the evidence of a breaker, never these counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Calls whose outcome showed a healthy peer.
    pub successes: u64,
    /// Calls whose outcome showed an unhealthy peer, throttled ones included.
    pub failures: u64,
    /// The failures by which the peer only limited the rate of calls.
    pub throttled: u64,
    /// Calls, of any outcome, that took longer than
    /// [`slow_call`](super::BreakerConfigBuilder::slow_call).
    pub slow: u64,
    /// Calls whose outcome showed nothing about the peer.
    pub neutral: u64,
    /// Calls whose future was dropped, or that panicked.
    pub cancelled: u64,
    /// Results that arrived after the breaker had left the state in which their call was admitted, or after
    /// the lease of their probe. They changed nothing.
    pub stale: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// The number of times that the breaker opened while it was closed.
    pub trips: u64,
    /// The number of times that it opened again because a probe failed.
    pub reopened: u64,
    /// The number of times that it would have opened, if it were not in [`BreakerMode::MetricsOnly`].
    pub held_back: u64,
    /// Probes that took longer than their lease, so that another probe could replace them.
    pub leases_lost: u64,
}

impl Totals {
    pub(super) const fn add(&mut self, other: &Self) {
        self.successes = self.successes.saturating_add(other.successes);
        self.failures = self.failures.saturating_add(other.failures);
        self.throttled = self.throttled.saturating_add(other.throttled);
        self.slow = self.slow.saturating_add(other.slow);
        self.neutral = self.neutral.saturating_add(other.neutral);
        self.cancelled = self.cancelled.saturating_add(other.cancelled);
        self.stale = self.stale.saturating_add(other.stale);
        self.refused = self.refused.saturating_add(other.refused);
        self.trips = self.trips.saturating_add(other.trips);
        self.reopened = self.reopened.saturating_add(other.reopened);
        self.held_back = self.held_back.saturating_add(other.held_back);
        self.leases_lost = self.leases_lost.saturating_add(other.leases_lost);
    }
}

/// A point in time, in nanoseconds since the breakers were made. Enough for 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tick(pub(super) u64);

impl Tick {
    pub(super) const fn after(self, nanos: u64) -> Self {
        Self(self.0.saturating_add(nanos))
    }

    /// The time since `earlier`; zero if that is not earlier.
    pub(super) const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The source of time, order and randomness. Each is asked for only where it matters.
pub(super) trait World {
    fn now(&self) -> Tick;
    /// A number above all that were given before, to any breaker.
    fn generation(&self) -> u64;
    /// From 0 to 1.
    fn random(&self) -> f64;
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WindowRule {
    Calls(u32),
    /// A number of buckets, each `width` nanoseconds long.
    Time {
        buckets: u32,
        width: u64,
    },
}

/// The settings as the state machine needs them: checked, times in nanoseconds.
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
    /// Jitter only shortens the breaker's own time, so that it still spreads at the cap. A hint of
    /// the peer is a minimum, so there jitter lengthens. A hint beyond the cap counts as the cap.
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
