//! Restricts where requests are sent: by default to `https` and public addresses.
//!
//! A service that lets others choose the targets of webhooks lets them send requests from inside its
//! own network (server-side request forgery). Two checks prevent it, and [`TargetRules`] has both:
//!
//! 1. [`check`](TargetRules::check) reads the URL, when it is registered and before it is used: its
//!    scheme, that it has no credentials, and its host if that is a literal address, which connectors
//!    do not resolve.
//! 2. [`resolver`](TargetRules::resolver) drops forbidden addresses when a name is resolved for a
//!    connection. Resolving the name in advance is not enough: it can resolve differently the second
//!    time.
//!
//! Neither hyper-util's client nor this crate follows redirects. A client that does must check each
//! new target.
//!
//! # Examples
//!
//! With hyper-util's connector:
//!
//! ```
//! use hyper_util::{
//!     client::legacy::{Client, connect::{HttpConnector, dns::GaiResolver}},
//!     rt::TokioExecutor,
//! };
//! use tower_webhook::{body::BufferedBody, target::TargetRules};
//!
//! let rules = TargetRules::new();
//! rules.check(&"https://example.com/hooks".parse()?)?;
//! assert!(rules.check(&"https://169.254.169.254/latest".parse()?).is_err());
//! assert!(rules.check(&"http://example.com/hooks".parse()?).is_err());
//!
//! let connector = HttpConnector::new_with_resolver(rules.resolver(GaiResolver::new()));
//! let client = Client::builder(TokioExecutor::new()).build::<_, BufferedBody>(connector);
//! # let _ = client;
//! # Ok::<(), tower_webhook::BoxError>(())
//! ```

use crate::{BoxError, BoxFuture, outcome::Unsendable};
use http::Uri;
use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::{Context, Poll},
    vec,
};
use tower_service::Service;

/// Which targets are permitted. Default: `https`, and public addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TargetRules {
    allow_http: bool,
    allow_private: bool,
    plain_query: bool,
}

impl TargetRules {
    /// Rules that permit only `https` and public addresses.
    pub const fn new() -> Self {
        Self {
            allow_http: false,
            allow_private: false,
            plain_query: false,
        }
    }

    /// Sets whether `http` is permitted too. Default: `false`.
    pub const fn allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// Sets whether addresses that are not public are permitted too: loopback, private, link-local
    /// (with the metadata services of clouds) and the rest of the special-purpose registries of
    /// [RFC 6890](https://www.rfc-editor.org/rfc/rfc6890), in IPv4, in IPv6, and in IPv6 addresses
    /// that embed an IPv4 address. Default: `false`.
    pub const fn allow_private(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// Sets whether the query of a URL may have only letters, digits and `-._~=&`: no escapes, no quotes, no URL inside the
    /// URL. The Cognigy documents (S2) ask this of the targets of webhooks. Default: `false`.
    pub const fn plain_query(mut self, plain: bool) -> Self {
        self.plain_query = plain;
        self
    }

    /// Whether these rules permit a connection to `address`.
    pub fn permits(self, address: IpAddr) -> bool {
        self.allow_private || is_public(address)
    }

    /// Checks an absolute URL. [`resolver`](Self::resolver) checks the addresses of a name.
    ///
    /// # Errors
    ///
    /// [`ForbiddenTarget`] with the reason.
    pub fn check(self, uri: &Uri) -> Result<(), ForbiddenTarget> {
        match uri.scheme_str() {
            Some("https") => {}
            Some("http") if self.allow_http => {}
            Some("http") => return Err(ForbiddenTarget::NotHttps),
            _ => return Err(ForbiddenTarget::NotHttp),
        }
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(ForbiddenTarget::NoHost);
        };
        if authority.as_str().contains('@') {
            return Err(ForbiddenTarget::Credentials);
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(ForbiddenTarget::NoHost);
        }
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~=&".contains(&byte);
        if self.plain_query && !uri.query().unwrap_or_default().bytes().all(is_plain) {
            return Err(ForbiddenTarget::QueryCharacters);
        }
        match host.parse() {
            Ok(address) if !self.permits(address) => Err(ForbiddenTarget::NotPublic),
            _ => Ok(()),
        }
    }

    /// Wraps a resolver, so that it returns only permitted addresses. A resolver is any [`Service`]
    /// from a name to socket addresses, as hyper-util's connector takes it.
    pub const fn resolver<R>(self, inner: R) -> GuardedResolver<R> {
        GuardedResolver { inner, rules: self }
    }
}

/// Why a target is not permitted. The error does not contain the URL, which may have a password.
///
/// Its [`source`](Error::source) is [`Unsendable`], so a request to such a target is not retried and
/// does not count against a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForbiddenTarget {
    /// The URL contains a user name or a password.
    Credentials,
    /// The URL has no host.
    NoHost,
    /// The URL is neither `http` nor `https`.
    NotHttp,
    /// The URL is not `https`.
    NotHttps,
    /// The host has no public address.
    NotPublic,
    /// The query has other characters than letters, digits and `-._~=&`.
    QueryCharacters,
}

impl fmt::Display for ForbiddenTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "the URL of the target has a user name or password: send it in a header",
            Self::NoHost => "the URL of the target has no host",
            Self::NotHttp => "the URL of the target must begin with `https://` or `http://`",
            Self::NotHttps => "the URL of the target must begin with `https://`, as `http` is not permitted (`allow_http`)",
            Self::NotPublic => "the target is not at a public address, and others are not permitted (`allow_private`)",
            Self::QueryCharacters => "the query of the target has other characters than letters, digits and `-._~=&`, which are not permitted (`plain_query`)",
        })
    }
}

impl Error for ForbiddenTarget {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(&UNSENDABLE)
    }
}

/// A resolver that returns only permitted addresses. Made by [`TargetRules::resolver`].
///
/// A name with addresses of which none is permitted fails with [`ForbiddenTarget::NotPublic`].
#[derive(Clone, Debug)]
pub struct GuardedResolver<R> {
    inner: R,
    rules: TargetRules,
}

impl<R, N> Service<N> for GuardedResolver<R>
where
    R: Service<N>,
    R::Future: Send + 'static,
    R::Response: IntoIterator<Item = SocketAddr>,
    R::Error: Into<BoxError>,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = BoxError;
    /// Boxed: finding a name costs more than a box.
    type Future = BoxFuture<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, name: N) -> Self::Future {
        let (found, rules) = (self.inner.call(name), self.rules);
        Box::pin(async move {
            let found = found.await.map_err(Into::into)?;
            let (permitted, forbidden): (Vec<_>, Vec<_>) = found
                .into_iter()
                .partition(|address| rules.permits(address.ip()));
            if permitted.is_empty() && !forbidden.is_empty() {
                return Err(ForbiddenTarget::NotPublic.into());
            }
            Ok(permitted.into_iter())
        })
    }
}

/// Whether an address is public: not in the special-purpose registries of RFC 6890, nor an IPv6
/// address that embeds such an IPv4 address.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => match embedded_v4(address) {
            Some(embedded) => is_public_v4(embedded),
            None => is_public_v6(address),
        },
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = matches!(
        (a, b, c),
        (0 | 127 | 240.., ..) // this network, loopback, reserved and broadcast
            | (100, 64..=127, _) // carrier-grade NAT, RFC 6598
            | (192, 0, 0) // IETF protocol assignments
            | (192, 88, 99) // 6to4 relays
            | (198, 18 | 19, _) // benchmarking
    );
    !(special
        || address.is_private()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// The IPv4 address that an IPv6 address embeds: mapped, compatible, NAT64 (RFC 6052) or 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., c, d] = address.segments();
    let last = || {
        let ([a, b], [c, d]) = (c.to_be_bytes(), d.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        // `::` and `::1` have the compatible form too, and are checked as IPv4: 0.0.0.0/8.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last()),
        [0x2002, high, low, ..] => {
            let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
            Some(Ipv4Addr::new(a, b, c, d))
        }
        _ => None,
    }
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    // Global unicast is 2000::/3, without Teredo (2001::/32), documentation (2001:db8::/32 and
    // 3fff::/20) and benchmarking (2001:2::/48).
    let global = segments[0] & 0xe000 == 0x2000;
    let special = matches!(
        segments,
        [0x2001, 0 | 2 | 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..]
    );
    global && !special
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use tower::{ServiceExt, service_fn};

    fn check(rules: TargetRules, uri: &str) -> Result<(), ForbiddenTarget> {
        rules.check(&uri.parse().unwrap())
    }

    #[test]
    fn a_refusal_names_the_setting_that_would_permit_the_target() {
        let strict = TargetRules::new();
        for (uri, setting) in [
            ("http://example.com/", "`allow_http`"),
            ("https://10.0.0.1/", "`allow_private`"),
        ] {
            let refused = check(strict, uri).unwrap_err().to_string();
            assert!(refused.contains(setting), "{refused}");
        }
    }

    #[test]
    fn a_target_is_https_and_public_unless_more_is_allowed() {
        use ForbiddenTarget::{Credentials, NoHost, NotHttp, NotHttps, NotPublic};
        let (strict, all) = (
            TargetRules::new(),
            TargetRules::new().allow_http(true).allow_private(true),
        );
        for (uri, problem) in [
            ("http://example.com/", NotHttps),
            ("https://127.0.0.1/", NotPublic),
            ("https://[::1]/", NotPublic),
            ("https://10.0.0.1:8443/", NotPublic),
            ("https://[::ffff:10.0.0.1]/", NotPublic),
        ] {
            assert_eq!(check(strict, uri), Err(problem), "{uri}");
            assert_eq!(check(all, uri), Ok(()), "{uri}");
        }
        for (uri, problem) in [
            ("/hooks", NotHttp),
            ("example.com", NotHttp),
            ("ftp://example.com/", NotHttp),
            ("https://:443/", NoHost),
            ("https://user:secret@example.com/", Credentials),
        ] {
            assert_eq!(check(all, uri), Err(problem), "{uri}");
        }
        assert_eq!(check(strict, "https://example.com/hooks"), Ok(()));
        let http = strict.allow_http(true);
        assert_eq!(check(http, "http://10.0.0.1/"), Err(NotPublic));
    }

    #[test]
    fn s2_a_query_has_no_special_characters_where_that_is_asked_for() {
        let plain = TargetRules::new().plain_query(true);
        for query in ["", "?", "?tenant=7&kind=a-b_c.d~e", "?&&=="] {
            let uri = format!("https://example.com/a%20b{query}");
            assert_eq!(check(plain, &uri), Ok(()), "{uri}");
        }
        for query in [
            "?a=%20",
            "?a=b+c",
            "?a=b;c",
            "?a='1'",
            "?a=$(id)",
            "?a={{b}}",
            "?to=https://example.com",
            "?a[]=1",
            "?a?b",
        ] {
            let uri = format!("https://example.com/{query}");
            let refused = Err(ForbiddenTarget::QueryCharacters);
            assert_eq!(check(plain, &uri), refused, "{uri}");
            assert_eq!(check(TargetRules::new(), &uri), Ok(()), "{uri}");
        }
    }

    #[test]
    fn a_forbidden_target_cannot_be_sent_to_and_is_no_evidence() {
        let outcome = crate::outcome::Outcome::of_error(&ForbiddenTarget::NotPublic);
        assert!(!outcome.may_retry());
        assert_eq!(outcome.peer_is_healthy(), None);
    }

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for address in [
            "127.0.0.1",
            "127.255.0.1",
            "0.0.0.0",
            "10.1.2.3",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "100.127.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "192.88.99.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "fe80::1",
            "fc00::1",
            "fd12::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "3fff::1",
            "fec0::1",
            "100::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.0.1",
            "100.128.0.1",
            "172.32.0.1",
            "198.20.0.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    /// The result for a name that has `addresses`.
    async fn resolve(rules: TargetRules, addresses: &[&str]) -> Result<Vec<String>, BoxError> {
        let found: Vec<SocketAddr> = addresses.iter().map(|at| at.parse().unwrap()).collect();
        let inner = service_fn(|_: &str| std::future::ready(Ok::<_, Infallible>(found.clone())));
        let found = rules.resolver(inner).oneshot("peer.test").await?;
        Ok(found.map(|address| address.to_string()).collect())
    }

    #[tokio::test]
    async fn forbidden_addresses_are_left_out_where_the_name_is_dialled() {
        let rules = TargetRules::new();
        let mixed = ["10.0.0.1:443", "1.1.1.1:443", "[::1]:443"];
        assert_eq!(resolve(rules, &mixed).await.unwrap(), ["1.1.1.1:443"]);
        let all = rules.allow_private(true);
        assert_eq!(resolve(all, &mixed).await.unwrap(), mixed);

        let error = resolve(rules, &["127.0.0.1:443"]).await.unwrap_err();
        assert_eq!(
            error.downcast_ref(),
            Some(&ForbiddenTarget::NotPublic),
            "{error}"
        );
        assert_eq!(resolve(rules, &[]).await.unwrap(), [""; 0], "nothing found");
    }

    #[tokio::test]
    async fn a_name_that_is_public_first_and_private_second_is_refused_the_second_time() {
        let answers = ["1.1.1.1:443", "[::ffff:169.254.169.254]:443"];
        let mut answers = answers
            .map(|at| at.parse::<SocketAddr>().unwrap())
            .into_iter();
        let rebinding =
            service_fn(move |_: &str| std::future::ready(Ok::<_, Infallible>(answers.next())));
        let mut resolver = TargetRules::new().resolver(rebinding);
        let found = resolver.call("peer.test").await.unwrap();
        assert_eq!(found.len(), 1);
        let error = resolver.call("peer.test").await.unwrap_err();
        assert_eq!(error.downcast_ref(), Some(&ForbiddenTarget::NotPublic));
    }

    #[cfg(feature = "hyper-util")]
    #[tokio::test]
    async fn every_spelling_of_an_address_is_refused_by_the_url_or_where_it_is_dialled() {
        use hyper_util::client::legacy::connect::dns::GaiResolver;
        let rules = TargetRules::new();
        for host in [
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "017700000001",
            "0177.0.0.1",
            "127.1",
            "127.0.0.1",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "localhost",
        ] {
            let by_url = check(rules, &format!("https://{host}/"));
            if by_url.is_err() {
                assert_eq!(by_url, Err(ForbiddenTarget::NotPublic), "{host}");
                continue;
            }
            let name = host.parse().unwrap();
            let dialled = rules.resolver(GaiResolver::new()).oneshot(name).await;
            let error = dialled.map(|_| host).unwrap_err();
            let forbidden = error.downcast_ref();
            assert_eq!(
                forbidden,
                Some(&ForbiddenTarget::NotPublic),
                "{host}: {error}"
            );
        }
    }
}
