//! Identity of a request: who asks for what, and with which ring key.

use http::Method;

use crate::affinity;
use crate::client::Client;
use crate::gateway::arrival::Arrival;
use crate::http1::forward::ForwardedFrom;
use crate::socket::address;
use crate::tls::ClientCertificate;
use crate::trace::TraceContext;
use crate::tunnel::ClientTls;

/// A request's identity, and what was decided about it.
pub(in crate::gateway) struct RequestIdentity {
    pub(in crate::gateway) id: String,
    pub(in crate::gateway) client: Client,
    pub(in crate::gateway) arrival: Arrival,
    pub(in crate::gateway) method: Method,
    pub(in crate::gateway) host: String,
    /// Without the query, which often carries secrets.
    pub(in crate::gateway) path: String,
    pub(in crate::gateway) route: Option<usize>,
    pub(in crate::gateway) key: Option<OwnedKey>,
    /// Its place in a trace; `None` where `tracing` is off.
    pub(in crate::gateway) trace: Option<TraceContext>,
    /// An element for this hop is added to `Forwarded`.
    pub(super) writes_forwarded: bool,
}

impl RequestIdentity {
    /// Calls `with` with the gateway's own word to a backend on where the request came from.
    pub(in crate::gateway) fn with_origin<T>(&self, with: impl FnOnce(&ForwardedFrom<'_>) -> T) -> T {
        let peer = address::text(self.arrival.peer.ip().to_canonical());
        let certificate = self.arrival.certificate().map(ClientCertificate::header_value);
        with(&ForwardedFrom {
            peer: &peer,
            is_trusted: self.client.via_trusted,
            is_secure: self.client.secure,
            certificate: certificate.as_deref(),
            host: &self.host,
            id: &self.id,
            by_tls: self.arrival.by_tls(),
            trace: self.trace,
            writes_forwarded: self.writes_forwarded,
        })
    }

    /// TLS of the client, for the log lines of its tunnel; `None` when the client came without.
    pub(in crate::gateway) fn client_tls(&self) -> Option<ClientTls> {
        let (secure, tls) = (self.client.secure, self.arrival.tls.as_ref());
        let certificate = self.arrival.certificate();
        (secure || tls.is_some()).then(|| ClientTls {
            secure,
            version: tls.map(|tls| tls.version.into()),
            certificate: certificate.map(|certificate| certificate.fingerprint.as_str().into()),
        })
    }
}

/// A ring key, detached from the snapshot.
pub(in crate::gateway) struct OwnedKey {
    pub(in crate::gateway) bytes: Vec<u8>,
    pub(in crate::gateway) source: affinity::KeySource,
    /// The `Set-Cookie` value, where a cookie is to be issued.
    pub(in crate::gateway) set_cookie: Option<String>,
}

impl OwnedKey {
    /// The key of a request that came from `client`.
    pub(in crate::gateway) fn of(key: affinity::Key<'_>, client: &Client) -> Self {
        Self { source: key.source, set_cookie: key.set_cookie(client.secure), bytes: key.bytes }
    }

    /// Digest of the key for logs. Made when a line is written, because it takes a hash.
    pub(in crate::gateway) fn digest(&self) -> affinity::Digest {
        affinity::Digest::of(&self.bytes)
    }
}
