//! Errors that say, somewhere in a chain of sources, how far a request got.

use crate::BoxError;
use std::{error::Error, fmt, time::Duration};

/// The request was not sent, by our own decision, and may be later: an open circuit breaker, a full
/// local queue.
///
/// Return it from [`source`](Error::source) of an error of your own, or box it as it is. It is
/// [`Refused`](super::OutcomeKind::Refused): no evidence against the peer, and free of charge for a
/// retry budget.
///
/// # Examples
///
/// ```
/// use std::{error::Error, fmt, time::Duration};
/// use tower_webhook::outcome::{LocallyRefused, Outcome, OutcomeKind};
///
/// #[derive(Debug)]
/// struct QueueFull(LocallyRefused);
///
/// impl fmt::Display for QueueFull {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.write_str("the queue is full")
///     }
/// }
///
/// impl Error for QueueFull {
///     fn source(&self) -> Option<&(dyn Error + 'static)> {
///         Some(&self.0)
///     }
/// }
///
/// let error = QueueFull(LocallyRefused::after(Duration::from_secs(2)));
/// let outcome = Outcome::of_error(&error);
/// assert_eq!(outcome.kind(), OutcomeKind::Refused);
/// assert_eq!(outcome.retry_after(), Some(Duration::from_secs(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LocallyRefused {
    retry_after: Duration,
    circuit_open: bool,
}

impl LocallyRefused {
    /// Refused now; worth trying again after this long. Zero leaves the wait to the retry layer.
    pub const fn after(retry_after: Duration) -> Self {
        Self {
            retry_after,
            circuit_open: false,
        }
    }

    /// Refused because a circuit is open, which dead letters tell from other refusals.
    pub const fn by_circuit(retry_after: Duration) -> Self {
        Self {
            retry_after,
            circuit_open: true,
        }
    }

    /// How long to wait before trying again.
    pub const fn retry_after(&self) -> Duration {
        self.retry_after
    }

    /// Whether an open circuit has refused it.
    pub const fn is_circuit_open(&self) -> bool {
        self.circuit_open
    }
}

impl fmt::Display for LocallyRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not sent; try again in {:?}", self.retry_after)
    }
}

impl Error for LocallyRefused {}

/// The peer never saw the request: no connection, or one that gave the request back unprocessed
/// (`REFUSED_STREAM`, [RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)).
///
/// Put it around the error of a transport that knows. It is
/// [`Unreached`](super::OutcomeKind::Unreached): any request may be sent again, and the breaker
/// takes it as evidence against the peer.
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Outcome, OutcomeKind, Unreached};
///
/// # struct TransportError { connecting: bool }
/// # impl TransportError { fn is_connect(&self) -> bool { self.connecting } }
/// # impl From<TransportError> for BoxError { fn from(_: TransportError) -> Self { "no".into() } }
/// let below_the_layers = |error: TransportError| -> BoxError {
///     if error.is_connect() { Unreached::because(error).into() } else { error.into() }
/// };
/// let error = below_the_layers(TransportError { connecting: true });
/// assert_eq!(Outcome::of_error(&*error).kind(), OutcomeKind::Unreached);
/// ```
#[derive(Debug, Default)]
pub struct Unreached {
    cause: Option<BoxError>,
}

/// The request was not sent, and sending it again cannot help: it cannot be signed, serialized or
/// addressed.
///
/// It is [`Unsendable`](super::OutcomeKind::Unsendable): not retried, no evidence against the peer,
/// and a dead letter at once.
///
/// # Examples
///
/// ```
/// use tower_webhook::BoxError;
/// use tower_webhook::outcome::{Outcome, Unsendable};
///
/// let error: BoxError = Unsendable::because("the id holds a `.`").into();
/// let outcome = Outcome::of_error(&*error);
/// assert!(outcome.is_failure() && !outcome.may_retry());
/// assert_eq!(outcome.peer_is_healthy(), None);
/// ```
#[derive(Debug, Default)]
pub struct Unsendable {
    cause: Option<BoxError>,
}

macro_rules! with_a_cause {
    ($marker:ident, $text:literal) => {
        impl $marker {
            /// The marker by itself.
            pub const fn new() -> Self {
                Self { cause: None }
            }

            /// The marker around the error that explains it, which becomes its
            /// [`source`](Error::source).
            pub fn because(cause: impl Into<BoxError>) -> Self {
                Self {
                    cause: Some(cause.into()),
                }
            }
        }

        impl fmt::Display for $marker {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl Error for $marker {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.cause.as_deref().map(|cause| cause as _)
            }
        }
    };
}

with_a_cause!(Unreached, "the peer was not reached");
with_a_cause!(Unsendable, "the request cannot be sent");
