//! `server` blocks: their names, sockets and locations.

use super::guard::{self, Zones};
use super::lex::Directive;
use super::listen::{self, Listen};
use super::paths::{self, Paths};
use super::scope::NginxScope;
use super::target::{ProxyTarget, Targets};
use super::verdicts;
use crate::convert::fits;
use crate::convert::model::{Bytes, Hook, Hsts, Route};
use crate::convert::place::{Note, SourceLine};
use crate::convert::quantity::nginx_size;

/// A `server` block, read.
pub(super) struct ServerBlock<'d> {
    pub(super) block: &'d Directive,
    pub(super) scope: NginxScope<'d>,
    /// Hosts that routes can have.
    pub(super) names: Vec<String>,
    pub(super) listens: Vec<Listen>,
    /// The port of `https` that every request is sent to.
    pub(super) redirect: Option<u16>,
    pub(super) hsts: Option<Hsts>,
    /// Routes without a host, but for those that a `map` chose it for.
    pub(super) routes: Vec<Route>,
    /// Locations that answer 403 or 404 themselves.
    pub(super) refused: Vec<(String, &'d Directive)>,
    pub(super) notes: Vec<Note>,
}

/// Everything that a site's locations are read with.
pub(super) struct SiteReading<'r, 'd> {
    pub(super) targets: &'r mut Targets<'d>,
    pub(super) zones: &'r Zones<'d>,
    /// Most bytes of a body where a location sets no other limit.
    pub(super) body_size: Bytes,
}

/// Most locations inside of each other.
const MAX_DEPTH: usize = 16;

impl<'d> ServerBlock<'d> {
    pub(super) fn read(block: &'d Directive, outer: &NginxScope<'d>, reading: &mut SiteReading<'_, 'd>) -> Self {
        let scope = outer.inside(block.below());
        let mut site = Self {
            block,
            names: Vec::new(),
            listens: Vec::new(),
            redirect: None,
            hsts: None,
            routes: Vec::new(),
            refused: Vec::new(),
            notes: Vec::new(),
            scope,
        };
        for directive in block.below() {
            match directive.name.as_str() {
                "listen" => site.listens.extend(listen::read(directive, &mut site.notes)),
                "server_name" => site.take_names(directive),
                _ => site.notes.extend(verdicts::of(directive)),
            }
        }
        if !block.below().iter().any(|directive| directive.name == "listen") {
            let address = std::net::SocketAddr::from(([0, 0, 0, 0], 80));
            site.listens.push(Listen { address, tls: false, proxy_protocol: false, is_default: false });
        }
        if site.scope.word("ssl") == "on" && site.block.below().iter().any(|directive| directive.name == "ssl") {
            site.listens.iter_mut().for_each(|listen| listen.tls = true);
        }
        site.hsts = site.scope.all("add_header").iter().find_map(|header| hsts(header));
        let has_pass = contains(block.below(), "proxy_pass", 0);
        let to_https = if has_pass { None } else { redirection(block.below(), 0) };
        match to_https {
            Some((port, directive)) if site.listens.iter().all(|listen| !listen.tls) => {
                site.redirect = Some(port);
                let words = "a 308 that keeps the host, path and method, for everything on the listener";
                site.notes.push(directive.line().changed(words));
                site.note_other_locations();
            }
            _ => {
                let scope = site.scope.clone();
                site.block_of_locations(block.below(), &scope, reading, 0);
            }
        }
        site
    }

    fn take_names(&mut self, directive: &Directive) {
        for name in &directive.arguments {
            let texts = match name.strip_prefix('.') {
                Some(domain) => vec![domain.to_owned(), format!("*.{domain}")],
                None => vec![name.clone()],
            };
            for text in texts {
                match fits::host(&text) {
                    Some(host) if text != "_" && !self.names.contains(&host) => self.names.push(host),
                    Some(_) => {}
                    None if text.is_empty() || text.starts_with('$') => {}
                    None => {
                        let words = format!("`{text}` is no name, and no `*.` and a name: its requests find no route");
                        self.notes.push(directive.line().left_out(words));
                    }
                }
            }
        }
    }

    /// Notes that a site that redirects every request to https loses its other locations.
    fn note_other_locations(&mut self) {
        for location in self.block.below().iter().filter(|directive| directive.name == "location") {
            if redirection(location.below(), 0).is_none() {
                self.notes.push(location.line().left_out("everything on the listener is sent to https, this path too"));
            }
        }
    }

    fn block_of_locations(
        &mut self,
        block: &'d [Directive],
        scope: &NginxScope<'d>,
        reading: &mut SiteReading<'_, 'd>,
        depth: usize,
    ) {
        // Of locations that come to the same prefix, the one that is a prefix has it.
        let mut block: Vec<&Directive> = block.iter().collect();
        block.sort_by_key(|directive| match directive.argument(0) {
            _ if directive.name != "location" => 0,
            text if text.starts_with('@') => 2,
            text if text.starts_with(['=', '~']) => 1,
            _ => 0,
        });
        for directive in block {
            match directive.name.as_str() {
                "location" => self.location(directive, scope, reading, depth),
                "if" => {
                    let refuses = |below: &Directive| below.name == "return" && below.argument(0).starts_with('4');
                    let (line, words) = (directive.line(), "conditions are not known; a hook in Rust may decide");
                    let guards = directive.below().iter().any(refuses);
                    self.notes.push(if guards { line.unprotected(words) } else { line.left_out(words) });
                }
                "return" if depth == 0 => self.returned("/", directive),
                _ => {}
            }
        }
    }

    fn location(
        &mut self,
        location: &'d Directive,
        outer: &NginxScope<'d>,
        reading: &mut SiteReading<'_, 'd>,
        depth: usize,
    ) {
        let scope = outer.inside(location.below());
        let line = location.line();
        let mut notes: Vec<Note> = location.below().iter().filter_map(verdicts::of).collect();
        let written = location.arguments.last().map_or("/", |text| text.as_str());
        let prefixes = match paths::of(location) {
            Paths::Same(prefixes) => {
                if fits::ends_within_a_segment(written) && location.below().iter().any(verdicts::refuses) {
                    notes.push(line.unprotected(fits::OPEN_BESIDE));
                }
                prefixes
            }
            Paths::Wider(prefixes, words) => {
                notes.push(line.changed(words));
                prefixes
            }
            Paths::Named => vec!["/".to_owned()],
            Paths::Unknown => {
                let is_guarded = scope.is_protected() || location.below().iter().any(|below| below.name == "deny");
                let words = "no prefix stands for this expression; its requests go by the other routes";
                notes.push(if is_guarded { line.unprotected(words) } else { line.left_out(words) });
                self.notes.append(&mut notes);
                return;
            }
        };
        let own = |name: &str| location.below().iter().find(|below| below.name == name);
        if let Some(pass) = own("proxy_pass") {
            let targets = reading.targets.of(pass, &scope, written, &mut notes);
            self.lead_to(targets, &prefixes, location, &scope, reading, &mut notes);
        } else if let Some(returned) = own("return") {
            prefixes.iter().for_each(|path| self.returned(path, returned));
        } else if own("deny").is_some_and(|deny| deny.argument(0) == "all") {
            self.refused.extend(prefixes.into_iter().map(|path| (path, location)));
        } else if !contains(location.below(), "proxy_pass", 0) {
            self.notes.push(line.left_out("no `proxy_pass`: its requests go by the other routes"));
        }
        self.notes.append(&mut notes);
        if depth < MAX_DEPTH {
            self.block_of_locations(location.below(), &scope, reading, depth + 1);
        }
    }

    /// Adds the routes of a location to its upstreams; the first one has the notes.
    fn lead_to(
        &mut self,
        targets: Vec<ProxyTarget>,
        prefixes: &[String],
        location: &Directive,
        scope: &NginxScope<'_>,
        reading: &SiteReading<'_, '_>,
        notes: &mut Vec<Note>,
    ) {
        let hooks = guard::hooks(scope, reading.zones, self.hsts.is_some() && self.is_tls(), notes);
        let body_size = body_size(scope).filter(|size| *size != reading.body_size);
        for target in targets {
            for path in prefixes {
                let route = Route {
                    host: target.host.clone(),
                    path: path.clone(),
                    upstream: target.upstream.clone(),
                    affinity: None,
                    hooks: hooks.clone(),
                    body_size,
                    notes: std::mem::take(notes),
                    place: location.place.clone(),
                };
                self.add(route);
            }
        }
    }

    fn is_tls(&self) -> bool {
        self.listens.iter().any(|listen| listen.tls)
    }

    /// Adds a route, unless the path has one for the same host.
    fn add(&mut self, mut route: Route) {
        let Some(other) = self.routes.iter_mut().find(|other| other.path == route.path && other.host == route.host)
        else {
            self.routes.push(route);
            return;
        };
        other.notes.append(&mut route.notes);
        if other.upstream != route.upstream || other.hooks != route.hooks {
            let line = SourceLine::new(&route.place, &["location", &route.path]);
            let words = format!("the location at {} takes this path, too, and has it", other.place);
            let is_guarded = !route.hooks.is_empty() && other.hooks != route.hooks;
            other.notes.push(if is_guarded { line.unprotected(words) } else { line.left_out(words) });
        }
    }

    fn returned(&mut self, path: &str, directive: &'d Directive) {
        let line = directive.line();
        match directive.argument(0) {
            "403" | "401" | "444" | "404" | "410" | "405" if path != "/" => {
                self.notes.push(line.changed("answered 403 by the hook `ip_filter`"));
                self.refused.push((path.to_owned(), directive));
            }
            "404" | "444" | "403" => {
                self.notes.push(line.changed("answered 404: a request without a route"));
            }
            _ => self
                .notes
                .push(line.left_out("answers of its own and redirects are no routes, but for a listener's `redirect`")),
        }
    }

    /// Adds routes for locations that answer 403 or 404, with the hook that refuses everybody. Such a route needs an
    /// upstream, which gets no request.
    pub(super) fn close_refused(&mut self) {
        let Some(upstream) = self.routes.first().map(|route| route.upstream.clone()) else { return };
        for (path, directive) in std::mem::take(&mut self.refused) {
            let route = Route {
                host: None,
                path,
                upstream: upstream.clone(),
                affinity: None,
                hooks: vec![Hook::Closed],
                body_size: None,
                notes: Vec::new(),
                place: directive.place.clone(),
            };
            self.add(route);
        }
    }
}

/// Most bytes of a body in `scope`; `None` where it sets no limit.
pub(super) fn body_size(scope: &NginxScope<'_>) -> Option<Bytes> {
    let size = nginx_size(scope.one("client_max_body_size")?.argument(0))?;
    Some(if size == 0 { Bytes::Off } else { Bytes::At(size.min(1 << 40)) })
}

/// Tells whether a directive stands in a block or below.
fn contains(block: &[Directive], name: &str, depth: usize) -> bool {
    depth <= MAX_DEPTH
        && block.iter().any(|directive| directive.name == name || contains(directive.below(), name, depth + 1))
}

/// The port of https, and the directive, where a block does nothing but send there.
fn redirection(block: &[Directive], depth: usize) -> Option<(u16, &Directive)> {
    for directive in block {
        let found = match directive.name.as_str() {
            "return" if matches!(directive.argument(0), "301" | "302" | "303" | "307" | "308") => {
                https_of(directive.argument(1)).map(|port| (port, directive))
            }
            "return" if directive.arguments.len() == 1 => https_of(directive.argument(0)).map(|port| (port, directive)),
            "rewrite" => https_of(directive.argument(1)).map(|port| (port, directive)),
            "location" if !matches!(directive.argument(0), "/" | "~") => None,
            "if" | "location" if depth < 2 => redirection(directive.below(), depth + 1),
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The port of `https://$host…$request_uri`.
fn https_of(target: &str) -> Option<u16> {
    let rest = target.strip_prefix("https://")?;
    let hosts = ["$host", "$http_host", "$server_name", "${host}", "${server_name}"];
    let behind = hosts.iter().find_map(|host| rest.strip_prefix(host))?;
    let (port, path) = match behind.strip_prefix(':') {
        Some(behind) => behind.split_at(behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len())),
        None => ("443", behind),
    };
    let keeps = path.starts_with("$request_uri")
        || path.starts_with("$uri")
        || path.starts_with("/$1")
        || path.starts_with("$1");
    port.parse().ok().filter(|port| keeps && *port != 0)
}

/// `Strict-Transport-Security` as a listener has it.
fn hsts(header: &Directive) -> Option<Hsts> {
    if !header.argument(0).eq_ignore_ascii_case("strict-transport-security") {
        return None;
    }
    let value = header.argument(1).to_ascii_lowercase();
    let mut hsts = Hsts { max_age: 0, subdomains: false, preload: false };
    for part in value.split(';').map(str::trim) {
        match part {
            "includesubdomains" => hsts.subdomains = true,
            "preload" => hsts.preload = true,
            "" => {}
            _ => {
                let seconds = part.strip_prefix("max-age=")?.trim_matches('"').parse::<u64>().ok()?;
                hsts.max_age = seconds.min(3_650 * 86_400).saturating_mul(1_000);
            }
        }
    }
    Some(hsts)
}
