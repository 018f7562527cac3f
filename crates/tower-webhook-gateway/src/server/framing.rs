//! What a request's head has to be beyond what hyper asks of it, so that a proxy in front of the gateway and
//! the gateway never read two different requests.

use http::{HeaderMap, Request, StatusCode, Version, header, uri::Authority};
use tower_webhook::problem::Problem;

/// The refusal of a head that could be read in more than one way.
pub fn check<B>(req: &Request<B>) -> Result<(), Problem> {
    host(req.version(), req.headers())
        .map_err(|why| Problem::new(StatusCode::BAD_REQUEST).detail(why))?;
    transfer_coding(req.headers()).map_err(|(status, why)| Problem::new(status).detail(why))
}

/// One `Host`, and a valid one ([RFC 9112 §3.2](https://www.rfc-editor.org/rfc/rfc9112#section-3.2)).
fn host(version: Version, headers: &HeaderMap) -> Result<(), &'static str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let Some(host) = hosts.next() else {
        // Older than the header.
        return match version {
            Version::HTTP_09 | Version::HTTP_10 => Ok(()),
            _ => Err("the request has no Host"),
        };
    };
    if hosts.next().is_some() {
        return Err("the request has more than one Host");
    }
    // It may be empty.
    let host = host.as_bytes();
    let valid = host.is_empty() || !host.contains(&b'@') && Authority::try_from(host).is_ok();
    if valid {
        Ok(())
    } else {
        Err("the request's Host is not valid")
    }
}

/// `chunked` once, and no other coding, which would be left on the body
/// ([RFC 9112 §6.1](https://www.rfc-editor.org/rfc/rfc9112#section-6.1)).
fn transfer_coding(headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    let codings = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let mut chunked = false;
    for coding in codings {
        if !coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            let why = "the only transfer coding that is understood is chunked";
            return Err((StatusCode::NOT_IMPLEMENTED, why));
        }
        if chunked {
            return Err((StatusCode::BAD_REQUEST, "the request is chunked twice"));
        }
        chunked = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn status(version: Version, headers: &[(&'static str, &str)]) -> u16 {
        let mut req = Request::new(());
        *req.version_mut() = version;
        for (name, value) in headers {
            req.headers_mut().append(*name, value.parse().unwrap());
        }
        check(&req).map_or_else(|problem| problem.status().as_u16(), |()| 200)
    }

    #[test]
    fn a_request_has_one_valid_host() {
        for (hosts, expected) in [
            (&[][..], 400),
            (&["x"], 200),
            (&["x:80"], 200),
            (&["[::1]:80"], 200),
            (&[""], 200),
            (&["x", "x"], 400),
            (&["x", "y"], 400),
            (&["a@x"], 400),
            (&["x y"], 400),
            (&["x/y"], 400),
        ] {
            let hosts: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(status(Version::HTTP_11, &hosts), expected, "{hosts:?}");
        }
        assert_eq!(status(Version::HTTP_10, &[]), 200);
        assert_eq!(
            status(Version::HTTP_10, &[("host", "x"), ("host", "x")]),
            400
        );
    }

    #[test]
    fn a_body_is_chunked_once_or_not_at_all() {
        for (codings, expected) in [
            (&["chunked"][..], 200),
            (&[" CHUNKED "], 200),
            (&["gzip, chunked"], 501),
            (&["gzip", "chunked"], 501),
            (&["chunked, chunked"], 400),
            (&["chunked", "chunked"], 400),
            (&["identity"], 501),
            (&["chunked;q=1"], 501),
            (&["xchunked"], 501),
            (&["chunked,"], 501),
            (&[""], 501),
        ] {
            let mut headers = vec![("host", "x")];
            headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
            assert_eq!(status(Version::HTTP_11, &headers), expected, "{codings:?}");
        }
    }
}
