//! Virtual hosts and their routes.

use super::cluster::Clusters;
use super::tree::At;
use super::{hash, headers};
use crate::convert::fits;
use crate::convert::model::{Headers, Hook, Policy, Route};
use crate::convert::place::Note;
use crate::convert::rules;

/// Keys of a virtual host that are read, or need nothing.
const OF_HOSTS: &[&str] = &[
    "domains",
    "routes",
    "require_tls",
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
    "include_request_attempt_count",
];

/// Keys of a route's action that are read, or need nothing.
const OF_ACTIONS: &[&str] = &[
    "cluster",
    "weighted_clusters",
    "timeout",
    "idle_timeout",
    "hash_policy",
    "upgrade_configs",
    "max_stream_duration",
    "auto_host_rewrite",
    "priority",
];

const RETRIES: &str = "a handshake is sent to `tries` backends, a plain request that was sent to no other";

const YEAR: u64 = 365 * 86_400_000;
const WEEK: u64 = 7 * 86_400_000;

/// Settings that a connection manager states of all its routes.
pub(super) struct ManagerSettings {
    pub(super) hooks: Vec<Hook>,
    /// Longest silence; 0 lifts the limit.
    pub(super) idle: Option<u64>,
}

/// The routes of a configuration, and whether it sends clients to https.
pub(super) fn read(
    config: &At<'_>,
    given: &ManagerSettings,
    clusters: &mut Clusters,
    notes: &mut Vec<Note>,
) -> (Vec<Route>, bool) {
    let mut routes = Vec::new();
    let mut redirects = false;
    let mut common = Headers::default();
    headers::read(config, &mut common, notes);
    for host in config.items("virtual_hosts") {
        host.others(OF_HOSTS, notes, |key| if key == "retry_policy" { RETRIES } else { "no equivalent" });
        if host.word("require_tls") == "ALL" {
            redirects = true;
            continue;
        }
        let mut of_host = common.clone();
        headers::read(&host, &mut of_host, notes);
        let domains = domains(&host, notes);
        let mut rules = Vec::new();
        for route in host.items("routes") {
            match route.get("redirect") {
                Some(redirect) => redirects |= redirection(&redirect, notes),
                None => rules.extend(rule(&route, given, clusters, &of_host, notes)),
            }
        }
        for domain in domains {
            let of_domain = rules.iter().cloned().map(|mut rule: Route| {
                rule.host.clone_from(&domain);
                rule
            });
            let mut made = rules::routes(of_domain.collect(), notes);
            routes.append(&mut made);
            // The notes of a route stand once, at its first domain.
            rules.iter_mut().for_each(|rule| rule.notes.clear());
        }
    }
    (routes, redirects)
}

/// Tells whether a redirect is the way to https.
fn redirection(redirect: &At<'_>, notes: &mut Vec<Note>) -> bool {
    let is_https = redirect.is_true("https_redirect");
    let line = redirect.line();
    notes.push(if is_https {
        line.changed("a 308 that keeps host, path and method, for the whole listener")
    } else {
        line.left_out("redirects are no routes, but for a plain listener's to https")
    });
    is_https
}

fn domains(host: &At<'_>, notes: &mut Vec<Note>) -> Vec<Option<String>> {
    let mut domains = Vec::new();
    for domain in host.items("domains") {
        let text = fits::without_port(domain.text());
        let found = if text == "*" { Some(None) } else { fits::host(text).map(Some) };
        match found {
            Some(found) if !domains.contains(&found) => domains.push(found),
            Some(_) => {}
            None => notes.push(domain.line().left_out("no name, and no `*.` and a name: its requests find no route")),
        }
    }
    domains
}

fn rule(
    route: &At<'_>,
    given: &ManagerSettings,
    clusters: &mut Clusters,
    of_host: &Headers,
    notes: &mut Vec<Note>,
) -> Option<Route> {
    let mut own = Vec::new();
    let path = match matched(&route.get("match")?, &mut own) {
        Ok(path) => path,
        Err(note) => {
            notes.push(note);
            return None;
        }
    };
    let Some(action) = route.get("route") else {
        notes.push(route.line().left_out("answers of its own are no routes"));
        return None;
    };
    let cluster = cluster_of(&action, &mut own);
    let affinity = hash::sources(&action, &mut own);
    let upstream = clusters.lead_to(cluster, policy(&action, given, &mut own), affinity, &action.line());
    let Some((upstream, affinity)) = upstream else {
        notes.append(&mut own);
        notes.push(action.line().left_out(format!("`{cluster}` is no cluster of the file that can be asked")));
        return None;
    };
    let mut all = of_host.clone();
    headers::read(route, &mut all, &mut own);
    let mut hooks = given.hooks.clone();
    if !all.is_empty() {
        hooks.push(Hook::Headers(all));
    }
    Some(Route { host: None, path, upstream, affinity, hooks, body_size: None, notes: own, place: route.place() })
}

/// The path of a match, or the note that none stands for it.
fn matched(found: &At<'_>, own: &mut Vec<Note>) -> Result<String, Note> {
    const ELSEWHERE: &str = "routes look at host and path alone: its requests go by the other routes";
    let Some((path, words)) = path(found) else {
        return Err(found.line().left_out("no prefix stands for this match; its requests go by the other routes"));
    };
    own.extend(words.map(|words| found.line().changed(words)));
    for header in found.items("headers") {
        let is_upgrade = header.word("name").eq_ignore_ascii_case("upgrade");
        if !is_upgrade || path == "/" {
            return Err(header.line().left_out(ELSEWHERE));
        }
        own.push(header.line().changed("plain requests for the same path, too"));
    }
    match found.get("query_parameters") {
        Some(query) => Err(query.line().left_out(ELSEWHERE)),
        None => Ok(path),
    }
}

/// The cluster of an action, with notes about what else it says.
fn cluster_of<'n>(action: &At<'n>, own: &mut Vec<Note>) -> &'n str {
    action.others(OF_ACTIONS, own, |key| match key {
        "prefix_rewrite" | "regex_rewrite" | "path_rewrite_policy" => "backends get the path that the client asked for",
        "host_rewrite_literal" | "host_rewrite_header" => {
            "backends get the client's `Host`; the hook `headers` sets it"
        }
        "rate_limits" => "see the hook `rate_limit` (docs/hooks/rate_limit.md)",
        "retry_policy" => RETRIES,
        "cluster_header" => "the route leads to one upstream",
        _ => "no equivalent",
    });
    let Some(weighted) = action.get("weighted_clusters") else { return action.word("cluster") };
    let words = "only the first cluster: put the backends of all into one upstream, with weights";
    own.push(weighted.line().changed(words));
    weighted.items("clusters").first().map_or("", |first| first.word("name"))
}

/// The prefix that stands for a match, and how it differs.
fn path(found: &At<'_>) -> Option<(String, Option<&'static str>)> {
    if let Some(prefix) = found.get("prefix").or_else(|| found.get("path_separated_prefix")) {
        return Some((fits::path(prefix.text())?, None));
    }
    if let Some(path) = found.get("path") {
        return Some((fits::path(path.text())?, Some("a prefix: it takes what is below that path, too")));
    }
    let regex = found.get("safe_regex")?.word("regex").trim_start_matches('^').trim_end_matches('$');
    let plain = regex.strip_suffix(".*").unwrap_or(regex).replace("\\.", "\u{1}");
    let fits = !plain.contains(['.', '[', '(', '|', '*', '+', '?', '\\']);
    let path = fits.then(|| fits::path(&plain.replace('\u{1}', "."))).flatten()?;
    Some((path, Some("a prefix in place of the regular expression")))
}

fn policy(action: &At<'_>, given: &ManagerSettings, notes: &mut Vec<Note>) -> Policy {
    let mut policy = Policy::default();
    if let Some(timeout) = action.get("timeout").filter(|timeout| timeout.text() != "0s") {
        policy.read = action.time("timeout", 1, WEEK);
        notes.push(timeout.line().changed("between two reads of a request, and not for all of it"));
    }
    let idle = action.time("idle_timeout", 0, YEAR).or(given.idle);
    // 0 lifts the limit; a year is the longest here.
    policy.idle = idle.map(|idle| if idle == 0 { YEAR } else { idle.max(1_000) });
    let longest = action.get("max_stream_duration").map(|longest| longest.time("max_stream_duration", 1_000, YEAR));
    policy.max_age = longest.flatten();
    policy
}
