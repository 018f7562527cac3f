//! The extensions that the layer adds to requests and responses.

use super::{IdempotencyKey, KeyError};
use crate::{
    StoreErrorKind,
    lease::FencingToken,
    problem::{Problem, Refusal},
};
use http::StatusCode;
use std::{fmt, time::Duration};

/// Request extension: the claim with which the handler runs.
///
/// Write its [`token`](Self::token) with every change to a resource that can compare it: a handler that
/// ran longer than its lease has a smaller token than the one that runs after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    key: IdempotencyKey,
    token: FencingToken,
}

impl Claim {
    pub(super) const fn new(key: IdempotencyKey, token: FencingToken) -> Self {
        Self { key, token }
    }

    /// The key.
    pub const fn key(&self) -> &IdempotencyKey {
        &self.key
    }

    /// The fencing token.
    pub const fn token(&self) -> FencingToken {
        self.token
    }
}

/// Response extension: how the layer treated a request, unless it just ran the handler.
///
/// A response without this extension comes from the handler: depending on its status it was stored for
/// repeats, or its key was freed. A refusal carries an [`IdempotencyError`] instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// The handler ran, and its response could not be stored: it was too large, the store failed, or the
    /// claim was lost.
    NotStored,
    /// The request is a repeat, and this is the stored response.
    Replayed,
    /// The request is a repeat of one whose response was too large to store: only its status and headers.
    ReplayedWithoutBody,
    /// The handler ran without a claim, because the store failed.
    Unclaimed,
}

impl Disposition {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotStored => "not_stored",
            Self::Replayed => "replayed",
            Self::ReplayedWithoutBody => "replayed_without_body",
            Self::Unclaimed => "unclaimed",
        }
    }
}

/// The `Retry-After` while a store is down or full.
const STORE_RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why [`Idempotency`](super::Idempotency) refused a request. Found in the extensions of the response.
///
/// Statuses and titles follow draft-ietf-httpapi-idempotency-key-header-07 §2.7. What is missing or malformed need not be
/// the header `Idempotency-Key`, so the answer says where it was expected.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum IdempotencyError {
    /// The handler's response body failed before its end: 500. The key is free again.
    BrokenAnswer,
    /// A request with this key is being handled: 409, with `Retry-After`.
    InProgress {
        /// The wait before the next try.
        retry_after: Duration,
    },
    /// The request has a key that cannot be used: 400.
    Key {
        /// What is wrong with it.
        error: KeyError,
        /// Where the [source](super::KeySource) looks for it.
        expected: String,
    },
    /// The request has no key: 400.
    KeyMissing {
        /// Where the [source](super::KeySource) looks for it.
        expected: String,
    },
    /// The key is in use for another request: 422.
    Mismatch,
    /// The store failed, and the layer fails closed, or a stored answer cannot be read: 503, with
    /// `Retry-After`.
    Store(StoreErrorKind),
}

impl IdempotencyError {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::BrokenAnswer => "broken_answer",
            Self::InProgress { .. } => "in_progress",
            Self::Key { .. } => "key",
            Self::KeyMissing { .. } => "key_missing",
            Self::Mismatch => "mismatch",
            Self::Store(_) => "store",
        }
    }
}

impl fmt::Display for IdempotencyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrokenAnswer => {
                f.write_str("the body of the handler's response ended with an error")
            }
            Self::InProgress { .. } => {
                f.write_str("a request with this idempotency key is being handled")
            }
            Self::Key { error, expected } => write!(f, "{error}: the key is read from {expected}"),
            Self::KeyMissing { expected } => {
                write!(f, "the idempotency key is missing: expected {expected}")
            }
            Self::Mismatch => {
                f.write_str("the idempotency key was used for a request with other content")
            }
            Self::Store(kind) => write!(f, "the idempotency store failed: {kind}"),
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
            Self::KeyMissing { expected } => Problem::new(StatusCode::BAD_REQUEST)
                .title("The idempotency key is missing")
                .detail(format!("expected {expected}")),
            Self::Key { .. } => Problem::new(StatusCode::BAD_REQUEST)
                .title("The idempotency key is malformed")
                .detail(self.to_string()),
            Self::Mismatch => Problem::new(StatusCode::UNPROCESSABLE_ENTITY)
                .title("Idempotency-Key is already used"),
            Self::Store(_) => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE).retry_after(STORE_RETRY_AFTER)
            }
        }
    }
}
