use super::LookupFailure;
use crate::problem::{Problem, Refusal};
use http::{HeaderName, StatusCode};
use std::{fmt, time::Duration};

/// Why [`SignatureVerify`](super::SignatureVerify) refused a request. Found in the extensions of the
/// response.
///
/// It carries no secret, no signature and no body, so it is safe to log. The caller does not learn which
/// check failed, because that would help a forger.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignatureError {
    /// A reason of a [`Scheme`](super::Scheme) outside this crate: 401.
    Custom {
        /// The reason, from a small closed set.
        reason: &'static str,
    },
    /// The timestamp is too far in the future: 401.
    Early {
        /// How far it is ahead of the local clock.
        ahead: Duration,
        /// How far ahead it may be.
        tolerance: Duration,
    },
    /// The scheme of the tenant could not be looked up: 503 with `Retry-After`.
    LookupFailed {
        /// What happened to the lookup.
        why: LookupFailure,
        /// When to try again.
        retry_after: Duration,
    },
    /// A header is not in the format of the scheme: 401.
    Malformed {
        /// The header.
        header: HeaderName,
        /// What is wrong with it.
        what: Defect,
    },
    /// The signature matches none of the secrets, or the signed bytes differ: 401.
    Mismatch,
    /// A header that the scheme needs is missing: 401.
    Missing {
        /// The header.
        header: HeaderName,
    },
    /// The signature leaves out a part of the message that the scheme wants to be signed: 401.
    NotCovered {
        /// The part, as the scheme names it: `@method`, or the name of a header.
        component: String,
    },
    /// The same signed message was received before, within the tolerance: 401.
    Replayed,
    /// The [`ReplayCache`](super::ReplayCache) is full: 503 with `Retry-After`.
    ReplayCacheFull {
        /// The time until its oldest entry expires.
        retry_after: Duration,
    },
    /// The timestamp is too old: 401.
    Stale {
        /// How old it is.
        age: Duration,
        /// How old it may be.
        tolerance: Duration,
    },
    /// The request names no [tenant](super::Tenants), or one that does not exist: 401.
    UnknownTenant,
}

/// The `Retry-After` while tenants cannot be looked up.
const LOOKUP_RETRY_AFTER: Duration = Duration::from_secs(2);

impl SignatureError {
    pub(super) const fn lookup_failed(why: LookupFailure) -> Self {
        Self::LookupFailed {
            why,
            retry_after: LOOKUP_RETRY_AFTER,
        }
    }

    /// Whether it may be that another secret would not refuse the request for this: where it says nothing of another
    /// tenant's.
    pub(super) const fn may_depend_on_secret(&self) -> bool {
        matches!(
            self,
            Self::Custom { .. }
                | Self::Mismatch
                | Self::Malformed {
                    what: Defect::NoCandidate,
                    ..
                }
        )
    }

    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Custom { .. } => "custom",
            Self::Early { .. } => "early",
            Self::LookupFailed { why, .. } => match why {
                LookupFailure::Aborted => "lookup_aborted",
                LookupFailure::Busy => "lookup_busy",
                LookupFailure::Error { .. } => "lookup_error",
                LookupFailure::Timeout { .. } => "lookup_timeout",
            },
            Self::Malformed { .. } => "malformed",
            Self::Mismatch => "mismatch",
            Self::Missing { .. } => "missing",
            Self::NotCovered { .. } => "not_covered",
            Self::Replayed => "replayed",
            Self::ReplayCacheFull { .. } => "replay_cache_full",
            Self::Stale { .. } => "stale",
            Self::UnknownTenant => "unknown_tenant",
        }
    }

    /// Makes a [`Malformed`](Self::Malformed) for `header` with this defect.
    pub fn malformed(header: &HeaderName, what: Defect) -> Self {
        Self::Malformed {
            header: header.clone(),
            what,
        }
    }

    /// Makes a [`Missing`](Self::Missing) for `header`.
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
                "its timestamp is {ahead:?} ahead of this machine's clock, and {tolerance:?} is tolerated"
            ),
            Self::LookupFailed { why, .. } => {
                write!(f, "the scheme of its tenant could not be looked up: {why}")
            }
            Self::Malformed { header, what } => write!(f, "`{header}` {what}"),
            Self::Mismatch => f.write_str(
                "no secret matches its signature: another secret signed it, or its body is not the one that was signed",
            ),
            Self::Missing { header } => {
                write!(f, "it lacks the header `{header}`, which this scheme needs")
            }
            Self::NotCovered { component } => {
                write!(f, "its signature does not cover `{component}`, which this scheme needs")
            }
            Self::Replayed => f.write_str("the same signed message was received before"),
            Self::ReplayCacheFull { .. } => f.write_str("the replay cache is full"),
            Self::Stale { age, tolerance } => write!(
                f,
                "its timestamp is {age:?} old by this machine's clock, and {tolerance:?} is tolerated"
            ),
            Self::UnknownTenant => f.write_str("it names no tenant, or one that does not exist"),
        }
    }
}

impl std::error::Error for SignatureError {}

impl Refusal for SignatureError {
    fn problem(&self) -> Problem {
        match self {
            Self::LookupFailed { retry_after, .. } | Self::ReplayCacheFull { retry_after } => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(*retry_after)
            }
            _ => Problem::new(StatusCode::UNAUTHORIZED),
        }
    }
}

/// The defect of a header, in [`SignatureError::Malformed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Defect {
    /// No signature can be decoded: it is not in the encoding of the scheme, or has another length.
    Encoding,
    /// The header is empty.
    Empty,
    /// The signature is in a format that is not accepted here.
    Format,
    /// The id is too long, or contains a full stop or a character outside visible ASCII.
    Id,
    /// There is no signature of a version, algorithm or key id for which there is a secret; or no digest of a known
    /// algorithm.
    NoCandidate,
    /// The prefix of the scheme is missing, or names another algorithm.
    Prefix,
    /// There is more than one value, or a field occurs twice.
    Repeated,
    /// The header breaks the grammar of the scheme: a stray separator, an item without a name.
    Syntax,
    /// The timestamp is not in the format of the scheme, such as one to fifteen digits.
    Timestamp,
    /// The header is longer than 4096 bytes, or 8192 where it has several signatures under labels.
    TooLong,
}

impl fmt::Display for Defect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "has a signature that cannot be decoded",
            Self::Empty => "is empty",
            Self::Format => "has a format that is not accepted here",
            Self::Id => "is not an id",
            Self::NoCandidate => "has nothing of a known version, algorithm or key id",
            Self::Prefix => "lacks the prefix of the scheme",
            Self::Repeated => "occurs more than once",
            Self::Syntax => "is not in the syntax of the scheme",
            Self::Timestamp => "has a timestamp that cannot be read",
            Self::TooLong => "is too long",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They are the answer to "why 401?", which the caller is not told.
    #[test]
    fn a_message_says_what_was_wrong_with_the_request() {
        let header = HeaderName::from_static("webhook-signature");
        let (age, tolerance) = (Duration::from_secs(400), Duration::from_secs(300));
        for (error, text) in [
            (
                SignatureError::Mismatch,
                "no secret matches its signature: another secret signed it, or its body is not the one that was signed",
            ),
            (
                SignatureError::missing(&header),
                "it lacks the header `webhook-signature`, which this scheme needs",
            ),
            (
                SignatureError::Stale { age, tolerance },
                "its timestamp is 400s old by this machine's clock, and 300s is tolerated",
            ),
            (
                SignatureError::malformed(&header, Defect::Prefix),
                "`webhook-signature` lacks the prefix of the scheme",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }
}
