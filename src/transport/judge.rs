//! What the errors of clients mean. The [table](super#errors) says it case by case.

use crate::outcome::{Outcome, links};
use ::h2::{Error as H2Error, Reason};
use ::hyper::Error as HyperError;
use ::hyper_util::client::legacy::{self, connect::HttpConnector};
use std::error::Error;
use tower_service::Service;

/// Judges the errors of hyper-util's client, with any connector, of hyper and of h2.
pub(super) fn hyper_util(link: &(dyn Error + 'static)) -> Option<Outcome> {
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
        if links(error).any(takes_no_such_address) {
            return Some(Outcome::unsendable());
        }
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

/// Judges the errors of a `reqwest::Client`.
#[cfg(feature = "reqwest")]
pub(super) fn reqwest(link: &(dyn Error + 'static)) -> Option<Outcome> {
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
    None
}

/// Whether a connector says that it does not connect to such addresses: `https` without TLS, or another scheme. That is
/// only in the texts of hyper-util's connector, hyper-rustls and tonic.
fn takes_no_such_address(link: &(dyn Error + 'static)) -> bool {
    let text = link.to_string();
    if link.is::<ConnectError>() {
        return text.starts_with("invalid URL");
    }
    text.starts_with("unsupported scheme") || text == "Connecting to HTTPS without TLS enabled"
}

/// This error is private in hyper-util; the service that returns it names it.
type ConnectError = <HttpConnector as Service<http::Uri>>::Error;

/// Judges the errors of a tonic channel.
///
/// A channel's own errors are opaque, so their sources decide. An I/O error that is not below the error of a
/// connection is the connector's, TLS included: a channel has no other.
#[cfg(feature = "tonic")]
pub(super) fn tonic(link: &(dyn Error + 'static)) -> Option<Outcome> {
    let by_connection = links(link).find_map(|link| {
        if let Some(error) = link.downcast_ref() {
            return Some(judge_hyper(error));
        }
        link.downcast_ref().map(judge_h2)
    });
    if by_connection.is_some() {
        return by_connection;
    }
    if links(link).any(takes_no_such_address) {
        return Some(Outcome::unsendable());
    }
    let connecting =
        |link: &(dyn Error + 'static)| link.is::<ConnectError>() || link.is::<std::io::Error>();
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
