//! `global`, `defaults` and the sections that no traffic goes through.

use super::needs_nothing;
use super::words::{Section, Statement};
use crate::convert::model::Model;
use crate::convert::place::Note;
use crate::convert::quantity::haproxy_time;

/// Lines of `global` that need nothing.
const NOTHING: &[&str] = &[
    "daemon",
    "log",
    "log-tag",
    "chroot",
    "pidfile",
    "maxpipes",
    "crt-base",
    "ca-base",
    "setenv",
    "presetenv",
    "unsetenv",
    "resetenv",
    "quiet",
    "zero-warning",
    "master-worker",
    "nbproc",
    "cpu-map",
    "node",
    "description",
    "localpeer",
    "expose-experimental-directives",
    "server-state-base",
    "server-state-file",
    "spread-checks",
    "ulimit-n",
    "numa-cpu-mapping",
    "thread-groups",
    "set-dumpable",
    "h1-case-adjust",
    "h1-case-adjust-file",
    "insecure-fork-wanted",
    "noepoll",
    "nosplice",
    "ssl-server-verify",
    "ssl-dh-param-file",
];

pub(super) fn read(sections: &[Section], model: &mut Model) {
    for section in sections {
        match section.kind.as_str() {
            "global" => section.statements.iter().for_each(|statement| global(statement, model)),
            "defaults" => model.process.notes.extend(section.statements.iter().filter_map(of_defaults)),
            "frontend" | "backend" | "listen" => {}
            kind => {
                let words = match kind {
                    "userlist" => "passwords are not asked for: see the hook `jwt` (docs/hooks/jwt.md)",
                    "peers" => "there are no tables to synchronise: two gateways with one file choose alike",
                    "resolvers" => {
                        "names are asked of the system's DNS servers; see `resolve` in docs/configuration.md"
                    }
                    "cache" => "there is no cache",
                    _ => "no equivalent",
                };
                let line = crate::convert::place::SourceLine::new(&section.place, &[kind, &section.name]);
                let is_guard = kind == "userlist";
                model.notes.push(if is_guard { line.unprotected(words) } else { line.left_out(words) });
            }
        }
    }
}

fn global(statement: &Statement, model: &mut Model) {
    let process = &mut model.process;
    let line = || statement.line();
    let number = || statement.word(1).parse::<u64>().ok();
    match statement.word(0) {
        "maxconn" => process.connections = number().filter(|most| (1..=u64::from(u32::MAX)).contains(most)),
        "nbthread" => process.threads = number().filter(|threads| (1..=1_024).contains(threads)),
        "hard-stop-after" => process.drain_window = haproxy_time(statement.word(1)).map(|time| time.min(86_400_000)),
        "user" | "group" | "uid" | "gid" => {
            process.notes.push(line().left_out("systemd or `user` with `daemon` sets it (docs/operating.md)"));
        }
        "stats" => process.notes.push(line().left_out("`control_sock` is there by itself (docs/operating.md)")),
        word if word.starts_with("ssl-default-bind-cipher") || word.starts_with("ssl-default-server-cipher") => {
            process.notes.push(line().changed("suites are not chosen: those of TLS 1.3, and the AEAD suites of 1.2"));
        }
        word if word.starts_with("lua-") => {
            process.notes.push(line().left_out("write a hook in Rust instead (docs/hooks.md)"));
        }
        word if NOTHING.contains(&word) || word.starts_with("tune.") || word.starts_with("ssl-default-") => {}
        _ => process.notes.push(line().left_out("no equivalent")),
    }
}

/// The note about a line of `defaults` that the sections below do not read.
fn of_defaults(statement: &Statement) -> Option<Note> {
    let first = statement.word(0);
    if first == "option" {
        return option(statement);
    }
    let read = ["maxconn", "http-check", "cookie", "errorfile", "stats", "errorloc"];
    match first {
        "maxconn" => {
            Some(statement.line().left_out("connections are bounded for the whole process (`limits.connections`)"))
        }
        "errorfile" | "errorfiles" | "http-error" | "errorloc" | "errorloc302" | "errorloc303" => {
            Some(statement.line().left_out("answers of Longhaul's own have a text of its own"))
        }
        "http-request" | "http-response" => Some(if super::backend::guards(statement) {
            statement.line().unprotected("rules are read in frontends alone: write it there, and convert again")
        } else {
            statement.line().left_out("rules are read in frontends and backends alone")
        }),
        "stats" => Some(statement.line().left_out("see `metrics` and `admin` in docs/configuration.md")),
        "compression" => Some(statement.line().left_out("answers go on as backends compress them")),
        first if needs_nothing(statement) || read.contains(&first) || first.starts_with("stick") => None,
        "clitimeout" | "srvtimeout" | "contimeout" => None,
        _ => Some(statement.line().left_out("no equivalent")),
    }
}

/// Options whose effect Longhaul has by itself, or that tune what it does not do.
const OPTIONS: &[&str] = &[
    "httplog",
    "tcplog",
    "dontlognull",
    "dontlog-normal",
    "logasap",
    "log-health-checks",
    "log-separate-errors",
    "http-keep-alive",
    "http-server-close",
    "httpclose",
    "forceclose",
    "redispatch",
    "forwardfor",
    "forwarded",
    "httpchk",
    "splice-auto",
    "splice-request",
    "splice-response",
    "http-use-htx",
    "abortonclose",
    "clitcpka",
    "srvtcpka",
    "tcpka",
    "nolinger",
    "contstats",
    "socket-stats",
    "http-no-delay",
    "http-tunnel",
    "prefer-last-server",
    "http-pretend-keepalive",
    "http-buffer-request",
    "persist",
    "allbackups",
    "tcp-smart-accept",
    "tcp-smart-connect",
    "idle-close-on-response",
    "http-ignore-probes",
    "checkcache",
    "independent-streams",
];

/// The note about an option.
pub(super) fn option(statement: &Statement) -> Option<Note> {
    let line = || statement.line();
    match statement.word(1) {
        name if OPTIONS.contains(&name) => None,
        "tcp-check" => Some(line().changed("a backend is up when it can be connected to")),
        "accept-invalid-http-request" => {
            Some(line().left_out("malformed requests are refused; `handshake: lenient` on a route takes any key"))
        }
        "mysql-check" | "pgsql-check" | "redis-check" | "smtpchk" | "ldap-check" | "ssl-hello-chk"
        | "external-check" => Some(line().changed("a backend is up when it can be connected to")),
        _ => Some(line().left_out("no equivalent")),
    }
}
