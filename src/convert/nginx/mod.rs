//! nginx's configuration files as a model of a gateway.

mod guard;
mod header;
mod include;
mod lex;
mod listen;
mod paths;
mod process;
mod scope;
mod site;
mod sockets;
mod target;
mod upstream;
mod variables;
mod verdicts;

use std::path::Path;
use std::sync::Arc;

use self::guard::Zones;
use self::lex::Directive;
use self::scope::NginxScope;
use self::site::{ServerBlock, SiteReading};
use self::target::Targets;
use self::variables::Maps;
use super::files::Files;
use super::model::{Bytes, Model, Upstream};
use super::place::{SourcePlace, SourceProblem};
use super::uses::Uses;

/// Differences between the defaults of nginx and those of Longhaul, for keys that a file leaves out.
const DEFAULTS: &[&str] = &[
    "a path ends at a `/`: `/ws` and `/ws/` both take `/ws` and `/ws/a`, and not `/wsx`",
    "routes hold on every listener: a host of one `server` is answered on the sockets of the others, too",
    "WebSockets pass on every route, and need no `Upgrade` header to be set",
    "a tunnel may be silent for 1d (nginx: 60 s), a connect may take 3s (60 s), a handshake 10s (60 s)",
    "backends are checked by a connect every 2s; nginx learns of failures from requests alone",
];

/// Reads the main file and those it includes.
///
/// # Errors
/// Every problem of the files.
pub(super) fn read(path: &Path, text: &str, files: &dyn Files) -> Result<Model, Vec<SourceProblem>> {
    let name: Arc<str> = path.to_string_lossy().into();
    let mut reader = include::SourceReader::new(files, path);
    let mut directives = reader.directives(&name, text);
    if !reader.problems.is_empty() {
        return Err(reader.problems);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    absolute(&mut directives, folder);
    let mut model = Model { defaults: DEFAULTS.to_vec(), lines: count(&directives), ..Model::default() };
    // A file of sites alone is what stands in `http`.
    let is_part = directives.iter().any(|directive| matches!(directive.name.as_str(), "server" | "upstream"));
    let mut http = Vec::new();
    for directive in directives {
        match directive.name.as_str() {
            "http" => http.extend(directive.block.unwrap_or_default()),
            "events" => {
                let below = directive.block.unwrap_or_default();
                model.notes.extend(below.iter().filter_map(verdicts::of));
            }
            _ if is_part => http.push(directive),
            "worker_processes" | "worker_shutdown_timeout" => process::main(&directive, &mut model.process),
            _ => model.notes.extend(verdicts::of(&directive)),
        }
    }
    if !http.iter().any(|directive| directive.name == "server") {
        let message = "the files have no `server` block";
        let expected = "`http { server { … } }`, or a file of `server` and `upstream` blocks";
        return Err(vec![SourceProblem::new(&SourcePlace { file: name, line: 1 }, message, expected)]);
    }
    of_http(&http, &mut model);
    Ok(model)
}

fn of_http(http: &[Directive], model: &mut Model) {
    let scope = NginxScope::default().inside(http);
    let zones = Zones::of(http, &mut model.notes);
    let body_size = site::body_size(&scope).unwrap_or(Bytes::At(1 << 20));
    let upstreams = http.iter().filter(|directive| directive.name == "upstream" && !directive.arguments.is_empty());
    let definitions = upstreams.map(|block| (block.argument(0), block)).collect();
    let mut targets = Targets { definitions, maps: Maps::of(http), uses: Uses::default() };
    let mut sites = Vec::new();
    for directive in http {
        match directive.name.as_str() {
            "server" => {
                let mut reading = SiteReading { targets: &mut targets, zones: &zones, body_size };
                let mut site = ServerBlock::read(directive, &scope, &mut reading);
                site.close_refused();
                sites.push(site);
            }
            "map" if !Maps::is_read(directive) => {
                let words = "of maps only those are read whose key is the host or a source of affinity";
                model.notes.push(directive.line().left_out(words));
            }
            "upstream" | "map" => {}
            _ => model.notes.extend(verdicts::of(directive)),
        }
    }
    model.process.body_size = Some(body_size);
    process::of_http(http, &scope, &sites, model);
    sockets::listeners(&mut sites, model);
    routes(sites, model);
    let used = targets.uses.into_upstreams();
    let unused = unused(http, &used, &targets.maps);
    model.upstreams = used.into_iter().chain(unused).collect();
}

/// Upstreams that no location leads to.
fn unused(http: &[Directive], used: &[Upstream], maps: &Maps<'_>) -> Vec<Upstream> {
    let blocks = http.iter().filter(|directive| directive.name == "upstream");
    let is_used = |block: &Directive| used.iter().any(|upstream| upstream.place == block.place);
    let taken = |name: &str| used.iter().any(|upstream| upstream.name == name);
    let read = blocks.filter(|block| !is_used(block)).map(|block| upstream::read(block, maps, 80));
    read.filter(|upstream| !taken(&upstream.name)).collect()
}

/// The routes of all sites, those of the default servers for any host.
fn routes(sites: Vec<ServerBlock<'_>>, model: &mut Model) {
    let defaults = sockets::defaults(&sites);
    let is_public = sites.iter().any(|site| site.listens.iter().any(|listen| !listen.address.ip().is_loopback()));
    let names: Vec<Vec<String>> = sites.iter().map(|site| site.names.clone()).collect();
    for (index, mut site) in sites.into_iter().enumerate() {
        if site.redirect.is_some() {
            model.notes.append(&mut site.notes);
            continue;
        }
        let others = names.iter().enumerate().filter(|(other, _)| *other != index).flat_map(|(_, names)| names);
        let others: Vec<&String> = others.collect();
        let covered = |name: &String| others.iter().any(|other| covers(other, name));
        let mut hosts: Vec<Option<String>> = Vec::new();
        if defaults.contains(&index) {
            hosts.push(None);
            hosts.extend(site.names.iter().filter(|name| covered(name)).cloned().map(Some));
        } else {
            hosts.extend(site.names.iter().cloned().map(Some));
        }
        if is_public && !site.routes.is_empty() && site.listens.iter().all(|listen| listen.address.ip().is_loopback()) {
            let words = "this server is for the machine itself, and its routes are answered on the public sockets, too";
            site.notes.push(site.block.line().unprotected(words));
        }
        if hosts.is_empty() && !site.routes.is_empty() {
            let words = "no name leads here, and another server is the default: its routes are left out";
            site.notes.push(site.block.line().left_out(words));
        }
        let mut notes = std::mem::take(&mut site.notes);
        for (number, host) in hosts.iter().enumerate() {
            for route in &site.routes {
                let mut route = route.clone();
                if number > 0 {
                    route.notes.clear();
                }
                route.host = route.host.or_else(|| host.clone());
                notes.append(&mut route.notes);
                route.notes = std::mem::take(&mut notes);
                model.routes.push(route);
            }
        }
        model.notes.append(&mut notes);
    }
}

/// Tells whether the name of another server, or its wildcard, takes a name.
fn covers(wildcard: &str, name: &str) -> bool {
    wildcard == name || wildcard.strip_prefix('*').is_some_and(|domain| name.ends_with(domain))
}

fn count(directives: &[Directive]) -> usize {
    directives.iter().map(|directive| 1 + directive.block.as_ref().map_or(0, |block| count(block))).sum()
}

/// Directives whose argument is a file.
const FILES: [&str; 6] = [
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_client_certificate",
    "proxy_ssl_trusted_certificate",
    "proxy_ssl_certificate",
    "proxy_ssl_certificate_key",
];

/// Gives names of files the folder that nginx begins them in.
fn absolute(directives: &mut [Directive], folder: &Path) {
    for directive in directives {
        if FILES.contains(&directive.name.as_str())
            && let Some(file) = directive.arguments.first_mut()
        {
            *file = folder.join(&*file).to_string_lossy().into_owned();
        }
        absolute(directive.block.as_deref_mut().unwrap_or_default(), folder);
    }
}
