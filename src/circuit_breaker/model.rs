//! The words in which a breaker speaks of itself.

pub use crate::observe::BreakerState;
use std::fmt;

/// Who decides: the breaker, or an operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BreakerMode {
    /// The breaker. The default.
    #[default]
    Auto,
    /// Calls pass, and nothing is counted.
    Disabled,
    /// Calls pass and are counted, whatever comes of them.
    ForcedClosed,
    /// Calls are refused.
    ForcedOpen,
    /// Calls pass and are judged, but never refused: a dry run. What would have been a trip is
    /// counted as [`held_back`](Totals::held_back), and the evidence starts anew.
    MetricsOnly,
}

/// Why a breaker went from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TransitionReason {
    /// So many calls failed one after the other.
    ConsecutiveFailures,
    /// Too large a part of the calls in the window failed.
    FailureRate,
    /// The open time is over, and a call came.
    OpenTimeOver,
    /// An operator said so.
    Operator,
    /// A probe failed, or was slow.
    ProbeFailed,
    /// As many probes succeeded as are needed.
    ProbesSucceeded,
    /// Too large a part of the calls in the window were slow.
    SlowCallRate,
}

impl TransitionReason {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::OpenTimeOver => "open_time_over",
            Self::Operator => "operator",
            Self::ProbeFailed => "probe_failed",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::SlowCallRate => "slow_call_rate",
        }
    }
}

impl fmt::Display for TransitionReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What has been counted since the breaker was made. Nothing but a
/// [`reset`](super::PeerBreaker::reset) sets it back, and that only the evidence: never these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Calls that said that the peer is well.
    pub successes: u64,
    /// Calls that said that it is not, throttled ones among them.
    pub failures: u64,
    /// Those of the failures by which the peer only sheds load.
    pub throttled: u64,
    /// Calls, of whatever result, that took longer than
    /// [`slow_call`](super::BreakerConfigBuilder::slow_call).
    pub slow: u64,
    /// Calls that ended and said nothing about the peer.
    pub neutral: u64,
    /// Calls whose future was dropped, or that panicked.
    pub cancelled: u64,
    /// Results that came after the state they were admitted in, or after their probe's lease. They
    /// changed nothing.
    pub stale: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// How often the breaker opened while it was closed.
    pub trips: u64,
    /// How often it opened again because a probe failed.
    pub reopened: u64,
    /// How often it would have opened, had it not been for [`BreakerMode::MetricsOnly`].
    pub held_back: u64,
    /// Probes that were given up because they outlasted their lease.
    pub leases_lost: u64,
}

impl Totals {
    /// Adds `other` to these.
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
