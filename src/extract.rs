//! What the extractors for axum share.

use crate::{observe::Observers, problem::Refusal};
use axum_core::{body::Body, response::Response};
use http::Extensions;

/// The observers in the extensions of the request. An extractor has no builder, and a route without the layer
/// that it needs, which it must report, has no layer of this crate that could insert them: the router does,
/// with axum's own layer.
pub(crate) fn observers(extensions: &Extensions) -> Observers {
    extensions.get().cloned().unwrap_or_default()
}

/// The answer of an extractor, with the typed reason among its extensions.
pub(crate) fn respond(reason: impl Refusal) -> Response {
    let mut response = reason.problem().into_response().map(Body::new);
    response.extensions_mut().insert(reason);
    response
}
