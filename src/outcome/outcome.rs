use std::{fmt, time::Duration};

/// How one call ended: what it says about the peer, and whether the same request may be sent again.
///
/// | [`OutcomeKind`] | Example | Retry | Breaker's evidence | Dead letter |
/// | --- | --- | --- | --- | --- |
/// | `Success` | 2xx, gRPC 0 | no | healthy | no |
/// | `Permanent` | 400, 401, 410, a redirect | no | healthy | yes |
/// | `Throttled` | 429, 503, gRPC 8 | if repeatable, after the hint | unhealthy | when retries end |
/// | `Transient` | 500, 504, a reset, gRPC 14 | if repeatable | unhealthy | when retries end |
/// | `Unreached` | connection refused | always: the peer never saw it | unhealthy | when retries end |
/// | `Refused` | circuit open, local limit | yes, after the hint | none | yes |
/// | `Unsendable` | a key that cannot sign | no | none | yes |
/// | `Cancelled` | the caller dropped the future | no | none | no |
///
/// The two sides are kept apart: a 500 that answers a POST without a key is evidence against the
/// peer *and* not to be repeated.
///
/// Opaque, so that it can say more later.
///
/// # Examples
///
/// ```
/// use tower_webhook::outcome::Outcome;
///
/// let failed = Outcome::transient().not_repeatable();
/// assert_eq!(failed.peer_is_healthy(), Some(false));
/// assert!(failed.is_failure() && !failed.may_retry());
///
/// // What never reached the peer may be repeated, whatever it is.
/// assert!(Outcome::unreached().not_repeatable().may_retry());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Outcome {
    kind: OutcomeKind,
    may_retry: bool,
    retry_after: Option<Duration>,
    code: Option<u16>,
}

/// What a call says about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// Nothing: the caller went away before there was a result.
    Cancelled,
    /// The peer is well and the request is not.
    Permanent,
    /// Nothing: we did not send it, and may later (circuit open, local limit).
    Refused,
    /// The peer did the work.
    Success,
    /// The peer sheds load.
    Throttled,
    /// The peer failed, or the way to it, while it may have had the request.
    Transient,
    /// The peer could not be reached: it never saw the request.
    Unreached,
    /// Nothing: we could not send it, and cannot later (a signing error).
    Unsendable,
}

impl OutcomeKind {
    /// Every kind, in alphabetical order: for counters that are set up in advance.
    pub const ALL: &'static [Self] = &[
        Self::Cancelled,
        Self::Permanent,
        Self::Refused,
        Self::Success,
        Self::Throttled,
        Self::Transient,
        Self::Unreached,
        Self::Unsendable,
    ];

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Permanent => "permanent",
            Self::Refused => "refused",
            Self::Success => "success",
            Self::Throttled => "throttled",
            Self::Transient => "transient",
            Self::Unreached => "unreached",
            Self::Unsendable => "unsendable",
        }
    }
}

impl fmt::Display for OutcomeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    const fn new(kind: OutcomeKind, may_retry: bool, retry_after: Option<Duration>) -> Self {
        Self {
            kind,
            may_retry,
            retry_after,
            code: None,
        }
    }

    /// An outcome that was stored.
    #[cfg(feature = "dead-letter")]
    pub(crate) const fn recorded(
        kind: OutcomeKind,
        may_retry: bool,
        retry_after: Option<Duration>,
        code: Option<u16>,
    ) -> Self {
        let outcome = Self::new(kind, may_retry, retry_after);
        Self { code, ..outcome }
    }

    /// The caller went away. For the layer that notices it, which is the one whose future is dropped.
    pub const fn cancelled() -> Self {
        Self::new(OutcomeKind::Cancelled, false, None)
    }

    /// The peer answered, and the same request would get the same answer.
    pub const fn permanent() -> Self {
        Self::new(OutcomeKind::Permanent, false, None)
    }

    /// It was not sent, by our own decision. `retry_after` is when we would decide otherwise.
    pub const fn refused(retry_after: Option<Duration>) -> Self {
        Self::new(OutcomeKind::Refused, true, retry_after)
    }

    /// The peer did the work.
    pub const fn success() -> Self {
        Self::new(OutcomeKind::Success, false, None)
    }

    /// The peer sheds load. `retry_after` is when it wants to be asked again.
    pub const fn throttled(retry_after: Option<Duration>) -> Self {
        Self::new(OutcomeKind::Throttled, true, retry_after)
    }

    /// The peer or the way to it failed, and may not fail again.
    pub const fn transient() -> Self {
        Self::new(OutcomeKind::Transient, true, None)
    }

    /// The peer never saw the request.
    pub const fn unreached() -> Self {
        Self::new(OutcomeKind::Unreached, true, None)
    }

    /// It could not be sent, and never can.
    pub const fn unsendable() -> Self {
        Self::new(OutcomeKind::Unsendable, false, None)
    }

    /// The request is not safe to do twice. Retrying stays allowed where the peer never saw it
    /// ([`Refused`](OutcomeKind::Refused), [`Unreached`](OutcomeKind::Unreached)).
    pub const fn not_repeatable(mut self) -> Self {
        self.may_retry =
            self.may_retry && matches!(self.kind, OutcomeKind::Refused | OutcomeKind::Unreached);
        self
    }

    /// The same request is not to be sent again, whatever the kind: the peer asked for it, or
    /// nothing good can come of it.
    pub const fn never_retry(mut self) -> Self {
        self.may_retry = false;
        self
    }

    /// Sets when to try again.
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Sets the number that the peer answered with.
    pub const fn with_code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// What it says about the peer.
    pub const fn kind(self) -> OutcomeKind {
        self.kind
    }

    /// Whether the same request may be sent again. When, and how often, is up to the retry layer.
    pub const fn may_retry(self) -> bool {
        self.may_retry
    }

    /// How long to wait at least before the same request, or before the same peer is asked again.
    /// The peer's own words, or those of what refused the call; `None` when nothing was said.
    pub const fn retry_after(self) -> Option<Duration> {
        self.retry_after
    }

    /// The number that the peer answered with, in the terms of the classifier: an HTTP status from
    /// [`HttpClassifier`](super::HttpClassifier), a gRPC code (0 to 16) from
    /// [`GrpcClassifier`](super::GrpcClassifier). `None` when there was no answer.
    pub const fn code(self) -> Option<u16> {
        self.code
    }

    /// What a circuit breaker learns: the peer is well, is not, or nothing at all.
    pub const fn peer_is_healthy(self) -> Option<bool> {
        match self.kind {
            OutcomeKind::Permanent | OutcomeKind::Success => Some(true),
            OutcomeKind::Throttled | OutcomeKind::Transient | OutcomeKind::Unreached => Some(false),
            OutcomeKind::Cancelled | OutcomeKind::Refused | OutcomeKind::Unsendable => None,
        }
    }

    /// Whether the peer limits this caller (429, gRPC 8) and may be well otherwise. A peer that is
    /// overloaded (503) throttles everybody, and is not.
    pub const fn is_rate_limit(self) -> bool {
        matches!(self.kind, OutcomeKind::Throttled) && !matches!(self.code, Some(503))
    }

    /// Whether work is left undone that somebody still wants: what a dead letter is written for. A
    /// cancelled call is neither a success nor a failure.
    pub const fn is_failure(self) -> bool {
        !matches!(self.kind, OutcomeKind::Cancelled | OutcomeKind::Success)
    }

    /// Whether an attempt was made on the peer. One that was not made
    /// ([`Refused`](OutcomeKind::Refused), [`Unsendable`](OutcomeKind::Unsendable)) costs the peer
    /// nothing, so it takes nothing from a retry budget.
    pub const fn was_attempted(self) -> bool {
        !matches!(self.kind, OutcomeKind::Refused | OutcomeKind::Unsendable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_names_every_kind_once_and_in_order() {
        assert!(OutcomeKind::ALL.is_sorted());
        let names: BTreeSet<_> = OutcomeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(names.len(), OutcomeKind::ALL.len());
        assert!(
            names.iter().eq(OutcomeKind::ALL
                .iter()
                .map(|kind| kind.as_str())
                .collect::<Vec<_>>()
                .iter())
        );
    }

    #[test]
    fn a_request_that_must_not_be_repeated_stays_so() {
        let again = |outcome: Outcome| outcome.not_repeatable().may_retry();
        assert!(!again(Outcome::transient()));
        assert!(!again(Outcome::throttled(None)));
        assert!(again(Outcome::refused(None)));
        assert!(again(Outcome::unreached()));
        assert!(!again(Outcome::unreached().never_retry()));
    }
}
