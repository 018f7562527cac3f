//! What the errors of real transports mean: rules for
//! [`HttpClassifier::errors`](super::HttpClassifier::errors) and
//! [`GrpcClassifier::errors`](super::GrpcClassifier::errors).
//!
//! Without a rule every error of a transport is [`Transient`](super::OutcomeKind::Transient), apart
//! from a refused connection, so that a POST without a key is never sent twice. With its rule, what
//! provably never reached the peer is [`Unreached`](super::OutcomeKind::Unreached) and may be sent
//! again, whatever it is.
//!
//! | Rule | For |
//! | --- | --- |
//! | [`hyper_util()`] | hyper-util's client, with any connector |
//! | [`reqwest()`] | `reqwest::Client` |
//! | [`tonic()`] | `tonic::transport::Channel` as a service; plain hyper connections |
//!
//! # Errors
//!
//! | What happened | Outcome |
//! | --- | --- |
//! | no address (DNS), connection refused, connect timeout | `Unreached` |
//! | TLS: handshake cut, plaintext peer, certificate of another name, expired or untrusted | `Unreached`: see below |
//! | the connection ended before the request was written | `Unreached` |
//! | HTTP/2 `REFUSED_STREAM` | `Unreached` ([RFC 9113 §8.7](https://www.rfc-editor.org/rfc/rfc9113#section-8.7)) |
//! | HTTP/2 GOAWAY with `NO_ERROR`, whose last stream is before this one | `Unreached` ([RFC 9113 §6.8](https://www.rfc-editor.org/rfc/rfc9113#section-6.8)) |
//! | HTTP/2 `ENHANCE_YOUR_CALM` | `Throttled` |
//! | any other `RST_STREAM` or GOAWAY | `Transient` |
//! | reset or closed after the request was written, also on a connection that was idle for long | `Transient` |
//! | half a head, or one that is not HTTP | `Transient` |
//! | a timeout that is not the connector's | `Transient` |
//! | an address or method that the client does not take | `Unsendable` |
//! | the request's own body failed | `Unsendable` |
//! | reqwest: too many redirects | `Permanent` |
//! | reqwest: `error_for_status` | as the status |
//!
//! A bad certificate is `Unreached`, and so tried again: nothing has left, certificates are renewed
//! while a delivery waits, and one of several hosts behind a name may have the wrong one. A rule of
//! your own around these says otherwise, with [`Outcome::never_retry`](super::Outcome::never_retry).
//!
//! The clients repeat some requests by themselves, before these rules see anything: hyper-util what
//! was not yet written to a connection from its pool (`retry_canceled_requests`), reqwest the two
//! HTTP/2 cases (`ClientBuilder::retry`). Turn that off where each attempt has to be counted.
//!
//! # Examples
//!
//! ```
//! use tower_webhook::outcome::{HttpClassifier, transport};
//!
//! let classifier = HttpClassifier::new().errors(transport::hyper_util);
//! # let _ = classifier;
//! ```

mod h2;
mod hyper;
mod hyper_util;
#[cfg(feature = "reqwest")]
mod reqwest;
mod tonic;

pub use self::{hyper_util::hyper_util, tonic::tonic};

#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub use self::reqwest::reqwest;
