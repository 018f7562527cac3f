//! A request as one digest.

use super::Fingerprint;
use crate::{body::BufferedBody, original_uri::original_uri};
use http::Request;
use sha2::{Digest, Sha256};

/// The parts in which two requests with one key must be equal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FingerprintOf {
    /// Nothing: the key alone decides. For webhooks, whose senders repeat an id with a changed
    /// timestamp or embedded object.
    #[default]
    Nothing,
    /// Method, original path and query, and the body's bytes.
    Request,
    /// Method, original path and query, and the body as canonical JSON
    /// ([RFC 8785](https://www.rfc-editor.org/rfc/rfc8785)): the order of members and the white space
    /// make no difference.
    ///
    /// A body is compared by its bytes if it is not JSON, or if canonical JSON would make it equal to a
    /// different one (duplicate members, integers beyond 2^53).
    #[cfg(feature = "canonical-json")]
    CanonicalJson,
}

impl FingerprintOf {
    pub(super) fn digest(self, req: &Request<BufferedBody>) -> Option<Fingerprint> {
        let body = req.body().as_bytes();
        match self {
            Self::Nothing => None,
            Self::Request => Some(digest(req, b"bytes", body)),
            #[cfg(feature = "canonical-json")]
            Self::CanonicalJson => Some(match super::canonical::canonical(body) {
                Some(canonical) => digest(req, b"json", &canonical),
                None => digest(req, b"bytes", body),
            }),
        }
    }
}

/// SHA-256 over length-framed parts: bytes of one part cannot be taken for bytes of the next.
fn digest(req: &Request<BufferedBody>, kind: &[u8], body: &[u8]) -> Fingerprint {
    let target = original_target(req);
    let mut sha = Sha256::new();
    for part in [
        kind,
        req.method().as_str().as_bytes(),
        target.as_bytes(),
        body,
    ] {
        sha.update((part.len() as u64).to_be_bytes());
        sha.update(part);
    }
    Fingerprint::new(sha.finalize().into())
}

/// The path and query that the caller requested.
fn original_target<B>(req: &Request<B>) -> &str {
    original_uri(req)
        .path_and_query()
        .map_or("/", http::uri::PathAndQuery::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, body: &'static str) -> Request<BufferedBody> {
        Request::builder()
            .method(method)
            .uri(uri)
            .body(BufferedBody::from(body))
            .unwrap()
    }

    #[test]
    fn every_part_counts_and_none_runs_into_the_next() {
        let prints: Vec<_> = [
            request("POST", "/a", "{}"),
            request("PUT", "/a", "{}"),
            request("POST", "/b", "{}"),
            request("POST", "/a?x=1", "{}"),
            request("POST", "/a", "{ }"),
            request("POST", "/a{", "}"),
        ]
        .iter()
        .map(|req| FingerprintOf::Request.digest(req).unwrap())
        .collect();
        for (index, print) in prints.iter().enumerate() {
            assert!(!prints[..index].contains(print), "{index} collides");
        }
        let again = request("POST", "/a", "{}");
        assert_eq!(FingerprintOf::Request.digest(&again), Some(prints[0]));
    }

    #[cfg(feature = "axum")]
    #[test]
    fn a_nested_route_is_told_by_its_original_path() {
        let nested = |prefix: &str| {
            let mut req = request("POST", "/charge", "{}");
            let original = format!("{prefix}/charge").parse().unwrap();
            req.extensions_mut()
                .insert(axum::extract::OriginalUri(original));
            FingerprintOf::Request.digest(&req)
        };
        assert_ne!(nested("/v1"), nested("/v2"));
    }
}
