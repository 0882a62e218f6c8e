//! The client of a request: the socket's peer, or the address that a trusted proxy names.

mod forwarded;

use std::net::{IpAddr, SocketAddr};

use http::HeaderName;
use ipnet::IpNet;

use crate::http1::HeaderFields;
use crate::http1::forward::{FORWARDED_FOR, FORWARDED_PROTO};

/// The client of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address; IPv4-mapped IPv6 addresses are IPv4.
    pub address: IpAddr,
    /// `true` where the client came by TLS: as a trusted proxy says, and where none says anything, as it was here.
    pub secure: bool,
    /// `true` where the socket's peer is a trusted proxy, whose `X-Forwarded-*` headers are believed.
    pub via_trusted: bool,
}

impl Client {
    /// The client behind `peer`: the right-most address of `X-Forwarded-For` that is not trusted; `peer` itself where
    /// it is not trusted or names no address (nginx: `real_ip_recursive on`).
    ///
    /// If a trusted peer sends no `X-Forwarded-For`, `Forwarded` (RFC 7239) is read in its place: `for` of its
    /// elements, and `proto` of the last one unless there is an `X-Forwarded-Proto`.
    ///
    /// `by_tls` tells whether the connection itself came by TLS.
    pub fn of(peer: IpAddr, by_tls: bool, headers: &(impl HeaderFields + ?Sized), trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| is_within(address, trusted);
        if !is_trusted(peer) {
            return Self { address: peer, secure: by_tls, via_trusted: false };
        }
        let listed = from_the_right(headers, &FORWARDED_FOR).next().is_some();
        let address = if listed {
            outermost(peer, from_the_right(headers, &FORWARDED_FOR).map(parse), is_trusted)
        } else {
            let named = forwarded::from_the_right(headers)
                .map(|element| element.parameter("for").and_then(|node| parse(&node)));
            outermost(peer, named, is_trusted)
        };
        Self { address, secure: said_secure(headers, !listed).unwrap_or(by_tls), via_trusted: true }
    }
}

/// Tells if a peer is one of the `trusted` proxies.
pub fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    is_within(peer.to_canonical(), trusted)
}

fn is_within(address: IpAddr, networks: &[IpNet]) -> bool {
    networks.iter().any(|network| network.contains(&address))
}

/// Follows the addresses that proxies named, the nearest first, from `peer` to the first that is not trusted.
fn outermost(peer: IpAddr, named: impl Iterator<Item = Option<IpAddr>>, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut address = peer;
    for named in named {
        // Entries left of one that is not an address cannot be told from an invention.
        let Some(named) = named else { break };
        address = named;
        if !is_trusted(named) {
            break;
        }
    }
    address
}

/// Tells whether the nearest proxy says that the client came by TLS: in `X-Forwarded-Proto`, else in `Forwarded` where
/// that may be `read`. `None` where it says nothing.
fn said_secure(headers: &(impl HeaderFields + ?Sized), read: bool) -> Option<bool> {
    let is_tls = |proto: &[u8]| proto.eq_ignore_ascii_case(b"https") || proto.eq_ignore_ascii_case(b"wss");
    match from_the_right(headers, &FORWARDED_PROTO).next() {
        Some(proto) => Some(is_tls(proto)),
        None => forwarded::from_the_right(headers)
            .next()
            .filter(|_| read)
            .and_then(|element| element.parameter("proto"))
            .map(|proto| is_tls(&proto)),
    }
}

/// The elements of a list header from right to left. Empty ones are skipped, as RFC 9110 §5.6.1.2 asks and nginx does.
fn from_the_right<'h>(
    headers: &'h (impl HeaderFields + ?Sized),
    name: &'h HeaderName,
) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.values_of(name).rev();
    let elements = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Reads an entry of `X-Forwarded-For`: an address, which some proxies write with a port.
fn parse(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(&FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Client::of(peer.parse().unwrap(), false, &headers, &trusted).address.to_string()
    }

    #[test]
    fn nobody_is_believed_unless_trusted() {
        assert_eq!(client("192.0.2.1", &["203.0.113.7"], &[]), "192.0.2.1");
        assert_eq!(client("192.0.2.1", &["203.0.113.7"], &["10.0.0.0/8"]), "192.0.2.1");
    }

    #[test]
    fn the_right_most_untrusted_address_is_the_client() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 203.0.113.7, 10.0.0.2"], &trusted), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "203.0.113.7", "10.0.0.2, 10.0.0.3"], &trusted), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["203.0.113.7:4711"], &trusted), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &["[2001:db8::1]:4711"], &trusted), "2001:db8::1");
    }

    #[test]
    fn a_chain_of_trusted_proxies_alone_gives_its_left_end() {
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[], &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn what_stands_left_of_garbage_is_not_believed() {
        assert_eq!(client("10.0.0.1", &["203.0.113.7, unknown, 10.0.0.2"], &["10.0.0.0/8"]), "10.0.0.2");
    }

    #[test]
    fn empty_elements_are_skipped() {
        for line in ["203.0.113.7,", "203.0.113.7, ", "203.0.113.7,,10.0.0.2", "203.0.113.7 , ,", ", 203.0.113.7"] {
            assert_eq!(client("10.0.0.1", &[line], &["10.0.0.0/8"]), "203.0.113.7", "{line}");
        }
        assert_eq!(client("10.0.0.1", &["203.0.113.7", "", " , "], &["10.0.0.0/8"]), "203.0.113.7");
        assert_eq!(client("10.0.0.1", &[" , "], &["10.0.0.0/8"]), "10.0.0.1");
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(client("::ffff:10.0.0.1", &["::ffff:203.0.113.7"], &["10.0.0.0/8"]), "203.0.113.7");
    }

    #[test]
    fn tls_is_believed_from_trusted_proxies_only() {
        let mut headers = HeaderMap::new();
        headers.insert(&FORWARDED_PROTO, "https".parse().unwrap());
        let trusted = ["10.0.0.0/8".parse().unwrap()];
        assert!(Client::of("10.0.0.1".parse().unwrap(), false, &headers, &trusted).secure);
        assert!(!Client::of("192.0.2.1".parse().unwrap(), false, &headers, &trusted).secure);
    }

    #[test]
    fn tls_of_the_connection_counts_unless_a_trusted_proxy_says_otherwise() {
        let (trusted, none) = (["10.0.0.0/8".parse().unwrap()], HeaderMap::new());
        let plain = HeaderMap::from_iter([(FORWARDED_PROTO.clone(), "http".parse().unwrap())]);
        let secure = |peer: &str, headers| Client::of(peer.parse().unwrap(), true, headers, &trusted).secure;
        assert!(secure("10.0.0.1", &none));
        assert!(!secure("10.0.0.1", &plain));
        assert!(secure("192.0.2.1", &none));
        assert!(secure("192.0.2.1", &plain));
    }

    fn by_forwarded(peer: &str, lines: &[(&HeaderName, &str)]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let client = Client::of(peer.parse().unwrap(), false, &headers, &["10.0.0.0/8".parse().unwrap()]);
        (client.address.to_string(), client.secure)
    }

    #[test]
    fn forwarded_is_read_from_trusted_proxies_only() {
        let name = &http::header::FORWARDED;
        let line = "for=198.51.100.1, For=\"[2001:db8::7]:4711\";Proto=https;by=10.0.0.1, for=10.0.0.2";
        assert_eq!(by_forwarded("10.0.0.1", &[(name, line)]), ("2001:db8::7".to_owned(), false));
        assert_eq!(by_forwarded("192.0.2.1", &[(name, line)]), ("192.0.2.1".to_owned(), false));
        let lines = [(name, "for=6.6.6.6"), (name, "proto=HTTPS;for=203.0.113.7:80")];
        assert_eq!(by_forwarded("10.0.0.1", &lines), ("203.0.113.7".to_owned(), true));
    }

    #[test]
    fn x_forwarded_for_counts_before_forwarded() {
        let lines = [(&http::header::FORWARDED, "for=6.6.6.6;proto=https"), (&FORWARDED_FOR, "203.0.113.7")];
        assert_eq!(by_forwarded("10.0.0.1", &lines), ("203.0.113.7".to_owned(), false));
        let lines = [(&http::header::FORWARDED, "for=6.6.6.6;proto=https"), (&FORWARDED_PROTO, "http")];
        assert_eq!(by_forwarded("10.0.0.1", &lines), ("6.6.6.6".to_owned(), false));
    }

    #[test]
    fn a_client_that_leaves_a_quote_open_names_no_address() {
        let name = &http::header::FORWARDED;
        for claimed in
            ["for=6.6.6.6;x=\"", "for=6.6.6.6;x=\"\\", "for=6.6.6.6;\"", "for=6.6.6.6;x=y\"z", "for=6.6.6.6;x"]
        {
            for own in ["for=203.0.113.7;proto=https", "for=\"[2001:db8::7]:80\";host=\"h:80\";proto=https"] {
                let (address, _) = by_forwarded("10.0.0.1", &[(name, &format!("{claimed}, {own}"))]);
                assert!(["10.0.0.1", "203.0.113.7", "2001:db8::7"].contains(&&*address), "{claimed} {own}: {address}");
            }
        }
    }

    #[test]
    fn a_hidden_or_broken_element_of_forwarded_ends_the_chain() {
        for element in ["for=unknown", "for=_secret", "proto=http", "for=\"10.0.0", "for=10.0.0.2 x", "nonsense"] {
            let line = format!("for=203.0.113.7, {element}");
            let client = by_forwarded("10.0.0.1", &[(&http::header::FORWARDED, &line)]);
            assert_eq!(client.0, "10.0.0.1", "{element}");
        }
    }
}
