use crate::problem::{Problem, Refusal};
use http::{HeaderName, StatusCode};
use std::{fmt, time::Duration};

/// Why [`SignatureVerify`](super::SignatureVerify) refused a request. Found in the extensions of
/// its answer.
///
/// It carries no secret, no signature and no body, so it is safe to log. The caller is told none
/// of it: a refusal that says which check failed tells a forger what to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// A [`Scheme`](super::Scheme) outside this crate has a reason of its own: 401.
    Custom {
        /// The reason, from a small closed set.
        reason: &'static str,
    },
    /// The timestamp lies too far in the future: 401.
    Early {
        /// How far it lies ahead of our clock.
        ahead: Duration,
        /// How far it may.
        tolerance: Duration,
    },
    /// A header is there and cannot be what the scheme says: 401.
    Malformed {
        /// The header.
        header: HeaderName,
        /// What is wrong with it.
        what: Defect,
    },
    /// No key of ours made this signature over these bytes: 401.
    Mismatch,
    /// A header that the scheme needs is not there: 401.
    Missing {
        /// The header.
        header: HeaderName,
    },
    /// The same signed message was here before, inside the tolerance: 401.
    Replayed,
    /// Too many messages inside the tolerance to remember one more: 503 with `Retry-After`.
    ReplayCacheFull {
        /// When the oldest of them may be forgotten.
        retry_after: Duration,
    },
    /// The timestamp is too old: 401.
    Stale {
        /// How old it is.
        age: Duration,
        /// How old it may be.
        tolerance: Duration,
    },
}

impl SignatureError {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Custom { .. } => "custom",
            Self::Early { .. } => "early",
            Self::Malformed { .. } => "malformed",
            Self::Mismatch => "mismatch",
            Self::Missing { .. } => "missing",
            Self::Replayed => "replayed",
            Self::ReplayCacheFull { .. } => "replay_cache_full",
            Self::Stale { .. } => "stale",
        }
    }

    /// [`Malformed`](Self::Malformed): `header` is there and has this defect.
    pub fn malformed(header: &HeaderName, what: Defect) -> Self {
        Self::Malformed {
            header: header.clone(),
            what,
        }
    }

    /// [`Missing`](Self::Missing): `header` is not there.
    pub fn missing(header: &HeaderName) -> Self {
        Self::Missing {
            header: header.clone(),
        }
    }
}

impl fmt::Display for SignatureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custom { reason } => f.write_str(reason),
            Self::Early { ahead, tolerance } => write!(
                f,
                "timestamp is {ahead:?} ahead, and {tolerance:?} is tolerated"
            ),
            Self::Malformed { header, what } => write!(f, "`{header}` {what}"),
            Self::Mismatch => f.write_str("signature matches no key"),
            Self::Missing { header } => write!(f, "`{header}` is missing"),
            Self::Replayed => f.write_str("message was received before"),
            Self::ReplayCacheFull { .. } => f.write_str("replay cache is full"),
            Self::Stale { age, tolerance } => write!(
                f,
                "timestamp is {age:?} old, and {tolerance:?} is tolerated"
            ),
        }
    }
}

impl std::error::Error for SignatureError {}

impl Refusal for SignatureError {
    fn problem(&self) -> Problem {
        match self {
            Self::ReplayCacheFull { retry_after } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(*retry_after)
            }
            _ => Problem::new(StatusCode::UNAUTHORIZED),
        }
    }
}

/// What is wrong with a header, in [`SignatureError::Malformed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// A signature is not the encoding of as many bytes as the scheme makes.
    Encoding,
    /// It is empty.
    Empty,
    /// A format that this receiver was not told to accept.
    Format,
    /// An id that is too long, has a full stop in it, or something outside visible ASCII.
    Id,
    /// No signature of a version that we hold a key for.
    NoCandidate,
    /// It does not begin as the scheme says: another algorithm, or none named.
    Prefix,
    /// More than one value, or a field that occurs twice in one.
    Repeated,
    /// Not the grammar of the scheme: a stray separator, an item without a name.
    Syntax,
    /// A timestamp that is not one to fifteen digits.
    Timestamp,
    /// Longer than 4096 bytes.
    TooLong,
    /// More signatures than the sixteen that are looked at.
    TooManySignatures,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "has a signature that cannot be decoded",
            Self::Empty => "is empty",
            Self::Format => "has a format that is not accepted here",
            Self::Id => "is not an id",
            Self::NoCandidate => "has no signature of a known version",
            Self::Prefix => "lacks the prefix of the scheme",
            Self::Repeated => "occurs more than once",
            Self::Syntax => "is not in the syntax of the scheme",
            Self::Timestamp => "has a timestamp that is not a number of seconds",
            Self::TooLong => "is too long",
            Self::TooManySignatures => "has too many signatures",
        })
    }
}
