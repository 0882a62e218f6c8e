//! Writes headers for backends.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader};

use super::ProxyVersion;

/// Adds the header of a connection that is passed on: `source` is the client, `destination` the address that it
/// connected to. Where one is IPv4 and the other IPv6, the IPv4 one is written as mapped IPv6 (RFC 4291 §2.5.5.2), as
/// HAProxy does.
pub fn write(version: ProxyVersion, source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) {
    let (source, destination) = alike(source, destination);
    encode(version, &ProxyHeader::with_address(ProxiedAddress::stream(source, destination)), out);
}

/// Adds the header of a connection of the gateway's own, such as a health check: `LOCAL`, or `UNKNOWN` in version 1.
pub fn write_local(version: ProxyVersion, out: &mut Vec<u8>) {
    encode(version, &ProxyHeader::with_local(), out);
}

fn encode(version: ProxyVersion, header: &ProxyHeader<'_>, out: &mut Vec<u8>) {
    let encoded = match version {
        ProxyVersion::V1 => header.encode_v1(out),
        ProxyVersion::V2 => header.encode_v2(out),
    };
    encoded.expect("a header of stream addresses of one family and without fields can be encoded");
}

/// The addresses in one family.
fn alike(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (source, destination) = (canonical(source), canonical(destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return (source, destination);
    }
    (mapped(source), mapped(destination))
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}
