use super::KeyError;
use crate::StoreErrorKind;
use crate::problem::{Problem, Refusal};
use http::StatusCode;
use std::{fmt, time::Duration};

/// How long a caller should stay away while a store is down or full.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why [`Idempotency`](super::Idempotency) refused a request. Found in the extensions of its answer.
///
/// Statuses and titles follow draft-ietf-httpapi-idempotency-key-header-07 §2.7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The handler's answer broke off before its end: 500. The key is free again.
    BrokenAnswer,
    /// A request with this key is being handled: 409, with `Retry-After`.
    InProgress {
        /// When to come back.
        retry_after: Duration,
    },
    /// There is no usable key: 400.
    IdempotencyKey(KeyError),
    /// The key belongs to another request: 422.
    Mismatch,
    /// The store cannot be asked, and the layer fails closed: 503, with `Retry-After`.
    Store(StoreErrorKind),
}

impl fmt::Display for IdempotencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenAnswer => f.write_str("the handler's answer broke off"),
            Self::InProgress { .. } => f.write_str("a request with this key is being handled"),
            Self::IdempotencyKey(error) => error.fmt(f),
            Self::Mismatch => f.write_str("the key was used for another request"),
            Self::Store(kind) => write!(f, "idempotency store: {}", kind.as_str()),
        }
    }
}

impl std::error::Error for IdempotencyError {}

impl Refusal for IdempotencyError {
    fn problem(&self) -> Problem {
        match self {
            Self::BrokenAnswer => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
            Self::InProgress { retry_after } => Problem::new(StatusCode::CONFLICT)
                .title("A request is outstanding for this Idempotency-Key")
                .retry_after(*retry_after),
            Self::IdempotencyKey(KeyError::Missing) => {
                Problem::new(StatusCode::BAD_REQUEST).title("Idempotency-Key is missing")
            }
            Self::IdempotencyKey(error) => Problem::new(StatusCode::BAD_REQUEST)
                .title("Idempotency-Key is malformed")
                .detail(error.to_string()),
            Self::Mismatch => Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
                .title("Idempotency-Key is already used"),
            Self::Store(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(STORE_RETRY_AFTER)
            }
        }
    }
}
