//! `backend`: servers and how a client gets one.

use super::proxy::Proxy;
use super::words::Statement;
use super::{Reading, affinity, check, needs_nothing, process, server};
use crate::convert::fits;
use crate::convert::model::Upstream;
use crate::convert::place::Note;

const HOUR: u64 = 3_600_000;
const WEEK: u64 = 7 * 24 * HOUR;
const YEAR: u64 = 365 * 24 * HOUR;

/// The upstream of a section. Those without a usable backend are left to whoever finishes the model.
pub(super) fn read(proxy: &Proxy<'_>, reading: &Reading<'_>) -> Upstream {
    let mut upstream = Upstream::new(fits::upstream_name(proxy.name), proxy.place());
    timeouts(proxy, &mut upstream);
    server::read(proxy, reading, &mut upstream);
    check::read(proxy, &mut upstream);
    affinity::read(proxy, &mut upstream);
    let notes: Vec<Note> = proxy.own().iter().filter_map(|statement| note(proxy, statement)).collect();
    upstream.notes.extend(notes);
    upstream
}

/// Names of upstreams that a section and routes to it have in common.
pub(super) fn name_of(backend: &str) -> String {
    fits::upstream_name(backend)
}

fn timeouts(proxy: &Proxy<'_>, upstream: &mut Upstream) {
    let policy = &mut upstream.policy;
    policy.connect = proxy.timeout("connect", 1, HOUR);
    policy.read = proxy.timeout("server", 1, WEEK);
    policy.write = policy.read;
    let of_requests = [proxy.timeout("client", 1_000, YEAR), proxy.timeout("server", 1_000, YEAR)];
    // Without a time for tunnels, HAProxy has those of requests.
    let shortest = of_requests.into_iter().flatten().min();
    policy.idle = proxy.timeout("tunnel", 1_000, YEAR).or(shortest);
    upstream.wait = proxy.timeout("queue", 100, HOUR);
}

/// The note about a line that no reader of backends has.
fn note(proxy: &Proxy<'_>, statement: &Statement) -> Option<Note> {
    const READ: &[&str] = &[
        "server",
        "server-template",
        "cookie",
        "stick",
        "acl",
        "bind",
        "use_backend",
        "default_backend",
        "maxconn",
        "http-check",
        "hash-balance-factor",
        "default-server",
        "redirect",
        "monitor-uri",
    ];
    let line = || statement.line();
    match statement.word(0) {
        "option" => process::option(statement),
        // The reader of frontends reads these lines of a `listen` section.
        "http-request" | "http-response" | "stats" | "tcp-request" if proxy.is_frontend() => None,
        "http-request" | "http-response" if statement.word(1).ends_with("-header") => None,
        "http-request" => Some(if guards(statement) {
            line().unprotected("rules that refuse requests are read in frontends alone")
        } else {
            line().left_out(rewriting(statement))
        }),
        "http-response" => Some(line().left_out("answers go on as backends give them")),
        "tcp-request" | "tcp-response" => Some(line().left_out("connections are looked at by listeners alone")),
        "tcp-check" => None,
        "use-server" | "dispatch" => Some(line().left_out("the ring or the load chooses the backend")),
        "compression" => Some(line().left_out("answers go on as backends compress them")),
        word if READ.contains(&word) || needs_nothing(statement) => None,
        _ => Some(line().left_out("no equivalent")),
    }
}

pub(super) fn guards(statement: &Statement) -> bool {
    matches!(statement.word(1), "deny" | "tarpit" | "reject" | "auth" | "silent-drop" | "wait-for-body")
}

/// The words about a rule that changes requests.
pub(super) fn rewriting(statement: &Statement) -> &'static str {
    match statement.word(1) {
        "set-path" | "replace-path" | "set-pathq" | "replace-pathq" | "set-uri" | "replace-uri" | "set-query" => {
            "backends get the path that the client asked for"
        }
        "redirect" | "return" => "answers of its own and redirects are no routes, but for a listener's `redirect`",
        "set-var" | "unset-var" => "variables are not known",
        _ => "no equivalent",
    }
}
