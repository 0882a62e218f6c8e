//! HAProxy's configuration file as a model of a gateway.

mod acl;
mod affinity;
mod backend;
mod bind;
mod check;
mod frontend;
mod header;
mod process;
mod proxy;
mod server;
mod words;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use self::frontend::Frontend;
use self::proxy::Proxy;
use self::words::{Section, Statement};
use super::files::Files;
use super::model::{Model, Upstream};
use super::place::{SourcePlace, SourceProblem};

/// Differences that hold wherever a file of HAProxy's says nothing.
const DEFAULTS: &[&str] = &[
    "a path ends at a `/`: `/ws` takes `/ws` and `/ws/a`, and not `/wsx`",
    "the most specific host, then the longest path decides, not the first rule: rules that meet have a route each",
    "routes hold on every listener: those of one frontend are answered on the sockets of the others, too",
    "a handshake may take 10s until its 101, whatever `timeout server` says",
    "an IPv6 client is known by its /64",
];

/// Everything that sections are read with.
struct Reading<'r> {
    files: &'r dyn Files,
    /// Folder that relative names begin in.
    folder: &'r Path,
    /// `crt-base` and `ca-base`.
    crt_base: String,
    ca_base: String,
}

/// Reads the file.
///
/// # Errors
/// Every problem of the file.
pub(super) fn read(path: &Path, text: &str, files: &dyn Files) -> Result<Model, Vec<SourceProblem>> {
    let name: Arc<str> = path.to_string_lossy().into();
    let mut problems = Vec::new();
    let sections = words::sections(&name, text, files, &mut problems);
    let names = sections.iter().filter(|section| section.kind == "backend" || section.kind == "listen");
    let names: HashSet<&str> = names.map(|section| section.name.as_str()).collect();
    for statement in sections.iter().flat_map(|section| &section.statements) {
        let names_one = matches!(statement.word(0), "default_backend" | "use_backend");
        let wanted = statement.word(1);
        if names_one && !wanted.contains('%') && !names.contains(wanted) {
            let message = format!("`{wanted}` is no backend of the file");
            problems.push(SourceProblem::new(&statement.place, message, "the name of a `backend` or `listen` section"));
        }
    }
    if !sections.iter().any(|section| matches!(section.kind.as_str(), "frontend" | "listen")) {
        let place = SourcePlace { file: Arc::clone(&name), line: 1 };
        problems.push(SourceProblem::new(
            &place,
            "the file has no `frontend` and no `listen`",
            "a section that binds a socket",
        ));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let lines = sections.iter().map(|section| 1 + section.statements.len()).sum();
    let mut model = Model { defaults: DEFAULTS.to_vec(), lines, ..Model::default() };
    let of_global = |word: &str| {
        let global = sections.iter().filter(|section| section.kind == "global");
        let found = global.flat_map(|section| &section.statements).find(|statement| statement.word(0) == word);
        found.map(|statement| statement.word(1).to_owned()).unwrap_or_default()
    };
    let reading = Reading {
        files,
        folder: path.parent().unwrap_or(Path::new("")),
        crt_base: of_global("crt-base"),
        ca_base: of_global("ca-base"),
    };
    process::read(&sections, &mut model);
    proxies(&sections, &reading, &mut model);
    Ok(model)
}

fn proxies(sections: &[Section], reading: &Reading<'_>, model: &mut Model) {
    let proxies = proxy::all(sections);
    let mut upstreams: HashMap<&str, Upstream> = HashMap::new();
    let mut order = Vec::new();
    for proxy in proxies.iter().filter(|proxy| proxy.is_backend()) {
        if !proxy.is_http() {
            continue;
        }
        let upstream = backend::read(proxy, reading);
        if proxy.kind == "listen" && upstream.backends.is_empty() && upstream.discover.is_none() {
            continue;
        }
        order.push(proxy.name);
        upstreams.insert(proxy.name, upstream);
    }
    let by_name: HashMap<&str, &Proxy<'_>> =
        proxies.iter().filter(|proxy| proxy.is_backend()).map(|proxy| (proxy.name, proxy)).collect();
    for proxy in proxies.iter().filter(|proxy| proxy.is_frontend()) {
        if !proxy.is_http() {
            let line = proxy.line();
            model
                .notes
                .push(line.left_out("`mode tcp`: TCP is not proxied; convert it with `mode http` if it carries HTTP"));
            continue;
        }
        Frontend { proxy, backends: &by_name, reading }.read(model);
    }
    for name in order {
        model.upstreams.extend(upstreams.remove(name));
    }
}

/// Times that are read, or of things that Longhaul bounds by itself.
const TIMEOUTS: &[&str] = &[
    "check",
    "client",
    "client-fin",
    "client-hs",
    "connect",
    "http-keep-alive",
    "http-request",
    "queue",
    "server",
    "server-fin",
    "tarpit",
    "tunnel",
];

/// Tells whether a line needs nothing in a Longhaul file.
fn needs_nothing(statement: &Statement) -> bool {
    const WORDS: &[&str] = &[
        "mode",
        "log",
        "log-format",
        "log-tag",
        "log-format-sd",
        "error-log-format",
        "retries",
        "description",
        "unique-id-format",
        "unique-id-header",
        "hash-type",
        "fullconn",
        "balance",
        "id",
        "enabled",
        "retry-on",
        "load-server-state-from-file",
        "default-server",
        "no",
        "option",
        "http-reuse",
        "persist",
        "max-keep-alive-queue",
        "stick-table",
        "backlog",
        "clitcpka-cnt",
        "srvtcpka-cnt",
        "declare",
        "capture",
    ];
    match statement.word(0) {
        "timeout" => TIMEOUTS.contains(&statement.word(1)),
        word => WORDS.contains(&word),
    }
}
