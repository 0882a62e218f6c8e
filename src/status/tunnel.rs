//! One open tunnel, as operators see it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::listing::Sort;
use super::rates::{CountedBytes, Rates};
use crate::affinity::{Digest, KeySource};
use crate::hook::{Chain, TunnelId};
use crate::tunnel::{Reason, Seen};
use crate::upstream::BackendState;
use crate::ws::Sides;

/// One open tunnel at one moment. Names are those of the access log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelStatus {
    /// Its id, the same in the access log and in a process that takes it over.
    pub id: String,
    /// Id of the request that opened it.
    pub request_id: String,
    /// Milliseconds since it opened.
    pub age_ms: u64,
    /// Milliseconds since bytes last came from either side.
    pub idle_ms: u64,
    /// The client's address, as far as it is believed.
    pub client: IpAddr,
    /// Peer of the client's socket: the client, or the proxy before it.
    pub peer: SocketAddr,
    /// The route, as `host path`.
    pub route: String,
    /// Name of the upstream.
    pub upstream: String,
    /// Address of the backend.
    pub backend: SocketAddr,
    /// Name of the backend, where it is not just its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_name: Option<String>,
    /// Source of the affinity key, or `none`.
    pub key_source: String,
    /// Eight hexadecimal digits of the key's SHA-1; `null` without a key.
    pub key: Option<String>,
    /// Bytes that came from the client and were passed on.
    pub bytes_from_client: u64,
    /// Bytes that came from the backend and were passed on.
    pub bytes_from_backend: u64,
    /// Messages that came from the client.
    pub messages_from_client: u64,
    /// Messages that came from the backend.
    pub messages_from_backend: u64,
    /// Bytes a second between two looks; `null` where there was one look, or the tunnel opened since the first.
    pub rates: Option<Rates>,
    /// Sides that speak TLS.
    pub tls: TlsSides,
    /// Hooks of the tunnel, in their order.
    pub hooks: Vec<String>,
    /// Number of the configuration that it was opened under; `null` for a tunnel that came from a predecessor.
    pub generation: Option<u32>,
    /// Number of times that it was re-attached to another backend; left out where it never can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reattached: Option<u32>,
    /// True while it leaves its backend, or is held without one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// The end that was announced for it, or has begun.
    pub ends: Option<AnnouncedEnd>,
}

/// Sides of a tunnel that speak TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsSides {
    /// The client, here.
    pub client: bool,
    /// The backend.
    pub backend: bool,
}

/// An end that was announced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnouncedEnd {
    /// Reason, as in the access log.
    pub reason: String,
    /// Milliseconds until then; of an end that has begun, until the tunnel is dropped.
    pub in_ms: u64,
}

impl TunnelStatus {
    /// The measure by which it is put in order.
    pub(super) fn measure(&self, by: Sort) -> u64 {
        match by {
            Sort::Age => self.age_ms,
            Sort::Idle => self.idle_ms,
            Sort::Rate => self.rates.map_or(0, |rates| rates.from_client.saturating_add(rates.from_backend)),
            Sort::Bytes => self.bytes_from_client.saturating_add(self.bytes_from_backend),
            Sort::Messages => self.messages_from_client.saturating_add(self.messages_from_backend),
        }
    }
}

/// A tunnel as a worker shows it: shared parts stay shared, and nothing is made text yet.
pub(super) struct Row {
    pub(super) id: TunnelId,
    /// Moment of the look.
    at: Instant,
    request_id: Box<str>,
    age: Duration,
    idle: Duration,
    client: IpAddr,
    peer: SocketAddr,
    backend: Arc<BackendState>,
    route: Arc<str>,
    key_source: Option<KeySource>,
    key: Option<Digest>,
    passed: Sides<(u64, u64)>,
    tls: Sides<bool>,
    hooks: Option<Arc<Chain>>,
    generation: u32,
    reattached: Option<u32>,
    held: bool,
    announced: Option<(Instant, Reason)>,
}

impl Row {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        let record = seen.record();
        Self {
            id: record.id,
            at: seen.now,
            backend: Arc::clone(record.backend()),
            request_id: record.request_id.text(),
            age: seen.age(),
            idle: seen.idle(),
            client: record.client(),
            peer: record.peer(),
            route: Arc::clone(&record.route),
            key_source: record.key_source,
            key: record.key.digest(),
            passed: seen.passed(),
            tls: seen.tls(),
            hooks: seen.hooks().map(Arc::clone),
            generation: record.generation,
            reattached: seen.reattached(),
            held: seen.is_between_backends(),
            announced: seen.announced(),
        }
    }

    /// Bytes of the tunnel at this look.
    pub(super) fn counted(&self) -> CountedBytes {
        CountedBytes::new(&self.passed, self.at)
    }
}

impl From<Row> for TunnelStatus {
    fn from(row: Row) -> Self {
        let [from_client, from_backend] = row.passed.into_array();
        let [client, backend] = row.tls.into_array();
        let ends = row.announced.map(|(at, reason)| AnnouncedEnd {
            reason: reason.as_str().to_owned(),
            in_ms: millis(at.saturating_duration_since(row.at)),
        });
        Self {
            id: row.id.to_string(),
            request_id: row.request_id.into(),
            age_ms: millis(row.age),
            idle_ms: millis(row.idle),
            client: row.client,
            peer: row.peer,
            route: (*row.route).to_owned(),
            upstream: row.backend.upstream().to_owned(),
            backend: row.backend.address(),
            backend_name: row.backend.own_name().map(str::to_owned),
            key_source: KeySource::name_of(row.key_source).to_owned(),
            key: row.key.map(|key| key.to_string()),
            bytes_from_client: from_client.0,
            bytes_from_backend: from_backend.0,
            messages_from_client: from_client.1,
            messages_from_backend: from_backend.1,
            rates: None,
            tls: TlsSides { client, backend },
            hooks: row.hooks.iter().flat_map(|chain| chain.names()).map(str::to_owned).collect(),
            generation: (row.generation > 0).then_some(row.generation),
            reattached: row.reattached,
            held: row.held,
            ends,
        }
    }
}

/// Milliseconds, rounded down.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
