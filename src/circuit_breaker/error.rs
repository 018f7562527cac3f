use super::BreakerState;
use crate::outcome::LocallyRefused;
use std::{error::Error, fmt, sync::Arc, time::Duration};

/// The call was not made, because the circuit is open.
///
/// Its [`source`](Error::source) is a [`LocallyRefused`], by which every layer understands it: it
/// may be tried again after [`retry_after`](Self::retry_after), costs no retry budget, and is no
/// evidence against the peer.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_webhook::circuit_breaker::{BreakerConfig, Breakers, CircuitOpen};
/// use tower_webhook::outcome::{Outcome, OutcomeKind};
///
/// let config = BreakerConfig::builder().consecutive_failures(3).build()?;
/// let breakers = Breakers::new(config);
/// for _ in 0..3 {
///     breakers.admit("peer.test")?.settle(Outcome::transient());
/// }
/// let open: CircuitOpen = breakers.admit("peer.test").unwrap_err();
/// assert_eq!(open.key(), "peer.test");
/// assert!(open.retry_after() <= Duration::from_secs(15));
/// assert_eq!(Outcome::of_error(&open).kind(), OutcomeKind::Refused);
/// # Ok::<_, CircuitOpen>(())
/// ```
#[derive(Clone, Debug)]
pub struct CircuitOpen {
    pub(super) key: Arc<str>,
    pub(super) state: BreakerState,
    pub(super) refused: LocallyRefused,
}

impl CircuitOpen {
    /// The key of the breaker, cut after 256 bytes; empty where there are no keys.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What the breaker is: [`Open`](BreakerState::Open), [`ForcedOpen`](BreakerState::ForcedOpen),
    /// or [`HalfOpen`](BreakerState::HalfOpen) with all its probes under way.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// When a call may pass: the rest of the open time. At most a second while probes are under
    /// way; where an operator opened it, the open time that the settings begin with.
    pub const fn retry_after(&self) -> Duration {
        self.refused.retry_after()
    }
}

impl fmt::Display for CircuitOpen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the circuit ")?;
        if !self.key.is_empty() {
            write!(f, "for {:?} ", self.key)?;
        }
        f.write_str(match self.state {
            BreakerState::ForcedOpen => "was opened by an operator",
            BreakerState::HalfOpen => "is half open, and its probes are under way",
            _ => "is open",
        })
    }
}

impl Error for CircuitOpen {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.refused)
    }
}
