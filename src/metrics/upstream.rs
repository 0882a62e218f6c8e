//! The children of one upstream, resolved once so that counting costs one atomic addition.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::{Families, LocalFailure};
use crate::tls;
use crate::ws::{Side, Sides};

/// Counters of one upstream.
pub struct UpstreamMetrics {
    name: String,
    requests: Children,
    picks: Children,
    failures: IntCounterVec,
    local_failures: IntCounterVec,
    tls_failures: IntCounterVec,
    ended: IntCounterVec,
    health_changes: IntCounterVec,
    /// From a request's header to the last byte of its answer.
    pub request_seconds: Histogram,
    /// Time to connect to a backend.
    pub connect_seconds: Histogram,
    /// From an upgrade request to the backend's 101.
    pub handshake_seconds: Histogram,
    /// Picks of a further backend after one failed.
    pub failovers: IntCounter,
    /// Ejections of backends.
    pub ejections: IntCounter,
    /// Tunnels opened.
    pub opened: IntCounter,
    /// Open tunnels of all upstreams by the part that seals them: none, the record layer, rustls.
    pub open: [IntGauge; 3],
    /// Tunnels given to a successor.
    pub handed_over: IntCounter,
    /// Tunnels taken over from a predecessor.
    pub adopted: IntCounter,
    /// Bytes passed on, by the side they came from.
    pub bytes: Sides<IntCounter>,
    /// Messages passed on, by the side they came from.
    pub messages: Sides<IntCounter>,
}

impl UpstreamMetrics {
    pub(super) fn new(families: &Families, name: &str) -> Self {
        let both = |family: &IntCounterVec| Sides::from_fn(|from| family.with_label_values(&[name, direction(from)]));
        Self {
            name: name.to_owned(),
            requests: Children::of(&families.requests, name),
            picks: Children::of(&families.picks, name),
            failures: families.failures.clone(),
            local_failures: families.local_failures.clone(),
            tls_failures: families.tls_failures.clone(),
            ended: families.ended.clone(),
            health_changes: families.health_changes.clone(),
            request_seconds: families.request_seconds.with_label_values(&[name]),
            connect_seconds: families.connect_seconds.with_label_values(&[name]),
            handshake_seconds: families.handshake_seconds.with_label_values(&[name]),
            failovers: families.failovers.with_label_values(&[name]),
            ejections: families.ejections.with_label_values(&[name]),
            opened: families.opened.with_label_values(&[name]),
            open: SEALING.map(|by| families.open.with_label_values(&[by])),
            handed_over: families.handed_over.with_label_values(&[name]),
            adopted: families.adopted.with_label_values(&[name]),
            bytes: both(&families.bytes),
            messages: both(&families.messages),
        }
    }

    /// Counts an answered HTTP request; the label is the status's class.
    pub fn request(&self, status: u16) {
        self.requests.inc(class(status));
    }

    /// Counts a pick; `source` is an affinity source's name, or `none`.
    pub fn pick(&self, source: &'static str) {
        self.picks.inc(source);
    }

    /// Counts a failure of real traffic that is held against a backend; `kind` is a `FailureKind`'s label.
    pub fn backend_failure(&self, kind: &'static str) {
        self.failures.with_label_values(&[self.name.as_str(), kind]).inc();
    }

    /// Counts a failure that is the gateway's own.
    pub fn local_failure(&self, failure: LocalFailure) {
        self.local_failures.with_label_values(&[failure.as_str()]).inc();
    }

    /// Shows every kind of failure of TLS, at 0 until it is counted.
    pub fn show_tls_failures(&self) {
        for failure in tls::client::Failure::ALL {
            self.tls_failures.with_label_values(&[self.name.as_str(), failure.as_str()]);
        }
    }

    /// Counts a connection to a backend, of traffic or a check, that TLS failed on.
    pub fn tls_failure(&self, failure: tls::client::Failure) {
        self.tls_failures.with_label_values(&[self.name.as_str(), failure.as_str()]).inc();
    }

    /// Counts a tunnel's end.
    pub fn ended(&self, reason: &'static str) {
        self.ended.with_label_values(&[self.name.as_str(), reason]).inc();
    }

    /// Counts a backend that went `up` or `down`.
    pub fn health_change(&self, up: bool) {
        self.health_changes.with_label_values(&[self.name.as_str(), if up { "up" } else { "down" }]).inc();
    }
}

/// A family's children of one upstream, each made and found when it is first counted: finding one takes a lock and two
/// hashes, which is too much for every request.
struct Children {
    family: IntCounterVec,
    upstream: String,
    /// In the order they came. There are six classes of statuses, and six sources of keys.
    known: [OnceLock<(&'static str, IntCounter)>; 8],
}

impl Children {
    fn of(family: &IntCounterVec, upstream: &str) -> Self {
        Self { family: family.clone(), upstream: upstream.to_owned(), known: Default::default() }
    }

    fn inc(&self, label: &'static str) {
        let find = || self.family.with_label_values(&[self.upstream.as_str(), label]);
        let mut known = self.known.iter().map(|place| place.get_or_init(|| (label, find())));
        match known.find(|(name, _)| *name == label) {
            Some((_, child)) => child.inc(),
            None => find().inc(),
        }
    }
}

/// The `tls` label of a tunnel, by the part that seals it.
pub(super) const SEALING: [&str; 3] = ["none", "record", "rustls"];

/// The `direction` label of the bytes that a side sends.
fn direction(from: Side) -> &'static str {
    match from {
        Side::Client => "to_backend",
        Side::Backend => "to_client",
    }
}

/// The label of a status.
pub(super) fn class(status: u16) -> &'static str {
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;

    #[test]
    fn labels_are_counted_apart_however_many_there_are() {
        let metrics = Metrics::new();
        let upstream = metrics.upstream("u");
        let labels = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for label in labels.into_iter().chain(labels) {
            upstream.pick(label);
        }
        let told: Vec<_> = labels.map(|label| upstream.picks.family.with_label_values(&["u", label]).get()).into();
        assert_eq!(told, [2; 10]);
    }
}
