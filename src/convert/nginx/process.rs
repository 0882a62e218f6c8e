//! Directives that Longhaul has for the whole process.

use super::header;
use super::lex::Directive;
use super::scope::NginxScope;
use super::site::ServerBlock;
use crate::convert::fits;
use crate::convert::model::{AccessLog, Model, Process};
use crate::convert::quantity::nginx_time;

const HOUR: u64 = 3_600_000;
const DAY: u64 = 24 * HOUR;

/// A directive of the main level.
pub(super) fn main(directive: &Directive, process: &mut Process) {
    match directive.name.as_str() {
        "worker_processes" => {
            process.threads = directive.argument(0).parse().ok().filter(|threads| (1..=1_024).contains(threads));
        }
        _ => process.drain_window = nginx_time(directive.argument(0)).map(|time| time.min(DAY)),
    }
}

/// The directives of `http`, and those of servers where `http` says nothing.
pub(super) fn of_http(http: &[Directive], scope: &NginxScope<'_>, sites: &[ServerBlock<'_>], model: &mut Model) {
    let process = &mut model.process;
    let time = |name: &str, least, most| {
        let of_sites = || sites.iter().find_map(|site| site.scope.time(name, least, most));
        scope.time(name, least, most).or_else(of_sites)
    };
    process.head_time = time("client_header_timeout", 100, HOUR);
    process.body_idle = time("client_body_timeout", 1_000, DAY);
    process.answer_idle = time("send_timeout", 1_000, DAY);
    process.keep_alive = time("keepalive_timeout", 1_000, DAY);
    let all_scopes = || std::iter::once(scope).chain(sites.iter().map(|site| &site.scope));
    process.keep_alive_requests = all_scopes()
        .find_map(|scope| scope.word("keepalive_requests").parse().ok())
        .filter(|most| (1..=u64::from(u32::MAX)).contains(most));
    process.keep_underscores = all_scopes().any(|scope| scope.word("underscores_in_headers") == "on");
    process.drop_strangers = all_scopes().any(header::drops_strangers)
        || sites.iter().any(|site| site.block.below().iter().any(|below| drops_below(below, &site.scope, 0)));
    for site in sites {
        for directive in site.block.below().iter().filter(|directive| PROCESS_WIDE.contains(&directive.name.as_str())) {
            process.notes.push(directive.line().changed("holds for the whole process, and not for one server"));
        }
    }
    proxies(scope, sites, process);
    access_log(http, process);
    for site in sites {
        access_logs_below(site.block.below(), process, 0);
    }
}

/// Directives that stand in servers, too, and are one for the process.
const PROCESS_WIDE: [&str; 7] = [
    "client_header_timeout",
    "client_body_timeout",
    "send_timeout",
    "keepalive_timeout",
    "keepalive_requests",
    "underscores_in_headers",
    "set_real_ip_from",
];

fn drops_below(directive: &Directive, outer: &NginxScope<'_>, depth: usize) -> bool {
    let scope = outer.inside(directive.below());
    directive.name == "location"
        && depth < 16
        && (header::drops_strangers(&scope)
            || directive.below().iter().any(|below| drops_below(below, &scope, depth + 1)))
}

/// `set_real_ip_from`: the proxies that may name the client's address.
fn proxies(http: &NginxScope<'_>, sites: &[ServerBlock<'_>], process: &mut Process) {
    let all = std::iter::once(http).chain(sites.iter().map(|site| &site.scope));
    let mut seen = Vec::new();
    for scope in all {
        let header = scope.word("real_ip_header").to_ascii_lowercase();
        for from in scope.all("set_real_ip_from") {
            if seen.contains(&&from.place) {
                continue;
            }
            seen.push(&from.place);
            let line = from.line();
            if !matches!(header.as_str(), "x-forwarded-for" | "proxy_protocol" | "forwarded") {
                let named = if header.is_empty() { "X-Real-IP".to_owned() } else { header.clone() };
                let words = format!("only `X-Forwarded-For` and PROXY headers are read, and not `{named}`");
                process.notes.push(line.left_out(words));
                continue;
            }
            match fits::network(from.argument(0)) {
                Some(network) if !process.trusted_proxies.contains(&network) => process.trusted_proxies.push(network),
                Some(_) => {}
                None => process.notes.push(line.left_out("no network: names and Unix sockets are not trusted")),
            }
        }
    }
}

fn access_log(http: &[Directive], process: &mut Process) {
    for directive in http.iter().filter(|directive| directive.name == "access_log") {
        let line = directive.line();
        match directive.argument(0) {
            "off" => process.access_log = Some(AccessLog::Off),
            file if file.starts_with('/') && !file.contains('$') && process.access_log.is_none() => {
                process.access_log = Some(AccessLog::File(file.to_owned()));
                process.notes.push(line.changed("lines of `key=value` in place of a format (docs/access-log.md)"));
            }
            _ => process.notes.push(line.left_out("the access log is one file, or standard output")),
        }
    }
}

fn access_logs_below(block: &[Directive], process: &mut Process, depth: usize) {
    for directive in block {
        if directive.name == "access_log" {
            process.notes.push(directive.line().left_out("there is one access log for the process"));
        }
        if depth < 16 {
            access_logs_below(directive.below(), process, depth + 1);
        }
    }
}
