//! What is told of a run, row by row, and what Longhaul has to reach.

use crate::peer::Peer;

/// One row.
pub struct Metric {
    /// Its name in the JSON file: work, then figure.
    pub id: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// Unit of its figures.
    pub unit: &'static str,
    /// Which figures are better; `None` where that is not the question.
    pub better: Option<Better>,
    /// What Longhaul must reach.
    pub goal: Option<Goal>,
}

/// Which way is better.
#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    /// Less of it.
    Less,
    /// More of it.
    More,
}

/// What Longhaul must reach.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times a peer's figure.
    Times(f64, Peer),
    /// At most so much.
    AtMost(f64),
}

const fn row(id: &'static str, title: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { id, title, unit, better: Some(better), goal: None }
}

impl Metric {
    const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    const fn neutral(mut self) -> Self {
        self.better = None;
        self
    }
}

use Better::{Less, More};

/// All rows, in the order of the table.
pub const METRICS: &[Metric] = &[
    row("idle.user", "idle tunnel, user memory", "KiB", Less).goal(Goal::AtMost(1.0)),
    row("idle.pss", "idle tunnel, all memory (PSS)", "KiB", Less),
    row("idle.traffic", "the same tunnel after traffic, user memory", "KiB", Less),
    row("idle.left", "user memory left when all have closed, above the start", "MiB", Less).goal(Goal::AtMost(1.0)),
    row("idle.start", "the gateway with no tunnel (PSS)", "MiB", Less),
    row("idle.switches", "wake-ups of all idle tunnels", "/s", Less),
    row("echo64.cpu", "echo 64 B, 64 tunnels: CPU", "µs", Less).goal(Goal::Times(0.9, Peer::Nginx)),
    row("echo64.rate", "… messages", "/s", More),
    row("echo64.p50", "… latency, half of all", "µs", Less),
    row("echo64.p99", "… latency, 99 %", "µs", Less),
    row("echo64.p999", "… latency, 99.9 %", "µs", Less),
    row("echo1.cpu", "echo 64 B, 1 tunnel, one core: CPU", "µs", Less).goal(Goal::Times(0.95, Peer::Nginx)),
    row("echo1.rate", "… messages", "/s", More),
    row("echo1.p50", "… latency, half of all", "µs", Less),
    row("echo1.p99", "… latency, 99 %", "µs", Less),
    row("echo1.p999", "… latency, 99.9 %", "µs", Less),
    row("echo1000.cpu", "echo 64 B, 1,000 tunnels: CPU", "µs", Less).goal(Goal::Times(0.9, Peer::Nginx)),
    row("echo1000.rate", "… messages", "/s", More),
    row("echo1000.p50", "… latency, half of all", "µs", Less),
    row("echo1000.p99", "… latency, 99 %", "µs", Less),
    row("echo1000.p999", "… latency, 99.9 %", "µs", Less),
    row("paced.cpu", "echo 64 B at a fixed rate, 64 tunnels: CPU", "µs", Less),
    row("paced.rate", "… messages", "/s", More).neutral(),
    row("paced.p50", "… latency from the due moment, half of all", "µs", Less),
    row("paced.p99", "… latency from the due moment, 99 %", "µs", Less),
    row("paced.p999", "… latency from the due moment, 99.9 %", "µs", Less),
    row("stream.cpu", "stream of 64 KiB messages: CPU per MiB echoed", "µs", Less).goal(Goal::Times(0.7, Peer::Envoy)),
    row("stream.rate", "… throughput", "MiB/s", More),
    row("stream.p50", "… latency, half of all", "µs", Less),
    row("stream.p99", "… latency, 99 %", "µs", Less),
    row("stream.p999", "… latency, 99.9 %", "µs", Less),
    row("handshake.cpu", "handshake + echo + close: CPU", "µs", Less).goal(Goal::Times(1.0, Peer::Nginx)),
    row("handshake.rate", "… of them", "/s", More),
    row("handshake.p50", "… time, half of all", "µs", Less),
    row("handshake.p99", "… time, 99 %", "µs", Less),
    row("handshake.p999", "… time, 99.9 %", "µs", Less),
    row("http.cpu", "HTTP request, kept connection: CPU", "µs", Less).goal(Goal::Times(1.0, Peer::Pingora)),
    row("http.rate", "… requests (wrk, 64 connections)", "/s", More),
    row("http.p50", "… latency, half of all", "µs", Less),
    row("http.p99", "… latency, 99 %", "µs", Less),
    row("reload.lost", "reload: of 500 tunnels lost", "", Less).goal(Goal::AtMost(0.0)),
    row("reload.old", "… old process gone after", "s", Less),
    row("reload.worst", "… longest time an answer took", "ms", Less),
    row("upgrade.lost", "upgrade of the program: of 500 tunnels lost", "", Less).goal(Goal::AtMost(0.0)),
    row("upgrade.old", "… old process gone after", "s", Less),
    row("upgrade.worst", "… longest time an answer took", "ms", Less),
    row("keys.moved", "one of three backends leaves: clients sent elsewhere", "%", Less),
    row("keys.needless", "… whose own backend stayed", "%", Less).goal(Goal::AtMost(0.0)),
    row("errors", "errors in all loads", "", Less).goal(Goal::AtMost(0.0)),
];

/// The row of an id.
pub fn metric(id: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.id == id)
}
