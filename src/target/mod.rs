//! Where a request may be sent: https, at addresses of the public internet, unless more is allowed.
//!
//! Whoever lets others say where webhooks go lets them make requests from inside one's own network
//! (server-side request forgery). Two checks are needed, and [`TargetRules`] has both:
//!
//! 1. [`check`](TargetRules::check) looks at the URL, when it is registered and before it is used:
//!    its scheme, that it holds no credentials, and its host where that is a literal address, which
//!    connectors do not resolve.
//! 2. [`resolver`](TargetRules::resolver) leaves out forbidden addresses where they are looked up
//!    to be dialled. A check in advance would not do: a name can answer differently the second
//!    time.
//!
//! Redirects are followed by neither hyper-util's client nor this crate; a client that follows them
//! must check each one.
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

mod address;
mod resolver;

pub use self::resolver::{GuardedResolver, ResolveFuture};

use crate::outcome::Unsendable;
use http::Uri;
use std::{error::Error, fmt, net::IpAddr};

/// Which targets are permitted. By default: https, and addresses of the public internet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct TargetRules {
    allow_http: bool,
    allow_private: bool,
}

impl TargetRules {
    /// Https and public addresses alone.
    pub const fn new() -> Self {
        Self {
            allow_http: false,
            allow_private: false,
        }
    }

    /// Whether `http` is permitted too. Default: `false`.
    pub const fn allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// Whether addresses are permitted that are not of the public internet: loopback, private,
    /// link-local (where clouds keep their metadata) and the rest of the special-purpose registries
    /// of [RFC 6890](https://www.rfc-editor.org/rfc/rfc6890), in IPv4, in IPv6, and in IPv6 that
    /// stands for IPv4. Default: `false`.
    pub const fn allow_private(mut self, allow: bool) -> Self {
        self.allow_private = allow;
        self
    }

    /// Whether an address may be dialled.
    pub fn permits(self, address: IpAddr) -> bool {
        self.allow_private || address::is_public(address)
    }

    /// Checks an absolute URL. The addresses of a name are looked at later, by
    /// [`resolver`](Self::resolver).
    ///
    /// # Errors
    ///
    /// [`ForbiddenTarget`] says what is wrong with it.
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
        match host.parse() {
            Ok(address) if !self.permits(address) => Err(ForbiddenTarget::NotPublic),
            _ => Ok(()),
        }
    }

    /// A resolver in front of another: any [`Service`](tower_service::Service) that answers a name
    /// with socket addresses, as hyper-util's connector takes it.
    pub const fn resolver<R>(self, inner: R) -> GuardedResolver<R> {
        GuardedResolver::new(inner, self)
    }
}

/// A target that the rules do not permit. Does not repeat it: a URL may have a password in it.
///
/// Its [`source`](Error::source) is [`Unsendable`], so that a request to such a target is not
/// retried and says nothing about a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ForbiddenTarget {
    /// The URL has a user name or a password in it.
    Credentials,
    /// The URL names no host.
    NoHost,
    /// The URL is no `http` or `https` URL.
    NotHttp,
    /// The URL is not `https`.
    NotHttps,
    /// The host is, or has, none but addresses that are not public.
    NotPublic,
}

impl fmt::Display for ForbiddenTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "the target has credentials in its URL",
            Self::NoHost => "the target names no host",
            Self::NotHttp => "the target is no http or https URL",
            Self::NotHttps => "the target is not an https URL",
            Self::NotPublic => "the target is not at a public address",
        })
    }
}

impl Error for ForbiddenTarget {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        static UNSENDABLE: Unsendable = Unsendable::new();
        Some(&UNSENDABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rules: TargetRules, uri: &str) -> Result<(), ForbiddenTarget> {
        rules.check(&uri.parse().unwrap())
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
    fn a_forbidden_target_cannot_be_sent_to_and_is_no_evidence() {
        let outcome = crate::outcome::Outcome::of_error(&ForbiddenTarget::NotPublic);
        assert!(!outcome.may_retry());
        assert_eq!(outcome.peer_is_healthy(), None);
    }
}
