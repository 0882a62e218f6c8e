//! `routes`: which host and path lead to which upstream.

use std::collections::HashMap;

use super::affinity::{self, Scope};
use super::hooks::{self, Registered};
use super::keys;
use super::matching::{host_pattern, path_prefix};
use super::upstreams::Named;
use crate::config::model::{Compression, HostPattern, Route};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{choice, text};
use crate::config::yaml::value::Value;

/// Parts of the file that routes refer to.
pub(crate) struct Parts<'p> {
    /// The upstreams; `None`, and then not checked, where they could not be read.
    pub(crate) upstreams: Option<&'p Named>,
    pub(crate) scope: Scope,
    pub(crate) hooks: Registered<'p>,
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
    routes.into_iter().collect()
}

fn read_route(value: &Value<'_>, parts: &Parts<'_>, report: &mut Report) -> Option<Route> {
    const COMPRESSION: [(&str, Compression); 2] = [("inspect", Compression::Inspect), ("strip", Compression::Strip)];
    let mut fields = keys::ROUTE.fields(value, report)?;
    let host = fields.take_or("host", HostPattern::Any, |v| host_pattern(v, report));
    let path = fields.take_or("path", "/".to_owned(), |v| path_prefix(v, report));
    let upstream = fields.required("upstream", "the name of an entry of `upstreams`", report);
    let upstream = upstream.and_then(|v| upstream_name(&v, parts.upstreams, report));
    let affinity = fields.take_or("affinity", None, |v| affinity::read(v, parts.scope, report).map(Some));
    let hooks = fields.take_or("hooks", Vec::new(), |v| hooks::read(v, &parts.hooks, report));
    let compression = fields.take_or("compression", Compression::default(), |v| choice(v, &COMPRESSION, report));
    Some(Route {
        host: host?,
        path: path?,
        upstream: upstream?,
        affinity: affinity?,
        hooks: hooks?,
        compression: compression?,
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
