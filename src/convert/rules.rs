//! Translates rules, of which the first that fits decides, into routes, of which the most specific one does.

use std::collections::HashMap;

use super::model::{Hook, Route};
use super::place::{Note, SourceLine};

/// Most rules that are compared with each other.
const MAX_RULES: usize = 5_000;

/// Requests by host and path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Region {
    /// A name, `*.` and a name, or any.
    pub(super) host: Option<String>,
    /// A path without a `/` at its end, or the root.
    pub(super) path: String,
}

impl Region {
    pub(super) fn of(route: &Route) -> Self {
        Self { host: route.host.clone(), path: route.path.clone() }
    }

    /// The requests that are in both; `None` where there is none.
    pub(super) fn with(&self, other: &Self) -> Option<Self> {
        let host = match (&self.host, &other.host) {
            (None, host) | (host, None) => host.clone(),
            (Some(one), Some(two)) if takes_host(one, two) => Some(two.clone()),
            (Some(one), Some(two)) if takes_host(two, one) => Some(one.clone()),
            _ => return None,
        };
        let path = if takes_path(&self.path, &other.path) {
            &other.path
        } else if takes_path(&other.path, &self.path) {
            &self.path
        } else {
            return None;
        };
        Some(Self { host, path: path.clone() })
    }
}

fn takes_host(wide: &str, narrow: &str) -> bool {
    wide == narrow || wide.strip_prefix('*').is_some_and(|domain| narrow.ends_with(domain) && narrow != &domain[1..])
}

fn takes_path(wide: &str, narrow: &str) -> bool {
    wide == "/" || narrow.strip_prefix(wide).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The routes for rules in their order. A rule that an earlier one hides is left out; where two overlap, the earlier
/// one gets a route for what they share.
pub(super) fn routes(rules: Vec<Route>, notes: &mut Vec<Note>) -> Vec<Route> {
    let mut kept: Vec<Route> = Vec::new();
    let mut taken: HashMap<Region, usize> = HashMap::new();
    let mut considered: Vec<Route> = Vec::new();
    for mut rule in rules {
        let region = Region::of(&rule);
        let line = SourceLine::new(&rule.place, &[region.host.as_deref().unwrap_or("any host"), &region.path]);
        if considered.len() >= MAX_RULES {
            notes.push(line.left_out(format!("beyond {MAX_RULES} rules")));
            continue;
        }
        let mut meets = Vec::new();
        let mut hidden = false;
        for earlier in &considered {
            let other = Region::of(earlier);
            match other.with(&region) {
                Some(both) if both == region => {
                    hidden = true;
                    if earlier.upstream != rule.upstream {
                        notes.push(
                            line.left_out(format!("never reached: {} comes first and takes it all", earlier.place)),
                        );
                    }
                    break;
                }
                Some(both) if both != other => meets.push((both, earlier.clone())),
                _ => {}
            }
        }
        if hidden {
            notes.append(&mut rule.notes);
            continue;
        }
        for (both, mut earlier) in meets {
            if !taken.contains_key(&both) && kept.len() < 2 * MAX_RULES {
                taken.insert(both.clone(), kept.len());
                earlier.notes.clear();
                (earlier.host, earlier.path) = (both.host, both.path);
                kept.push(earlier);
            }
        }
        considered.push(rule.clone());
        taken.entry(region).or_insert_with(|| {
            kept.push(rule);
            kept.len() - 1
        });
    }
    kept
}

/// Adds a hook for the requests of a region: to the routes inside it, and to new routes where the region is a part of
/// one.
pub(super) fn guard(routes: &mut Vec<Route>, region: &Region, hook: &Hook) -> bool {
    let mut found = false;
    let mut fresh: Vec<Route> = Vec::new();
    let regions: Vec<Region> = routes.iter().map(Region::of).collect();
    for route in routes.iter_mut() {
        let own = Region::of(route);
        let Some(both) = own.with(region) else { continue };
        found = true;
        if both == own {
            route.hooks.insert(0, hook.clone());
        } else if !regions.contains(&both) && !fresh.iter().any(|other| Region::of(other) == both) {
            let mut part = route.clone();
            part.notes.clear();
            (part.host, part.path) = (both.host, both.path);
            part.hooks.insert(0, hook.clone());
            fresh.push(part);
        }
    }
    routes.extend(fresh);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::convert::place::SourcePlace;

    fn rule(host: &str, path: &str, upstream: &str) -> Route {
        Route {
            host: (!host.is_empty()).then(|| host.to_owned()),
            path: path.to_owned(),
            upstream: upstream.to_owned(),
            affinity: None,
            hooks: Vec::new(),
            body_size: None,
            notes: Vec::new(),
            place: SourcePlace { file: "f".into(), line: 1 },
        }
    }

    fn shown(routes: &[Route]) -> Vec<String> {
        let host = |route: &Route| route.host.clone().unwrap_or_default();
        let mut shown: Vec<_> =
            routes.iter().map(|route| format!("{}{} {}", host(route), route.path, route.upstream)).collect();
        shown.sort();
        shown
    }

    #[test]
    fn an_earlier_rule_decides_where_a_later_one_is_more_specific() {
        let mut notes = Vec::new();
        let rules = vec![rule("", "/api", "a"), rule("x.y", "/", "b"), rule("x.y", "/api/z", "c"), rule("", "/", "d")];
        assert_eq!(shown(&routes(rules, &mut notes)), ["/ d", "/api a", "x.y/ b", "x.y/api a"]);
        assert_eq!(notes.len(), 1, "{notes:?}");
    }

    #[test]
    fn a_guard_has_routes_of_its_own_where_it_is_a_part() {
        let mut all = vec![rule("x.y", "/", "a"), rule("", "/", "b")];
        let region = Region { host: None, path: "/admin".into() };
        assert!(guard(&mut all, &region, &Hook::Closed));
        assert_eq!(shown(&all), ["/ b", "/admin b", "x.y/ a", "x.y/admin a"]);
        assert!(all.iter().all(|route| route.hooks.is_empty() == (route.path == "/")));
        let wild = |one: &str, two: &str| takes_host(one, two);
        assert!(wild("*.a.b", "x.a.b") && !wild("*.a.b", "a.b") && wild("*.a.b", "*.x.a.b") && !wild("x.a.b", "*.a.b"));
    }
}
