//! Differences of backends, as their sources name them.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::pairs::pairs;
use crate::upstream::Member;

/// Difference of a backend between two configurations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum BackendChange {
    /// The backend is new.
    Added {
        /// Its name.
        backend: String,
        /// Its address, where the name is another text.
        #[serde(skip_serializing_if = "Option::is_none")]
        address: Option<SocketAddr>,
        /// Its weight.
        weight: u16,
    },
    /// The backend is gone.
    Removed {
        /// Its name.
        backend: String,
    },
    /// The backend has another address. Tunnels to the old address are touched.
    Moved {
        /// Its name.
        backend: String,
        /// The address before.
        from: SocketAddr,
        /// The address after.
        to: SocketAddr,
    },
    /// Its source says that it leaves: nothing new goes to it, and its tunnels are closed.
    Leaves {
        /// Its name.
        backend: String,
    },
    /// Its source does not say any more that it leaves.
    Stays {
        /// Its name.
        backend: String,
    },
    /// Its weight differs.
    Weight {
        /// Its name.
        backend: String,
        /// The weight before.
        from: u16,
        /// The weight after.
        to: u16,
    },
}

/// Differences of the members `new` from `old`, as their sources name them.
pub(in crate::reload) fn backend_changes(old: &[Member], new: &[Member]) -> Vec<BackendChange> {
    let mut changes = Vec::new();
    let named = |members: &[Member]| members.iter().filter(|member| !member.is_absent()).cloned().collect::<Vec<_>>();
    let (old, new) = (named(old), named(new));
    for pair in pairs(&old, &new, |member| &member.name) {
        let name = |member: &Member| member.name.as_ref().to_owned();
        match pair {
            (None, Some(new)) => {
                let address = (*new.name != *new.address.to_string()).then_some(new.address);
                changes.push(BackendChange::Added { backend: name(new), address, weight: new.weight });
            }
            (Some(old), None) => changes.push(BackendChange::Removed { backend: name(old) }),
            (Some(old), Some(new)) => {
                if old.address != new.address {
                    changes.push(BackendChange::Moved { backend: name(new), from: old.address, to: new.address });
                }
                if old.weight != new.weight {
                    changes.push(BackendChange::Weight { backend: name(new), from: old.weight, to: new.weight });
                }
                match (old.leaving, new.leaving) {
                    (false, true) => changes.push(BackendChange::Leaves { backend: name(new) }),
                    (true, false) => changes.push(BackendChange::Stays { backend: name(new) }),
                    (true, true) | (false, false) => {}
                }
            }
            (None, None) => {}
        }
    }
    changes
}

impl fmt::Display for BackendChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { backend, address: None, weight } => write!(f, "+ backend {backend}, weight {weight}"),
            Self::Added { backend, address: Some(address), weight } => {
                write!(f, "+ backend {backend} ({address}), weight {weight}")
            }
            Self::Leaves { backend } => write!(f, "~ backend {backend}: leaves"),
            Self::Stays { backend } => write!(f, "~ backend {backend}: stays after all"),
            Self::Moved { backend, from, to } => write!(f, "~ backend {backend}: address from {from} to {to}"),
            Self::Removed { backend } => write!(f, "- backend {backend}"),
            Self::Weight { backend, from, to } => write!(f, "~ backend {backend}: weight from {from} to {to}"),
        }
    }
}
