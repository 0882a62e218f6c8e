//! Routes: the most specific host, then the longest path, leads to an upstream.
//!
//! Hosts are compared without their port, without a dot at their end and in any letter case. Paths are compared in
//! their normal form ([`path`]), whatever spelling the client chose; the backend gets the client's. `/ws` thus fits
//! `/ws`, `/ws/a`, `/%77s` and `//ws`, but not `/wsx` or `/WS`.

pub mod path;
mod trie;

use std::borrow::Cow;

use crate::config::{HostPattern, Route};

use self::trie::Trie;

/// All routes of a configuration, compiled for lookups.
///
/// A lookup takes time linear in the host and the path, however many routes there are.
#[derive(Debug, Default)]
pub struct Routes {
    /// Routes by host, labels from the right: `com`, `example`, `chat`.
    hosts: Trie<HostRoutes>,
    /// The routes without a host.
    any: PathRoutes,
}

impl Routes {
    /// Compiles the routes. Of two routes with the same host and path the first counts.
    pub fn compile(routes: &[Route]) -> Self {
        let mut compiled = Self::default();
        for (index, route) in routes.iter().enumerate() {
            let paths = match &route.host {
                HostPattern::Any => &mut compiled.any,
                HostPattern::Exact(host) => &mut compiled.hosts.entry(labels(host)).exact,
                HostPattern::Wildcard(domain) => &mut compiled.hosts.entry(labels(domain)).below,
            };
            paths.insert(&path::normalized(&route.path), index);
        }
        compiled
    }

    /// The route of a request: its index in the configuration's `routes`, or `None` where none fits.
    ///
    /// `host` is the `Host` header or `:authority`, with or without a port; `path` is the request target's path,
    /// without the query. The exact host is asked first, then the wildcards from the longest to the shortest, then the
    /// routes for any host; the first that has a fitting path wins with its longest one. A target that is no path (`*`)
    /// fits `/`.
    pub fn find(&self, host: Option<&str>, path: &str) -> Option<usize> {
        self.find_normalized(host, &path::normalized(path))
    }

    /// Tells whether a backend may read the path in another way than [`find`](Self::find), and so get a request past
    /// the hooks of the route that it is meant for. Such a request is to be refused.
    ///
    /// An ambiguous path ([`path::is_ambiguous`]) does so where the route of either reading is `guarded`. A path whose
    /// other reading only drops parameters (`/admin;v=1`) or control characters (`/admin%0A`) does so where it leads to
    /// another route, which is `guarded`.
    pub fn may_evade(&self, host: Option<&str>, path: &str, guarded: impl Fn(usize) -> bool) -> bool {
        if !path.bytes().any(|byte| matches!(byte, b'%' | b'\\' | b';' | b'.')) {
            return false;
        }
        let other = path::other_reading(path);
        let ambiguous = path::is_ambiguous(path);
        let route = self.find(host, path);
        let other = other.map_or(route, |other| self.find_normalized(host, &other));
        other.is_some_and(|other| guarded(other) && (ambiguous || route != Some(other)))
            || ambiguous && route.is_some_and(guarded)
    }

    /// [`find`](Self::find) for a path in its normal form.
    fn find_normalized(&self, host: Option<&str>, path: &str) -> Option<usize> {
        let host = host.filter(|_| !self.hosts.is_empty()).map(normalize).filter(|host| !host.is_empty());
        host.and_then(|host| self.find_by_host(&host, path)).or_else(|| self.any.find(path))
    }

    fn find_by_host(&self, host: &str, path: &str) -> Option<usize> {
        let mut labels_left = labels(host).count();
        // Grows to the number of nested wildcards that fit; allocates nothing where there are none.
        let mut wildcards: Vec<&PathRoutes> = Vec::new();
        for node in self.hosts.walk(labels(host)) {
            if labels_left == 0 {
                if let Some(route) = node.exact.find(path) {
                    return Some(route);
                }
            } else if !node.below.is_empty() {
                wildcards.push(&node.below);
            }
            labels_left = labels_left.saturating_sub(1);
        }
        wildcards.iter().rev().find_map(|paths| paths.find(path))
    }
}

/// The routes of one name.
#[derive(Debug, Default)]
struct HostRoutes {
    /// Routes for the name itself.
    exact: PathRoutes,
    /// Routes for all names that have at least one label more.
    below: PathRoutes,
}

/// Routes by path, for one host pattern.
#[derive(Debug, Default)]
struct PathRoutes {
    paths: Trie<Option<usize>>,
    any_set: bool,
}

impl PathRoutes {
    fn insert(&mut self, path: &str, route: usize) {
        self.paths.entry(segments(path)).get_or_insert(route);
        self.any_set = true;
    }

    fn is_empty(&self) -> bool {
        !self.any_set
    }

    fn find(&self, path: &str) -> Option<usize> {
        self.paths.walk(segments(path)).filter_map(|route| *route).last()
    }
}

/// The segments of a path: `/` has none, `/a/b` has two, and `/a//b` has an empty one between them.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    // A target that does not begin with `/` (`*`, or nothing at all) is matched like `/`.
    let rest = path.strip_prefix('/').filter(|rest| !rest.is_empty());
    rest.into_iter().flat_map(|rest| rest.split('/'))
}

/// The labels of a host from the right. The dots in an IPv6 literal do no harm: both sides are cut alike.
fn labels(host: &str) -> impl Iterator<Item = &str> {
    host.rsplit('.')
}

/// Brings a host into the form of routes: no port, no dot at the end, lower case.
fn normalize(host: &str) -> Cow<'_, str> {
    let name = match host.strip_prefix('[').and_then(|rest| rest.find(']')) {
        Some(end) => &host[..end + 2],
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests;
