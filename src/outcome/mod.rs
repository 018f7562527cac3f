//! The outcome of a call: one result that every layer reads.
//!
//! Retry reads from it whether and when the same request may be sent again, the circuit breaker
//! whether the peer is healthy, dead letters whether the call failed, and metrics a label. All read
//! one [`Outcome`], so they cannot disagree, and none of them needs to know HTTP statuses.
//!
//! An outcome is made in two steps, because the request, not its response, decides whether it may
//! be repeated:
//!
//! 1. A [`MakeClassifier`] reads the request before it is sent and returns a small [`Classify`],
//!    which is kept with the call.
//! 2. That [`Classify`] judges the result.
//!
//! | Classifier | For |
//! | --- | --- |
//! | [`HttpClassifier`] | HTTP: status, `Retry-After`, idempotency keys |
//! | [`GrpcClassifier`] | gRPC: `grpc-status`, `grpc-retry-pushback-ms` |
//! | [`classify_fn`] | everything else, by a function of the result: job workers, plain services, tests |
//!
//! # Errors
//!
//! A transport error is [`Transient`](OutcomeKind::Transient), unless its chain of sources contains
//! one of these markers, which any error may have as its source:
//!
//! | Marker | Meaning | Outcome |
//! | --- | --- | --- |
//! | [`LocallyRefused`] | not sent, by a local decision; may be sent later | [`Refused`](OutcomeKind::Refused) |
//! | [`Unreached`] | the peer never saw the request | [`Unreached`](OutcomeKind::Unreached) |
//! | [`Unsendable`] | the request cannot be sent, now or later | [`Unsendable`](OutcomeKind::Unsendable) |
//! | [`TransportError`] | the error of a client, judged | its own |
//!
//! An [`io::Error`](std::io::Error) of kind `ConnectionRefused` or `AddrNotAvailable` is
//! `Unreached` too: both come from `connect`, before a byte is written. `HostUnreachable` and
//! `NetworkUnreachable` are not, because they can also end an established connection.
//!
//! An [`io::Error`](std::io::Error) anywhere in the chain that says what this machine has run out of is no evidence
//! against the peer. Without a file handle (`EMFILE`, `ENFILE`, and their like on Windows) there was no
//! connection: `Refused`, whatever stands around it. Without socket buffers or memory (`ENOBUFS`, `ENOMEM`) it is
//! `Refused` if the peer was not reached, and otherwise what stands around it,
//! [without evidence](Outcome::without_evidence), because the peer may have the request. Name resolution does not always
//! tell such an error from an unknown name.
//!
//! With feature `tower` (on by default) the errors of tower's own layers are judged too: `Overloaded` of a load shedder is
//! `Refused`, and so is the error of a buffer whose task has ended, which is not retried.
//!
//! The module `transport` has the clients whose errors are judged: hyper-util, reqwest, tonic.
//! [`HttpClassifier::errors`] and [`GrpcClassifier::errors`] add rules for the other errors of a transport.
//!
//! The chain is read if the error type is [`BoxError`](crate::BoxError), another boxed or shared
//! `dyn Error`, an [`io::Error`](std::io::Error) or a marker. Every other error type is `Transient`:
//! put `.map_err(BoxError::from)` below the layers.
//!
//! # Examples
//!
//! The same response to two requests:
//!
//! ```
//! use http::{Request, Response};
//! use std::time::Duration;
//! use tower_webhook::BoxError;
//! use tower_webhook::outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind};
//!
//! let classifier = HttpClassifier::new();
//! let busy = Response::builder().status(503).header("retry-after", "7").body(())?;
//!
//! let keyed = Request::post("https://example.com/hook").header("webhook-id", "msg_1").body(())?;
//! let outcome = classifier.make_classifier(&keyed).classify(Ok::<_, &BoxError>(&busy));
//! assert_eq!(outcome.kind(), OutcomeKind::Throttled);
//! assert_eq!(outcome.retry_after(), Some(Duration::from_secs(7)));
//! assert!(outcome.may_retry());
//!
//! // A POST without a key may have taken effect: unhealthy as before, but not to be repeated.
//! let bare = Request::post("https://example.com/hook").body(())?;
//! let outcome = classifier.make_classifier(&bare).classify(Ok::<_, &BoxError>(&busy));
//! assert_eq!(outcome.peer_is_healthy(), Some(false));
//! assert!(!outcome.may_retry());
//! # Ok::<_, http::Error>(())
//! ```
//!
//! A job without HTTP:
//!
//! ```
//! use tower_webhook::BoxError;
//! use tower_webhook::outcome::{Classify, Outcome, classify_fn};
//!
//! let by_rows = classify_fn(|result: Result<&u64, &BoxError>| match result {
//!     Ok(0) => Outcome::permanent(),
//!     Ok(_) => Outcome::success(),
//!     Err(error) => Outcome::of_error(&**error),
//! });
//! assert!(by_rows.classify(Ok(&0)).is_failure());
//! ```

mod classify;
mod errors;
mod grpc;
mod hint;
mod http;
#[cfg(feature = "grpc")]
mod late;
mod rate_limit;

#[cfg(not(feature = "grpc"))]
pub use self::classify::LateOutcome;
#[cfg(feature = "hyper-util")]
pub(crate) use self::errors::ErrorRule;
pub(crate) use self::errors::links;
#[cfg(feature = "grpc")]
pub(crate) use self::grpc::GrpcEnd;
#[cfg(feature = "grpc")]
pub use self::late::{LateOutcome, LateSender};
pub use self::{
    classify::{Classify, ClassifyFn, MakeClassifier, Repeatable, classify_fn},
    errors::{LocallyRefused, TransportError, Unreached, Unsendable},
    grpc::{ClassifyGrpc, GrpcClassifier},
    http::{ClassifyHttp, DefaultClassifier, HttpClassifier, Peeked},
};

use std::{fmt, time::Duration};

/// How one call ended: what it says about the peer, and whether the request may be sent again.
///
/// | [`OutcomeKind`] | Example | Retry | Breaker counts it as | Dead letter |
/// | --- | --- | --- | --- | --- |
/// | `Success` | 2xx, gRPC 0 | no | healthy | no |
/// | `Permanent` | 400, 401, 410, a redirect | no | healthy | yes |
/// | `Throttled` | 429, 503, gRPC 8 | if repeatable, after the hint | unhealthy | when retries end |
/// | `Transient` | 500, 504, a reset, gRPC 14 | if repeatable | unhealthy | when retries end |
/// | `Unreached` | connection refused | always: the peer never saw it | unhealthy | when retries end |
/// | `Refused` | circuit open, local limit | yes, after the hint | nothing | yes |
/// | `Unsendable` | a key that cannot sign | no | nothing | yes |
/// | `Cancelled` | the caller dropped the future | no | nothing | no |
///
/// Health and repetition are independent: a 500 in response to a POST without a key counts against
/// the peer, *and* the request is not repeated.
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
/// // What never reached the peer may be repeated in any case.
/// assert!(Outcome::unreached().not_repeatable().may_retry());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Outcome {
    kind: OutcomeKind,
    may_retry: bool,
    retry_after: Option<Duration>,
    code: Option<u16>,
    is_evidence: bool,
}

/// What a call says about the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OutcomeKind {
    /// Nothing: the caller dropped the call before there was a result.
    Cancelled,
    /// The peer is healthy and rejects the request.
    Permanent,
    /// Nothing: it was not sent, by a local decision, and may be later (circuit open, local limit).
    Refused,
    /// The peer did the work.
    Success,
    /// The peer sheds load.
    Throttled,
    /// The peer or the connection failed, and the peer may have had the request.
    Transient,
    /// The peer was not reached: it never saw the request.
    Unreached,
    /// Nothing: it cannot be sent, now or later (a signing error).
    Unsendable,
}

impl OutcomeKind {
    /// Every kind, in alphabetical order.
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
            is_evidence: true,
        }
    }

    /// An outcome read from a store.
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

    /// The caller dropped the call. Made by a layer whose future is dropped.
    pub const fn cancelled() -> Self {
        Self::new(OutcomeKind::Cancelled, false, None)
    }

    /// The peer responded, and would respond the same to the same request.
    pub const fn permanent() -> Self {
        Self::new(OutcomeKind::Permanent, false, None)
    }

    /// Not sent, by a local decision. `retry_after` is the time until it may be sent.
    pub const fn refused(retry_after: Option<Duration>) -> Self {
        Self::new(OutcomeKind::Refused, true, retry_after)
    }

    /// The peer did the work.
    pub const fn success() -> Self {
        Self::new(OutcomeKind::Success, false, None)
    }

    /// The peer sheds load. `retry_after` is how long it asks to wait.
    pub const fn throttled(retry_after: Option<Duration>) -> Self {
        Self::new(OutcomeKind::Throttled, true, retry_after)
    }

    /// The peer or the connection failed; a repetition may succeed.
    pub const fn transient() -> Self {
        Self::new(OutcomeKind::Transient, true, None)
    }

    /// The peer never saw the request.
    pub const fn unreached() -> Self {
        Self::new(OutcomeKind::Unreached, true, None)
    }

    /// Not sent, because it cannot be.
    pub const fn unsendable() -> Self {
        Self::new(OutcomeKind::Unsendable, false, None)
    }

    /// Marks the request as unsafe to repeat. It may still be retried if the peer never saw it
    /// ([`Refused`](OutcomeKind::Refused), [`Unreached`](OutcomeKind::Unreached)).
    pub const fn not_repeatable(mut self) -> Self {
        self.may_retry =
            self.may_retry && matches!(self.kind, OutcomeKind::Refused | OutcomeKind::Unreached);
        self
    }

    /// Forbids a retry, whatever the kind: the peer asked for that, or a repetition cannot succeed.
    pub const fn never_retry(mut self) -> Self {
        self.may_retry = false;
        self
    }

    /// Sets the minimum wait before a retry. `None`: no hint.
    pub const fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// Says nothing about the peer, whatever the kind: a circuit breaker counts the call for nothing, and a
    /// probe is given to another call. Retries, dead letters and metrics go by the kind.
    ///
    /// For a classifier that knows better than the kind: a 404 of a proxy in front of many peers, a failure
    /// that only one tenant's data can cause.
    pub const fn without_evidence(mut self) -> Self {
        self.is_evidence = false;
        self
    }

    /// Sets the status or code of the response.
    pub const fn with_code(mut self, code: u16) -> Self {
        self.code = Some(code);
        self
    }

    /// What the call says about the peer.
    pub const fn kind(self) -> OutcomeKind {
        self.kind
    }

    /// Whether the same request may be sent again. The retry layer decides when and how often.
    pub const fn may_retry(self) -> bool {
        self.may_retry
    }

    /// The minimum wait before the next request to the peer, as the peer or the layer that refused
    /// the call asks for. `None`: neither did.
    pub const fn retry_after(self) -> Option<Duration> {
        self.retry_after
    }

    /// The code of the response: an HTTP status from [`HttpClassifier`], a gRPC code (0 to 16) from
    /// [`GrpcClassifier`]. `None`: there was no response.
    pub const fn code(self) -> Option<u16> {
        self.code
    }

    /// Whether the peer is healthy, for a circuit breaker. `None`: the call says nothing about it.
    pub const fn peer_is_healthy(self) -> Option<bool> {
        match self.kind {
            _ if !self.is_evidence => None,
            OutcomeKind::Permanent | OutcomeKind::Success => Some(true),
            OutcomeKind::Throttled | OutcomeKind::Transient | OutcomeKind::Unreached => Some(false),
            OutcomeKind::Cancelled | OutcomeKind::Refused | OutcomeKind::Unsendable => None,
        }
    }

    /// Whether the peer limits this caller (429, gRPC 8) and may be healthy for others. A 503 is
    /// not: it says that the peer is overloaded.
    pub const fn is_rate_limit(self) -> bool {
        matches!(self.kind, OutcomeKind::Throttled) && !matches!(self.code, Some(503))
    }

    /// Whether the call failed, so that a dead letter is written for it. A cancelled call is neither
    /// a success nor a failure.
    pub const fn is_failure(self) -> bool {
        !matches!(self.kind, OutcomeKind::Cancelled | OutcomeKind::Success)
    }

    /// Whether the request was sent. A call that was not sent ([`Refused`](OutcomeKind::Refused),
    /// [`Unsendable`](OutcomeKind::Unsendable)) takes nothing from a retry budget.
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
