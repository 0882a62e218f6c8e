//! Differences of routes.

use std::fmt;

use serde::Serialize;

use super::pairs::pairs;
use crate::config::{AffinitySource, Config, Route};

/// Difference of a route, which is named as `host path`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum RouteChange {
    /// The route is new.
    Added {
        /// Its name.
        route: String,
        /// Upstream it leads to.
        upstream: String,
    },
    /// The route is gone.
    Removed {
        /// Its name.
        route: String,
        /// Upstream it led to.
        upstream: String,
    },
    /// The route leads to another upstream.
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
    /// Other re-attachment, for tunnels that open from now on.
    Reattach {
        /// Its name.
        route: String,
    },
    /// Other rules for handshakes, for those that begin from now on.
    Handshake {
        /// Its name.
        route: String,
    },
    /// Another limit of bodies, for requests that begin from now on.
    Body {
        /// Its name.
        route: String,
    },
    /// Other limits of tunnels or requests, for those that begin from now on.
    Limits {
        /// Its name.
        route: String,
    },
}

impl RouteChange {
    /// The name of the route.
    pub fn route(&self) -> &str {
        match self {
            Self::Added { route, .. } | Self::Removed { route, .. } | Self::Moved { route, .. } => route,
            Self::Affinity { route }
            | Self::Hooks { route }
            | Self::Compression { route }
            | Self::Handshake { route }
            | Self::Reattach { route }
            | Self::Body { route }
            | Self::Limits { route } => route,
        }
    }
}

pub(super) fn route_changes(old: &Config, new: &Config) -> Vec<RouteChange> {
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
                if before.reattach != after.reattach {
                    changes.push(RouteChange::Reattach { route: after.name() });
                }
                if before.body_size != after.body_size {
                    changes.push(RouteChange::Body { route: after.name() });
                }
                if before.limits != after.limits {
                    changes.push(RouteChange::Limits { route: after.name() });
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
            Self::Reattach { route } => write!(f, "~ route {route}: reattach"),
            Self::Body { route } => write!(f, "~ route {route}: body"),
            Self::Limits { route } => write!(f, "~ route {route}: limits"),
        }
    }
}
