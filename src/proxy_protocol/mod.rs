//! The PROXY protocol, versions 1 and 2: the header by which a proxy names the client of a connection to the next hop.
//!
//! Source: HAProxy's `doc/proxy-protocol.txt`. Bytes in, values out; who may send a header is the caller's to decide.

mod read;
mod write;

use std::net::SocketAddr;

pub use read::{HeaderRead, MOST_BYTES, ProxyHeaderError, is_header, read};
pub use write::{write, write_local};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyVersion {
    /// One line of text.
    V1,
    /// Binary, with fields of its own after the addresses.
    V2,
}

/// A header as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedHeader {
    /// Its version.
    pub version: ProxyVersion,
    /// The connection that it speaks of.
    pub origin: ProxiedConnection,
    /// Host name that the client asked for, by SNI where it came by TLS (`PP2_TYPE_AUTHORITY`).
    pub authority: Option<String>,
    /// The sender's id of the connection, 128 bytes at most (`PP2_TYPE_UNIQUE_ID`).
    pub unique_id: Option<Vec<u8>>,
    /// The client's TLS, where the sender ended it (`PP2_TYPE_SSL`).
    pub ssl: Option<Ssl>,
}

/// The connection that a header speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxiedConnection {
    /// A connection that the sender passes on.
    Proxied {
        /// The client's address.
        source: SocketAddr,
        /// The address that the client connected to.
        destination: SocketAddr,
    },
    /// The sender's own connection, such as its health check (`LOCAL`): the connection's addresses are the true ones.
    Local,
    /// A connection that is passed on, but is neither TCP over IPv4 nor over IPv6 (`UNKNOWN`, `UNSPEC`, Unix sockets,
    /// datagrams): its addresses are not known.
    Unknown,
}

/// The client's TLS as the sender of a header saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ssl {
    /// The client came by TLS (`PP2_CLIENT_SSL`).
    pub tls: bool,
    /// The client showed a certificate, on this connection or on the session that it resumes.
    pub certificate: bool,
    /// The certificate was verified by the sender; never true without one.
    pub verified: bool,
    /// Version, as `TLSv1.3`.
    pub version: Option<String>,
    /// Common name of the client's certificate.
    pub common_name: Option<String>,
}

#[cfg(test)]
mod tests;
