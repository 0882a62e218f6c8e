//! Tunnels with hooks on their worker: how they open, are found from outside, and end.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use super::Hooked;
use super::inspect::{Inspector, Outcome};
use super::record::{Ending, Record};
use super::worker::{Tunnel, Worker};
use crate::hook::{self, Closed, Item, KeyTag, To, TunnelId};

/// Where a worker's tunnels with hooks are, by what they can be asked for.
#[derive(Default)]
pub(super) struct Directory {
    by_id: HashMap<TunnelId, usize>,
    by_key: BTreeSet<(KeyTag, usize)>,
}

impl Directory {
    fn enter(&mut self, tunnel: &hook::Tunnel, slot: usize) {
        self.by_id.insert(tunnel.id, slot);
        self.by_key.extend(tunnel.key.map(|key| (key, slot)));
    }

    fn leave(&mut self, tunnel: &hook::Tunnel, slot: usize) {
        self.by_id.remove(&tunnel.id);
        if let Some(key) = tunnel.key {
            self.by_key.remove(&(key, slot));
        }
    }
}

impl Worker {
    /// The inspector of a tunnel that opens with hooks; `None` where there is no runtime to call them on.
    pub(super) fn inspector(&self, hooks: Hooked, max_message: Option<u64>) -> Option<Box<Inspector>> {
        let caller = self.caller.as_ref()?;
        Some(Box::new(Inspector::new(hooks, caller.clone(), max_message)))
    }

    /// Has a tunnel be found, and its hooks be called from here.
    pub(super) fn enter(&mut self, slot: usize) {
        let Some(tunnel) = self.tunnels.get_mut(slot) else { return };
        if let (Some(inspector), Some(caller)) = (tunnel.pair.inspector_mut(), &self.caller) {
            inspector.move_to(caller);
            self.directory.enter(inspector.tunnel(), slot);
        }
    }

    /// Has a tunnel be found here no more.
    pub(super) fn leave(&mut self, tunnel: &Tunnel, slot: usize) {
        if let Some(inspector) = tunnel.pair.inspector() {
            self.directory.leave(inspector.tunnel(), slot);
        }
    }

    /// Tells the hooks of a tunnel that it is open.
    pub(super) fn open_hooks(&mut self, slot: usize, now: Instant) {
        let Some(Tunnel { pair, record, .. }) = self.tunnels.get_mut(slot).map(Box::as_mut) else { return };
        if pair.inspector().is_some_and(|inspector| !inspector.knows()) {
            pair.open_hooks(now, &record.metrics);
            self.settle(slot);
        }
    }

    /// Acts on what came of a call that waited.
    pub(super) fn hear(&mut self, id: TunnelId, outcome: Outcome, now: Instant) {
        // A tunnel that has ended meanwhile has been told farewell.
        let Some(&slot) = self.directory.by_id.get(&id) else { return };
        let Tunnel { pair, record, .. } = &mut *self.tunnels[slot];
        pair.heard(outcome, now, &record.metrics);
        self.settle(slot);
    }

    /// Does what comes from outside to the tunnels meant; says to how many.
    pub(super) fn deliver(&mut self, to: &To, item: &Item, now: Instant) -> usize {
        let mut count = 0;
        for slot in self.meant(to) {
            count += usize::from(self.tunnels[slot].pair.inject(item, now));
            self.settle(slot);
        }
        count
    }

    fn meant(&self, to: &To) -> Vec<usize> {
        let Directory { by_id, by_key } = &self.directory;
        match to {
            To::Tunnel(id) => by_id.get(id).copied().into_iter().collect(),
            To::Key(key) => by_key.range((*key, 0)..=(*key, usize::MAX)).map(|(_, slot)| *slot).collect(),
            To::Route(route) => {
                by_id.values().copied().filter(|slot| self.tunnels[*slot].record.route == *route).collect()
            }
            To::All => by_id.values().copied().collect(),
        }
    }

    /// Has a tunnel that something was done to be driven, and its limits be looked at in time.
    fn settle(&mut self, slot: usize) {
        let due = self.tunnels[slot].pair.due();
        self.check_by(due);
        self.queue(slot);
    }

    /// Logs the end of a tunnel, and tells its hooks.
    pub(super) fn part(&self, inspector: Inspector, record: Record, ending: Ending) {
        let [from_client, from_backend] = ending.passed.into_array();
        let closed = Closed::new(
            ending.reason.as_str(),
            ending.close_code,
            ending.lasted,
            [from_client.0, from_backend.0],
            [from_client.1, from_backend.1],
        );
        let log = self.log.clone();
        inspector.farewell(closed, move |id, added| record.log_end(&log, &ending, Some(id), added));
    }
}

#[cfg(test)]
mod tests;
