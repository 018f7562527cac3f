//! The key as an extractor for axum.

use super::{Claim, IdempotencyKey};
use crate::{
    extract::{observers, respond},
    observe::Event,
    original_uri::original,
    problem::{Problem, Refusal},
};
use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use http::{Extensions, StatusCode, request::Parts};
use std::{convert::Infallible, fmt};

/// Why a handler did not get an [`IdempotencyKey`]: no [`IdempotencyLayer`](crate::IdempotencyLayer) stands outside it,
/// or one that lets requests without a key pass. 500, and an
/// [`Event::MissingLayer`], because the fault is in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MissingKey;

impl fmt::Display for MissingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no idempotency layer outside has found a key")
    }
}

impl std::error::Error for MissingKey {}

impl Refusal for MissingKey {
    fn problem(&self) -> Problem {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for MissingKey {
    fn into_response(self) -> Response {
        respond(self)
    }
}

/// Of the claim, or of a request that runs without one while the store is down.
fn key(extensions: &Extensions) -> Option<IdempotencyKey> {
    let claimed = extensions.get().map(Claim::key);
    claimed.or_else(|| extensions.get()).cloned()
}

/// The key under which the layer outside runs the handler.
impl<S: Sync> FromRequestParts<S> for IdempotencyKey {
    type Rejection = MissingKey;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, MissingKey> {
        key(&parts.extensions).ok_or_else(|| {
            observers(&parts.extensions).tell(|| Event::MissingLayer {
                part: "idempotency",
                path: original(&parts.uri, &parts.extensions).path(),
                what: "an `IdempotencyKey` was asked for on a route where no layer has found one: put an \
                       `IdempotencyLayer` around it, or take an `Option<IdempotencyKey>` if that layer lets \
                       requests without a key pass",
            });
            MissingKey
        })
    }
}

/// `None` for a request that the layer let pass without a key, and where there is no layer.
impl<S: Sync> OptionalFromRequestParts<S> for IdempotencyKey {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(key(&parts.extensions))
    }
}
