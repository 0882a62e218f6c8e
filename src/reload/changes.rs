//! Differences between two configurations, by meaning: comments, order and spelled-out defaults are no difference.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::{AffinitySource, Backend, Config, Route, Upstream};

/// Differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Routes, by host and path.
    pub routes: Vec<RouteChange>,
    /// Upstreams, by name.
    pub upstreams: Vec<UpstreamChange>,
    /// Other top-level keys that a reload puts in force.
    pub settings: Vec<&'static str>,
    /// Top-level keys that a process takes at its start only: a reload leaves them as they are.
    pub needs_upgrade: Vec<String>,
}

/// Difference of a route, which is named as `host path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RouteChange {
    /// New.
    Added {
        /// Its name.
        route: String,
        /// Upstream it leads to.
        upstream: String,
    },
    /// Gone.
    Removed {
        /// Its name.
        route: String,
        /// Upstream it led to.
        upstream: String,
    },
    /// Leads to another upstream.
    Moved {
        /// Its name.
        route: String,
        /// Upstream it led to.
        from: String,
        /// Upstream it leads to.
        to: String,
    },
    /// Its own affinity differs: keys of its requests come from elsewhere.
    Affinity {
        /// Its name.
        route: String,
    },
    /// Its hooks differ, in their names, order, settings or timeouts: requests and tunnels that begin from now on meet
    /// the new ones.
    Hooks {
        /// Its name.
        route: String,
    },
    /// Other treatment of compression, for tunnels that open from now on.
    Compression {
        /// Its name.
        route: String,
    },
    /// Other rules for handshakes, for those that begin from now on.
    Handshake {
        /// Its name.
        route: String,
    },
}

/// Difference of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum UpstreamChange {
    /// New.
    Added {
        /// Its name.
        upstream: String,
        /// Number of backends.
        backends: usize,
    },
    /// Gone.
    Removed {
        /// Its name.
        upstream: String,
        /// Number of backends it had.
        backends: usize,
    },
    /// There before and after.
    Changed {
        /// Its name.
        upstream: String,
        /// Its backends.
        backends: Vec<BackendChange>,
        /// The other keys that differ.
        policies: Vec<&'static str>,
    },
}

/// Difference of a backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum BackendChange {
    /// New.
    Added {
        /// Its address.
        backend: SocketAddr,
        /// Its weight.
        weight: u16,
    },
    /// Gone.
    Removed {
        /// Its address.
        backend: SocketAddr,
    },
    /// Its weight differs.
    Weight {
        /// Its address.
        backend: SocketAddr,
        /// The weight before.
        from: u16,
        /// The weight after.
        to: u16,
    },
}

impl Changes {
    /// Differences of `new` from `old`.
    pub fn between(old: &Config, new: &Config) -> Self {
        // Every field is named, so that a new key cannot be forgotten: a reload without differences changes nothing.
        let Config {
            source: _,
            trusted_proxies,
            underscores_in_headers,
            forwarding,
            watch,
            drain,
            hook_memory,
            limits,
            // Compared below.
            routes: _,
            upstreams: _,
            // Compared by `fixed_keys_that_differ`.
            pingora: _,
            listeners: _,
            metrics: _,
            access_log: _,
            control_sock: _,
        } = old;
        let (mut before, mut after) = (trusted_proxies.clone(), new.trusted_proxies.clone());
        before.sort_unstable();
        after.sort_unstable();
        let settings = [
            ("trusted_proxies", before != after),
            ("underscores_in_headers", *underscores_in_headers != new.underscores_in_headers),
            ("forwarding", *forwarding != new.forwarding),
            ("watch", *watch != new.watch),
            ("drain", *drain != new.drain),
            ("limits", *limits != new.limits),
            ("hook_memory", *hook_memory != new.hook_memory),
        ];
        let settings = settings.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect();
        let upstreams = pairs(&old.upstreams, &new.upstreams, |upstream| upstream.name.clone());
        Self {
            routes: route_changes(old, new),
            upstreams: upstreams.into_iter().filter_map(|(old, new)| upstream_change(old, new)).collect(),
            settings,
            needs_upgrade: old.fixed_keys_that_differ(new),
        }
    }

    /// True when both configurations mean the same.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// One line: how much of what differs, keys that need an upgrade left out.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut count = |number: usize, thing: &str, what: &str| {
            if number > 0 {
                parts.push(format!("{number} {thing}{} {what}", if number == 1 { "" } else { "s" }));
            }
        };
        let routes = |is: fn(&RouteChange) -> bool| self.routes.iter().filter(|route| is(route)).count();
        count(routes(|route| matches!(route, RouteChange::Added { .. })), "route", "added");
        count(routes(|route| matches!(route, RouteChange::Removed { .. })), "route", "removed");
        let changed = |route: &RouteChange| !matches!(route, RouteChange::Added { .. } | RouteChange::Removed { .. });
        let mut changed: Vec<_> = self.routes.iter().filter(|route| changed(route)).map(RouteChange::route).collect();
        // All that differs about a route stands together.
        changed.dedup();
        count(changed.len(), "route", "changed");
        let upstreams = |is: fn(&UpstreamChange) -> bool| self.upstreams.iter().filter(|change| is(change)).count();
        count(upstreams(|change| matches!(change, UpstreamChange::Added { .. })), "upstream", "added");
        count(upstreams(|change| matches!(change, UpstreamChange::Removed { .. })), "upstream", "removed");
        count(upstreams(|change| matches!(change, UpstreamChange::Changed { .. })), "upstream", "changed");
        let backends = self.upstreams.iter().flat_map(|change| match change {
            UpstreamChange::Changed { backends, .. } => backends.as_slice(),
            _ => &[],
        });
        let backends: Vec<_> = backends.collect();
        let backends = |is: fn(&BackendChange) -> bool| backends.iter().filter(|change| is(change)).count();
        count(backends(|change| matches!(change, BackendChange::Added { .. })), "backend", "added");
        count(backends(|change| matches!(change, BackendChange::Removed { .. })), "backend", "removed");
        count(backends(|change| matches!(change, BackendChange::Weight { .. })), "weight", "changed");
        parts.extend(self.settings.iter().map(|key| format!("{key} changed")));
        if parts.is_empty() { "nothing to change".to_owned() } else { parts.join(", ") }
    }
}

fn route_changes(old: &Config, new: &Config) -> Vec<RouteChange> {
    let mut changes = Vec::new();
    for (before, after) in pairs(&old.routes, &new.routes, Route::name) {
        match (before, after) {
            (None, Some(after)) => {
                changes.push(RouteChange::Added { route: after.name(), upstream: after.upstream.clone() });
            }
            (Some(before), None) => {
                changes.push(RouteChange::Removed { route: before.name(), upstream: before.upstream.clone() });
            }
            (Some(before), Some(after)) => {
                if before.upstream != after.upstream {
                    let (from, to) = (before.upstream.clone(), after.upstream.clone());
                    changes.push(RouteChange::Moved { route: after.name(), from, to });
                }
                let own = before.affinity.is_some() || after.affinity.is_some();
                if own && affinity(old, before) != affinity(new, after) {
                    changes.push(RouteChange::Affinity { route: after.name() });
                }
                if before.hooks != after.hooks {
                    changes.push(RouteChange::Hooks { route: after.name() });
                }
                if before.compression != after.compression {
                    changes.push(RouteChange::Compression { route: after.name() });
                }
                if before.handshake != after.handshake {
                    changes.push(RouteChange::Handshake { route: after.name() });
                }
            }
            (None, None) => {}
        }
    }
    changes
}

/// The affinity in force for a route.
fn affinity<'c>(config: &'c Config, route: &'c Route) -> Option<&'c [AffinitySource]> {
    let of_upstream = || config.upstreams.iter().find(|one| one.name == route.upstream).map(|one| &one.affinity);
    route.affinity.as_ref().or_else(of_upstream).map(Vec::as_slice)
}

fn upstream_change(old: Option<&Upstream>, new: Option<&Upstream>) -> Option<UpstreamChange> {
    match (old, new) {
        (None, Some(new)) => Some(UpstreamChange::Added { upstream: new.name.clone(), backends: new.backends.len() }),
        (Some(old), None) => Some(UpstreamChange::Removed { upstream: old.name.clone(), backends: old.backends.len() }),
        (Some(old), Some(new)) => {
            let backends = backend_changes(&old.backends, &new.backends);
            let policies = policies(old, new);
            let changed = !backends.is_empty() || !policies.is_empty();
            changed.then(|| UpstreamChange::Changed { upstream: new.name.clone(), backends, policies })
        }
        (None, None) => None,
    }
}

fn backend_changes(old: &[Backend], new: &[Backend]) -> Vec<BackendChange> {
    let change = |pair: (Option<&Backend>, Option<&Backend>)| match pair {
        (None, Some(new)) => Some(BackendChange::Added { backend: new.address, weight: new.weight }),
        (Some(old), None) => Some(BackendChange::Removed { backend: old.address }),
        (Some(old), Some(new)) if old.weight != new.weight => {
            Some(BackendChange::Weight { backend: new.address, from: old.weight, to: new.weight })
        }
        _ => None,
    };
    pairs(old, new, |backend| backend.address).into_iter().filter_map(change).collect()
}

fn policies(old: &Upstream, new: &Upstream) -> Vec<&'static str> {
    // Without `..`, so that a key that is added to upstreams is not forgotten here.
    let Upstream {
        name: _,
        backends: _,
        affinity,
        balance_factor,
        health,
        fail_open,
        drain_window,
        on_change,
        rehome,
        tries,
        timeouts,
        tunnel,
        tls,
        proxy_protocol,
    } = old;
    let differ = [
        ("affinity", *affinity != new.affinity),
        ("balance_factor", *balance_factor != new.balance_factor),
        ("health", *health != new.health),
        ("fail_open", *fail_open != new.fail_open),
        ("drain_window", *drain_window != new.drain_window),
        ("on_change", *on_change != new.on_change),
        ("rehome", *rehome != new.rehome),
        ("tries", *tries != new.tries),
        ("timeouts", *timeouts != new.timeouts),
        ("tunnel", *tunnel != new.tunnel),
        ("tls", *tls != new.tls),
        ("proxy_protocol", *proxy_protocol != new.proxy_protocol),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

/// Entries of the same identity in both lists, side by side: first all of the new list, in its order, then those it
/// lacks.
fn pairs<'l, T, I: Eq + std::hash::Hash>(
    old: &'l [T],
    new: &'l [T],
    identity: impl Fn(&T) -> I,
) -> Vec<(Option<&'l T>, Option<&'l T>)> {
    let mut before: HashMap<I, &T> = old.iter().map(|one| (identity(one), one)).collect();
    let mut pairs: Vec<_> = new.iter().map(|one| (before.remove(&identity(one)), Some(one))).collect();
    pairs.extend(old.iter().filter(|one| before.contains_key(&identity(one))).map(|one| (Some(one), None)));
    pairs
}

impl RouteChange {
    /// The name of the route.
    pub fn route(&self) -> &str {
        match self {
            Self::Added { route, .. } | Self::Removed { route, .. } | Self::Moved { route, .. } => route,
            Self::Affinity { route }
            | Self::Hooks { route }
            | Self::Compression { route }
            | Self::Handshake { route } => route,
        }
    }
}

impl fmt::Display for RouteChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { route, upstream } => write!(f, "+ route {route} to {upstream}"),
            Self::Removed { route, upstream } => write!(f, "- route {route} to {upstream}"),
            Self::Moved { route, from, to } => write!(f, "~ route {route}: from {from} to {to}"),
            Self::Affinity { route } => write!(f, "~ route {route}: affinity"),
            Self::Hooks { route } => write!(f, "~ route {route}: hooks"),
            Self::Compression { route } => write!(f, "~ route {route}: compression"),
            Self::Handshake { route } => write!(f, "~ route {route}: handshake"),
        }
    }
}

impl fmt::Display for BackendChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { backend, weight } => write!(f, "+ backend {backend}, weight {weight}"),
            Self::Removed { backend } => write!(f, "- backend {backend}"),
            Self::Weight { backend, from, to } => write!(f, "~ backend {backend}: weight from {from} to {to}"),
        }
    }
}

impl fmt::Display for UpstreamChange {
    /// A line, and one more for each thing that differs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: &usize| format!("{number} backend{}", if *number == 1 { "" } else { "s" });
        match self {
            Self::Added { upstream, backends } => write!(f, "+ upstream {upstream}, {}", count(backends)),
            Self::Removed { upstream, backends } => write!(f, "- upstream {upstream}, {}", count(backends)),
            Self::Changed { upstream, backends, policies } => {
                write!(f, "~ upstream {upstream}")?;
                backends.iter().try_for_each(|backend| write!(f, "\n    {backend}"))?;
                policies.iter().try_for_each(|key| write!(f, "\n    ~ {key}"))
            }
        }
    }
}

impl fmt::Display for Changes {
    /// One or more lines, without a newline at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.routes.iter().map(ToString::to_string).collect();
        lines.extend(self.upstreams.iter().map(ToString::to_string));
        lines.extend(self.settings.iter().map(|key| format!("~ {key}")));
        if !self.needs_upgrade.is_empty() {
            lines.push(format!("needs an upgrade, a reload leaves it as it is: {}", self.needs_upgrade.join(", ")));
        }
        if lines.is_empty() {
            lines.push("nothing changes".to_owned());
        }
        f.write_str(&lines.join("\n"))
    }
}
