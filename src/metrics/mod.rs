//! Metrics of the gateway, under the names that docs/metrics.md lists.
//!
//! Label sets are bounded: upstream and backend names come from the configuration, every other label from a fixed list.

mod discovery;
mod families;
mod hook;
mod listener;
mod local_failure;
mod reload;
mod tls;
mod totals;
mod upstream;
mod worker;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

pub use discovery::DiscoveryMetrics;
use families::{Families, add, counters, listener_families};
use hook::HookFamilies;
pub use hook::HookMetrics;
use listener::ListenerFamilies;
pub use listener::{AcceptError, ListenerMetrics, OpenConnection};
pub use local_failure::LocalFailure;
use reload::ReloadMetrics;
pub use reload::ReloadOutcome;
pub use tls::TlsMetrics;
pub use totals::{CloseCodes, Directions, Distribution, Totals};
pub use upstream::{LimitedRate, UpstreamMetrics, UpstreamRefusal};
pub use worker::{WorkerMetrics, WorkerTurns};

/// Every metric of one gateway, in a registry of its own.
pub struct Metrics {
    registry: Registry,
    families: Families,
    listeners: ListenerFamilies,
    upstreams: Mutex<HashMap<String, Arc<UpstreamMetrics>>>,
    /// Two scrapes at once must not reset each other's gauges.
    scrape: Mutex<()>,
    /// Access log lines that found the queue full.
    pub access_log_dropped: IntCounter,
    /// Handshakes in progress.
    pub handshakes_in_progress: IntGauge,
    refused: IntCounterVec,
    /// Entries in the table of clients' networks, set at each scrape.
    pub client_networks: IntGauge,
    /// The running snapshot's generation.
    pub generation: IntGauge,
    reloads: ReloadMetrics,
    hooks: HookFamilies,
    unverified: IntGaugeVec,
    /// Counters of TLS at the listeners.
    pub tls: TlsMetrics,
    proxy_headers: IntCounterVec,
    spans: IntCounterVec,
    /// Pages and programs that follow the gateway live.
    pub viewers: IntGauge,
    /// Updates made for them: one for all, and none while nobody looks.
    pub live_updates: IntCounter,
}

/// State of a backend at the moment of a scrape.
pub struct BackendReading<'a> {
    /// The upstream's name.
    pub upstream: &'a str,
    /// The backend's name.
    pub backend: String,
    /// True when it is taken as up.
    pub up: bool,
    /// True while the operator drains it.
    pub draining: bool,
    /// True while doubt keeps it out.
    pub ejected: bool,
    /// Its open tunnels.
    pub tunnels: u64,
    /// Its open tunnels and running requests.
    pub load: u64,
    /// Clients that wait for their turn there.
    pub waiting: u64,
    /// Clients that wait until it is back.
    pub held: u64,
    /// Handshakes a second that it is given; `None` without a rate.
    pub rate: Option<f64>,
}

impl Metrics {
    /// A new registry with every family in it.
    pub fn new() -> Self {
        let registry = Registry::new();
        describe_process(&registry);
        let counter = |name, help| add(&registry, IntCounter::new(name, help));
        let gauge = |name, help| add(&registry, IntGauge::new(name, help));
        let by = |label, name, help| counters(&registry, name, help, &[label]);
        let unverified = Opts::new(
            "longhaul_upstream_tls_unverified",
            "1 for an upstream whose backends' certificates nobody verifies.",
        );
        let metrics = Self {
            families: Families::register(&registry),
            listeners: listener_families(&registry),
            upstreams: Mutex::default(),
            scrape: Mutex::default(),
            access_log_dropped: counter(
                "longhaul_access_log_dropped_total",
                "Access log lines dropped for a full queue.",
            ),
            handshakes_in_progress: gauge("longhaul_handshakes_in_progress", "WebSocket handshakes in progress."),
            refused: by("code", "longhaul_unrouted_requests_total", "Requests that no route matched."),
            client_networks: gauge("longhaul_client_networks", "Networks of clients in the table that counts them."),
            generation: gauge("longhaul_config_generation", "The generation of the running configuration."),
            reloads: ReloadMetrics::register(&registry),
            hooks: HookFamilies::register(&registry),
            unverified: add(&registry, IntGaugeVec::new(unverified, &["upstream"])),
            tls: TlsMetrics::register(&registry),
            proxy_headers: by(
                "failure",
                "longhaul_proxy_header_failures_total",
                "Connections closed for their PROXY header.",
            ),
            spans: by("outcome", "longhaul_spans_total", "Spans of traces, by what became of them."),
            viewers: gauge("longhaul_live_viewers", "Dashboards and programs that follow the gateway live."),
            live_updates: counter("longhaul_live_updates_total", "Updates made for live viewers, one for all of them."),
            registry,
        };
        for failure in LocalFailure::ALL {
            metrics.families.local_failures.with_label_values(&[failure.as_str()]);
        }
        for outcome in ["exported", "dropped", "failed"] {
            metrics.spans.with_label_values(&[outcome]);
        }
        metrics.proxy_headers.with_label_values(&["malformed"]);
        metrics
    }

    /// Counts a reload that ended `at`.
    pub fn reloaded(&self, outcome: ReloadOutcome, at: SystemTime) {
        self.reloads.ended(outcome, at);
    }

    /// Sets the upstreams whose backends' certificates nobody verifies (`verify: false`).
    pub fn unverified<'a>(&self, upstreams: impl Iterator<Item = &'a str>) {
        self.unverified.reset();
        upstreams.for_each(|upstream| self.unverified.with_label_values(&[upstream]).set(1));
    }

    /// Counts a connection that was closed for its PROXY header.
    pub fn proxy_header_failed(&self, failure: &'static str) {
        self.proxy_headers.with_label_values(&[failure]).inc();
    }

    /// Counter of the spans with this outcome: `exported`, `dropped`, `failed`.
    pub fn spans(&self, outcome: &'static str) -> IntCounter {
        self.spans.with_label_values(&[outcome])
    }

    /// Counts a failure that is the gateway's own.
    pub fn local_failure(&self, failure: LocalFailure) {
        self.families.local_failures.with_label_values(&[failure.as_str()]).inc();
    }

    /// The children of one upstream; the same for the same name.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        let mut upstreams = self.upstreams.lock().unwrap_or_else(PoisonError::into_inner);
        upstreams.entry(name.to_owned()).or_insert_with(|| Arc::new(UpstreamMetrics::new(&self.families, name))).clone()
    }

    /// The counters of the hook of this name.
    pub fn hook(&self, name: &str) -> Arc<HookMetrics> {
        Arc::new(HookMetrics::new(name, &self.hooks))
    }

    /// The counters of the listener of this address.
    pub fn listener(&self, address: &str) -> ListenerMetrics {
        ListenerMetrics::new(address, &self.listeners)
    }

    /// Adds a family that is counted elsewhere, once.
    pub fn include(&self, family: Box<dyn Collector>) {
        self.registry.register(family).expect("every name is registered once");
    }

    /// Open tunnels by the part that seals them: none, the record layer, rustls.
    pub fn tunnels_open(&self) -> [u64; 3] {
        upstream::SEALING
            .map(|by| u64::try_from(self.families.tunnels.open.with_label_values(&[by]).get()).unwrap_or(0))
    }

    /// Counts a request that no route matched.
    pub fn refused(&self, status: u16) {
        self.refused.with_label_values(&[upstream::class(status)]).inc();
    }

    /// The text exposition format, with the gauges of `backends` as they are now.
    pub fn render<'a>(&self, backends: impl Iterator<Item = BackendReading<'a>>) -> Vec<u8> {
        let _scrape = self.scrape.lock().unwrap_or_else(PoisonError::into_inner);
        self.families.backends.set(backends);
        let mut text = Vec::with_capacity(16 * 1024);
        let mut all = self.registry.gather();
        let own = |family: &MetricFamily| all.iter().all(|ours| ours.name() != family.name());
        // A program's own stand beside the gateway's. The default registry describes the process too, which is told
        // already.
        let added: Vec<_> = prometheus::gather().into_iter().filter(own).collect();
        all.extend(added);
        TextEncoder::new().encode(&all, &mut text).expect("families that were registered encode into memory");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Registers the version of the build and the numbers of the process (CPU, memory, descriptors).
fn describe_process(registry: &Registry) {
    let build = Opts::new("longhaul_build_info", "Always 1; the label names the version.")
        .const_label("version", env!("CARGO_PKG_VERSION"));
    add(registry, IntGauge::with_opts(build)).set(1);
    registry
        .register(Box::new(ProcessCollector::for_self()))
        .expect("the process collector's names are its own and it is registered once");
}
