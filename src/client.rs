//! The client of a request: the socket's peer, or the address that a trusted proxy names.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;
use ipnet::IpNet;

use crate::http1::forward::{FORWARDED_FOR, FORWARDED_PROTO};

/// The client of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// The client's address; IPv4-mapped IPv6 addresses are IPv4.
    pub address: IpAddr,
    /// `true` where a trusted proxy says that the client came by TLS.
    pub secure: bool,
    /// `true` where the socket's peer is a trusted proxy, whose `X-Forwarded-*` headers are believed.
    pub via_trusted: bool,
}

impl Client {
    /// The client behind `peer`: the right-most address of `X-Forwarded-For` that is not trusted; `peer` itself where
    /// it is not trusted or names nobody (nginx: `real_ip_recursive on`).
    pub fn of(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let peer = peer.to_canonical();
        let is_trusted = |address: IpAddr| trusted.iter().any(|network| network.contains(&address));
        if !is_trusted(peer) {
            return Self { address: peer, secure: false, via_trusted: false };
        }
        let mut address = peer;
        for entry in
            headers.get_all(&FORWARDED_FOR).iter().rev().flat_map(|line| line.as_bytes().rsplit(|b| *b == b','))
        {
            // Entries left of one that is not an address cannot be told from an invention.
            let Some(named) = parse(entry) else { break };
            address = named;
            if !is_trusted(named) {
                break;
            }
        }
        let secure = headers
            .get_all(&FORWARDED_PROTO)
            .iter()
            .next_back()
            .and_then(|line| line.as_bytes().rsplit(|b| *b == b',').next())
            .is_some_and(|proto| matches!(proto.trim_ascii().to_ascii_lowercase().as_slice(), b"https" | b"wss"));
        Self { address, secure, via_trusted: true }
    }
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
    use super::*;

    fn client(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append(&FORWARDED_FOR, line.parse().unwrap());
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        Client::of(peer.parse().unwrap(), &headers, &trusted).address.to_string()
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
        assert_eq!(client("10.0.0.1", &["203.0.113.7, "], &["10.0.0.0/8"]), "10.0.0.1");
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
        assert!(Client::of("10.0.0.1".parse().unwrap(), &headers, &trusted).secure);
        assert!(!Client::of("192.0.2.1".parse().unwrap(), &headers, &trusted).secure);
    }
}
