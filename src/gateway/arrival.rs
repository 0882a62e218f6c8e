//! A client's way to the gateway: its address, its listener, its TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ProtocolVersion;

use crate::proxy_protocol::{self, ProxiedConnection};
use crate::snapshot::RoutingInput;
use crate::tls::{ClientCertificate, HandshakeFacts};

/// The way on which a client came to the gateway; the same for every request of its connection.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// Peer of the socket, or the address that a PROXY header names in its place.
    pub(super) peer: SocketAddr,
    /// Place of the listener in the configuration.
    pub(super) listener: usize,
    /// The TLS that ended here; `None` on a plain connection.
    pub(super) tls: Option<Arc<ArrivalTls>>,
    /// A PROXY header says that the client came by TLS to the proxy.
    pub(super) tls_before: bool,
}

/// The TLS of a client.
#[derive(Debug)]
pub(super) struct ArrivalTls {
    /// The version, as `TLSv1.3`.
    pub(super) version: &'static str,
    /// The certificate that the client presented.
    pub(super) certificate: Option<ClientCertificate>,
}

impl Arrival {
    /// A plain connection to a listener.
    pub(super) fn plain(peer: SocketAddr, listener: usize) -> Self {
        Self { peer, listener, tls: None, tls_before: false }
    }

    /// Takes the client's address and TLS from a PROXY header. A header without addresses changes nothing.
    pub(super) fn believe(&mut self, header: Option<&proxy_protocol::ReceivedHeader>) {
        let Some(header) = header else { return };
        if let ProxiedConnection::Proxied { source, .. } = header.origin {
            self.peer = source;
        }
        self.tls_before = header.ssl.as_ref().is_some_and(|ssl| ssl.tls);
    }

    /// True when the client came by TLS, to this gateway or to a proxy whose PROXY header says so.
    pub(super) fn by_tls(&self) -> bool {
        self.tls.is_some() || self.tls_before
    }

    /// Parts of a request of this client that decide where it goes.
    pub(super) fn asked<'a, F: ?Sized>(
        &'a self,
        host: &'a str,
        path: &'a str,
        query: Option<&'a str>,
        headers: &'a F,
    ) -> RoutingInput<'a, F> {
        let certificate = self.certificate().map(|certificate| certificate.fingerprint.as_str());
        RoutingInput { host, path, query, headers, peer: self.peer.ip(), by_tls: self.by_tls(), certificate }
    }

    /// The certificate that the client presented.
    pub(super) fn certificate(&self) -> Option<&ClientCertificate> {
        self.tls.as_ref()?.certificate.as_ref()
    }
}

impl From<HandshakeFacts> for ArrivalTls {
    fn from(facts: HandshakeFacts) -> Self {
        Self {
            version: version(facts.version),
            certificate: facts.peer_certificates.first().and_then(ClientCertificate::of),
        }
    }
}

/// The name of a version of TLS in logs and labels.
pub(super) fn version(version: Option<ProtocolVersion>) -> &'static str {
    match version {
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        _ => "unknown",
    }
}
