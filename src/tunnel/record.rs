//! Identity of a tunnel, its log lines, its place in the counts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::reason::Reason;
use crate::access_log::{AccessLog, Line};
use crate::affinity::Source;
use crate::hook::TunnelId;
use crate::metrics::UpstreamMetrics;
use crate::upstream::{BackendState, LoadGuard};
use crate::ws::{Side, Sides};

/// Identity of a tunnel: client, backend, and the reason for that backend.
pub struct Record {
    /// The id of the request that opened the tunnel.
    pub request_id: Box<str>,
    /// The client's address, as far as it is believed.
    pub client: IpAddr,
    /// Peer of the socket: the client or the proxy before it.
    pub peer: SocketAddr,
    /// TLS of the client; `None` when the client came without.
    pub tls: Option<Box<ClientTls>>,
    /// The route, as `host path`.
    pub route: Arc<str>,
    /// Source of the ring key; `None` when the tunnel was picked without one.
    pub key_source: Option<Source>,
    /// Short hash of the ring key.
    pub key_digest: Option<Box<str>>,
    /// Place of the ring key on a ring ([`Ring::hash`](crate::upstream::Ring::hash)): enough to find its backend on any
    /// ring, and not the key itself, which may be a secret.
    pub key_hash: Option<u32>,
    /// A hook chose the upstream, which need not be the one that the route leads to.
    pub by_hook: bool,
    /// Counts the tunnel on its backend for as long as it is open.
    pub guard: LoadGuard,
    /// Metrics of its upstream.
    pub metrics: Arc<UpstreamMetrics>,
}

/// TLS of a tunnel's client, for its log lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTls {
    /// The client came by TLS, as far as is believed.
    pub secure: bool,
    /// Version of the TLS that ended here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Box<str>>,
    /// Fingerprint of the certificate that the client presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Box<str>>,
}

/// End of a tunnel.
pub(super) struct Ending {
    pub(super) reason: Reason,
    pub(super) close_code: u16,
    pub(super) lasted: Duration,
    /// Bytes and messages passed on, by the side they came from.
    pub(super) passed: Sides<(u64, u64)>,
}

impl Record {
    /// The backend the tunnel leads to.
    pub fn backend(&self) -> &Arc<BackendState> {
        self.guard.state()
    }

    /// Counts and logs the opening.
    pub(super) fn opened(&self, log: &AccessLog, id: Option<TunnelId>) {
        self.metrics.opened.inc();
        log.write(|| self.line("tunnel_open", id));
    }

    /// Logs the end, with what hooks added.
    pub(super) fn log_end(
        &self,
        log: &AccessLog,
        ending: &Ending,
        id: Option<TunnelId>,
        added: &[(&'static str, String)],
    ) {
        log.write(|| {
            let [(from_client, client_messages), (from_backend, backend_messages)] = ending.passed.into_array();
            let line = self
                .line("tunnel_end", id)
                .number("duration_ms", u64::try_from(ending.lasted.as_millis()).unwrap_or(u64::MAX))
                .number("bytes_from_client", from_client)
                .number("bytes_from_backend", from_backend)
                .number("messages_from_client", client_messages)
                .number("messages_from_backend", backend_messages)
                .number("close_code", ending.close_code.into())
                .text("by", ending.reason.by())
                .text("reason", ending.reason.as_str());
            added.iter().fold(line, |line, (name, value)| line.text(name, value))
        });
    }

    fn line(&self, event: &'static str, id: Option<TunnelId>) -> Line {
        let (backend, tls) = (self.backend(), self.tls.as_deref());
        Line::new(event)
            .text("request_id", &self.request_id)
            .text("client", self.client)
            .text("peer", self.peer)
            .text("scheme", if tls.is_some_and(|tls| tls.secure) { "https" } else { "http" })
            .maybe("tls", tls.and_then(|tls| tls.version.as_deref()))
            .maybe("certificate", tls.and_then(|tls| tls.certificate.as_deref()))
            .text("route", &self.route)
            .text("upstream", backend.upstream())
            .text("backend", backend.address())
            .text("key_source", Source::name_of(self.key_source))
            .maybe("key", self.key_digest.as_deref())
            .maybe("tunnel", id)
    }
}

impl Ending {
    /// The ending of a tunnel that was opened at `since`.
    pub(super) fn new(
        reason: Reason,
        close_code: u16,
        since: Instant,
        now: Instant,
        passed: impl Fn(Side) -> (u64, u64),
    ) -> Self {
        Self { reason, close_code, lasted: now.saturating_duration_since(since), passed: Sides::from_fn(passed) }
    }
}
