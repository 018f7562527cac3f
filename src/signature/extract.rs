//! Extractors for axum: who signed a request, and what was signed.

use super::Verified;
use crate::{
    extract::{observers, respond},
    json,
    observe::{Event, Id},
    original_uri::original,
    problem::{Problem, Refusal},
};
use axum::Json;
use axum_core::{
    extract::{FromRequestParts, OptionalFromRequestParts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{StatusCode, request::Parts};
use serde::de::DeserializeOwned;
use std::{convert::Infallible, fmt};

/// Extracts the bytes that a layer outside has verified: as they are (`Signed<Bytes>`), or read as JSON
/// (`Signed<Json<T>>`).
///
/// They are those of [`Verified::body`], whatever has become of the body of the request since. It reads no body, so it
/// may stand beside any other extractor. See [in axum](crate::signature#in-axum).
///
/// JSON is read whatever the `content-type` says, because the signature does not cover it.
///
/// # Examples
///
#[cfg_attr(feature = "stack", doc = "```")]
#[cfg_attr(not(feature = "stack"), doc = "```text")]
/// use axum::{Json, Router, routing::post};
/// use serde::Deserialize;
/// use tower_webhook::{signature::{Signed, scheme::GitHub}, stack};
///
/// #[derive(Deserialize)]
/// struct Push {
///     after: String,
/// }
///
/// async fn on_push(Signed(Json(push)): Signed<Json<Push>>) -> String {
///     push.after
/// }
///
/// let receive = stack::receive(GitHub::new("It's a Secret to Everybody")?).build();
/// let app: Router = Router::new().route("/github", post(on_push)).layer(receive);
/// # drop(app);
/// # Ok::<(), tower_webhook::InvalidConfig>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signed<T>(
    /// What was signed.
    pub T,
);

/// Why a handler did not get [`Verified`] or [`Signed`]. The answer is `application/problem+json`, with the typed
/// reason in its extensions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SignedRejection {
    /// The bytes are not JSON, or not of the type: 400, with the path of the field at fault as the member `field`.
    Json {
        /// The path of the field, such as `customer.name`; `None` if the whole is at fault. At most 257 characters.
        field: Option<String>,
        /// What is wrong. It quotes no value.
        message: String,
    },
    /// No layer outside has verified the request: 500 without detail, and an [`Event::MissingLayer`]. The fault is in
    /// the program, not in the request.
    Unverified,
}

impl SignedRejection {
    /// The name in lower case, for metric labels and logs. It does not change between releases.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Json { .. } => "json",
            Self::Unverified => "unverified",
        }
    }

    fn tell(&self, parts: &Parts) {
        let observers = observers(&parts.extensions);
        match self {
            Self::Json { .. } => observers.tell(|| Event::Refused {
                by: "signed",
                reason: self.as_str(),
                detail: Id::new(self),
            }),
            Self::Unverified => observers.tell(|| Event::MissingLayer {
                part: "signature",
                path: original(&parts.uri, &parts.extensions).path(),
                what: "`Verified` or `Signed` was asked for on a route whose signature no layer checks: put \
                       `stack::receive(scheme)` or a `SignatureVerifyLayer` around it, with `.layer(..)` after the route",
            }),
        }
    }
}

impl fmt::Display for SignedRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json { message, .. } => f.write_str(message),
            Self::Unverified => f.write_str("no layer outside has verified the signature"),
        }
    }
}

impl std::error::Error for SignedRejection {}

impl Refusal for SignedRejection {
    fn problem(&self) -> Problem {
        match self {
            Self::Json { field, message } => {
                let problem = Problem::new(StatusCode::BAD_REQUEST).detail(message.clone());
                match field {
                    Some(field) => problem.member("field", field.clone()),
                    None => problem,
                }
            }
            Self::Unverified => Problem::new(StatusCode::INTERNAL_SERVER_ERROR),
        }
    }
}

impl IntoResponse for SignedRejection {
    fn into_response(self) -> Response {
        respond(self)
    }
}

/// What `take` makes of the verification of this request.
fn verified<T>(
    parts: &Parts,
    take: impl FnOnce(&Verified) -> Result<T, SignedRejection>,
) -> Result<T, SignedRejection> {
    let verified = parts.extensions.get();
    verified
        .ok_or(SignedRejection::Unverified)
        .and_then(take)
        .inspect_err(|reason| reason.tell(parts))
}

/// What the signature proves. See [in axum](crate::signature#in-axum).
impl<S: Sync> FromRequestParts<S> for Verified {
    type Rejection = SignedRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SignedRejection> {
        verified(parts, |verified| Ok(verified.clone()))
    }
}

/// `None` where no layer outside has verified the request.
impl<S: Sync> OptionalFromRequestParts<S> for Verified {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Infallible> {
        Ok(parts.extensions.get().cloned())
    }
}

impl<S: Sync> FromRequestParts<S> for Signed<Bytes> {
    type Rejection = SignedRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SignedRejection> {
        verified(parts, |verified| Ok(Self(bytes(verified)?.clone())))
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Signed<Json<T>> {
    type Rejection = SignedRejection;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, SignedRejection> {
        verified(parts, |verified| {
            let value = json::read(bytes(verified)?).map_err(|error| SignedRejection::Json {
                field: error.field(),
                message: error.to_string(),
            })?;
            Ok(Self(Json(value)))
        })
    }
}

/// Those of which the signature was checked. Code that inserts a [`Verified`] of its own need not say of which.
fn bytes(verified: &Verified) -> Result<&Bytes, SignedRejection> {
    verified.body().ok_or(SignedRejection::Unverified)
}
