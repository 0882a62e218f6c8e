//! `longhaul status`: how the running gateway is.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::control::Instance;
use crate::control::ControlRequest;
use crate::counted::counted;
use crate::discovery::SourceStatus;
use crate::hook::HookRegistry;
use crate::snapshot::GatewayPhase;
use crate::status::{BackendStatus, Event, Status, TlsTunnels, UpstreamStatus};

pub(super) fn run(instance: &Instance, hooks: &HookRegistry) -> ExitCode {
    instance.ask(&ControlRequest::Status, hooks)
}

/// A status for a person.
pub(super) fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "{name:<12} {value}").expect("writing into a String cannot fail");
    };
    let phase = match status.phase {
        GatewayPhase::Serving => "serving",
        GatewayPhase::Grace => "draining: not ready any more, still accepting",
        GatewayPhase::Closing => "draining: closed to everything new",
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
    if let Some(admin) = status.admin {
        line("admin API", format!("{admin}"));
    }
    line("requests", format!("{} under way", status.requests));
    let away = status.away_from_home.map_or(String::new(), |away| format!(", {away} away from home"));
    line("tunnels", format!("{} open{}{away}", status.tunnels, with_tls(status.tls)));
    if status.tunnels > 0 {
        line("by age", ages(status));
    }
    for upstream in &status.upstreams {
        backends(&mut text, upstream);
    }
    text
}

fn backends(text: &mut String, upstream: &UpstreamStatus) {
    let UpstreamStatus { name: upstream, backends, discovery } = upstream;
    let widest = |text: fn(&BackendStatus) -> String| backends.iter().map(|one| text(one).len()).max();
    let (width, names) = (widest(|one| one.address.to_string()), widest(name));
    let (width, names) = (width.unwrap_or_default(), names.unwrap_or_default());
    let source = discovery.as_ref().map_or(String::new(), source);
    writeln!(text, "\nupstream {upstream}{source}").expect("writing into a String cannot fail");
    for backend in backends {
        let health = match (backend.checked, backend.up) {
            _ if backend.absent => "absent",
            (false, _) => "unchecked",
            (true, true) => "up",
            (true, false) => "down",
        };
        let BackendStatus { address, weight, tunnels, load, .. } = backend;
        let name = if names > 0 { format!("{:<names$}  ", name(backend)) } else { String::new() };
        let draining = match (backend.draining, backend.leaving) {
            (true, _) => ", draining",
            (false, true) => ", leaving",
            (false, false) => "",
        };
        let waiting = queue(backend);
        let ejected = if backend.ejected { ", ejected" } else { "" };
        writeln!(
            text,
            "  {name}{:<width$}  {health:<9}  weight {weight}, {}, load {load}{waiting}{}",
            address.to_string(),
            counted(*tunnels, "tunnel"),
            [draining, ejected, &away(backend)].concat()
        )
        .expect("writing into a String cannot fail");
    }
}

fn source(of: &SourceStatus) -> String {
    let SourceStatus { source, age_seconds, members, problem } = of;
    let age = age_seconds.map_or("no answer yet".to_owned(), |age| {
        format!("answered {} ago", humantime::format_duration(Duration::from_secs(age)))
    });
    let problem = problem.as_ref().map_or(String::new(), |problem| format!("; {problem}"));
    format!(", {} by {source}, {age}{problem}", counted(*members, "member"))
}

/// The name of a backend, where it is not just its address.
fn name(backend: &BackendStatus) -> String {
    if backend.name == backend.address.to_string() { String::new() } else { backend.name.clone() }
}

/// Clients that wait for a backend; nothing where it has neither a queue nor a rate.
fn queue(backend: &BackendStatus) -> String {
    match (backend.waiting, backend.rate) {
        (0, None) => String::new(),
        (waiting, None) => format!(", {waiting} waiting"),
        (waiting, Some(rate)) => format!(", {waiting} waiting for {}/s", (rate * 100.0).round() / 100.0),
    }
}

/// Clients that wait until a backend is back, and the time that it is away.
fn away(backend: &BackendStatus) -> String {
    let Some(seconds) = backend.away_seconds else { return String::new() };
    let held =
        if backend.held > 0 { format!(", {} waiting for it", counted(backend.held, "client")) } else { String::new() };
    format!(", away for {}{held}", humantime::format_duration(Duration::from_secs(seconds)))
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
    use crate::status::Age;

    #[test]
    fn the_text_says_what_the_status_does() {
        let expected = "\
state        serving
version      1.2.3, pid 7, up 1h 1m
generation   5
last reload  none
last upgrade none
listeners    127.0.0.1:8080, 127.0.0.1:8081
metrics      http://127.0.0.1:9090/metrics
admin API    127.0.0.1:9099
requests     1 under way
tunnels      6 open, 3 with TLS (1 of which an upgrade does not move), 1 away from home
by age       under 1m: 2, 10m or more: 4

upstream chat, 2 members by file, answered 1m ago; half of it is missing
  shard-0  127.0.0.1:9001   up         weight 2, 3 tunnels, load 4, 12 waiting for 500/s, draining
           127.0.0.1:19002  down       weight 2, 3 tunnels, load 4, leaving, away for 3s, 5 clients waiting for it
";
        assert_eq!(text(&status()), expected);
    }

    /// A gateway with one upstream: a backend that is up and drained, and one that is down and leaves.
    fn status() -> Status {
        Status {
            version: "1.2.3".into(),
            pid: 7,
            phase: GatewayPhase::Serving,
            generation: 5,
            uptime_seconds: 3_660,
            listeners: vec![address(8080), address(8081)],
            metrics: Some(address(9090)),
            admin: Some(address(9099)),
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
                discovery: Some(SourceStatus {
                    source: "file".into(),
                    age_seconds: Some(60),
                    members: 2,
                    problem: Some("half of it is missing".into()),
                }),
            }],
            certificates: Vec::new(),
            history: None,
        }
    }

    fn backend(port: u16, up: bool, draining: bool) -> BackendStatus {
        BackendStatus {
            name: if up { "shard-0".into() } else { address(port).to_string() },
            address: address(port),
            weight: 2,
            up,
            checked: true,
            draining,
            leaving: !up,
            absent: false,
            away_seconds: (!up).then_some(3),
            held: usize::from(!up) * 5,
            ejected: false,
            tunnels: 3,
            load: 4,
            waiting: if draining { 12 } else { 0 },
            rate: draining.then_some(500.0),
        }
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }
}
