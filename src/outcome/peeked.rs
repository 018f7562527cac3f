//! What has been read of an answer's body, for the classifier to judge by.

#[cfg(feature = "grpc")]
use super::find_grpc_pushback;
use super::{Pushback, field::one_value};
use bytes::Bytes;
use http::HeaderMap;
use std::fmt;

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

/// How a gRPC call ended, as its trailers say. [`GrpcPeekLayer`](crate::grpc::GrpcPeekLayer) inserts
/// it into the extensions of a response whose head does not say it;
/// [`GrpcClassifier`](super::GrpcClassifier) reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrpcEnd {
    pub(super) code: u16,
    pub(super) pushback: Option<Pushback>,
}

impl GrpcEnd {
    /// Ended without a `grpc-status`: `UNKNOWN`, the code for a status with too little information
    /// in [the list of codes](https://github.com/grpc/grpc/blob/master/doc/statuscodes.md).
    pub(crate) const MISSING: Self = Self {
        code: 2,
        pushback: None,
    };

    /// Broke off after it had begun: `UNAVAILABLE`, the code of the same list for a connection that
    /// breaks after some data were transmitted.
    #[cfg(feature = "grpc")]
    pub(crate) const BROKEN: Self = Self {
        code: 14,
        pushback: None,
    };

    /// Reads trailers. A value that is no code is 2, `UNKNOWN`.
    #[cfg(feature = "grpc")]
    pub(crate) fn of_trailers(trailers: &HeaderMap) -> Self {
        Self {
            code: code(trailers).unwrap_or(Self::MISSING.code),
            pushback: find_grpc_pushback(trailers, std::time::Duration::MAX),
        }
    }

    #[cfg(feature = "grpc")]
    pub(crate) const fn is_ok(self) -> bool {
        self.code == 0
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
        _ => GrpcEnd::MISSING.code,
    };
    Some(code)
}
