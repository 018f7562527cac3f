use crate::outcome::Outcome;
use h2::{Error, Reason};

/// What an error of HTTP/2 says.
///
/// `h2` gives the error of a GOAWAY only to streams after the last one that the peer admits to, and
/// to requests that were never sent; the others get an I/O error when the connection ends.
pub(super) fn judge(error: &Error) -> Outcome {
    let unprocessed = match error.reason() {
        Some(Reason::REFUSED_STREAM) => error.is_reset(),
        Some(Reason::NO_ERROR) => error.is_go_away(),
        _ => false,
    };
    if unprocessed && error.is_remote() {
        return Outcome::unreached();
    }
    // Our side gave the stream up, because the request's body failed: its error is lost here.
    if error.is_reset() && !error.is_remote() && !error.is_library() {
        return Outcome::unsendable();
    }
    // The peer's way to say 429; gRPC reads it so too (RESOURCE_EXHAUSTED).
    if error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
        return Outcome::throttled(None);
    }
    Outcome::transient()
}
