//! What has been read of an answer's body, for the classifier to judge by.

use super::{Pushback, field::one_value, find_grpc_pushback};
use bytes::Bytes;
use http::HeaderMap;
use std::{fmt, time::Duration};

/// The beginning of a response's body, in the extensions of the response. Put there by
/// [`PeekBodyLayer`](crate::body::peek::PeekBodyLayer), and read by
/// [`HttpClassifier::bodies`](super::HttpClassifier::bodies).
///
/// `Debug` shows its length, not what is in it.
#[derive(Clone)]
pub struct Peeked {
    bytes: Bytes,
    truncated: bool,
}

impl Peeked {
    /// These bytes, and whether more follow or may follow.
    pub const fn new(bytes: Bytes, truncated: bool) -> Self {
        Self { bytes, truncated }
    }

    /// What was read.
    pub const fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether this is not all of it: too long, too slow, or broken off.
    pub const fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl fmt::Debug for Peeked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peeked")
            .field("len", &self.bytes.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}

/// How a gRPC call ended, as its trailers say: in the extensions of a response whose head does not
/// say it. Put there by [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer), and read by
/// [`GrpcClassifier`](super::GrpcClassifier).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GrpcEnd {
    code: u16,
    pushback: Option<Pushback>,
}

impl GrpcEnd {
    /// Ended without a `grpc-status`: `UNKNOWN`, as
    /// [the list of codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md) has what
    /// carries too little to say.
    pub const MISSING: Self = Self {
        code: 2,
        pushback: None,
    };

    /// Broke off after it had begun: `UNAVAILABLE`, which is the code of the same list for a
    /// connection that breaks when some data have been transmitted.
    pub const BROKEN: Self = Self {
        code: 14,
        pushback: None,
    };

    /// What these trailers say.
    pub fn of_trailers(trailers: &HeaderMap) -> Self {
        Self {
            code: code(trailers).unwrap_or(Self::MISSING.code),
            pushback: find_grpc_pushback(trailers, Duration::MAX),
        }
    }

    /// The code. What is no code is 2, `UNKNOWN`.
    pub const fn code(self) -> u16 {
        self.code
    }

    /// What the peer says about calling again.
    pub const fn pushback(self) -> Option<Pushback> {
        self.pushback
    }
}

/// The code, if there is one. What is no code is `UNKNOWN`, which keeps the labels a closed set.
pub(super) fn code(headers: &HeaderMap) -> Option<u16> {
    if !headers.contains_key("grpc-status") {
        return None;
    }
    let value = one_value(headers, "grpc-status").unwrap_or_default();
    let code = match value {
        // As it is written by every server: no sign, no leading zero.
        [unit @ b'0'..=b'9'] => u16::from(unit - b'0'),
        [b'1', unit @ b'0'..=b'6'] => 10 + u16::from(unit - b'0'),
        _ => 2,
    };
    Some(code)
}
