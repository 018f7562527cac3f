//! A separate file, because the model checker in `tests/loom` includes it.

use std::fmt;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// Calls pass, and their results are judged.
    Closed,
    /// Set by an operator: calls pass, and nothing is counted.
    Disabled,
    /// Set by an operator: calls pass and are counted, but their results never open the breaker.
    ForcedClosed,
    /// Set by an operator: calls are refused.
    ForcedOpen,
    /// A few probes pass; their results decide whether the breaker closes.
    HalfOpen,
    /// Set by an operator: calls pass and are judged; the breaker only counts how often it would have
    /// opened.
    MetricsOnly,
    /// Calls are refused for a time.
    Open,
}

impl BreakerState {
    /// Every state, in alphabetical order: for gauges, which are 0 for every state except the current one.
    pub const ALL: &'static [Self] = &[
        Self::Closed,
        Self::Disabled,
        Self::ForcedClosed,
        Self::ForcedOpen,
        Self::HalfOpen,
        Self::MetricsOnly,
        Self::Open,
    ];

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Disabled => "disabled",
            Self::ForcedClosed => "forced_closed",
            Self::ForcedOpen => "forced_open",
            Self::HalfOpen => "half_open",
            Self::MetricsOnly => "metrics_only",
            Self::Open => "open",
        }
    }

    /// Whether calls are refused, except for a few probes in [`HalfOpen`](Self::HalfOpen).
    pub const fn is_refusing(self) -> bool {
        matches!(self, Self::ForcedOpen | Self::HalfOpen | Self::Open)
    }
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
