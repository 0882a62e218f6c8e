//! Addresses of a tunnel's client, in little room.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};

/// The client's address and that of its socket's peer: the client itself, or the proxy before it.
///
/// A tunnel keeps both for its log lines and listings alone. By IPv4 they take 10 bytes of the 49 that they take apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addresses(Kept);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    V4 { client: Ipv4Addr, peer: SocketAddrV4 },
    Other(Box<(IpAddr, SocketAddr)>),
}

impl Addresses {
    /// The client's address, as far as it is believed, and the peer of its socket.
    pub fn new(client: IpAddr, peer: SocketAddr) -> Self {
        Self(match (client, peer) {
            (IpAddr::V4(client), SocketAddr::V4(peer)) => Kept::V4 { client, peer },
            other => Kept::Other(Box::new(other)),
        })
    }

    /// The client's address, as far as it is believed.
    pub fn client(&self) -> IpAddr {
        match &self.0 {
            Kept::V4 { client, .. } => (*client).into(),
            Kept::Other(both) => both.0,
        }
    }

    /// The peer of the client's socket.
    pub fn peer(&self) -> SocketAddr {
        match &self.0 {
            Kept::V4 { peer, .. } => (*peer).into(),
            Kept::Other(both) => both.1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for client in ["192.0.2.7", "2001:db8::7", "::ffff:192.0.2.7"] {
            for peer in ["198.51.100.1:443", "[2001:db8::1]:65535", "[fe80::1%3]:80", "[::ffff:192.0.2.7]:1"] {
                let (client, peer): (IpAddr, SocketAddr) = (client.parse().unwrap(), peer.parse().unwrap());
                let addresses = Addresses::new(client, peer);
                assert_eq!((addresses.client(), addresses.peer()), (client, peer));
            }
        }
    }
}
