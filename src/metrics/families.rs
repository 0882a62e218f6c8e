//! Families of metrics, registered once for each gateway.

use prometheus::core::Collector;
use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::BackendReading;
use super::listener::ListenerFamilies;

/// The families whose children belong to one upstream.
pub(crate) struct Families {
    pub(super) requests: IntCounterVec,
    pub(super) request_seconds: HistogramVec,
    pub(super) connect_seconds: HistogramVec,
    pub(super) handshake_seconds: HistogramVec,
    pub(super) picks: IntCounterVec,
    pub(super) failovers: IntCounterVec,
    pub(super) failures: IntCounterVec,
    /// Of the whole gateway: without a label for the upstream.
    pub(super) local_failures: IntCounterVec,
    pub(super) tls_failures: IntCounterVec,
    pub(super) health_changes: IntCounterVec,
    pub(super) ejections: IntCounterVec,
    pub(super) admission: AdmissionFamilies,
    pub(super) tunnels: TunnelFamilies,
    pub(super) backends: BackendFamilies,
}

/// Clients before they are let through to a backend.
pub(super) struct AdmissionFamilies {
    pub(super) not_admitted: IntCounterVec,
    pub(super) admitted: IntCounterVec,
    pub(super) wait_seconds: HistogramVec,
    pub(super) holds: IntCounterVec,
    pub(super) hold_seconds: HistogramVec,
}

/// Tunnels and their bytes.
pub(super) struct TunnelFamilies {
    pub(super) open: IntGaugeVec,
    pub(super) opened: IntCounterVec,
    pub(super) ended: IntCounterVec,
    pub(super) close_codes: IntCounterVec,
    pub(super) throttled: IntCounterVec,
    pub(super) reattached: IntCounterVec,
    pub(super) dropped: IntCounterVec,
    pub(super) reattach_gap_seconds: HistogramVec,
    pub(super) handed_over: IntCounterVec,
    pub(super) adopted: IntCounterVec,
    pub(super) bytes: IntCounterVec,
    pub(super) messages: IntCounterVec,
}

/// State of each backend, set at each scrape.
pub(super) struct BackendFamilies {
    pub(super) up: IntGaugeVec,
    pub(super) draining: IntGaugeVec,
    pub(super) ejected: IntGaugeVec,
    pub(super) tunnels: IntGaugeVec,
    pub(super) load: IntGaugeVec,
    pub(super) waiting: IntGaugeVec,
    pub(super) held: IntGaugeVec,
    pub(super) rate: GaugeVec,
}

impl Families {
    pub(super) fn register(registry: &Registry) -> Self {
        let upstream = &["upstream"];
        let counter = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let seconds = |name, help| seconds(registry, name, help);
        Self {
            requests: counter("longhaul_requests_total", "HTTP requests answered.", &["upstream", "code"]),
            request_seconds: seconds("longhaul_request_duration_seconds", "From a request's header to its last byte."),
            connect_seconds: seconds("longhaul_connect_duration_seconds", "Time to connect to a backend."),
            handshake_seconds: seconds(
                "longhaul_handshake_duration_seconds",
                "From an upgrade request to the backend's 101.",
            ),
            picks: counter(
                "longhaul_picks_total",
                "Backends picked, by where the key came from.",
                &["upstream", "source"],
            ),
            failovers: counter("longhaul_failovers_total", "Picks of a further backend after one failed.", upstream),
            failures: counter(
                "longhaul_backend_failures_total",
                "Failures of real traffic held against a backend.",
                &["upstream", "kind"],
            ),
            local_failures: counter(
                "longhaul_local_failures_total",
                "Failures for want of something of the gateway's own.",
                &["kind"],
            ),
            tls_failures: counter(
                "longhaul_backend_tls_failures_total",
                "Connections to backends, of traffic and checks, that TLS failed on.",
                &["upstream", "failure"],
            ),
            health_changes: counter(
                "longhaul_health_changes_total",
                "Backends that went up or down.",
                &["upstream", "to"],
            ),
            ejections: counter("longhaul_ejections_total", "Ejections of backends.", upstream),
            admission: AdmissionFamilies::register(registry),
            tunnels: TunnelFamilies::register(registry),
            backends: BackendFamilies::register(registry),
        }
    }
}

impl AdmissionFamilies {
    fn register(registry: &Registry) -> Self {
        let upstream = &["upstream"];
        let counter = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let seconds = |name, help| seconds(registry, name, help);
        Self {
            not_admitted: counter(
                "longhaul_upstream_refused_total",
                "Clients not admitted to a backend, by reason.",
                &["upstream", "reason"],
            ),
            admitted: counter("longhaul_handshakes_admitted_total", "Handshakes given their turn.", upstream),
            wait_seconds: seconds("longhaul_handshake_wait_seconds", "From a handshake's arrival to its turn."),
            holds: counter(
                "longhaul_holds_total",
                "Waits of clients for a backend that was away.",
                &["upstream", "outcome"],
            ),
            hold_seconds: seconds(
                "longhaul_hold_wait_seconds",
                "Time that a client waited for a backend that was away.",
            ),
        }
    }
}

impl TunnelFamilies {
    fn register(registry: &Registry) -> Self {
        let upstream = &["upstream"];
        let counter = |name, help, labels: &[&str]| counters(registry, name, help, labels);
        let seconds = |name, help| seconds(registry, name, help);
        Self {
            open: add(
                registry,
                IntGaugeVec::new(
                    Opts::new("longhaul_tunnels_open", "Open tunnels, by the part that seals them."),
                    &["tls"],
                ),
            ),
            opened: counter("longhaul_tunnels_opened_total", "Tunnels opened.", upstream),
            ended: counter("longhaul_tunnels_ended_total", "Tunnels ended, by reason.", &["upstream", "reason"]),
            close_codes: counter(
                "longhaul_tunnel_close_codes_total",
                "Tunnels ended, by who ended them and with which code.",
                &["upstream", "by", "code"],
            ),
            throttled: counter(
                "longhaul_tunnels_throttled_total",
                "Times that a client began to be held back, by the limit it went over.",
                &["upstream", "limit"],
            ),
            reattached: counter(
                "longhaul_reattach_total",
                "Tunnels whose backend went, by the occasion and by what became of them.",
                &["upstream", "reason", "outcome"],
            ),
            dropped: counter(
                "longhaul_reattach_messages_dropped_total",
                "Messages of clients dropped at a crash of their backend, too long to be kept.",
                upstream,
            ),
            reattach_gap_seconds: seconds(
                "longhaul_reattach_gap_seconds",
                "Time for which clients that were re-attached were held.",
            ),
            handed_over: counter("longhaul_tunnels_handed_over_total", "Tunnels given to a successor.", upstream),
            adopted: counter("longhaul_tunnels_adopted_total", "Tunnels taken over from a predecessor.", upstream),
            bytes: counter("longhaul_tunnel_bytes_total", "Bytes taken from a side.", &["upstream", "direction"]),
            messages: counter("longhaul_tunnel_messages_total", "Messages passed on.", &["upstream", "direction"]),
        }
    }
}

impl BackendFamilies {
    fn register(registry: &Registry) -> Self {
        let labels = &["upstream", "backend"];
        let gauge = |name, help| add(registry, IntGaugeVec::new(Opts::new(name, help), labels));
        Self {
            up: gauge("longhaul_backend_up", "1 when the backend is taken as up."),
            draining: gauge("longhaul_backend_draining", "1 while the operator drains the backend."),
            ejected: gauge("longhaul_backend_ejected", "1 while doubt keeps the backend out."),
            tunnels: gauge("longhaul_backend_tunnels", "Open tunnels."),
            load: gauge("longhaul_backend_load", "Open tunnels and running requests."),
            waiting: gauge("longhaul_backend_waiting", "Clients that wait for the backend."),
            held: gauge("longhaul_backend_held", "Clients that wait until the backend is back."),
            rate: add(
                registry,
                GaugeVec::new(
                    Opts::new("longhaul_backend_handshake_rate", "Handshakes a second that the backend is given."),
                    labels,
                ),
            ),
        }
    }

    /// Sets every gauge anew, so that no pair of `inc` and `dec` can drift and a backend that is gone leaves.
    pub(super) fn set<'a>(&self, backends: impl Iterator<Item = BackendReading<'a>>) {
        let gauges = [&self.up, &self.draining, &self.ejected, &self.tunnels, &self.load, &self.waiting, &self.held];
        gauges.into_iter().for_each(IntGaugeVec::reset);
        self.rate.reset();
        for reading in backends {
            let labels = [reading.upstream, reading.backend.as_str()];
            self.up.with_label_values(&labels).set(i64::from(reading.up));
            self.draining.with_label_values(&labels).set(i64::from(reading.draining));
            self.ejected.with_label_values(&labels).set(i64::from(reading.ejected));
            self.tunnels.with_label_values(&labels).set(reading.tunnels.cast_signed());
            self.load.with_label_values(&labels).set(reading.load.cast_signed());
            self.waiting.with_label_values(&labels).set(reading.waiting.cast_signed());
            self.held.with_label_values(&labels).set(reading.held.cast_signed());
            if let Some(rate) = reading.rate {
                self.rate.with_label_values(&labels).set(rate);
            }
        }
    }
}

pub(super) fn listener_families(registry: &Registry) -> ListenerFamilies {
    let accept = HistogramOpts::new(
        "longhaul_accept_duration_seconds",
        "From the acceptance of a connection to the end of its first request's head.",
    )
    .buckets(SECONDS.to_vec());
    let open = Opts::new("longhaul_connections_open", "Clients' connections that are open and are no tunnel.");
    ListenerFamilies {
        accepted: counters(registry, "longhaul_connections_accepted_total", "Connections accepted.", &["listener"]),
        accept_seconds: add(registry, HistogramVec::new(accept, &["listener"])),
        open: add(registry, IntGaugeVec::new(open, &["listener"])),
        refused: counters(
            registry,
            "longhaul_refused_total",
            "Requests and connections refused by the limits and rules of the gateway, by reason.",
            &["listener", "reason"],
        ),
        accept_errors: counters(
            registry,
            "longhaul_accept_errors_total",
            "Connections that could not be accepted.",
            &["listener", "kind"],
        ),
    }
}

pub(super) fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    add(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

/// A family of histograms by upstream, in [`SECONDS`].
fn seconds(registry: &Registry, name: &str, help: &str) -> HistogramVec {
    let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
    add(registry, HistogramVec::new(opts, &["upstream"]))
}

pub(super) fn add<C: Collector + Clone + 'static>(registry: &Registry, collector: prometheus::Result<C>) -> C {
    let collector = collector.expect("metric names and labels are constants that follow Prometheus's rules");
    registry.register(Box::new(collector.clone())).expect("every name is registered once");
    collector
}

/// From 100 µs (a backend on the same host) to 60 s (the default read timeout).
pub(super) const SECONDS: [f64; 14] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];
