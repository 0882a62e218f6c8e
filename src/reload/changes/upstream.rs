//! Differences of upstreams: their backends, and the other keys.

use std::fmt;

use serde::Serialize;

use super::backend::{BackendChange, backend_changes};
use crate::config::Upstream;
use crate::counted::counted;
use crate::upstream::Member;

/// Difference of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum UpstreamChange {
    /// The upstream is new.
    Added {
        /// Its name.
        upstream: String,
        /// Number of backends.
        backends: usize,
    },
    /// The upstream is gone.
    Removed {
        /// Its name.
        upstream: String,
        /// Number of backends it had.
        backends: usize,
    },
    /// Both configurations have the upstream, and it differs.
    Changed {
        /// Its name.
        upstream: String,
        /// Its backends.
        backends: Vec<BackendChange>,
        /// The other keys that differ.
        policies: Vec<&'static str>,
    },
}

pub(super) fn upstream_change(old: Option<&Upstream>, new: Option<&Upstream>) -> Option<UpstreamChange> {
    match (old, new) {
        (None, Some(new)) => Some(UpstreamChange::Added { upstream: new.name.clone(), backends: new.backends.len() }),
        (Some(old), None) => Some(UpstreamChange::Removed { upstream: old.name.clone(), backends: old.backends.len() }),
        (Some(old), Some(new)) => {
            let backends = backend_changes(&Member::of(old), &Member::of(new));
            let policies = policies(old, new);
            let changed = !backends.is_empty() || !policies.is_empty();
            changed.then(|| UpstreamChange::Changed { upstream: new.name.clone(), backends, policies })
        }
        (None, None) => None,
    }
}

fn policies(old: &Upstream, new: &Upstream) -> Vec<&'static str> {
    // Without `..`, so that a key that is added to upstreams is not forgotten here.
    let Upstream {
        name: _,
        backends: _,
        discover,
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
        limits,
        admission,
        absent,
        rates,
        tls,
        proxy_protocol,
    } = old;
    let differ = [
        ("discover", *discover != new.discover),
        ("affinity", *affinity != new.affinity),
        ("balance_factor", *balance_factor != new.balance_factor),
        ("health", *health != new.health),
        ("fail_open", *fail_open != new.fail_open),
        ("drain_window", *drain_window != new.drain_window),
        ("on_change", *on_change != new.on_change),
        ("rehome", *rehome != new.rehome),
        ("tries", *tries != new.tries),
        ("timeouts", *timeouts != new.timeouts),
        ("tunnel", *tunnel != new.tunnel || *rates != new.rates),
        ("limits", *limits != new.limits),
        ("admission", *admission != new.admission),
        ("absent", *absent != new.absent),
        ("tls", *tls != new.tls),
        ("proxy_protocol", *proxy_protocol != new.proxy_protocol),
    ];
    differ.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

impl fmt::Display for UpstreamChange {
    /// A line, and one more for each thing that differs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: &usize| counted(*number, "backend");
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
