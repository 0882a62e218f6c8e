//! Memory of one worker's tunnels: bytes that are kept, and the limit of those of unfinished messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use prometheus::IntGauge;

use super::OpenTunnels;
use crate::tunnel::worker::tunnel::Tunnel;

/// Bytes that the tunnels of a worker keep.
pub(super) struct Memory {
    /// Bytes of unfinished messages.
    taken: usize,
    /// Limit of `taken`.
    limit: Arc<AtomicUsize>,
    /// Bytes that all workers keep: for a receiver that has not taken them yet, and of unfinished messages.
    kept: IntGauge,
    /// This worker's part of `kept`.
    own: i64,
}

impl Memory {
    pub(super) fn new(limit: Arc<AtomicUsize>, kept: IntGauge) -> Self {
        Self { taken: 0, limit, kept, own: 0 }
    }

    /// Counts the bytes that a tunnel keeps anew.
    fn count(&mut self, tunnel: &mut Tunnel) {
        // Nearly always: this is asked after each message.
        if tunnel.counted_kept == 0 && !tunnel.pair.keeps_anything() {
            return;
        }
        // Both ways are bounded far below 4 GiB.
        let kept = u32::try_from(tunnel.pair.kept()).unwrap_or(u32::MAX);
        let mut change = i64::from(kept) - i64::from(std::mem::replace(&mut tunnel.counted_kept, kept));
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            let (now, before) = inspector.count_memory();
            self.taken = self.taken + now - before;
            change += now.cast_signed() as i64 - before.cast_signed() as i64;
        }
        self.tell(change);
    }

    /// Counts no more for a tunnel, which leaves this worker.
    pub(super) fn forget(&mut self, tunnel: &mut Tunnel) {
        let mut gone = i64::from(std::mem::take(&mut tunnel.counted_kept));
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            let counted = inspector.forget_count();
            self.taken -= counted;
            gone += counted.cast_signed() as i64;
        }
        self.tell(-gone);
    }

    /// Tells of a change. There is seldom one: most bytes are taken at once.
    fn tell(&mut self, change: i64) {
        if change != 0 {
            self.own += change;
            self.kept.add(change);
        }
    }

    fn is_exceeded(&self) -> bool {
        self.taken > self.limit.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.kept.sub(self.own);
    }
}

impl OpenTunnels {
    /// Counts the bytes that a tunnel keeps to which something was done.
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
