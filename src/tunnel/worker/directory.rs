//! Directory of the tunnels with hooks on one worker: found by id, key or route.

use std::collections::{BTreeMap, BTreeSet};

use crate::hook::{KeyTag, To, Tunnel, TunnelId};

/// Slots of the tunnels with hooks on one worker.
///
/// Trees grow and shrink by a few entries at a time. A hash table of a million entries would hold its worker up for
/// 46 ms when it grows (bench/NOTES.md).
#[derive(Default)]
pub(super) struct Directory {
    by_id: BTreeMap<TunnelId, usize>,
    by_key: BTreeSet<(KeyTag, usize)>,
}

impl Directory {
    pub(super) fn enter(&mut self, tunnel: &Tunnel, slot: usize) {
        self.by_id.insert(tunnel.id, slot);
        self.by_key.extend(tunnel.key.map(|key| (key, slot)));
    }

    pub(super) fn leave(&mut self, tunnel: &Tunnel, slot: usize) {
        self.by_id.remove(&tunnel.id);
        if let Some(key) = tunnel.key {
            self.by_key.remove(&(key, slot));
        }
    }

    /// Slot of the tunnel with this id; `None` once it has ended.
    pub(super) fn find(&self, id: TunnelId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Slots of all tunnels with hooks.
    pub(super) fn all(&self) -> impl Iterator<Item = usize> {
        self.by_id.values().copied()
    }

    /// Slots of the tunnels that `to` names; `route_of` gives the route of a slot.
    pub(super) fn meant<'t>(&self, to: &To, route_of: impl Fn(usize) -> &'t str) -> Vec<usize> {
        match to {
            To::Tunnel(id) => self.find(*id).into_iter().collect(),
            To::Key(key) => self.by_key.range((*key, 0)..=(*key, usize::MAX)).map(|(_, slot)| *slot).collect(),
            To::Route(route) => self.all().filter(|slot| *route_of(*slot) == **route).collect(),
            To::All => self.all().collect(),
        }
    }
}
