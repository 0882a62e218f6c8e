//! `server`, `default-server` and `server-template`: backends, and the settings that all of them share.

use super::Reading;
use super::proxy::Proxy;
use super::words::Statement;
use crate::convert::fits;
use crate::convert::model::{Backend, Discover, Health, Upstream, UpstreamTls};
use crate::convert::place::{Note, SourceLine};
use crate::convert::quantity::haproxy_time;

/// Parameters of one value that nothing depends on.
const WITH_VALUE: [&str; 26] = [
    "cookie",
    "id",
    "resolvers",
    "resolve-prefer",
    "resolve-net",
    "resolve-opts",
    "init-addr",
    "fastinter",
    "downinter",
    "maxqueue",
    "minconn",
    "source",
    "usesrc",
    "pool-max-conn",
    "pool-purge-delay",
    "pool-low-conn",
    "max-reuse",
    "error-limit",
    "on-error",
    "namespace",
    "tcp-ut",
    "ciphers",
    "ciphersuites",
    "check-sni",
    "proto",
    "log-proto",
];

/// Parameters without a value that nothing depends on.
const FLAGS: [&str; 20] = [
    "check-ssl",
    "no-check-ssl",
    "check-send-proxy",
    "enabled",
    "tfo",
    "allow-0rtt",
    "no-ssl-reuse",
    "ssl-reuse",
    "no-tls-tickets",
    "no-verifyhost",
    "non-stick",
    "no-backup",
    "no-check",
    "stick",
    "agent-check",
    "no-agent-check",
    "init-state",
    "ws",
    "no-send-proxy",
    "no-ssl",
];

/// Settings that the parameters of one line state.
#[derive(Debug)]
struct Said {
    weight: u32,
    backup: bool,
    disabled: bool,
    checked: bool,
    most: Option<u64>,
    health: Health,
    tls: Option<UpstreamTls>,
    verify: Option<bool>,
    proxy_protocol: Option<&'static str>,
    notes: Vec<Note>,
}

pub(super) fn read(proxy: &Proxy<'_>, reading: &Reading<'_>, upstream: &mut Upstream) {
    let common: Vec<String> =
        proxy.all(&["default-server"]).iter().flat_map(|line| line.words.iter().skip(1).cloned()).collect();
    let mut all = Vec::new();
    for statement in proxy.own() {
        let line = statement.line();
        let (kind, skip) = match statement.word(0) {
            "server" => ("server", 3),
            "server-template" => ("server-template", 4),
            _ => continue,
        };
        let words: Vec<&str> =
            common.iter().map(String::as_str).chain(statement.words.iter().skip(skip).map(String::as_str)).collect();
        let mut said = parameters(&words, &line, reading);
        if kind == "server-template" {
            template(statement, upstream);
        } else {
            server(statement, &mut said, upstream);
        }
        all.push((said, line));
    }
    together(all, upstream);
}

fn server(statement: &Statement, said: &mut Said, upstream: &mut Upstream) {
    let line = statement.line();
    if said.backup {
        upstream.notes.push(line.left_out("a backup: no backend waits for the others to fail"));
        return;
    }
    let text = statement.word(2);
    let text = text.strip_prefix("ipv4@").or_else(|| text.strip_prefix("ipv6@")).unwrap_or(text);
    let has_port = text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    // HAProxy writes IPv6 addresses without brackets, too.
    let bare = text.rsplit_once(':').filter(|(ip, _)| ip.parse::<std::net::Ipv6Addr>().is_ok());
    let written = bare.map_or_else(|| text.to_owned(), |(ip, port)| format!("[{ip}]:{port}"));
    match fits::address(&written, 0).filter(|_| has_port) {
        Some(address) => {
            let weight = if said.disabled { 0 } else { said.weight };
            upstream.backends.push(Backend { name: None, address, weight, notes: std::mem::take(&mut said.notes) });
        }
        None => {
            upstream
                .notes
                .push(line.left_out("no address and port: Unix sockets and the client's own port are not used"));
        }
    }
}

/// `server-template PREFIX COUNT NAME:PORT`.
fn template(statement: &Statement, upstream: &mut Upstream) {
    let line = statement.line();
    let target = statement.word(3);
    let found = if target.starts_with('_') && !target.contains(':') {
        fits::host_name(target).map(Discover::Srv)
    } else {
        fits::address(target, 0).and_then(|address| {
            let (name, port) = address.rsplit_once(':')?;
            Some(Discover::Dns { name: name.to_owned(), port: port.parse().ok()? })
        })
    };
    match found {
        Some(found) => {
            upstream.notes.push(line.changed("any number of members, each address of the name one of them"));
            upstream.discover = Some(found);
        }
        None => upstream.notes.push(line.left_out("no name and port")),
    }
}

fn parameters(words: &[&str], line: &SourceLine, reading: &Reading<'_>) -> Said {
    let mut said = Said {
        weight: 1,
        backup: false,
        disabled: false,
        checked: false,
        most: None,
        health: Health::default(),
        tls: None,
        verify: None,
        proxy_protocol: None,
        notes: Vec::new(),
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        match word {
            "weight" => said.weight = value().parse().unwrap_or(1),
            "backup" => said.backup = true,
            "disabled" => said.disabled = true,
            "check" => said.checked = true,
            "maxconn" => said.most = value().parse().ok().filter(|most| *most > 0),
            "inter" => said.health.interval = haproxy_time(value()),
            "rise" => said.health.rise = value().parse().ok().map(|count: u64| count.clamp(1, 1_000)),
            "fall" => said.health.fall = value().parse().ok().map(|count: u64| count.clamp(1, 1_000)),
            "on-marked-down" => said.health.close_when_down |= value() == "shutdown-sessions",
            "observe" => {
                value();
            }
            "on-marked-up" | "slowstart" | "agent-port" | "agent-addr" | "agent-inter" | "track" | "addr" | "port"
            | "agent-send" => {
                let shown = value();
                said.notes.push(line.left_out(format!("`{word} {shown}` has no equivalent")));
            }
            word => tls_or_other(word, &mut value, &mut said, line, reading),
        }
    }
    said
}

fn tls_or_other<'w>(
    word: &str,
    value: &mut impl FnMut() -> &'w str,
    said: &mut Said,
    line: &SourceLine,
    reading: &Reading<'_>,
) {
    match word {
        "ssl" => {
            said.tls.get_or_insert_default();
        }
        "verify" => said.verify = Some(value() == "required"),
        "ca-file" => {
            let file = value();
            if file != "@system-ca" {
                said.tls.get_or_insert_default().ca = Some(reading.file(file, &reading.ca_base));
            }
        }
        "crt" => {
            let file = reading.file(value(), &reading.crt_base);
            said.tls.get_or_insert_default().certificate = Some((file.clone(), file));
        }
        "sni" | "verifyhost" => server_name(word, value(), said, line),
        "send-proxy" => said.proxy_protocol = Some("v1"),
        "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => said.proxy_protocol = Some("v2"),
        "alpn" | "check-alpn" => {
            if value().split(',').any(|protocol| protocol == "h2") {
                said.notes.push(line.changed("backends are spoken to by HTTP/1.1 alone"));
            }
        }
        "ssl-min-ver" | "ssl-max-ver" | "crl-file" => {
            let shown = value();
            said.notes.push(line.left_out(format!("`{word} {shown}` has no equivalent: TLS 1.3 or 1.2")));
        }
        word if WITH_VALUE.contains(&word) => {
            value();
        }
        word if FLAGS.contains(&word) || word.starts_with("no-") || word.starts_with("force-") => {}
        word => said.notes.push(line.left_out(format!("`{word}` is not known here"))),
    }
}

/// `sni` and `verifyhost`, of which the latter one decides.
fn server_name(word: &str, text: &str, said: &mut Said, line: &SourceLine) {
    let name = text.strip_prefix("str(").and_then(|rest| rest.strip_suffix(')')).unwrap_or(text);
    let tls = said.tls.get_or_insert_default();
    match fits::host_name(name) {
        Some(name) if word == "sni" => {
            tls.server_name.get_or_insert(name);
        }
        Some(name) => tls.server_name = Some(name),
        None => said.notes.push(line.changed(format!("`{word} {text}`: the name is a fixed one, `server_name`"))),
    }
}

/// Takes the limit of each backend of an upstream: the largest `maxconn`, so that nobody waits who did not before.
/// Servers with another one are noted.
fn limit(all: &[(Said, SourceLine)], upstream: &mut Upstream) {
    let servers = || all.iter().filter(|(said, _)| !said.backup);
    let Some(most) = servers().filter_map(|(said, _)| said.most).max() else { return };
    for (said, line) in servers().filter(|(said, _)| said.most != Some(most)) {
        let own = said.most.map_or_else(|| "no `maxconn`".to_owned(), |own| format!("`maxconn {own}`"));
        let words = format!("{own}: its limit is {most} here, one for each backend of the upstream");
        upstream.notes.push(line.changed(words));
    }
    upstream.tunnels = Some(most.clamp(1, 10_000_000));
    upstream.requests = upstream.tunnels;
}

/// Takes settings that an upstream has once from its first server, and notes other servers that differ.
fn together(all: Vec<(Said, SourceLine)>, upstream: &mut Upstream) {
    let any_checked = all.iter().any(|(said, _)| said.checked);
    limit(&all, upstream);
    let mut first: Option<(Health, Option<UpstreamTls>, Option<&str>)> = None;
    for (mut said, line) in all {
        upstream.notes.append(&mut said.notes);
        if said.backup {
            continue;
        }
        if any_checked && !said.checked {
            upstream.notes.push(line.changed("checked, because others of its upstream are"));
        }
        // `ca-file` and the like stand in `default-server` without `ssl` on the line.
        if let Some(tls) = &mut said.tls {
            tls.unverified = said.verify == Some(false) || said.verify.is_none() && tls.ca.is_none();
            if tls.unverified {
                tls.ca = None;
                upstream.notes.push(
                    line.changed("certificates are not verified, as it says: remove `verify: false` once they may be"),
                );
            }
        }
        match &first {
            None => first = Some((said.health.clone(), said.tls.clone(), said.proxy_protocol)),
            Some((health, tls, version)) => {
                if *health != said.health || *tls != said.tls || *version != said.proxy_protocol {
                    upstream
                        .notes
                        .push(line.changed("checks, TLS and PROXY headers are those of the upstream's first server"));
                }
            }
        }
    }
    if upstream.tunnels.is_none() {
        upstream.wait = None;
    } else if upstream.wait.is_none() {
        // `timeout queue` is `timeout connect` where it is left out.
        upstream.wait = upstream.policy.connect.map(|time| time.clamp(100, 3_600_000));
    }
    let (health, tls, version) = first.unwrap_or_default();
    upstream.health = Some(if any_checked { health } else { Health { off: true, ..Health::default() } });
    upstream.policy.tls = tls;
    upstream.proxy_protocol = version;
}
