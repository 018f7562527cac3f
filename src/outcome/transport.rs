//! Rules for the errors of common clients, to give to
//! [`HttpClassifier::errors`](super::HttpClassifier::errors) and
//! [`GrpcClassifier::errors`](super::GrpcClassifier::errors).
//!
//! Without a rule every error of a transport is [`Transient`](super::OutcomeKind::Transient), except
//! a refused connection, so a POST without a key is never repeated. With the rule of its client, a
//! request that provably never reached the peer is [`Unreached`](super::OutcomeKind::Unreached), and
//! may be sent again even if it is such a POST.
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
//! | this machine has no file handle left | `Refused`, before any rule |
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
//! | an address or method that the client does not support | `Unsendable` |
//! | the request's own body failed | `Unsendable` |
//! | reqwest: too many redirects | `Permanent` |
//! | reqwest: `error_for_status` | as the status |
//!
//! A bad certificate is `Unreached`, and so retried: nothing was sent, a certificate may be renewed
//! while a delivery waits, and only one of several hosts behind a name may have a bad one. To change
//! that, wrap the rule in one that calls [`Outcome::never_retry`](super::Outcome::never_retry).
//!
//! The clients repeat some requests themselves, before these rules are asked: hyper-util repeats what
//! was not yet written to a pooled connection (`retry_canceled_requests`), reqwest the two HTTP/2
//! cases (`ClientBuilder::retry`). Turn that off if each attempt must be counted.
//!
//! # Examples
//!
//! ```
//! use tower_webhook::outcome::{HttpClassifier, transport};
//!
//! let classifier = HttpClassifier::new().errors(transport::hyper_util);
//! # let _ = classifier;
//! ```

use super::{Outcome, errors::links};
use ::h2::{Error as H2Error, Reason};
use ::hyper::Error as HyperError;
use ::hyper_util::client::legacy::{self, connect::HttpConnector};
use std::{error::Error, io};
use tower_service::Service;

/// Judges the errors of [hyper-util's client](https://docs.rs/hyper-util), with any connector, of
/// hyper and of h2. See the [table](self#errors).
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower_webhook::{
///     body::BufferedBody,
///     outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind, transport},
/// };
/// use tower::{BoxError, ServiceExt};
///
/// # tokio_test::block_on(async {
/// let client = Client::builder(TokioExecutor::new()).build_http().map_err(BoxError::from);
/// let req = Request::post("http://no-such-host.invalid/").body(BufferedBody::default()).unwrap();
///
/// let classifier = HttpClassifier::new().errors(transport::hyper_util);
/// let classify = classifier.make_classifier(&req);
/// let result = client.oneshot(req).await;
/// let outcome = classify.classify(result.as_ref());
/// assert_eq!(outcome.kind(), OutcomeKind::Unreached);
/// assert!(outcome.may_retry(), "a POST without a key, but the peer never saw it");
/// # });
/// ```
pub fn hyper_util(link: &(dyn Error + 'static)) -> Option<Outcome> {
    if let Some(error) = link.downcast_ref::<legacy::Error>() {
        return by_client(error);
    }
    if let Some(error) = link.downcast_ref() {
        return Some(judge_hyper(error));
    }
    link.downcast_ref().map(judge_h2)
}

fn by_client(error: &legacy::Error) -> Option<Outcome> {
    if error.is_connect() {
        // The resolver or connector may say that it never will be reached, or that nobody tried.
        let below = Outcome::of_error(error);
        return Some(if below.was_attempted() {
            Outcome::unreached()
        } else {
            below
        });
    }
    if error.source().is_some() {
        return None;
    }
    // Without a source the error is the client's own, before anything was sent. Kinds such as
    // `UserAbsoluteUriRequired` are only in its text.
    let user = error.to_string().contains("(User");
    Some(if user {
        Outcome::unsendable()
    } else {
        Outcome::unreached()
    })
}

/// Judges the errors of a `reqwest::Client`. See the [table](self#errors).
///
/// # Examples
///
/// ```
/// use http::{Request, Response};
/// use tower_webhook::{
///     BoxError,
///     outcome::{Classify, HttpClassifier, MakeClassifier, OutcomeKind, transport},
/// };
///
/// # tokio_test::block_on(async {
/// let classifier = HttpClassifier::new().errors(transport::reqwest);
/// let classify = classifier.make_classifier(&Request::post("/").body(()).unwrap());
/// let failed = reqwest::Client::new().post("no address").send().await.unwrap_err();
/// let outcome = classify.classify(Err::<&Response<()>, _>(&BoxError::from(failed)));
/// assert_eq!(outcome.kind(), OutcomeKind::Unsendable);
/// # });
/// ```
#[cfg(feature = "reqwest")]
#[cfg_attr(docsrs, doc(cfg(feature = "reqwest")))]
pub fn reqwest(link: &(dyn Error + 'static)) -> Option<Outcome> {
    let Some(error) = link.downcast_ref::<::reqwest::Error>() else {
        return hyper_util(link);
    };
    if error.is_builder() {
        return Some(Outcome::unsendable());
    }
    if error.is_redirect() {
        return Some(Outcome::permanent());
    }
    // Not `is_connect`: it also finds the connect error of a request's own body, if that body is a
    // response being forwarded. The client's error, the next of the chain, is judged instead.
    let status = error.status()?;
    Some(super::http::by_answer(status, &http::HeaderMap::new()).with_code(status.as_u16()))
}

/// This error is private in hyper-util; the service that returns it names it.
type ConnectError = <HttpConnector as Service<http::Uri>>::Error;

/// Judges the errors of a `tonic::transport::Channel` used as a service, and of plain hyper
/// connections. See the [table](self#errors).
///
/// A channel's own errors are opaque, so their sources decide. An I/O error that is not below the
/// error of a connection is taken for the connector's, TLS included: use this rule only where no
/// other service returns I/O errors.
///
/// # Examples
///
/// ```
/// use tower_webhook::outcome::{GrpcClassifier, transport};
///
/// let classifier = GrpcClassifier::new().errors(transport::tonic);
/// # let _ = classifier;
/// ```
pub fn tonic(link: &(dyn Error + 'static)) -> Option<Outcome> {
    let by_connection = links(link).find_map(|link| {
        if let Some(error) = link.downcast_ref() {
            return Some(judge_hyper(error));
        }
        link.downcast_ref().map(judge_h2)
    });
    if by_connection.is_some() {
        return by_connection;
    }
    let connecting =
        |link: &(dyn Error + 'static)| link.is::<ConnectError>() || link.is::<io::Error>();
    links(link).any(connecting).then(Outcome::unreached)
}

/// Judges the error of a hyper connection. Its further sources are not read: below the error of a
/// request's own body there may be errors of the same types, from another connection.
fn judge_hyper(error: &HyperError) -> Outcome {
    if error.is_user() {
        return by_user(error);
    }
    // Never written: the connection ended while the request waited for it (`is_canceled`), or while
    // it was polled for readiness (`is_closed`).
    if error.is_canceled() || error.is_closed() {
        return Outcome::unreached();
    }
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(error) => judge_h2(error),
        None => Outcome::transient(),
    }
}

/// A body that failed would fail again. The end of a runtime also counts as the user's error in hyper,
/// but is transient; only its text tells it apart.
fn by_user(error: &HyperError) -> Outcome {
    if error.to_string() == "dispatch task is gone" {
        Outcome::transient()
    } else {
        Outcome::unsendable()
    }
}

/// Judges an HTTP/2 error.
///
/// `h2` returns the error of a GOAWAY only for streams after the last one that the peer says it has
/// processed, and for requests that were never sent. Other streams get an I/O error when the
/// connection ends.
fn judge_h2(error: &H2Error) -> Outcome {
    let unprocessed = match error.reason() {
        Some(Reason::REFUSED_STREAM) => error.is_reset(),
        Some(Reason::NO_ERROR) => error.is_go_away(),
        _ => false,
    };
    if unprocessed && error.is_remote() {
        return Outcome::unreached();
    }
    // Reset by our side, because the request's body failed. The body's error is lost here.
    if error.is_reset() && !error.is_remote() && !error.is_library() {
        return Outcome::unsendable();
    }
    // HTTP/2's 429. gRPC maps it to RESOURCE_EXHAUSTED too.
    if error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
        return Outcome::throttled(None);
    }
    Outcome::transient()
}
