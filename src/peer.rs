//! Peer keys: the name of the peer that a request goes to. Circuit breakers and metrics are kept separately
//! for each key.
//!
//! A key should be borrowed from the request and have few values: a host, an endpoint, a tenant, but
//! never a path with ids in it or a query string.

use std::{borrow::Cow, fmt};

/// Takes the key of the peer from a request.
///
/// Implemented by [`ByHost`], [`OnePeer`] and what [`peer_fn`] returns.
#[diagnostic::on_unimplemented(
    message = "`{Self}` takes no key from requests of type `{Req}`",
    note = "`ByHost` takes `http::Request<_>`; use `OnePeer` or `peer_fn(|req: &{Req}| ...)` for other requests"
)]
pub trait PeerKey<Req> {
    /// The key, borrowed from the request if possible: this runs at every call.
    fn key<'a>(&'a self, req: &'a Req) -> Cow<'a, str>;
}

/// Takes the host and port of the request's URI, in lower case, without user names and without the
/// default port of the scheme. A URI without a host has the key `""`.
///
/// # Examples
///
/// ```
/// use http::Request;
/// use tower_webhook::peer::{ByHost, PeerKey};
///
/// let key = |uri: &str| ByHost.key(&Request::get(uri).body(()).unwrap()).into_owned();
/// assert_eq!(key("https://API.example.com:443/v1/customers?id=7"), "api.example.com");
/// assert_eq!(key("https://api.example.com:8443/"), "api.example.com:8443");
/// assert_eq!(key("/health"), "");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByHost;

impl<B> PeerKey<http::Request<B>> for ByHost {
    fn key<'a>(&'a self, req: &'a http::Request<B>) -> Cow<'a, str> {
        let Some(authority) = req.uri().authority() else {
            return Cow::Borrowed("");
        };
        let whole = authority.as_str();
        // Without an early end, so that several bytes are looked at at once.
        let is_plain = |byte: u8| byte != b'@' && byte != b':' && !byte.is_ascii_uppercase();
        if whole
            .bytes()
            .fold(true, |plain, byte| plain & is_plain(byte))
        {
            return Cow::Borrowed(whole);
        }
        normal(whole, req.uri().scheme_str())
    }
}

/// Takes from an authority what does not name the peer.
fn normal<'a>(authority: &'a str, scheme: Option<&str>) -> Cow<'a, str> {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let known = match scheme {
        Some("http") => ":80",
        Some("https") => ":443",
        _ => ":",
    };
    let host = host.strip_suffix(known).unwrap_or(host);
    let host = host.strip_suffix(':').unwrap_or(host);
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// Takes the key `""` from every request, for services with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnePeer;

impl<Req> PeerKey<Req> for OnePeer {
    fn key<'a>(&'a self, _: &'a Req) -> Cow<'a, str> {
        Cow::Borrowed("")
    }
}

#[derive(Clone, Copy)]
struct PeerFn<F> {
    key: F,
}

/// Takes the key by a function of the request.
///
/// # Examples
///
/// ```
/// use std::borrow::Cow;
/// use tower_webhook::peer::{PeerKey, peer_fn};
///
/// struct Job {
///     tenant: String,
/// }
///
/// let by_tenant = peer_fn(|job: &Job| Cow::Borrowed(job.tenant.as_str()));
/// assert_eq!(by_tenant.key(&Job { tenant: "acme".into() }), "acme");
/// ```
pub const fn peer_fn<F, Req>(key: F) -> impl PeerKey<Req> + Clone + fmt::Debug
where
    F: for<'a> Fn(&'a Req) -> Cow<'a, str> + Clone,
{
    PeerFn { key }
}

impl<F, Req> PeerKey<Req> for PeerFn<F>
where
    F: for<'a> Fn(&'a Req) -> Cow<'a, str>,
{
    fn key<'a>(&'a self, req: &'a Req) -> Cow<'a, str> {
        (self.key)(req)
    }
}

impl<F> fmt::Debug for PeerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerFn").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_host(uri: &str) -> String {
        let req = http::Request::get(uri).body(()).unwrap();
        ByHost.key(&req).into_owned()
    }

    #[test]
    fn the_same_peer_has_one_key_however_it_is_spelt() {
        for uri in [
            "http://peer.test",
            "http://peer.test:80/",
            "http://PEER.test/a?b",
            "http://user:secret@peer.test/",
            "https://peer.test:443/",
            "http://peer.test:/",
        ] {
            assert_eq!(by_host(uri), "peer.test", "{uri}");
        }
        assert_eq!(by_host("http://peer.test:443/"), "peer.test:443");
        assert_eq!(by_host("https://peer.test:80/"), "peer.test:80");
        assert_eq!(by_host("http://[::1]:8080/"), "[::1]:8080");
        assert_eq!(by_host("https://[::1]:443/"), "[::1]");
    }

    #[test]
    fn a_key_that_needs_no_change_is_borrowed() {
        let req = http::Request::get("https://peer.test/").body(()).unwrap();
        assert!(matches!(ByHost.key(&req), Cow::Borrowed("peer.test")));
    }
}
