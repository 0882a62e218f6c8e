//! The HTTP connection manager: its routes, and its settings for every request.

use super::cluster::Clusters;
use super::routes::{self, ManagerSettings};
use super::tree::At;
use crate::convert::model::{Hook, Model};
use crate::convert::place::Note;

/// Keys of a connection manager that are read, or need nothing.
const KNOWN: &[&str] = &[
    "@type",
    "stat_prefix",
    "route_config",
    "http_filters",
    "upgrade_configs",
    "codec_type",
    "stream_idle_timeout",
    "common_http_protocol_options",
    "access_log",
    "use_remote_address",
    "xff_num_trusted_hops",
    "request_timeout",
    "request_headers_timeout",
    "generate_request_id",
    "server_name",
    "normalize_path",
    "merge_slashes",
    "http_protocol_options",
    "http2_protocol_options",
    "delayed_close_timeout",
    "drain_timeout",
    "skip_xff_append",
    "server_header_transformation",
    "path_with_escaped_slashes_action",
    "strip_any_host_port",
    "stream_error_on_invalid_http_message",
];

/// Parts of the names of filters that refuse clients.
const GUARDS: [&str; 5] = ["jwt", "auth", "rbac", "csrf", "api_key"];

const DAY: u64 = 86_400_000;

/// Adds the routes of a manager. Returns whether it sends clients to https.
pub(super) fn read(manager: &At<'_>, clusters: &mut Clusters, model: &mut Model) -> bool {
    let mut notes = Vec::new();
    manager.others(KNOWN, &mut notes, |key| match key {
        "rds" => "routes are those of the file alone",
        _ => "no equivalent",
    });
    let process = &mut model.process;
    if let Some(log) = manager.get("access_log") {
        notes.push(log.line().changed("one access log for the process, on standard output, with fields of its own"));
    }
    let hops = manager.number("xff_num_trusted_hops").unwrap_or_default();
    if hops > 0 {
        let words = "name the proxies' networks in `trusted_proxies`: until then every client has their address";
        notes.extend(manager.get("xff_num_trusted_hops").map(|hops| hops.line().left_out(words)));
    }
    process.head_time = manager.time("request_headers_timeout", 100, 3_600_000).or(process.head_time);
    if let Some(timeout) = manager.get("request_timeout").filter(|timeout| timeout.text() != "0s") {
        notes.push(timeout.line().left_out("bodies have a least rate in place of a time (`limits.body`)"));
    }
    let common = manager.get("common_http_protocol_options");
    process.keep_alive = common.and_then(|common| common.time("idle_timeout", 1_000, DAY)).or(process.keep_alive);
    let hooks = filters(manager, &mut notes);
    let given = ManagerSettings { hooks, idle: manager.time("stream_idle_timeout", 0, 365 * DAY) };
    let Some(config) = manager.get("route_config") else {
        model.notes.extend(notes);
        return false;
    };
    let (mut made, redirects) = routes::read(&config, &given, clusters, &mut notes);
    match made.first_mut() {
        Some(first) => first.notes.splice(0..0, notes).for_each(drop),
        None => model.notes.extend(notes),
    }
    model.routes.extend(made);
    redirects
}

/// `http_filters`: the hooks that stand for them.
fn filters(manager: &At<'_>, notes: &mut Vec<Note>) -> Vec<Hook> {
    let mut hooks = Vec::new();
    for filter in manager.items("http_filters") {
        let name = filter.type_name();
        let line = filter.line();
        match name {
            "Router" | "envoy.filters.http.router" => {}
            _ if GUARDS.iter().any(|guard| name.to_ascii_lowercase().contains(guard)) => {
                let words = "no hook is written for it: the routes it holds for are closed (403); see docs/hooks.md";
                notes.push(line.unprotected(words));
                hooks.push(Hook::Closed);
            }
            _ if name.to_ascii_lowercase().contains("ratelimit") => {
                notes.push(line.unprotected("see the hook `rate_limit` (docs/hooks/rate_limit.md)"));
            }
            _ => notes.push(line.left_out(format!("the filter `{name}` has no equivalent; see docs/hooks.md"))),
        }
    }
    hooks.dedup();
    hooks
}
