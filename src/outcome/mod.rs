//! How a call went, said once for every layer.
//!
//! Retry asks whether the same request may be sent again and when, the circuit breaker whether the
//! peer is well, the dead letters whether work is left undone, the metrics for a label. They all
//! ask one [`Outcome`], so that they cannot disagree, and so that none of them has to know what an
//! HTTP status is.
//!
//! An outcome is made in two steps, because whether a request may be repeated is decided by the
//! request and not by its answer:
//!
//! 1. A [`MakeClassifier`] looks at the request before it is sent, and keeps what matters in a
//!    small [`Classify`] that travels with the call.
//! 2. That [`Classify`] judges the result.
//!
//! | Classifier | For |
//! | --- | --- |
//! | [`HttpClassifier`] | HTTP: status, `Retry-After`, idempotency keys |
//! | [`GrpcClassifier`] | gRPC: `grpc-status`, `grpc-retry-pushback-ms` |
//! | [`classify_fn`] | everything else, from a function of the result: job workers, plain services, tests |
//!
//! # Errors that say more
//!
//! A transport error is [`Transient`](OutcomeKind::Transient) unless its chain of sources says
//! something better. Three markers say it, and any error may carry them:
//!
//! | Marker | Means | Outcome |
//! | --- | --- | --- |
//! | [`LocallyRefused`] | we did not send it: try again later | [`Refused`](OutcomeKind::Refused) |
//! | [`Unreached`] | the peer never saw it | [`Unreached`](OutcomeKind::Unreached) |
//! | [`Unsendable`] | it cannot be sent, now or later | [`Unsendable`](OutcomeKind::Unsendable) |
//!
//! Beside them an [`io::Error`](std::io::Error) of the kind `ConnectionRefused` or
//! `AddrNotAvailable` is recognised: both come from `connect`, before a byte is written. Not so
//! `HostUnreachable` and `NetworkUnreachable`, of which an established connection can die too.
//! [`HttpClassifier::errors`] and [`GrpcClassifier::errors`] add the errors of a transport.
//!
//! The chain is walked when the error type is [`BoxError`](crate::BoxError), another boxed or
//! shared `dyn Error`, an [`io::Error`](std::io::Error) or a marker. Every other error type is
//! `Transient`: put `.map_err(BoxError::from)` below the layers.
//!
//! # Examples
//!
//! The same answer to two requests:
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
//! // A POST without a key may have taken effect: the peer is as unwell, but once is enough.
//! let bare = Request::post("https://example.com/hook").body(())?;
//! let outcome = classifier.make_classifier(&bare).classify(Ok::<_, &BoxError>(&busy));
//! assert_eq!(outcome.peer_is_healthy(), Some(false));
//! assert!(!outcome.may_retry());
//! # Ok::<_, http::Error>(())
//! ```
//!
//! A job that speaks no HTTP:
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

mod chain;
mod classify;
mod field;
mod grpc;
mod hint;
mod http;
#[cfg(feature = "grpc")]
mod late;
mod marker;
#[allow(clippy::module_inception, reason = "the type names the room")]
mod outcome;
mod peeked;
mod pushback;
mod rate_limit;
mod repeat;
mod rules;
mod structured;
#[cfg(feature = "hyper-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "hyper-util")))]
pub mod transport;

#[cfg(feature = "dead-letter")]
pub(crate) use self::chain::links;
#[cfg(not(feature = "grpc"))]
pub use self::classify::LateOutcome;
#[cfg(feature = "grpc")]
pub use self::late::{LateOutcome, LateSender};
pub use self::{
    classify::{Classify, ClassifyFn, MakeClassifier, classify_fn},
    grpc::{ClassifyGrpc, GrpcClassifier},
    hint::{HintError, find_hint, parse_retry_after},
    http::{ClassifyHttp, HttpClassifier},
    marker::{LocallyRefused, Unreached, Unsendable},
    outcome::{Outcome, OutcomeKind},
    peeked::Peeked,
    pushback::{Pushback, find_grpc_pushback, parse_grpc_pushback},
    repeat::Repeatable,
};
#[cfg(feature = "grpc")]
pub(crate) use self::{late::late_verdict, peeked::GrpcEnd};
