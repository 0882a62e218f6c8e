//! Memory of unfinished messages on one worker, and its limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::OpenTunnels;
use crate::tunnel::worker::tunnel::Tunnel;

/// Bytes of the unfinished messages of all tunnels of a worker.
pub(super) struct Memory {
    taken: usize,
    limit: Arc<AtomicUsize>,
}

impl Memory {
    pub(super) fn new(limit: Arc<AtomicUsize>) -> Self {
        Self { taken: 0, limit }
    }

    /// Counts the unfinished messages of a tunnel anew.
    fn count(&mut self, tunnel: &mut Tunnel) {
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            let (now, before) = inspector.count_memory();
            self.taken = self.taken + now - before;
        }
    }

    /// Counts no more for a tunnel, which leaves this worker.
    pub(super) fn forget(&mut self, tunnel: &mut Tunnel) {
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            self.taken -= inspector.forget_count();
        }
    }

    fn is_exceeded(&self) -> bool {
        self.taken > self.limit.load(Ordering::Relaxed)
    }
}

impl OpenTunnels {
    /// Counts the unfinished messages of a tunnel that something was done to.
    pub(super) fn count_memory(&mut self, slot: usize) {
        if let Some(tunnel) = self.slots.get_mut(slot) {
            self.memory.count(tunnel);
        }
    }

    /// Ends the tunnels with the largest unfinished messages, until those of the others are within the limit.
    pub(super) fn limit_memory(&mut self, now: Instant) {
        while self.memory.is_exceeded() {
            let taken =
                |slot: &usize| self.slots[*slot].pair.inspector().map_or(0, |inspector| inspector.counted_memory());
            let Some(largest) = self.directory.all().max_by_key(taken).filter(|slot| taken(slot) > 0) else { return };
            self.act_on(largest, now, |tunnel| tunnel.pair.end_for_memory(now));
        }
    }
}
