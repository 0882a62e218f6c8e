//! `routes`: which host and path lead to which upstream.

use std::collections::HashMap;

use super::affinity::{self, AffinityScope};
use super::client_limits;
use super::hooks::{self, NamedHooks};
use super::keys;
use super::matching::{host_pattern, path_prefix};
use super::reattach;
use super::upstreams::Named;
use crate::config::model::{Compression, Handshake, HostPattern, Route, RouteLimits, Upstream};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{choice, text};
use crate::config::yaml::value::Value;

/// Parts of the file that routes refer to.
pub(crate) struct Parts<'p> {
    /// The upstreams; `None`, and then not checked, where they could not be read.
    pub(crate) upstreams: Option<&'p Named>,
    pub(crate) scope: AffinityScope,
    pub(crate) hooks: NamedHooks<'p>,
}

/// Reads `routes`.
pub(crate) fn read(value: &Value<'_>, parts: &Parts<'_>, report: &mut Report) -> Option<Vec<Route>> {
    const EXPECTED: &str = "a list such as `- upstream: NAME`";
    let items = value.items(EXPECTED, report)?;
    if items.is_empty() {
        return report.refuse(value.error("no route: every request would be answered 404").expected(EXPECTED));
    }
    let mut seen = HashMap::with_capacity(items.len());
    let mut routes = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let route = read_route(item, parts, report);
        if let Some(route) = &route {
            let first = *seen.entry((route.host.clone(), route.path.clone())).or_insert((index, item.mark().line));
            if first.0 != index {
                let (first, line) = first;
                let problem = item.error(format!("the same host and path as routes[{first}] on line {line}"));
                report
                    .push(problem.expected("each host and path once").remedy("remove one, or change its host or path"));
            }
        }
        routes.push(route);
    }
    let routes: Vec<Route> = routes.into_iter().collect::<Option<_>>()?;
    warn_of_ways_around(&routes, &items, report);
    Some(routes)
}

/// Warns of each route with hooks beside a wider one without, where both lead to the same upstream.
fn warn_of_ways_around(routes: &[Route], items: &[Value<'_>], report: &mut Report) {
    let open = routes.iter().enumerate().filter(|(_, route)| route.hooks.is_empty());
    let open: HashMap<_, _> = open.map(|(index, route)| ((&route.host, route.path.as_str()), index)).collect();
    for (route, item) in routes.iter().zip(items).filter(|(route, _)| !route.hooks.is_empty()) {
        let hosts = wider_hosts(&route.host);
        let paths = || route.path.rmatch_indices('/').map(|(end, _)| if end == 0 { "/" } else { &route.path[..end] });
        let wider = hosts.iter().flat_map(|host| paths().map(move |path| (host, path)));
        let same_upstream = |index: &usize| routes[*index].upstream == route.upstream;
        let Some(around) = wider.filter_map(|key| open.get(&key).copied()).find(same_upstream) else { continue };
        let problem = item.warning(format!(
            "routes[{around}] on line {} leads to the same upstream without these hooks: a path that the backend reads \
            in its own way gets around them",
            items[around].mark().line
        ));
        report.push(problem.remedy("give that route the hooks too, or let the backend refuse what they guard"));
    }
}

/// The patterns whose hosts include all hosts of `host`, itself first.
fn wider_hosts(host: &HostPattern) -> Vec<HostPattern> {
    let mut wider = vec![host.clone()];
    if let HostPattern::Exact(name) | HostPattern::Wildcard(name) = host {
        let domains = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        wider.extend(domains.map(|domain| HostPattern::Wildcard(domain.to_owned())));
        wider.push(HostPattern::Any);
    }
    wider
}

fn read_route(value: &Value<'_>, parts: &Parts<'_>, report: &mut Report) -> Option<Route> {
    const COMPRESSION: [(&str, Compression); 2] = [("inspect", Compression::Inspect), ("strip", Compression::Strip)];
    const HANDSHAKE: [(&str, Handshake); 2] = [("strict", Handshake::Strict), ("lenient", Handshake::Lenient)];
    let mut fields = keys::ROUTE.fields(value, report)?;
    let host = fields.take_or("host", HostPattern::Any, |v| host_pattern(v, report));
    let path = fields.take_or("path", "/".to_owned(), |v| path_prefix(v, report));
    let hooks = fields.take_or("hooks", Vec::new(), |v| hooks::read(v, &parts.hooks, report));
    // Where a route has hooks, these may answer, or choose an upstream.
    let upstream = match (fields.take("upstream"), &hooks) {
        (Some(v), _) => upstream_name(&v, parts.upstreams, report),
        (None, Some(hooks)) if hooks.is_empty() => {
            fields.required("upstream", "the name of an entry of `upstreams`", report).and(None)
        }
        (None, hooks) => hooks.as_ref().map(|_| Upstream::NOWHERE.to_owned()),
    };
    let affinity = fields.take_or("affinity", None, |v| affinity::read(v, parts.scope, report).map(Some));
    let compression = fields.take_or("compression", Compression::default(), |v| choice(v, &COMPRESSION, report));
    let handshake = fields.take_or("handshake", Handshake::default(), |v| choice(v, &HANDSHAKE, report));
    let body_size = fields.take_or("body", None, |v| client_limits::body_of_route(v, report).map(Some));
    let limits = fields.take_or("limits", RouteLimits::default(), |v| client_limits::of_route(v, report));
    let reattach = fields.take_or("reattach", None, |v| reattach::read(v, report));
    Some(Route {
        host: host?,
        path: path?,
        upstream: upstream?,
        affinity: affinity?,
        hooks: hooks?,
        compression: compression?,
        handshake: handshake?,
        body_size: body_size?,
        limits: limits?,
        reattach: reattach?,
    })
}

fn upstream_name(value: &Value<'_>, upstreams: Option<&Named>, report: &mut Report) -> Option<String> {
    let name = text(value, "the name of an entry of `upstreams`", report)?;
    let Some(upstreams) = upstreams.filter(|upstreams| !upstreams.has(name)) else { return Some(name.to_owned()) };
    if report.is_full() {
        return report.refuse(value.error("unknown upstream"));
    }
    let problem = value.error(format!("there is no upstream {}", quoted(name))).expected(upstreams.listed());
    report.refuse(match upstreams.nearest(name) {
        Some(near) => problem.remedy(format!("did you mean `{near}`?")),
        None => problem.remedy("add it under `upstreams`, or change the name here"),
    })
}
