//! The URI that a caller requested.

use http::{Extensions, Uri};

/// The URI before axum's `Router::nest` removed a prefix from its path: two nested routers with the same
/// inner path are two routes.
///
/// axum's extension stays in a request that a handler passes on to another address. Then it is not the URI
/// of this request any more, and the request's own is returned.
#[cfg(any(feature = "dead-letter", feature = "idempotency"))]
pub(crate) fn original_uri<B>(req: &http::Request<B>) -> &Uri {
    original(req.uri(), req.extensions())
}

/// The same, of the parts of a request.
#[cfg_attr(not(feature = "axum"), allow(clippy::missing_const_for_fn))]
pub(crate) fn original<'a>(uri: &'a Uri, extensions: &'a Extensions) -> &'a Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = extensions.get() {
        let is_prefixed = original.path().ends_with(uri.path()) || uri.path() == "/";
        let is_here = original.scheme() == uri.scheme() && original.authority() == uri.authority();
        if is_here && is_prefixed && original.query() == uri.query() {
            return original;
        }
    }
    #[cfg(not(feature = "axum"))]
    let _ = extensions;
    uri
}

#[cfg(all(test, feature = "axum"))]
mod tests {
    use super::*;
    use axum::extract::OriginalUri;
    use http::Request;

    #[test]
    fn only_a_prefix_of_the_path_is_put_back() {
        for (original, uri, expected) in [
            ("/v1/hooks?x=1", "/hooks?x=1", "/v1/hooks?x=1"),
            ("/v1", "/", "/v1"),
            ("/hooks", "/hooks", "/hooks"),
            // Passed on to another address, rewritten, or given another query.
            (
                "/hooks",
                "https://peer.test/hooks",
                "https://peer.test/hooks",
            ),
            ("/v1/hooks", "/other", "/other"),
            ("/v1/hooks?x=1", "/hooks", "/hooks"),
        ] {
            let mut req = Request::new(());
            *req.uri_mut() = uri.parse().unwrap();
            let original = OriginalUri(original.parse().unwrap());
            req.extensions_mut().insert(original);
            assert_eq!(original_uri(&req), expected, "{uri}");
        }
    }
}
