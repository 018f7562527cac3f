//! The peer of a request: the address whose share of the connections, guesses and the like it counts against.

use crate::args::Problem;
use http::HeaderMap;
use ipnet::IpNet;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The most hops that are read of a forwarded header, from the last one on.
const MAX_HOPS: usize = 16;

/// The peer that a request comes from, an extension of every request. An IPv6 address stands for its /64, which
/// is what one subscriber has; an IPv4 address in IPv6 form is the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Peer(pub IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// The proxies that are believed when they say whom they forward for. Default: none.
#[derive(Clone, Debug, Default)]
pub(crate) struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Reads addresses and networks, such as `10.0.0.0/8`.
    pub fn read(networks: &[String]) -> Result<Self, Problem> {
        let read = |text: &String| {
            let text = text.trim();
            let network = text
                .parse()
                .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
                .map_err(|_| format!("{text:?} is neither an address nor a network"))?;
            match network.prefix_len() {
                // Then anybody could name any peer.
                0 => Err(format!("{text:?} is everybody")),
                _ => Ok(network),
            }
        };
        let networks = networks.iter().map(read).collect::<Result<_, _>>();
        networks
            .map(Self)
            .map_err(|why| Problem::new("--trusted-proxy", why))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The peer of a request that came over a connection from `from`.
    ///
    /// The headers of a proxy that is not trusted say nothing. Otherwise it is the last hop that is no trusted
    /// proxy: what stands before it was written by whoever it is. A hop that cannot be read counts as the proxy
    /// that told of it, and so does a request whose two headers disagree, because one of them may have been
    /// passed through.
    pub fn peer(&self, from: IpAddr, headers: &HeaderMap) -> Peer {
        if !self.contains(from) {
            return from.into();
        }
        let by = |name, read| {
            let present = headers.contains_key(name);
            present.then(|| self.last_stranger(from, headers, name, read))
        };
        let peers = (
            by("forwarded", forwarded_for as fn(&str) -> _),
            by("x-forwarded-for", address),
        );
        match peers {
            (Some(peer), None) | (None, Some(peer)) => peer.into(),
            (Some(one), Some(other)) if one == other => one.into(),
            _ => from.into(),
        }
    }

    fn last_stranger(
        &self,
        from: IpAddr,
        headers: &HeaderMap,
        name: &str,
        read: fn(&str) -> Option<IpAddr>,
    ) -> IpAddr {
        let lines = headers.get_all(name).iter().rev();
        // Text that is not ASCII is a hop that cannot be read.
        let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        let mut last = from;
        for hop in hops.take(MAX_HOPS) {
            match read(hop.trim_matches([' ', '\t'])) {
                Some(hop) => last = hop,
                None => return last,
            }
            if !self.contains(last) {
                return last;
            }
        }
        last
    }
}

/// The address in one element of `Forwarded`
/// ([RFC 7239 §4](https://www.rfc-editor.org/rfc/rfc7239#section-4)).
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if !name.eq_ignore_ascii_case("for") {
            continue;
        }
        let quoted = value.strip_prefix('"').map(|value| value.strip_suffix('"'));
        let value = match quoted {
            Some(quoted) => quoted?,
            None => value,
        };
        if found.replace(address(value)?).is_some() {
            return None;
        }
    }
    found
}

/// An address, with or without a port; an IPv6 address with a port stands in brackets, and may do so without.
fn address(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    let address = address.ok().or_else(|| {
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
    });
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn peer_from(from: &str, headers: &[(&'static str, &str)]) -> String {
        let proxies = ["10.0.0.0/8".to_owned(), "fd00::7".to_owned()];
        let proxies = TrustedProxies::read(&proxies).ok().unwrap();
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let Peer(address) = proxies.peer(from.parse().unwrap(), &map);
        address.to_string()
    }

    #[test]
    fn an_ipv6_peer_is_its_64_and_an_ipv4_peer_itself() {
        for (from, peer) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ] {
            assert_eq!(peer_from(from, &[]), peer);
        }
    }

    #[test]
    fn only_a_trusted_proxy_is_believed() {
        let told = [
            ("x-forwarded-for", "198.51.100.7"),
            ("forwarded", "for=198.51.100.7"),
        ];
        assert_eq!(peer_from("192.0.2.1", &told), "192.0.2.1");
        assert_eq!(peer_from(PROXY, &told), "198.51.100.7");
        assert_eq!(peer_from("::ffff:10.0.0.1", &told), "198.51.100.7");
        assert_eq!(peer_from("fd00::7", &told), "198.51.100.7");
        assert_eq!(peer_from("fd00::8", &told), "fd00::");
    }

    #[test]
    fn the_last_hop_that_is_no_proxy_is_the_peer_whatever_stands_before_it() {
        for (told, peer) in [
            ("198.51.100.7", "198.51.100.7"),
            ("1.1.1.1, 198.51.100.7", "198.51.100.7"),
            ("1.1.1.1,198.51.100.7, 10.0.0.2", "198.51.100.7"),
            ("nonsense, 198.51.100.7,10.0.0.2,10.0.0.3", "198.51.100.7"),
            ("198.51.100.7:4711", "198.51.100.7"),
            ("[2001:db8::1]:4711", "2001:db8::"),
            ("[2001:db8::1]", "2001:db8::"),
            // All are proxies: the first of them sent it.
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
            // Unreadable: whoever told of it.
            ("198.51.100.7, unknown", PROXY),
            ("198.51.100.7, unknown, 10.0.0.2", "10.0.0.2"),
            ("198.51.100.7,", PROXY),
            ("", PROXY),
            ("198.51.100.7 ; x", PROXY),
            ("[198.51.100.7]", PROXY),
        ] {
            let peer_of = peer_from(PROXY, &[("x-forwarded-for", told)]);
            assert_eq!(peer_of, peer, "{told}");
        }
        let lines = [
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-for", "198.51.100.8"),
        ];
        assert_eq!(peer_from(PROXY, &lines), "198.51.100.8", "the last line");
        let long = "10.0.0.2,".repeat(1000) + "10.0.0.3";
        assert_eq!(peer_from(PROXY, &[("x-forwarded-for", &long)]), "10.0.0.2");
    }

    #[test]
    fn forwarded_is_read_strictly() {
        for (told, peer) in [
            ("for=198.51.100.7;proto=https;by=10.0.0.1", "198.51.100.7"),
            ("proto=http;For=\"198.51.100.7:80\"", "198.51.100.7"),
            ("for=1.1.1.1, for=\"[2001:db8::1]\"", "2001:db8::"),
            ("for=\"1.1.1.1, for=198.51.100.7", "198.51.100.7"),
            ("for=_hidden", PROXY),
            ("for=unknown", PROXY),
            ("proto=https", PROXY),
            ("for=1.1.1.1;for=198.51.100.7", PROXY),
            ("for=\"198.51.100.7", PROXY),
            ("for=198.51.100.7;", PROXY),
        ] {
            assert_eq!(peer_from(PROXY, &[("forwarded", told)]), peer, "{told}");
        }
    }

    #[test]
    fn two_headers_that_disagree_say_nothing() {
        let told = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(peer_from(PROXY, &told), PROXY);
    }

    #[test]
    fn nonsense_and_everybody_are_no_proxies() {
        for refused in ["0.0.0.0/0", "::/0", "", "proxy.example", "10.0.0.0/33"] {
            assert!(TrustedProxies::read(&[refused.to_owned()]).is_err());
        }
    }
}
