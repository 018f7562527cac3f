//! What the HTTP and the gRPC classifier do alike once there is a result.

use super::{
    Outcome, OutcomeKind,
    chain::{self, ErrorRule},
};
use std::time::{Duration, SystemTime};

/// urllib3's `DEFAULT_RETRY_AFTER_MAX` (2026): long enough for the hours that a published webhook
/// schedule waits anyway, short enough that nobody is parked for a day.
const MAX_HINT: Duration = Duration::from_secs(6 * 3600);

/// Travels with every call, so it is a few words that are copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) max_hint: Duration,
    pub(super) clock: fn() -> SystemTime,
    pub(super) errors: Option<ErrorRule>,
    pub(super) repeatable: bool,
}

impl Rules {
    pub(super) const fn new() -> Self {
        Self {
            max_hint: MAX_HINT,
            clock: SystemTime::now,
            errors: None,
            repeatable: false,
        }
    }

    pub(super) fn judge_error<E: 'static>(self, error: &E) -> Outcome {
        chain::judge(error, self.errors)
    }

    /// The end of every judgement: the cap on hints, and what the request says about repeating.
    pub(super) fn finish(self, outcome: Outcome) -> Outcome {
        let capped = outcome.retry_after().map(|wait| wait.min(self.max_hint));
        let outcome = outcome.with_retry_after(capped);
        if self.repeatable {
            outcome
        } else {
            outcome.not_repeatable()
        }
    }
}

/// Whether it matters when the peer wants to be asked again.
pub(super) const fn takes_hints(kind: OutcomeKind) -> bool {
    matches!(kind, OutcomeKind::Throttled | OutcomeKind::Transient)
}
