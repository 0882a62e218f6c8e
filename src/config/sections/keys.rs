//! The table of all known keys, and the advice about unknown ones.

use super::pingora_keys;
use crate::config::yaml::near::{nearest, starts_like};
use crate::config::yaml::problem::{Problem, Report};
use crate::config::yaml::value::{MERGE, Mapping, NO_MERGE, Value};

/// The keys that one kind of mapping may have.
#[derive(Debug)]
pub(crate) struct SectionKeys {
    /// YAML path of such a mapping: `*` for a name that the user chose, `[]` for an item of a list.
    pub(crate) path: &'static str,
    pub(crate) keys: &'static [&'static str],
}

/// Declares each section of the file as a static, and [`SECTIONS`], which holds them all.
macro_rules! sections {
    ($($name:ident = $path:literal [$($key:literal),* $(,)?];)*) => {
        $(pub(crate) static $name: SectionKeys = SectionKeys { path: $path, keys: &[$($key),*] };)*

        /// All keys of Longhaul's own. Readers take their keys from this table and know no others.
        static SECTIONS: &[&SectionKeys] = &[$(&$name),*];
    };
}

sections! {
    TOP = "" [
        "listeners", "trusted_proxies", "underscores_in_headers", "forwarding", "metrics", "admin", "access_log",
        "watch", "control_sock", "hook_memory", "limits", "drain", "routes", "upstreams",
        "state_folder", "tracing", "engine",
    ];
    LISTENER = "listeners[]" ["address", "allow", "deny", "limits", "proxy_protocol", "tls", "redirect", "hsts"];
    LISTENER_LIMITS = "listeners[].limits" ["connections"];
    LISTENER_TLS = "listeners[].tls" ["certificates", "min_version", "ticket_keys", "client_auth"];
    LISTENER_CERTIFICATE = "listeners[].tls.certificates[]" ["cert", "key"];
    CLIENT_AUTH = "listeners[].tls.client_auth" ["ca", "mode"];
    HSTS = "listeners[].hsts" ["max_age", "include_subdomains", "preload"];
    FORWARDING = "forwarding" ["forwarded", "strangers"];
    METRICS = "metrics" ["address"];
    ADMIN = "admin" ["address", "token_file", "tls", "names"];
    ACCESS_LOG = "access_log" ["to", "format"];
    TRACING = "tracing" ["sample", "export"];
    TRACE_EXPORT = "tracing.export" ["url", "service", "queue", "timeout"];
    ROUTE = "routes[]" [
        "host", "path", "upstream", "affinity", "hooks", "compression", "handshake", "body", "limits", "reattach",
    ];
    REATTACH = "routes[].reattach" ["within", "buffer", "on", "code"];
    ROUTE_BODY = "routes[].body" ["size"];
    ROUTE_LIMITS = "routes[].limits" ["tunnels", "requests"];
    UPSTREAM = "upstreams.*" [
        "affinity", "backends", "resolve", "discover", "balance_factor", "health", "fail_open", "on_change",
        "drain_window", "rehome", "tries", "timeouts", "tunnel", "limits", "admission", "absent", "tls",
        "proxy_protocol",
    ];
    BACKEND_LIMITS = "upstreams.*.limits" ["tunnels", "requests", "per_key"];
    ADMISSION = "upstreams.*.admission" ["handshakes", "burst", "queue", "wait"];
    ABSENT = "upstreams.*.absent" ["hold", "queue"];
    UPSTREAM_TLS = "upstreams.*.tls" ["server_name", "ca", "certificate", "key", "verify"];
    AFFINITY = "upstreams.*.affinity[]" [
        "cookie", "header", "query", "issue_cookie", "client_certificate", "client_ip",
    ];
    COOKIE = "upstreams.*.affinity[].cookie" ["name", "born_on"];
    ISSUE_COOKIE = "upstreams.*.affinity[].issue_cookie" [
        "name", "max_age", "same_site", "path", "domain", "secure", "partitioned",
    ];
    CLIENT_IP = "upstreams.*.affinity[].client_ip" ["ipv4_prefix", "ipv6_prefix"];
    BACKEND = "upstreams.*.backends[]" ["name", "address", "weight"];
    DISCOVER = "upstreams.*.discover" [
        "file", "dns", "srv", "etcd", "kubernetes", "settle", "keep_empty", "wait",
    ];
    KUBERNETES = "upstreams.*.discover.kubernetes" ["service", "port", "kubeconfig", "context"];
    DNS = "upstreams.*.discover.dns" ["name", "port", "servers", "ipv6"];
    SRV = "upstreams.*.discover.srv" ["name", "servers", "ipv6"];
    ETCD = "upstreams.*.discover.etcd" [
        "endpoints", "prefix", "ca", "certificate", "key", "user", "password", "password_file",
    ];
    RESOLVE = "upstreams.*.resolve" ["servers", "ipv6"];
    HEALTH = "upstreams.*.health" [
        "check", "path", "host", "expect", "subprotocols", "origin", "headers", "interval", "timeout", "rise", "fall",
        "traffic", "on_down",
    ];
    TIMEOUTS = "upstreams.*.timeouts" ["connect", "handshake", "try", "read", "write", "idle"];
    TUNNEL = "upstreams.*.tunnel" [
        "idle", "max_age", "ping", "max_message", "tcp_user_timeout", "stall", "messages", "bytes", "over_rate",
        "per_key",
    ];
    PER_KEY = "upstreams.*.tunnel.per_key" ["messages", "bytes"];
    LIMITS = "limits" ["connections", "memory", "per_client", "head", "body", "answer", "keep_alive"];
    PER_CLIENT = "limits.per_client" ["connections", "tunnels", "handshakes", "ipv4_prefix", "ipv6_prefix"];
    HEAD = "limits.head" ["time", "size", "lines", "target"];
    BODY = "limits.body" ["idle", "min_rate", "size"];
    ANSWER = "limits.answer" ["idle", "min_rate"];
    KEEP_ALIVE = "limits.keep_alive" ["idle", "requests"];
    DRAIN = "drain" ["grace", "window", "code"];
    REHOME = "upstreams.*.rehome" ["over"];
    HOOK = "routes[].hooks[]" ["hook", "with", "timeout"];
}

/// The keys of a file of members, which is another file.
pub(crate) static MEMBERS: SectionKeys = SectionKeys { path: "", keys: &["members"] };
/// The keys of one of its members.
pub(crate) static MEMBER: SectionKeys =
    SectionKeys { path: "members[]", keys: &["name", "address", "weight", "leaving"] };
/// The keys of a group of Prometheus' form.
pub(crate) static TARGET_GROUP: SectionKeys = SectionKeys { path: "[]", keys: &["targets", "labels"] };

/// The paths of all keys, Pingora's first: `threads`, `routes[].host`, `upstreams.*.health.check`, …
///
/// `*` stands for a name that the user chose, `[]` for an item of a list. A route's `affinity` has the same keys as an
/// upstream's; they are listed once.
pub fn keys() -> Vec<String> {
    let ours = SECTIONS.iter().flat_map(|section| {
        let dot = if section.path.is_empty() { "" } else { "." };
        section.keys.iter().map(move |key| format!("{}{dot}{key}", section.path))
    });
    pingora_keys::names().into_iter().chain(ours).collect()
}

/// The entries of the file's top level, which has to be a mapping. Its keys are `known`: those of
/// [`TOP`] and Pingora's own.
pub(crate) fn top_level<'v, 'k>(
    root: &'v Value<'v>,
    known: &'k [&'k str],
    report: &mut Report,
) -> Option<Mapping<'v, 'k>> {
    if !root.is_mapping() {
        return report.refuse(root.wrong("a mapping with the keys listeners, routes and upstreams"));
    }
    Mapping::read(root, known, advise, report)
}

/// Adds to `problem`, which is that of the unknown `key`, the keys that are `known` there and a remedy.
fn advise(problem: Problem, key: &str, known: &[&str]) -> Problem {
    let problem = problem.expected(match known {
        [one] => format!("`{one}`"),
        _ if known.starts_with(TOP.keys) => {
            format!("one of {}, or one of Pingora's own (docs/configuration.md lists them)", TOP.keys.join(", "))
        }
        _ => format!("one of {}", known.join(", ")),
    });
    if key == MERGE {
        return problem.remedy(NO_MERGE);
    }
    if let Some(near) = nearest(key, known.iter().copied()) {
        return problem.remedy(format!("did you mean `{near}`?"));
    }
    if known == HOOK.keys {
        return problem.remedy("the settings of a hook are written under `with:`");
    }
    let homes: Vec<_> = SECTIONS.iter().filter(|section| section.keys.contains(&key)).collect();
    match homes.as_slice() {
        [] => match starts_like(key, known) {
            Some(near) => problem.remedy(format!("did you mean `{near}`?")),
            None => problem,
        },
        homes => {
            let homes: Vec<_> = homes.iter().map(|section| section.home()).collect();
            problem.remedy(format!("`{key}` belongs {}", homes.join(" or ")))
        }
    }
}

impl SectionKeys {
    /// The entries of `of` by the keys of this section; refuses a value that is not a mapping.
    pub(crate) fn fields<'v>(&self, of: &'v Value<'v>, report: &mut Report) -> Option<Mapping<'v, 'static>> {
        Mapping::read(of, self.keys, advise, report)
    }

    fn home(&self) -> String {
        match self.path {
            "" => "at the top level".to_owned(),
            path => format!("under `{path}`"),
        }
    }
}
