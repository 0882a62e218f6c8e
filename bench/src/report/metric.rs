//! Rows of the report, and the goals of Longhaul.

use crate::peer::Peer;

/// One row.
pub struct Metric {
    /// Its name in the JSON file: work, then figure.
    pub id: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// Unit of its figures.
    pub unit: &'static str,
    /// The better direction; `None` for figures that are the same for all by design.
    pub better: Option<Better>,
    /// The goal of Longhaul.
    pub goal: Option<Goal>,
    /// Compared round by round with each peer and, where it is CPU, with the same program again.
    pub is_paired: bool,
}

/// The better direction of a figure.
#[derive(Clone, Copy, PartialEq)]
pub enum Better {
    /// Less of it.
    Less,
    /// More of it.
    More,
}

/// A goal of Longhaul.
#[derive(Clone, Copy)]
pub enum Goal {
    /// At most so many times a peer's figure.
    Times(f64, Peer),
    /// At most so much.
    AtMost(f64),
}

const fn row(id: &'static str, title: &'static str, unit: &'static str, better: Better) -> Metric {
    Metric { id, title, unit, better: Some(better), goal: None, is_paired: false }
}

impl Metric {
    /// Title with unit.
    pub fn title(&self) -> String {
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        format!("{}{unit}", self.title)
    }

    /// Title with unit, for tables in which the row stands alone: with the work that it belongs to.
    pub fn whole_title(&self) -> String {
        let Some(part) = self.title.strip_prefix("… ") else { return self.title() };
        let above = METRICS.iter().take_while(|metric| metric.id != self.id);
        let head = above.filter(|metric| !metric.title.starts_with('…')).last().map_or("", |head| head.title);
        let work = head.split_once(": ").map_or(head, |(work, _)| work);
        let unit = if self.unit.is_empty() { String::new() } else { format!(", {}", self.unit) };
        format!("{work}: {part}{unit}")
    }

    const fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    const fn paired(mut self) -> Self {
        self.is_paired = true;
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
    row("idle.left", "user memory left when all have closed, above the start", "MiB", Less).goal(Goal::AtMost(0.4)),
    row("idle.start", "the gateway with no tunnel (PSS)", "MiB", Less),
    row("idle.switches", "wake-ups of all idle tunnels", "/s", Less),
    row("echo64.cpu", "echo 64 B, 64 tunnels: CPU", "µs", Less).paired().goal(Goal::Times(0.9, Peer::Nginx)),
    row("echo64.voluntary", "… context switches, voluntary", "", Less),
    row("echo64.involuntary", "… context switches, involuntary", "", Less),
    row("echo64.rate", "… messages", "/s", More),
    row("echo64.p50", "… latency, half of all", "µs", Less),
    row("echo64.p99", "… latency, 99 %", "µs", Less),
    row("echo64.p999", "… latency, 99.9 %", "µs", Less),
    row("echo1.cpu", "echo 64 B, 1 tunnel, one core: CPU", "µs", Less).paired().goal(Goal::Times(0.95, Peer::Nginx)),
    row("echo1.voluntary", "… context switches, voluntary", "", Less),
    row("echo1.involuntary", "… context switches, involuntary", "", Less),
    row("echo1.rate", "… messages", "/s", More),
    row("echo1.p50", "… latency, half of all", "µs", Less),
    row("echo1.p99", "… latency, 99 %", "µs", Less),
    row("echo1.p999", "… latency, 99.9 %", "µs", Less),
    row("echo1000.cpu", "echo 64 B, 1,000 tunnels: CPU", "µs", Less).paired().goal(Goal::Times(0.8, Peer::Nginx)),
    row("echo1000.voluntary", "… context switches, voluntary", "", Less),
    row("echo1000.involuntary", "… context switches, involuntary", "", Less),
    row("echo1000.rate", "… messages", "/s", More),
    row("echo1000.p50", "… latency, half of all", "µs", Less),
    row("echo1000.p99", "… latency, 99 %", "µs", Less),
    row("echo1000.p999", "… latency, 99.9 %", "µs", Less),
    row("paced.cpu", "echo 64 B at a fixed rate, 64 tunnels: CPU", "µs", Less).paired(),
    row("paced.voluntary", "… context switches, voluntary", "", Less),
    row("paced.involuntary", "… context switches, involuntary", "", Less),
    row("paced.rate", "… messages", "/s", More).neutral(),
    row("paced.p50", "… latency from the due moment, half of all", "µs", Less),
    row("paced.p99", "… latency from the due moment, 99 %", "µs", Less).paired().goal(Goal::Times(1.0, Peer::Nginx)),
    row("paced.p999", "… latency from due moment, 99.9 %", "µs", Less).paired().goal(Goal::Times(1.0, Peer::Nginx)),
    row("stream.cpu", "stream of 64 KiB messages: CPU per MiB echoed", "µs", Less)
        .paired()
        .goal(Goal::Times(0.73, Peer::Envoy)),
    row("stream.voluntary", "… context switches, voluntary", "", Less),
    row("stream.involuntary", "… context switches, involuntary", "", Less),
    row("stream.rate", "… throughput", "MiB/s", More),
    row("stream.p50", "… latency, half of all", "µs", Less),
    row("stream.p99", "… latency, 99 %", "µs", Less),
    row("stream.p999", "… latency, 99.9 %", "µs", Less),
    row("handshake.cpu", "handshake + echo + close: CPU", "µs", Less).paired().goal(Goal::Times(0.85, Peer::Nginx)),
    row("handshake.voluntary", "… context switches, voluntary", "", Less),
    row("handshake.involuntary", "… context switches, involuntary", "", Less),
    row("handshake.rate", "… of them", "/s", More),
    row("handshake.p50", "… time, half of all", "µs", Less),
    row("handshake.p99", "… time, 99 %", "µs", Less),
    row("handshake.p999", "… time, 99.9 %", "µs", Less),
    row("logged.cpu", "handshake + echo + close, default access log: CPU", "µs", Less)
        .paired()
        .goal(Goal::Times(0.9, Peer::Nginx)),
    row("logged.voluntary", "… context switches, voluntary", "", Less),
    row("logged.involuntary", "… context switches, involuntary", "", Less),
    row("logged.rate", "… of them", "/s", More),
    row("logged.p50", "… time, half of all", "µs", Less),
    row("logged.p99", "… time, 99 %", "µs", Less),
    row("logged.p999", "… time, 99.9 %", "µs", Less),
    row("http.cpu", "HTTP request, kept connection: CPU", "µs", Less).paired().goal(Goal::Times(0.75, Peer::Pingora)),
    row("http.voluntary", "… context switches, voluntary", "", Less),
    row("http.involuntary", "… context switches, involuntary", "", Less),
    row("http.rate", "… requests (wrk, 64 connections)", "/s", More),
    row("http.p50", "… latency, half of all", "µs", Less),
    row("http.p99", "… latency, 99 %", "µs", Less),
    row("fairness.alone50", "echo beside nothing, one worker: latency, half of all", "µs", Less),
    row("fairness.alone99", "… 99 %", "µs", Less),
    row("fairness.beside50", "echo beside four bulk tunnels, one worker: latency, half of all", "µs", Less),
    row("fairness.beside99", "… 99 %", "µs", Less),
    row("fairness.times50", "… times that beside nothing, half of all", "×", Less).goal(Goal::AtMost(2.0)),
    row("fairness.times99", "… times that beside nothing, 99 %", "×", Less).goal(Goal::AtMost(3.0)),
    row("fairness.bulk", "… throughput of the bulk tunnels", "MiB/s", More).paired(),
    row("reload.lost", "reload: of 500 tunnels lost", "", Less).goal(Goal::AtMost(0.0)),
    row("reload.old", "… old process gone after", "s", Less),
    row("reload.worst", "… longest time an answer took", "ms", Less),
    row("upgrade.lost", "upgrade of the program: of 500 tunnels lost", "", Less).goal(Goal::AtMost(0.0)),
    row("upgrade.old", "… old process gone after", "s", Less),
    row("upgrade.worst", "… longest time an answer took", "ms", Less),
    row("keys.moved", "one of three backends leaves: clients sent elsewhere", "%", Less),
    row("keys.needless", "… clients whose own backend stayed", "%", Less).goal(Goal::AtMost(0.0)),
    row("tls-idle.user", "idle tunnel over TLS, user memory", "KiB", Less).goal(Goal::AtMost(2.5)),
    row("tls-idle.pss", "idle tunnel over TLS, all memory (PSS)", "KiB", Less),
    row("tls-idle.traffic", "the same tunnel over TLS after traffic, user memory", "KiB", Less),
    row("tls-idle.left", "user memory left when all over TLS have closed, above the start", "MiB", Less),
    row("tls-idle.start", "the gateway that listens for TLS, with no tunnel (PSS)", "MiB", Less),
    row("tls-idle.switches", "wake-ups of all idle tunnels over TLS", "/s", Less),
    row("tls-echo64.cpu", "echo 64 B over TLS, 64 tunnels: CPU", "µs", Less)
        .paired()
        .goal(Goal::Times(0.9, Peer::Haproxy)),
    row("tls-echo64.voluntary", "… context switches, voluntary", "", Less),
    row("tls-echo64.involuntary", "… context switches, involuntary", "", Less),
    row("tls-echo64.rate", "… messages", "/s", More),
    row("tls-echo64.p50", "… latency, half of all", "µs", Less),
    row("tls-echo64.p99", "… latency, 99 %", "µs", Less),
    row("tls-echo64.p999", "… latency, 99.9 %", "µs", Less),
    row("tls-echo1.cpu", "echo 64 B over TLS, 1 tunnel, one core: CPU", "µs", Less)
        .paired()
        .goal(Goal::Times(0.95, Peer::Nginx)),
    row("tls-echo1.voluntary", "… context switches, voluntary", "", Less),
    row("tls-echo1.involuntary", "… context switches, involuntary", "", Less),
    row("tls-echo1.rate", "… messages", "/s", More),
    row("tls-echo1.p50", "… latency, half of all", "µs", Less),
    row("tls-echo1.p99", "… latency, 99 %", "µs", Less),
    row("tls-echo1.p999", "… latency, 99.9 %", "µs", Less),
    row("tls-stream.cpu", "stream of 64 KiB messages over TLS: CPU per MiB echoed", "µs", Less)
        .paired()
        .goal(Goal::Times(0.8, Peer::Envoy)),
    row("tls-stream.voluntary", "… context switches, voluntary", "", Less),
    row("tls-stream.involuntary", "… context switches, involuntary", "", Less),
    row("tls-stream.rate", "… throughput", "MiB/s", More),
    row("tls-stream.p50", "… latency, half of all", "µs", Less),
    row("tls-stream.p99", "… latency, 99 %", "µs", Less),
    row("tls-stream.p999", "… latency, 99.9 %", "µs", Less),
    row("tls-handshake.cpu", "full TLS handshake + upgrade + echo + close: CPU", "µs", Less)
        .paired()
        .goal(Goal::Times(1.0, Peer::Nginx)),
    row("tls-handshake.voluntary", "… context switches, voluntary", "", Less),
    row("tls-handshake.involuntary", "… context switches, involuntary", "", Less),
    row("tls-handshake.rate", "… of them", "/s", More),
    row("tls-handshake.p50", "… time, half of all", "µs", Less),
    row("tls-handshake.p99", "… time, 99 %", "µs", Less),
    row("tls-handshake.p999", "… time, 99.9 %", "µs", Less),
    row("tls-resumed.cpu", "resumed TLS handshake + upgrade + echo + close: CPU", "µs", Less)
        .paired()
        .goal(Goal::Times(0.8, Peer::Nginx)),
    row("tls-resumed.voluntary", "… context switches, voluntary", "", Less),
    row("tls-resumed.involuntary", "… context switches, involuntary", "", Less),
    row("tls-resumed.rate", "… of them", "/s", More),
    row("tls-resumed.p50", "… time, half of all", "µs", Less),
    row("tls-resumed.p99", "… time, 99 %", "µs", Less),
    row("tls-resumed.p999", "… time, 99.9 %", "µs", Less),
    row("tls-beside.alone99", "echo over TLS, 1,000 tunnels: latency, 99 %", "µs", Less),
    row("tls-beside.beside99", "… beside 500 full handshakes a second", "µs", Less),
    row("tls-beside.times99", "… times that without them", "×", Less).goal(Goal::AtMost(1.5)),
    row("tls-beside.rate", "… of the handshakes", "/s", More),
    row("errors", "errors in all loads", "", Less).goal(Goal::AtMost(0.0)),
];

/// The row of an id.
pub fn metric(id: &str) -> Option<&'static Metric> {
    METRICS.iter().find(|metric| metric.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_stands_alone_names_its_work() {
        let title = |id| metric(id).map(Metric::whole_title).unwrap();
        assert_eq!(title("echo64.cpu"), "echo 64 B, 64 tunnels: CPU, µs");
        let paced = "echo 64 B at a fixed rate, 64 tunnels: latency from the due moment, 99 %, µs";
        assert_eq!(title("paced.p99"), paced);
        assert_eq!(title("keys.needless"), "one of three backends leaves: clients whose own backend stayed, %");
    }

    #[test]
    fn beside_each_cpu_figure_stand_both_kinds_of_context_switches() {
        for cpu in METRICS.iter().filter_map(|metric| metric.id.strip_suffix(".cpu")) {
            for kind in ["voluntary", "involuntary"] {
                assert!(metric(&format!("{cpu}.{kind}")).is_some(), "{cpu}.{kind}");
            }
        }
    }
}
