//! `longhaul status`: how the running gateway is.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::control::Instance;
use crate::control::Request;
use crate::hook::Registry;
use crate::snapshot::Phase;
use crate::status::{BackendStatus, Event, Status, TlsTunnels};

pub(super) fn run(instance: &Instance, hooks: &Registry) -> ExitCode {
    instance.ask(&Request::Status, hooks)
}

/// A status for a person.
pub(super) fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12} {value}").expect("writing into a String cannot fail");
    };
    let phase = match status.phase {
        Phase::Serving => "serving",
        Phase::Grace => "draining: not ready any more, still accepting",
        Phase::Closing => "draining: closed to everything new",
    };
    line("state", phase.to_owned());
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
    line("version", format!("{}, pid {}, up {uptime}", status.version, status.pid));
    line("generation", status.generation.to_string());
    line("last reload", event(status.last_reload.as_ref()));
    line("last upgrade", event(status.last_upgrade.as_ref()));
    let listeners: Vec<_> = status.listeners.iter().map(ToString::to_string).collect();
    line("listeners", listeners.join(", "));
    if let Some(metrics) = status.metrics {
        line("metrics", format!("http://{metrics}/metrics"));
    }
    line("requests", format!("{} under way", status.requests));
    let away = status.away_from_home.map_or(String::new(), |away| format!(", {away} away from home"));
    line("tunnels", format!("{} open{}{away}", status.tunnels, with_tls(status.tls)));
    if status.tunnels > 0 {
        line("by age", ages(status));
    }
    for upstream in &status.upstreams {
        backends(&mut text, &upstream.name, &upstream.backends);
    }
    text
}

fn backends(text: &mut String, upstream: &str, backends: &[BackendStatus]) {
    let width = backends.iter().map(|backend| backend.address.to_string().len()).max().unwrap_or_default();
    writeln!(text, "\nupstream {upstream}").expect("writing into a String cannot fail");
    for backend in backends {
        let health = match (backend.checked, backend.up) {
            (false, _) => "unchecked",
            (true, true) => "up",
            (true, false) => "down",
        };
        let BackendStatus { address, weight, tunnels, load, .. } = backend;
        let draining = if backend.draining { ", draining" } else { "" };
        let ejected = if backend.ejected { ", ejected" } else { "" };
        writeln!(
            text,
            "  {:<width$}  {health:<9}  weight {weight}, {tunnels} tunnels, load {load}{draining}{ejected}",
            address.to_string()
        )
        .expect("writing into a String cannot fail");
    }
}

/// Spans of age that hold a tunnel.
fn ages(status: &Status) -> String {
    let mut from = 0;
    let mut spans = Vec::new();
    for age in &status.ages {
        let duration = |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string();
        let span = match age.under_seconds {
            Some(under) => format!("under {}", duration(under)),
            None => format!("{} or more", duration(from)),
        };
        from = age.under_seconds.unwrap_or(from);
        if age.tunnels > 0 {
            spans.push(format!("{span}: {}", age.tunnels));
        }
    }
    spans.join(", ")
}

/// Nothing where no tunnel speaks TLS.
fn with_tls(TlsTunnels { record, rustls }: TlsTunnels) -> String {
    match (record + rustls, rustls) {
        (0, _) => String::new(),
        (all, 0) => format!(", {all} with TLS"),
        (all, stay) => format!(", {all} with TLS ({stay} of which an upgrade does not move)"),
    }
}

fn event(event: Option<&Event>) -> String {
    let Some(event) = event else { return "none".to_owned() };
    let at = UNIX_EPOCH + Duration::from_secs(event.at);
    let ago = Duration::from_secs(SystemTime::now().duration_since(at).unwrap_or_default().as_secs());
    let outcome = if event.ok { "done" } else { "failed" };
    format!("{} ago, {outcome}: {}", humantime::format_duration(ago), event.message)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::status::{Age, UpstreamStatus};

    #[test]
    fn the_text_says_what_the_status_does() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let backend = |port, up, draining| BackendStatus {
            address: address(port),
            weight: 2,
            up,
            checked: true,
            draining,
            ejected: false,
            tunnels: 3,
            load: 4,
        };
        let status = Status {
            version: "1.2.3".into(),
            pid: 7,
            phase: Phase::Serving,
            generation: 5,
            uptime_seconds: 3_660,
            listeners: vec![address(8080), address(8081)],
            metrics: Some(address(9090)),
            requests: 1,
            tunnels: 6,
            tls: TlsTunnels { record: 2, rustls: 1 },
            ages: vec![
                Age { under_seconds: Some(60), tunnels: 2 },
                Age { under_seconds: Some(600), tunnels: 0 },
                Age { under_seconds: None, tunnels: 4 },
            ],
            away_from_home: Some(1),
            last_reload: None,
            last_upgrade: None,
            upstreams: vec![UpstreamStatus {
                name: "chat".into(),
                backends: vec![backend(9001, true, true), backend(19002, false, false)],
            }],
        };
        let expected = "\
state        serving
version      1.2.3, pid 7, up 1h 1m
generation   5
last reload  none
last upgrade none
listeners    127.0.0.1:8080, 127.0.0.1:8081
metrics      http://127.0.0.1:9090/metrics
requests     1 under way
tunnels      6 open, 3 with TLS (1 of which an upgrade does not move), 1 away from home
by age       under 1m: 2, 10m or more: 4

upstream chat
  127.0.0.1:9001   up         weight 2, 3 tunnels, load 4, draining
  127.0.0.1:19002  down       weight 2, 3 tunnels, load 4
";
        assert_eq!(text(&status), expected);
    }
}
