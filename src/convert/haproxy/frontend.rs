//! `frontend`: sockets, and rules that lead to backends.

use std::collections::HashMap;
use std::path::Path;

use super::acl::{Acls, Case};
use super::proxy::Proxy;
use super::words::Statement;
use super::{Reading, backend, bind, header, needs_nothing, process};
use crate::convert::fits;
use crate::convert::model::{Headers, Hook, Hsts, Listener, Model, PRIVATE, Route};
use crate::convert::place::{Note, SourceLine};
use crate::convert::rules::{self, Region};

/// A section that binds sockets.
pub(super) struct Frontend<'f, 's> {
    pub(super) proxy: &'f Proxy<'s>,
    pub(super) backends: &'f HashMap<&'s str, &'f Proxy<'s>>,
    pub(super) reading: &'f Reading<'f>,
}

/// A rule that refuses requests.
struct Guard {
    region: Region,
    hook: Hook,
    line: SourceLine,
}

/// Most hosts that one map file adds.
const MAX_MAPPED: usize = 5_000;

impl Frontend<'_, '_> {
    pub(super) fn read(&self, model: &mut Model) {
        let proxy = self.proxy;
        let mut acls = Acls::default();
        proxy.all(&["acl"]).iter().for_each(|statement| acls.add(statement, self.reading.files));
        let mut notes: Vec<Note> = Vec::new();
        let mut listeners = Vec::new();
        let mut headers = Headers::default();
        let mut guards = Vec::new();
        let mut redirect = None;
        let mut hsts = None;
        for statement in proxy.own() {
            match statement.word(0) {
                "bind" => listeners.extend(bind::read(statement, self.reading, &mut notes)),
                "redirect" => redirect = self.redirect(statement, 1, &acls, &mut notes).or(redirect),
                "http-request" if statement.word(1) == "redirect" => {
                    redirect = self.redirect(statement, 2, &acls, &mut notes).or(redirect);
                }
                "http-response" if hsts_of(statement).is_some() => hsts = hsts_of(statement),
                "http-request" | "http-response" if statement.word(1).ends_with("-header") => {
                    notes.extend(header::read(statement, &mut headers, &mut model.process.drop_strangers));
                }
                "http-request" if backend::guards(statement) => {
                    guards.extend(self.guards(statement, &acls, &mut notes));
                }
                _ => notes.extend(self.note(statement)),
            }
        }
        self.process(model, &mut notes);
        let mut routes = self.routes(&acls, &mut notes);
        self.hooks(&mut routes, &headers, guards, model, &mut notes);
        let is_useful = !routes.is_empty() || redirect.is_some();
        if let Some(first) = routes.first_mut() {
            first.notes.splice(0..0, notes);
        } else {
            model.notes.extend(notes);
        }
        if is_useful {
            self.finish_listeners(listeners, redirect, hsts, model);
        } else {
            model.notes.push(self.proxy.line().left_out("no route to a backend: its sockets are left out"));
        }
        model.routes.extend(routes);
    }

    /// Adds hooks to the routes: first those that refuse requests, then the hook for headers.
    fn hooks(
        &self,
        routes: &mut Vec<Route>,
        headers: &Headers,
        guards: Vec<Guard>,
        model: &mut Model,
        notes: &mut Vec<Note>,
    ) {
        for route in routes.iter_mut() {
            let mut all = headers.clone();
            self.backend_headers(&route.upstream, &mut all, &mut model.process.drop_strangers, notes);
            if !all.is_empty() {
                route.hooks.push(Hook::Headers(all));
            }
        }
        for guard in guards {
            if !rules::guard(routes, &guard.region, &guard.hook) {
                notes.push(guard.line.left_out("no route for it"));
            }
        }
    }

    fn finish_listeners(&self, listeners: Vec<Listener>, redirect: Option<u16>, hsts: Option<Hsts>, model: &mut Model) {
        let most = self.proxy.last(&["maxconn"]);
        let shared = most.filter(|_| listeners.len() > 1);
        let most =
            most.and_then(|most| most.word(1).parse().ok()).filter(|most| (1..=u64::from(u32::MAX)).contains(most));
        for mut listener in listeners {
            listener.connections = most;
            listener
                .notes
                .extend(shared.map(|line| line.line().changed("each of the frontend's listeners may have so many")));
            if listener.tls.is_none() {
                listener.redirect = redirect;
            } else {
                listener.hsts = hsts.clone();
            }
            if listener.tls.as_ref().is_some_and(|tls| tls.certificates.is_empty()) {
                let words = format!("no certificate for {}: the listener is left out", listener.address);
                model.notes.push(self.proxy.line().unprotected(words));
                continue;
            }
            if listener.proxy_protocol && model.process.trusted_proxies.is_empty() {
                let words = "HAProxy takes PROXY headers from anybody: name the proxies in `trusted_proxies`, for \
                             every private network";
                listener.notes.push(self.proxy.line().unprotected(words));
                model.process.trusted_proxies = PRIVATE.map(str::to_owned).to_vec();
            }
            model.listeners.push(listener);
        }
    }

    /// Timeouts and options of clients, which are the process's.
    fn process(&self, model: &mut Model, notes: &mut Vec<Note>) {
        let proxy = self.proxy;
        let (hour, day) = (3_600_000, 86_400_000);
        let process = &mut model.process;
        let client = proxy.timeout("client", 1_000, day);
        for (value, found, name) in [
            (&mut process.body_idle, client, "client"),
            (&mut process.answer_idle, client, "client"),
            (&mut process.head_time, proxy.timeout("http-request", 100, hour), "http-request"),
            (&mut process.keep_alive, proxy.timeout("http-keep-alive", 1_000, day), "http-keep-alive"),
        ] {
            if value.is_some() && found.is_some() && *value != found {
                let line = proxy.last(&["timeout", name]).map_or_else(|| proxy.line(), Statement::line);
                notes.push(line.changed("one time for the whole process: the first frontend's"));
            }
            *value = value.or(found);
        }
        process.write_forwarded |= proxy.has_option("forwarded");
    }

    fn note(&self, statement: &Statement) -> Option<Note> {
        let line = || statement.line();
        let is_listen = self.proxy.is_backend();
        match statement.word(0) {
            "acl" | "use_backend" | "default_backend" => None,
            // The reader of backends reads these lines.
            "option" if is_listen => None,
            "option" => process::option(statement),
            "maxconn" => Some(line().changed("one more is answered 503 at once, and waits in no queue")),
            "rate-limit" => Some(line().left_out("see `limits.per_client` and `admission` in docs/limits.md")),
            "http-request" if matches!(statement.word(1), "capture" | "set-log-level" | "cache-use") => None,
            "http-request" if statement.word(1).starts_with("track-sc") => Some(
                line().unprotected("rates are not counted here; see the hook `rate_limit` (docs/hooks/rate_limit.md)"),
            ),
            "http-request" if statement.word(1) == "allow" => {
                Some(line().unprotected("rules behind it hold for these requests, too"))
            }
            "http-request" => Some(line().left_out(backend::rewriting(statement))),
            "http-response" | "http-after-response" => Some(line().left_out("answers go on as backends give them")),
            "tcp-request"
                if matches!(statement.word(1), "inspect-delay" | "content") && statement.word(2) != "reject" =>
            {
                None
            }
            "tcp-request" => {
                Some(line().unprotected("see `listeners[].allow`, `.deny` and `limits` in docs/configuration.md"))
            }
            "stats" => Some(line().left_out("see `metrics` and `admin` in docs/configuration.md")),
            "monitor-uri" | "monitor" => Some(line().left_out("`/ready` of `admin` says whether the gateway is ready")),
            "errorfile" | "http-error" => Some(line().left_out("answers of Longhaul's own have a text of its own")),
            "compression" if !is_listen => Some(line().left_out("answers go on as backends compress them")),
            "filter" => Some(line().left_out("write a hook in Rust instead (docs/hooks.md)")),
            _ if is_listen || needs_nothing(statement) || statement.word(0).starts_with("stick") => None,
            _ => Some(line().left_out("no equivalent")),
        }
    }

    /// The port of https that plain clients are sent to.
    fn redirect(&self, statement: &Statement, at: usize, acls: &Acls, notes: &mut Vec<Note>) -> Option<u16> {
        let line = statement.line();
        let cases = acls.cases(statement, self.reading.files);
        let of_plain = |case: &Case| case.is_everything() && !case.unknown && !case.websocket && case.tls != Some(true);
        if statement.word(at) == "scheme" && statement.word(at + 1) == "https" && cases.iter().any(of_plain) {
            if !statement.words.iter().any(|word| word == "308") {
                notes.push(line.changed("a 308 that keeps the method, for everything on the plain listeners"));
            }
            return Some(443);
        }
        notes.push(line.left_out("redirects are no routes, but for a plain listener's to https"));
        None
    }

    fn guards(&self, statement: &Statement, acls: &Acls, notes: &mut Vec<Note>) -> Vec<Guard> {
        let line = statement.line();
        let mut guards = Vec::new();
        let guard = |region, hook: &Hook| Guard { region, hook: hook.clone(), line: line.clone() };
        for case in acls.cases(statement, self.reading.files) {
            let hook = match (&case.networks, statement.word(1)) {
                _ if case.unknown || case.websocket || case.tls.is_some() => None,
                (None, "auth") => Some(Hook::Closed),
                _ if case.login => Some(Hook::Closed),
                (None, "deny" | "tarpit" | "reject" | "silent-drop") => Some(Hook::Closed),
                (Some((networks, true)), "deny" | "tarpit" | "reject" | "silent-drop") => {
                    Some(Hook::IpFilter { allow: Vec::new(), deny: networks.clone(), otherwise_deny: false })
                }
                (Some((networks, false)), "deny" | "tarpit" | "reject" | "silent-drop") => {
                    Some(Hook::IpFilter { allow: networks.clone(), deny: Vec::new(), otherwise_deny: true })
                }
                _ => None,
            };
            if hook.is_some() && case.is_open_beside() {
                notes.push(line.unprotected(fits::OPEN_BESIDE));
            }
            match hook {
                Some(Hook::Closed) if case.login || statement.word(1) == "auth" => {
                    notes.push(line.unprotected("passwords are not asked for; its routes are closed (403)"));
                    guards.extend(case.regions().into_iter().map(|region| guard(region, &Hook::Closed)));
                }
                // An earlier rule may have allowed some requests (`http-request allow`).
                Some(Hook::Closed) if case.is_everything() => {
                    notes.push(
                        line.unprotected("refuses every request that no rule let in: all routes are closed (403)"),
                    );
                    guards.push(guard(Region { host: None, path: "/".to_owned() }, &Hook::Closed));
                }
                Some(hook) => {
                    guards.extend(case.regions().into_iter().map(|region| guard(region, &hook)));
                }
                None => {
                    notes.push(line.unprotected("no hook looks at this condition: write it by hand (docs/hooks.md)"))
                }
            }
        }
        guards
    }

    fn routes(&self, acls: &Acls, notes: &mut Vec<Note>) -> Vec<Route> {
        let mut rules = Vec::new();
        for statement in self.proxy.own().iter().filter(|statement| statement.word(0) == "use_backend") {
            if statement.word(1).contains('%') {
                self.mapped(statement, &mut rules, notes);
            } else {
                self.use_backend(statement, acls, &mut rules, notes);
            }
        }
        let itself = self.proxy.own().iter().any(|statement| statement.word(0).starts_with("server"));
        let default = self.proxy.last(&["default_backend"]);
        let name = default
            .map(|statement| statement.word(1))
            .or((itself && self.proxy.is_backend()).then_some(self.proxy.name));
        if let Some(name) = name {
            let place = default.map_or(self.proxy.place(), |statement| &statement.place);
            let region = Region { host: None, path: "/".to_owned() };
            rules.push(route(region, name, place, Vec::new()));
        }
        rules::routes(rules, notes)
    }

    fn use_backend(&self, statement: &Statement, acls: &Acls, rules: &mut Vec<Route>, notes: &mut Vec<Note>) {
        let line = statement.line();
        let name = statement.word(1);
        for case in acls.cases(statement, self.reading.files) {
            if case.unknown || case.login || case.networks.is_some() {
                notes.push(line.left_out("routes look at host and path alone: its requests go by the other rules"));
                continue;
            }
            if case.websocket && case.is_everything() {
                let words =
                    "routes do not tell WebSockets from plain requests: give them a path or a host of their own";
                notes.push(line.left_out(words));
                continue;
            }
            let mut of_rule = Vec::new();
            if case.websocket {
                of_rule.push(line.changed("plain requests for the same host and path, too"));
            }
            if case.tls.is_some() {
                of_rule.push(line.changed("whether the client came by TLS or not"));
            }
            of_rule.extend(case.words().map(|words| line.changed(words)));
            for region in case.regions() {
                rules.push(route(region, name, &statement.place, std::mem::take(&mut of_rule)));
            }
        }
    }

    /// `use_backend %[req.hdr(host),lower,map(FILE,DEFAULT)]`.
    fn mapped(&self, statement: &Statement, rules: &mut Vec<Route>, notes: &mut Vec<Note>) {
        let line = statement.line();
        let text = statement.word(1).to_ascii_lowercase();
        let is_host = ["%[req.hdr(host)", "%[hdr(host)", "%[ssl_fc_sni", "%[req.fhdr(host)"]
            .iter()
            .any(|begin| text.starts_with(begin));
        let call = ["map(", "map_str(", "map_dom("].iter().find_map(|name| {
            let at = text.find(&format!(",{name}"))? + 1 + name.len();
            statement.word(1).get(at..)?.split(')').next()
        });
        let Some(call) = call.filter(|_| is_host && statement.words.len() == 2) else {
            notes.push(line.left_out("a backend's name that is made of the request"));
            return;
        };
        let (file, default) = call.split_once(',').unwrap_or((call, ""));
        let path = self.reading.file(file, "");
        let Ok(map) = self.reading.files.read(Path::new(&path)) else {
            notes.push(line.left_out(format!("`{path}` cannot be read: its hosts have no routes")));
            return;
        };
        let lines = map.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for entry in lines.take(MAX_MAPPED) {
            let (host, name) = entry.split_once(char::is_whitespace).unwrap_or((entry, ""));
            match (fits::host(fits::without_port(host)), self.backends.contains_key(name.trim())) {
                (Some(host), true) => {
                    let region = Region { host: Some(host), path: "/".to_owned() };
                    rules.push(route(region, name.trim(), &statement.place, Vec::new()));
                }
                _ => notes.push(line.left_out(format!("`{entry}` of the map: no host, or no backend of the file"))),
            }
        }
        if self.backends.contains_key(default) {
            rules.push(route(Region { host: None, path: "/".to_owned() }, default, &statement.place, Vec::new()));
        }
    }

    /// Adds the header rules of the backend that a route leads to.
    fn backend_headers(&self, upstream: &str, headers: &mut Headers, drop_strangers: &mut bool, notes: &mut Vec<Note>) {
        let Some(proxy) = self.backends.values().find(|proxy| backend::name_of(proxy.name) == upstream) else { return };
        if std::ptr::eq(*proxy, self.proxy) {
            return;
        }
        for statement in proxy.own() {
            let is_rule = matches!(statement.word(0), "http-request" | "http-response");
            if is_rule && statement.word(1).ends_with("-header") {
                let note = header::read(statement, headers, drop_strangers);
                notes.extend(note.filter(|note| !notes.contains(note)));
            }
        }
    }
}

fn route(region: Region, backend: &str, place: &crate::convert::place::SourcePlace, notes: Vec<Note>) -> Route {
    Route {
        host: region.host,
        path: region.path,
        upstream: backend::name_of(backend),
        affinity: None,
        hooks: Vec::new(),
        body_size: None,
        notes,
        place: place.clone(),
    }
}

/// `http-response set-header Strict-Transport-Security "max-age=…"`.
fn hsts_of(statement: &Statement) -> Option<Hsts> {
    let is_set = statement.word(1) == "set-header" && statement.words.len() == 4;
    (is_set && statement.word(2).eq_ignore_ascii_case("strict-transport-security")).then_some(())?;
    let value = statement.word(3).to_ascii_lowercase();
    let mut hsts = Hsts { max_age: 0, subdomains: false, preload: false };
    for part in value.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        match part {
            "includesubdomains" => hsts.subdomains = true,
            "preload" => hsts.preload = true,
            _ => {
                let seconds: u64 = part.strip_prefix("max-age=")?.trim_matches('"').parse().ok()?;
                hsts.max_age = seconds.min(3_650 * 86_400).saturating_mul(1_000);
            }
        }
    }
    Some(hsts)
}
