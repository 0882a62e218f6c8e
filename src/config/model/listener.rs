//! The values of one entry of `listeners`.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// One entry of `listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `address`: IP and port; port 0 takes a free one, which the log names.
    pub address: SocketAddr,
    /// `allow`: networks that may connect; every network where left out. The most specific network of `allow` and
    /// `deny` that an address is in decides.
    pub allow: Vec<IpNet>,
    /// `deny`: networks that may not connect; none of them stands in `allow`.
    pub deny: Vec<IpNet>,
    /// `limits.connections`: most connections, tunnels among them, 1 to 4,294,967,295; `None` when `off`, the default.
    /// One more is answered 503.
    pub connections: Option<NonZeroU32>,
    /// `proxy_protocol`: default `off`.
    pub proxy_protocol: ProxyProtocol,
    /// `tls`: the listener speaks TLS; plain where left out.
    pub tls: Option<ListenerTls>,
    /// `redirect`: port of the `https` addresses that plain clients are sent to (308); none are where left out.
    pub redirect: Option<u16>,
    /// `hsts`: `Strict-Transport-Security` on answers to clients that came by TLS; none if left out.
    pub hsts: Option<Hsts>,
}

impl Listener {
    /// A plain listener on `address`.
    pub fn plain(address: SocketAddr) -> Self {
        let (allow, deny, proxy_protocol) = (Vec::new(), Vec::new(), ProxyProtocol::Off);
        Self { address, allow, deny, connections: None, proxy_protocol, tls: None, redirect: None, hsts: None }
    }
}

/// Expectation of a PROXY protocol header at the beginning of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// `off`: connections have none.
    #[default]
    Off,
    /// `optional`: connections of trusted proxies may have one.
    Optional,
    /// `required`: every connection has one, and comes from a trusted proxy.
    Required,
}

/// `tls` of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// `certificates`: at least one; the first is used where the client asks for no name, or for an unknown one.
    pub certificates: Vec<PemPair>,
    /// `min_version`: default TLS 1.2.
    pub min_version: TlsVersion,
    /// `ticket_keys`: file with the keys of session tickets; drawn by the process where left out.
    pub ticket_keys: Option<PathBuf>,
    /// `client_auth`: clients are asked for certificates; they are not where left out.
    pub client_auth: Option<ClientAuth>,
}

/// A certificate chain and its key, each in a PEM file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PemPair {
    /// `cert`: the certificate, and behind it those that lead to a root.
    pub cert: PathBuf,
    /// `key`: the private key of the first certificate.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `"1.2"`: TLS 1.2 (RFC 5246), with AEAD suites only.
    #[default]
    V1_2,
    /// `"1.3"`: TLS 1.3 (RFC 8446).
    V1_3,
}

/// `client_auth`: certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// `ca`: PEM file with the certificates that those of clients must lead to.
    pub ca: PathBuf,
    /// `mode`: `required` (the default, `true`) refuses clients without a certificate; `optional` lets them in.
    pub required: bool,
}

/// `hsts`: `Strict-Transport-Security` (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hsts {
    /// `max_age`: time for which browsers use TLS only; whole seconds.
    pub max_age: Duration,
    /// `include_subdomains`: default `false`.
    pub include_subdomains: bool,
    /// `preload`: default `false`.
    pub preload: bool,
}

impl Hsts {
    /// The value of the header.
    pub fn header_value(&self) -> String {
        let subdomains = if self.include_subdomains { "; includeSubDomains" } else { "" };
        let preload = if self.preload { "; preload" } else { "" };
        format!("max-age={}{subdomains}{preload}", self.max_age.as_secs())
    }
}
