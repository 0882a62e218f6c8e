//! Identity of a tunnel, its log lines, its place in the counts.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::key_mark::KeyMark;
use super::reason::Reason;
use super::reattach::{ReattachOutcome, ReattachReport};
use super::request_id::RequestId;
use crate::access_log::{AccessLog, LogLine};
use crate::admission;
use crate::affinity::KeySource;
use crate::hook::TunnelId;
use crate::metrics::UpstreamMetrics;
use crate::trace::TraceId;
use crate::upstream::{BackendState, LoadGuard};
use crate::ws::{Side, Sides};

/// Identity of a tunnel: client, backend, and the reason for that backend.
pub struct Record {
    /// Id of the tunnel, the same in a process that takes it over.
    pub id: TunnelId,
    /// Number of the configuration that it was opened under; 0 for a tunnel that came from a predecessor.
    pub generation: u32,
    /// The id of the request that opened the tunnel.
    pub request_id: RequestId,
    /// Addresses of the client and of its socket's peer.
    pub addresses: Addresses,
    /// Parts that few tunnels have; `None` where there are none.
    pub rare: Option<Box<Rare>>,
    /// The route, as `host path`.
    pub route: Arc<str>,
    /// Source of the ring key; `None` when the tunnel was picked without one.
    pub key_source: Option<KeySource>,
    /// Marks of the ring key.
    pub key: KeyMark,
    /// A hook chose the upstream, which need not be the one that the route leads to.
    pub by_hook: bool,
    /// Counts the tunnel on its backend for as long as it is open.
    pub guard: LoadGuard,
    /// Counts the tunnel as one of its client's and of the process; `None` where nobody counts them.
    pub admitted: Option<admission::TunnelGuard>,
    /// Metrics of its upstream.
    pub metrics: Arc<UpstreamMetrics>,
}

/// Parts of a record that few tunnels have: apart from it, so that the others are given no room for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// TLS of the client; `None` when the client came without.
    pub tls: Option<ClientTls>,
    /// The trace that the request was part of; `None` where `tracing` was off.
    pub trace: Option<TraceId>,
}

impl Rare {
    /// The parts, where there are any.
    pub fn of(tls: Option<ClientTls>, trace: Option<TraceId>) -> Option<Box<Self>> {
        (tls.is_some() || trace.is_some()).then(|| Box::new(Self { tls, trace }))
    }
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
    /// Number of times that it was re-attached; `None` where it never could be.
    pub(super) reattached: Option<u32>,
    pub(super) lasted: Duration,
    /// Bytes and messages passed on, by the side they came from.
    pub(super) passed: Sides<(u64, u64)>,
}

impl Record {
    /// The backend the tunnel leads to.
    pub fn backend(&self) -> &Arc<BackendState> {
        self.guard.state()
    }

    /// The client's address, as far as it is believed.
    pub fn client(&self) -> IpAddr {
        self.addresses.client()
    }

    /// Peer of the socket: the client or the proxy before it.
    pub fn peer(&self) -> SocketAddr {
        self.addresses.peer()
    }

    /// Counts and logs the opening.
    pub(super) fn opened(&self, log: &AccessLog) {
        self.metrics.opened.inc();
        log.write("tunnel_open", |line| self.describe(line));
    }

    /// Counts the tunnel on its next backend from now on, and not on the one before.
    pub(super) fn succeed(&mut self, guard: LoadGuard, metrics: Arc<UpstreamMetrics>, generation: u32) {
        let before = std::mem::replace(&mut self.guard, guard);
        let digest = self.key.digest().map(|digest| digest.to_string());
        self.guard.succeed(before, self.key.hash().zip(digest.as_deref()));
        (self.metrics, self.generation) = (metrics, generation);
    }

    /// Counts and logs the outcome of a re-attachment. The record names the new backend by then.
    pub(super) fn log_reattached(&self, log: &AccessLog, told: &ReattachReport) {
        self.metrics.reattached(told.loss.as_str(), told.outcome.as_str(), told.dropped);
        if told.outcome == ReattachOutcome::Attached {
            self.metrics.reattach_gap_seconds.observe(told.gap.as_secs_f64());
        }
        log.write("tunnel_reattach", |line| {
            let status = match told.outcome {
                ReattachOutcome::Refused(status) => Some(status),
                _ => None,
            };
            self.describe(line)
                .number("reattached", told.number.into())
                .text("reason", told.loss.as_str())
                .text("outcome", told.outcome.as_str())
                .maybe_number("status", status.map(u64::from))
                .number("gap_ms", u64::try_from(told.gap.as_millis()).unwrap_or(u64::MAX))
        });
    }

    /// Logs the end, with what hooks added.
    pub(super) fn log_end(&self, log: &AccessLog, ending: &Ending, added: &[(&'static str, String)]) {
        log.write("tunnel_end", |line| {
            let [(from_client, client_messages), (from_backend, backend_messages)] = ending.passed.into_array();
            let line = self
                .describe(line)
                .number("duration_ms", u64::try_from(ending.lasted.as_millis()).unwrap_or(u64::MAX))
                .number("bytes_from_client", from_client)
                .number("bytes_from_backend", from_backend)
                .number("messages_from_client", client_messages)
                .number("messages_from_backend", backend_messages)
                .number("close_code", ending.close_code.into())
                .word("by", ending.reason.by())
                .word("reason", ending.reason.as_str())
                .maybe_number("reattached", ending.reattached.map(u64::from));
            added.iter().fold(line, |line, (name, value)| line.text(name, value))
        });
    }

    /// Adds the fields that lines about this tunnel begin with.
    fn describe(&self, line: LogLine) -> LogLine {
        let (backend, rare) = (self.backend(), self.rare.as_deref());
        let tls = rare.and_then(|rare| rare.tls.as_ref());
        line.text("request_id", &self.request_id)
            .address("client", self.client())
            .socket_address("peer", self.peer())
            .word("scheme", if tls.is_some_and(|tls| tls.secure) { "https" } else { "http" })
            .maybe("tls", tls.and_then(|tls| tls.version.as_deref()))
            .maybe("certificate", tls.and_then(|tls| tls.certificate.as_deref()))
            .text("route", &self.route)
            .text("upstream", backend.upstream())
            .socket_address("backend", backend.address())
            .maybe("backend_name", backend.own_name())
            .word("key_source", KeySource::name_of(self.key_source))
            .maybe("key", self.key.digest())
            .text("tunnel", self.id)
            .maybe("trace_id", rare.and_then(|rare| rare.trace))
    }
}

impl Ending {
    /// The ending of a tunnel that was opened at `since`.
    pub(super) fn new(
        reason: Reason,
        close_code: u16,
        reattached: Option<u32>,
        since: Instant,
        now: Instant,
        passed: impl Fn(Side) -> (u64, u64),
    ) -> Self {
        Self {
            reason,
            close_code,
            reattached,
            lasted: now.saturating_duration_since(since),
            passed: Sides::from_fn(passed),
        }
    }
}
