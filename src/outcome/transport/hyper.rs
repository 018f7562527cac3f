use super::h2;
use crate::outcome::Outcome;
use hyper::Error;
use std::error::Error as _;

/// What an error of a hyper connection says. Its sources are not read any further: below the error
/// of a request's own body there may be the same types again, of another connection.
pub(super) fn judge(error: &Error) -> Outcome {
    if error.is_user() {
        return by_user(error);
    }
    // Never written: the connection ended while the request waited for it. The second is what a
    // connection says that was asked whether it is ready.
    if error.is_canceled() || error.is_closed() {
        return Outcome::unreached();
    }
    match error.source().and_then(|source| source.downcast_ref()) {
        Some(error) => h2::judge(error),
        None => Outcome::transient(),
    }
}

/// A body that failed does so again, but the end of a runtime is nobody's fault: hyper has no other
/// sign of it than its text.
fn by_user(error: &Error) -> Outcome {
    if error.to_string() == "dispatch task is gone" {
        Outcome::transient()
    } else {
        Outcome::unsendable()
    }
}
