//! Differences between two configurations, by meaning: comments, order and spelled-out defaults are no difference.

mod backend;
mod pairs;
mod route;
mod upstream;

use std::fmt;

use serde::Serialize;

use crate::config::{Config, Tracing};
use crate::counted::counted;
pub use backend::BackendChange;
pub(super) use backend::backend_changes;
use pairs::pairs;
pub use route::RouteChange;
use route::route_changes;
pub use upstream::UpstreamChange;
use upstream::upstream_change;

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
            tracing,
            // Compared below.
            routes: _,
            upstreams: _,
            // Compared by `fixed_keys_that_differ`.
            pingora: _,
            listeners: _,
            metrics: _,
            admin: _,
            access_log: _,
            control_sock: _,
            state_folder: _,
            engine: _,
        } = old;
        let (mut before, mut after) = (trusted_proxies.clone(), new.trusted_proxies.clone());
        before.sort_unstable();
        after.sort_unstable();
        // Its other key is compared by `fixed_keys_that_differ`.
        let sample = |tracing: &Option<Tracing>| tracing.as_ref().map(|tracing| tracing.sample);
        let settings = [
            ("trusted_proxies", before != after),
            ("underscores_in_headers", *underscores_in_headers != new.underscores_in_headers),
            ("forwarding", *forwarding != new.forwarding),
            ("watch", *watch != new.watch),
            ("drain", *drain != new.drain),
            ("limits", *limits != new.limits),
            ("hook_memory", *hook_memory != new.hook_memory),
            ("tracing", sample(tracing) != sample(&new.tracing)),
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

    /// One line: the number of routes, upstreams and other keys that differ. Keys that need an upgrade are left out.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut count = |number: usize, thing: &str, what: &str| {
            if number > 0 {
                parts.push(format!("{} {what}", counted(number, thing)));
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
        count(backends(|change| matches!(change, BackendChange::Moved { .. })), "backend", "moved");
        count(backends(|change| matches!(change, BackendChange::Leaves { .. })), "backend", "leaving");
        count(backends(|change| matches!(change, BackendChange::Stays { .. })), "backend", "staying");
        count(backends(|change| matches!(change, BackendChange::Weight { .. })), "weight", "changed");
        parts.extend(self.settings.iter().map(|key| format!("{key} changed")));
        if parts.is_empty() { "nothing to change".to_owned() } else { parts.join(", ") }
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
