//! The children of one upstream, resolved once so that counting costs one atomic addition.

use std::sync::OnceLock;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use super::LocalFailure;
use super::families::Families;
use crate::tls;
use crate::ws::{Side, Sides};

/// Counters of one upstream.
pub struct UpstreamMetrics {
    name: String,
    requests: Children<1>,
    picks: Children<1>,
    failures: IntCounterVec,
    local_failures: IntCounterVec,
    tls_failures: IntCounterVec,
    ended: Children<1>,
    close_codes: Children<2>,
    not_admitted: IntCounterVec,
    holds: IntCounterVec,
    health_changes: IntCounterVec,
    throttled: IntCounterVec,
    reattached: IntCounterVec,
    /// Messages of clients that were dropped at a crash, because their beginning was not kept.
    dropped: IntCounter,
    /// Time for which clients were held, of those that were re-attached.
    pub reattach_gap_seconds: Histogram,
    /// From a request's header to the last byte of its answer.
    pub request_seconds: Histogram,
    /// Time to connect to a backend.
    pub connect_seconds: Histogram,
    /// From an upgrade request to the backend's 101.
    pub handshake_seconds: Histogram,
    /// Clients that were given their turn at a backend, waiting or not.
    pub admitted: IntCounter,
    /// From a client's arrival to its turn.
    pub wait_seconds: Histogram,
    /// Time that a client waited for a backend that was away.
    pub hold_seconds: Histogram,
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
        REATTACHED
            .iter()
            .for_each(|reason| _ = families.tunnels.reattached.with_label_values(&[name, reason, "attached"]));
        for refusal in UpstreamRefusal::ALL {
            families.admission.not_admitted.with_label_values(&[name, refusal.as_str()]);
        }
        HOLDS.iter().for_each(|outcome| _ = families.admission.holds.with_label_values(&[name, outcome]));
        Self {
            name: name.to_owned(),
            requests: Children::of(&families.requests, name),
            picks: Children::of(&families.picks, name),
            failures: families.failures.clone(),
            local_failures: families.local_failures.clone(),
            tls_failures: families.tls_failures.clone(),
            ended: Children::of(&families.tunnels.ended, name),
            close_codes: Children::of(&families.tunnels.close_codes, name),
            not_admitted: families.admission.not_admitted.clone(),
            holds: families.admission.holds.clone(),
            hold_seconds: families.admission.hold_seconds.with_label_values(&[name]),
            admitted: families.admission.admitted.with_label_values(&[name]),
            wait_seconds: families.admission.wait_seconds.with_label_values(&[name]),
            health_changes: families.health_changes.clone(),
            throttled: families.tunnels.throttled.clone(),
            reattached: families.tunnels.reattached.clone(),
            dropped: families.tunnels.dropped.with_label_values(&[name]),
            reattach_gap_seconds: families.tunnels.reattach_gap_seconds.with_label_values(&[name]),
            request_seconds: families.request_seconds.with_label_values(&[name]),
            connect_seconds: families.connect_seconds.with_label_values(&[name]),
            handshake_seconds: families.handshake_seconds.with_label_values(&[name]),
            failovers: families.failovers.with_label_values(&[name]),
            ejections: families.ejections.with_label_values(&[name]),
            opened: families.tunnels.opened.with_label_values(&[name]),
            open: SEALING.map(|by| families.tunnels.open.with_label_values(&[by])),
            handed_over: families.tunnels.handed_over.with_label_values(&[name]),
            adopted: families.tunnels.adopted.with_label_values(&[name]),
            bytes: both(&families.tunnels.bytes),
            messages: both(&families.tunnels.messages),
        }
    }

    /// Counts an answered HTTP request; the label is the status's class.
    pub fn request(&self, status: u16) {
        self.requests.inc([class(status)]);
    }

    /// Counts a pick; `source` is an affinity source's name, or `none`.
    pub fn pick(&self, source: &'static str) {
        self.picks.inc([source]);
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
        for failure in tls::client::TlsFailureKind::ALL {
            self.tls_failures.with_label_values(&[self.name.as_str(), failure.as_str()]);
        }
    }

    /// Counts a connection to a backend, of traffic or a check, that TLS failed on.
    pub fn tls_failure(&self, failure: tls::client::TlsFailureKind) {
        self.tls_failures.with_label_values(&[self.name.as_str(), failure.as_str()]).inc();
    }

    /// Counts a client that was not admitted to a backend.
    pub fn refused(&self, refusal: UpstreamRefusal) {
        self.not_admitted.with_label_values(&[self.name.as_str(), refusal.as_str()]).inc();
    }

    /// Counts a client's wait for a backend that was away; `outcome` is one of a fixed list (docs/metrics.md).
    pub fn held(&self, outcome: &'static str) {
        self.holds.with_label_values(&[self.name.as_str(), outcome]).inc();
    }

    /// Counts a tunnel's end: its reason, who ended it, and its close code.
    pub fn ended(&self, reason: &'static str, by: &'static str, code: u16) {
        self.ended.inc([reason]);
        self.close_codes.inc([by, close_code(code)]);
    }

    /// Counts a tunnel whose client is held back from now on, because it sends more than this limit allows.
    pub fn throttled(&self, limit: LimitedRate) {
        self.throttled.with_label_values(&[self.name.as_str(), limit.as_str()]).inc();
    }

    /// Counts the outcome of a re-attachment; both labels are of fixed lists (docs/metrics.md). `dropped`: a message of
    /// the client was dropped.
    pub fn reattached(&self, reason: &'static str, outcome: &'static str, dropped: bool) {
        self.reattached.with_label_values(&[self.name.as_str(), reason, outcome]).inc();
        self.dropped.inc_by(dropped.into());
    }

    /// Counts a backend that went `up` or `down`.
    pub fn health_change(&self, up: bool) {
        self.health_changes.with_label_values(&[self.name.as_str(), if up { "up" } else { "down" }]).inc();
    }
}

/// Reason for which a client is not admitted to a backend; the `reason` label, and the `error` of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamRefusal {
    /// Every backend is full, and there is no queue.
    Full,
    /// The client's key has as many tunnels as it may.
    PerKey,
    /// As many clients wait for the backend as may.
    QueueFull,
    /// The client waited as long as it may.
    Deadline,
    /// The client left while it waited.
    Left,
    /// The process ends.
    Draining,
}

impl UpstreamRefusal {
    /// Every value, in the order of the variants: each is shown at 0 until it is counted.
    const ALL: [Self; 6] = [Self::Full, Self::PerKey, Self::QueueFull, Self::Deadline, Self::Left, Self::Draining];

    /// The `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::PerKey => "per_key",
            Self::QueueFull => "queue_full",
            Self::Deadline => "deadline",
            Self::Left => "left",
            Self::Draining => "draining",
        }
    }
}

/// A limit of the rates of clients; the `limit` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitedRate {
    /// Messages of one tunnel.
    Messages,
    /// Bytes of one tunnel.
    Bytes,
    /// Messages of all tunnels of a key.
    KeyMessages,
    /// Bytes of all tunnels of a key.
    KeyBytes,
}

impl LimitedRate {
    /// The `limit` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Bytes => "bytes",
            Self::KeyMessages => "key_messages",
            Self::KeyBytes => "key_bytes",
        }
    }
}

/// A family's children of one upstream, each made and found when it is first counted: finding one takes a lock and two
/// hashes, which is too much for every request. Beside the upstream they have `N` labels.
struct Children<const N: usize> {
    family: IntCounterVec,
    upstream: String,
    /// In the order they came. There are six classes of statuses, and six sources of keys; most tunnels end in one of a
    /// few ways.
    known: [OnceLock<([&'static str; N], IntCounter)>; 8],
}

impl<const N: usize> Children<N> {
    fn of(family: &IntCounterVec, upstream: &str) -> Self {
        Self { family: family.clone(), upstream: upstream.to_owned(), known: Default::default() }
    }

    fn inc(&self, labels: [&'static str; N]) {
        let find = || {
            let values: Vec<&str> = std::iter::once(self.upstream.as_str()).chain(labels).collect();
            self.family.with_label_values(&values)
        };
        let mut known = self.known.iter().map(|place| place.get_or_init(|| (labels, find())));
        match known.find(|(names, _)| *names == labels) {
            Some((_, child)) => child.inc(),
            None => find().inc(),
        }
    }
}

/// The occasions of re-attachments, each shown at 0 until one came to its end.
const REATTACHED: [&str; 3] = ["leaving", "going_away", "crash"];
/// The outcomes of waits for backends that are away, each shown at 0 until it is counted.
const HOLDS: [&str; 6] = ["returned", "over", "full", "elsewhere", "left", "draining"];

/// The `tls` label of a tunnel, by the part that seals it.
pub(super) const SEALING: [&str; 3] = ["none", "record", "rustls"];

/// The `direction` label of the bytes that a side sends.
fn direction(from: Side) -> &'static str {
    match from {
        Side::Client => "to_backend",
        Side::Backend => "to_client",
    }
}

/// The label of a close code. Codes of applications are many, and clients choose them: they share two labels.
fn close_code(code: u16) -> &'static str {
    /// Codes of RFC 6455 §7.4.1 and its IANA registry, from 1000 on.
    const REGISTERED: [&str; 16] = [
        "1000", "1001", "1002", "1003", "1004", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013",
        "1014", "1015",
    ];
    match code {
        3000..=3999 => "3xxx",
        4000..=4999 => "4xxx",
        _ => code.checked_sub(1000).and_then(|place| REGISTERED.get(usize::from(place))).map_or("other", |code| code),
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
    fn close_codes_have_nineteen_labels() {
        let labels: std::collections::BTreeSet<_> = (0..=u16::MAX).map(super::close_code).collect();
        assert_eq!(labels.len(), 19);
        let of = [999, 1000, 1015, 1016, 2999, 3000, 3999, 4000, 4999, 5000].map(super::close_code);
        assert_eq!(of, ["other", "1000", "1015", "other", "other", "3xxx", "3xxx", "4xxx", "4xxx", "other"]);
    }

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
