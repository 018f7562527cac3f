use crate::{
    attempt::GaveUp,
    outcome::{Outcome, OutcomeKind},
};
use std::fmt;

/// Why something became a dead letter. Closed: every way in which a delivery or a job can end.
///
/// # Examples
///
/// ```
/// use tower_webhook::{attempt::GaveUp, dead_letter::Reason, outcome::Outcome};
///
/// let of = |outcome, gave_up| Reason::of(outcome, gave_up);
/// assert_eq!(of(Outcome::transient(), Some(GaveUp::RetriesExhausted)), Reason::RetriesExhausted);
/// assert_eq!(of(Outcome::permanent().with_code(410), Some(GaveUp::NotRetryable)), Reason::Rejected);
/// assert_eq!(of(Outcome::refused(None), Some(GaveUp::Refused)), Reason::Refused);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The body had begun to be sent and could not be sent again.
    BodyNotReplayable,
    /// Too much of the traffic was retries already.
    Budget,
    /// The circuit breaker of its target was open.
    CircuitOpen,
    /// The deadline of the call left no time, or cut it.
    Deadline,
    /// The peer asked for a longer wait than there was time (`Retry-After` and the like).
    HintTooLong,
    /// The client could take no more calls.
    NotReady,
    /// It failed, and was not safe to send again.
    NotRetryable,
    /// What handled it panicked, at the last attempt.
    Panicked,
    /// Our side did not send it: a local limit.
    Refused,
    /// The peer does not want it, now or later: 400, 410, a redirect.
    Rejected,
    /// As many attempts as were allowed have failed.
    RetriesExhausted,
    /// It could not be sent, and never can: a key that cannot sign.
    Unsendable,
    /// The retry window left no time.
    Window,
    /// The process that handled it died, at the last attempt: a payload that kills its worker.
    WorkerLost,
}

impl Reason {
    /// Every reason, in alphabetical order: for counters that are set up in advance.
    pub const ALL: &'static [Self] = &[
        Self::BodyNotReplayable,
        Self::Budget,
        Self::CircuitOpen,
        Self::Deadline,
        Self::HintTooLong,
        Self::NotReady,
        Self::NotRetryable,
        Self::Panicked,
        Self::Refused,
        Self::Rejected,
        Self::RetriesExhausted,
        Self::Unsendable,
        Self::Window,
        Self::WorkerLost,
    ];

    /// The reason of a failure that ended so, after a retry layer gave up for `gave_up`, if there
    /// was one. An open circuit cannot be told from another refusal by its outcome:
    /// [`DeadLetterLayer`](super::DeadLetterLayer) looks into the error.
    pub const fn of(outcome: Outcome, gave_up: Option<GaveUp>) -> Self {
        match (outcome.kind(), gave_up) {
            (_, Some(GaveUp::BodyNotReplayable)) => Self::BodyNotReplayable,
            (_, Some(GaveUp::Budget)) => Self::Budget,
            (_, Some(GaveUp::Deadline)) => Self::Deadline,
            (_, Some(GaveUp::HintTooLong)) => Self::HintTooLong,
            (_, Some(GaveUp::NotReady)) => Self::NotReady,
            (_, Some(GaveUp::RetriesExhausted)) => Self::RetriesExhausted,
            (_, Some(GaveUp::Window)) => Self::Window,
            (OutcomeKind::Permanent, _) => Self::Rejected,
            (OutcomeKind::Unsendable, _) => Self::Unsendable,
            (OutcomeKind::Refused, _) | (_, Some(GaveUp::Refused)) => Self::Refused,
            _ => Self::NotRetryable,
        }
    }

    /// The name in lower case, for records, metric labels and filters. It does not change between
    /// releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BodyNotReplayable => "body_not_replayable",
            Self::Budget => "budget",
            Self::CircuitOpen => "circuit_open",
            Self::Deadline => "deadline",
            Self::HintTooLong => "hint_too_long",
            Self::NotReady => "not_ready",
            Self::NotRetryable => "not_retryable",
            Self::Panicked => "panicked",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Unsendable => "unsendable",
            Self::Window => "window",
            Self::WorkerLost => "worker_lost",
        }
    }

    /// The reason of this [name](Self::as_str).
    pub fn from_name(name: &str) -> Option<Self> {
        let known = Self::ALL.iter().copied();
        known.into_iter().find(|reason| reason.as_str() == name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_every_reason_once_and_in_order() {
        assert!(Reason::ALL.is_sorted());
        assert!(Reason::ALL.iter().map(|reason| reason.as_str()).is_sorted());
        assert!(Reason::ALL.windows(2).all(|pair| pair[0] != pair[1]));
        for reason in Reason::ALL {
            assert_eq!(Reason::from_name(reason.as_str()), Some(*reason));
        }
    }

    #[test]
    fn every_way_of_giving_up_has_a_reason_of_its_own() {
        for gave_up in GaveUp::ALL {
            let outcome = match gave_up {
                GaveUp::Refused => Outcome::refused(None),
                _ => Outcome::transient(),
            };
            assert_eq!(
                Reason::of(outcome, Some(*gave_up)).as_str(),
                gave_up.as_str()
            );
        }
    }
}
