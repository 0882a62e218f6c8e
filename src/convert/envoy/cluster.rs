//! Clusters: backends, checks and balancing.

use super::tls;
use super::tree::At;
use crate::convert::fits;
use crate::convert::model::{Backend, Discover, Health, Keeps, Policy, Source, Upstream};
use crate::convert::place::{Note, SourceLine};
use crate::convert::uses::Uses;

/// Keys of a cluster that are read, or need nothing.
const KNOWN: &[&str] = &[
    "type",
    "connect_timeout",
    "lb_policy",
    "load_assignment",
    "health_checks",
    "ring_hash_lb_config",
    "common_lb_config",
    "transport_socket",
    "dns_lookup_family",
    "dns_refresh_rate",
    "respect_dns_ttl",
    "typed_extension_protocol_options",
    "outlier_detection",
    "upstream_connection_options",
    "maglev_lb_config",
    "per_connection_buffer_limit_bytes",
    "alt_stat_name",
    "ignore_health_on_host_removal",
    "close_connections_on_host_health_failure",
    "least_request_lb_config",
    "http_protocol_options",
    "common_http_protocol_options",
    "wait_for_warm_on_init",
];

/// The clusters of a file, and the upstreams that routes have of them.
pub(super) struct Clusters {
    /// Each with the name that the file has for it, and whether it is chosen from by a hash.
    list: Vec<(String, Upstream, bool)>,
    uses: Uses,
    /// Affinity of each upstream in use.
    affinities: Vec<(String, Vec<Source>)>,
}

impl Clusters {
    pub(super) fn read(resources: &At<'_>, notes: &mut Vec<Note>) -> Self {
        let mut list = Vec::new();
        for cluster in resources.items("clusters") {
            match cluster.word("name") {
                "" => notes.push(cluster.line().left_out("a cluster without a name")),
                name => {
                    let (upstream, hashes) = read(&cluster, name);
                    list.push((name.to_owned(), upstream, hashes));
                }
            }
        }
        Self { list, uses: Uses::default(), affinities: Vec::new() }
    }

    /// The upstream for a route to a cluster, and the route's affinity where that is not the upstream's.
    pub(super) fn lead_to(
        &mut self,
        cluster: &str,
        policy: Policy,
        sources: Vec<Source>,
        line: &SourceLine,
    ) -> Option<(String, Option<Vec<Source>>)> {
        let (_, upstream, hashes) = self.list.iter().find(|(name, ..)| name == cluster)?;
        let mut fresh = upstream.clone();
        let (connect, tls) = (fresh.policy.connect, fresh.policy.tls.clone());
        fresh.policy = Policy { connect, tls, ..policy };
        let sources = if *hashes { sources } else { Vec::new() };
        if !sources.is_empty() {
            fresh.keeps = Keeps::No("Envoy's ring is of another hash".to_owned());
        }
        fresh.affinity.clone_from(&sources);
        let name = self.uses.name_of(fresh, line);
        match self.affinities.iter().find(|(known, _)| *known == name) {
            Some((_, known)) => {
                let own = (*known != sources).then_some(sources);
                Some((name, own))
            }
            None => {
                self.affinities.push((name.clone(), sources));
                Some((name, None))
            }
        }
    }

    /// The upstreams in use, and clusters that no route leads to.
    pub(super) fn into_upstreams(self) -> Vec<Upstream> {
        let mut used = self.uses.into_upstreams();
        for (_, upstream, _) in self.list {
            let is_used = used.iter().any(|other| other.place == upstream.place || other.name == upstream.name);
            if !is_used {
                used.push(upstream);
            }
        }
        used
    }
}

fn read(cluster: &At<'_>, name: &str) -> (Upstream, bool) {
    let mut upstream = Upstream::new(fits::upstream_name(name), &cluster.place());
    let mut notes = Vec::new();
    cluster.others(KNOWN, &mut notes, |key| match key {
        "circuit_breakers" => "see `limits` of upstreams in docs/limits.md: they hold for each backend",
        "http2_protocol_options" => "backends are spoken to by HTTP/1.1 alone",
        "eds_cluster_config" => "see `discover` in docs/discovery.md",
        "hosts" => "write `load_assignment`, as Envoy's API v3 has it",
        _ => "no equivalent",
    });
    upstream.policy.connect = cluster.time("connect_timeout", 1, 3_600_000);
    endpoints(cluster, &mut upstream, &mut notes);
    let (tls, version) = tls::upstream(cluster, &mut notes);
    upstream.policy.tls = tls;
    upstream.proxy_protocol = version;
    health(cluster, &mut upstream, &mut notes);
    let policy = cluster.get("lb_policy");
    let hashes = policy.is_some_and(|policy| matches!(policy.text(), "RING_HASH" | "MAGLEV"));
    if let Some(policy) = policy.filter(|policy| hashes || policy.text() != "LEAST_REQUEST") {
        let words = if hashes {
            "always nginx's ring, of 160 points a unit of weight: clients move once"
        } else {
            "the backend with the fewest tunnels and requests for its weight is picked"
        };
        notes.push(policy.line().changed(words));
    }
    let factor = cluster.way(&["common_lb_config", "consistent_hashing_lb_config"]);
    let factor = factor.and_then(|config| config.number("hash_balance_factor"));
    upstream.balance_factor = factor.filter(|factor| (101..=10_000).contains(factor));
    upstream.notes = notes;
    (upstream, hashes)
}

fn endpoints(cluster: &At<'_>, upstream: &mut Upstream, notes: &mut Vec<Note>) {
    let kind = cluster.word("type");
    let Some(assignment) = cluster.get("load_assignment") else { return };
    for locality in assignment.items("endpoints") {
        if locality.number("priority").unwrap_or_default() > 0 {
            notes.push(locality.line().left_out("a lower priority: no backend waits for the others to fail"));
            continue;
        }
        if let Some(weight) = locality.get("load_balancing_weight") {
            notes.push(weight.line().left_out("weights are those of backends, not of localities"));
        }
        for item in locality.items("lb_endpoints") {
            let socket = item.way(&["endpoint", "address", "socket_address"]);
            let port = socket.and_then(|socket| socket.number("port_value"));
            let host = socket.map_or("", |socket| socket.word("address"));
            let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
            let Some(address) = port.and_then(|port| fits::address(host, port)) else {
                notes.push(item.line().left_out("no address and port: pipes are not supported"));
                continue;
            };
            let away = matches!(item.word("health_status"), "DRAINING" | "UNHEALTHY" | "TIMEOUT");
            let weight = item.number("load_balancing_weight").unwrap_or(1);
            let weight = if away { 0 } else { u32::try_from(weight).unwrap_or(u32::MAX) };
            upstream.backends.push(Backend { name: None, address, weight, notes: Vec::new() });
        }
    }
    let dns = upstream.backends.first().and_then(|only| {
        let (name, port) = only.address.rsplit_once(':')?;
        let is_name = only.address.parse::<std::net::SocketAddr>().is_err();
        is_name.then_some(Discover::Dns { name: name.to_owned(), port: port.parse().ok()? })
    });
    if kind == "STRICT_DNS" && upstream.backends.len() == 1 && dns.is_some() {
        upstream.discover = dns;
        upstream.backends.clear();
    }
}

fn health(cluster: &At<'_>, upstream: &mut Upstream, notes: &mut Vec<Note>) {
    let checks = cluster.items("health_checks");
    let Some(check) = checks.first() else { return };
    if let Some(second) = checks.get(1) {
        notes.push(second.line().left_out("there is one check"));
    }
    let count = |key: &str| check.number(key).map(|count| count.clamp(1, 1_000));
    let mut health = Health {
        interval: check.time("interval", 10, 86_400_000),
        timeout: check.time("timeout", 1, 86_400_000),
        rise: count("healthy_threshold"),
        fall: count("unhealthy_threshold"),
        ..Health::default()
    };
    if let Some(http) = check.get("http_health_check") {
        health.check = Some("http");
        let path = http.word("path");
        if fits::target(path) {
            health.path = Some(path.to_owned());
        } else {
            notes.push(http.line().left_out("no target of a check"));
        }
        health.host = fits::host_name(http.word("host"));
        let ranges: Vec<String> = http.items("expected_statuses").iter().filter_map(range).collect();
        health.expect = Some(match ranges.as_slice() {
            [] => "200".to_owned(),
            [one] => one.clone(),
            all => format!("[{}]", all.join(", ")),
        });
        http.others(&["path", "host", "expected_statuses", "codec_client_type"], notes, |_| "no equivalent");
    } else if check.get("tcp_health_check").is_none() {
        notes.push(check.line().changed("a backend is up when it can be connected to"));
    }
    health.close_when_down = cluster.is_true("close_connections_on_host_health_failure");
    upstream.health = Some(health);
}

/// Statuses from `start` to just below `end`.
fn range(range: &At<'_>) -> Option<String> {
    let (start, end) = (range.number("start")?, range.number("end")?.checked_sub(1)?);
    let fits = (200..=599).contains(&start) && (start..=599).contains(&end);
    fits.then(|| if start == end { start.to_string() } else { format!("{start}-{end}") })
}
