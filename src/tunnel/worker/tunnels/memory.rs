//! Memory of one worker's tunnels: bytes that are kept, and the limits of them.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntGauge;

use super::OpenTunnels;
use crate::tunnel::deadlines::STEP;
use crate::tunnel::worker::tunnel::Tunnel;

/// Limits of memory, which a reload changes.
#[derive(Debug)]
pub(in crate::tunnel) struct MemoryLimits {
    /// Bytes that unfinished messages may take on each worker.
    pub(in crate::tunnel) hook: AtomicUsize,
    /// Bytes that may be kept for all clients of the process.
    pub(in crate::tunnel) kept: AtomicI64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { hook: AtomicUsize::new(usize::MAX), kept: AtomicI64::new(i64::MAX) }
    }
}

/// Bytes that the tunnels of a worker keep.
pub(super) struct Memory {
    /// Bytes of unfinished messages.
    taken: usize,
    /// The same, or more than any limit while [`is_pressed`](Self::is_pressed): what is asked after each turn is one
    /// question.
    weight: usize,
    limits: Arc<MemoryLimits>,
    /// Bytes that are kept for all clients: those that a receiver has not taken yet, and of unfinished messages and
    /// heads.
    kept: IntGauge,
    /// This worker's part of `kept`.
    own: i64,
    /// Tunnels are not held back before this moment again: whom to hold back takes a look at all with hooks.
    look_at: Instant,
}

impl Memory {
    pub(super) fn new(limits: Arc<MemoryLimits>, kept: IntGauge, now: Instant) -> Self {
        Self { taken: 0, weight: 0, limits, kept, own: 0, look_at: now }
    }

    /// Counts the bytes that a tunnel keeps anew.
    #[inline]
    pub(super) fn count(&mut self, tunnel: &mut Tunnel) {
        // Seldom: this is asked after each message.
        if tunnel.counted_kept > 0 || tunnel.pair.keeps_anything() {
            self.count_kept(tunnel);
        }
    }

    fn count_kept(&mut self, tunnel: &mut Tunnel) {
        // Both ways are bounded far below 4 GiB.
        let kept = u32::try_from(tunnel.pair.kept_in_all()).unwrap_or(u32::MAX);
        let mut change = i64::from(kept) - i64::from(std::mem::replace(&mut tunnel.counted_kept, kept));
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            let (now, before) = inspector.count_memory();
            self.taken = self.taken + now - before;
            change += now.cast_signed() as i64 - before.cast_signed() as i64;
        }
        self.tell(change);
        let is_pressed = change > 0 && self.is_pressed();
        self.weight = if is_pressed { usize::MAX } else { self.taken };
    }

    /// Counts no more for a tunnel, which leaves this worker.
    pub(super) fn forget(&mut self, tunnel: &mut Tunnel) {
        let mut gone = i64::from(std::mem::take(&mut tunnel.counted_kept));
        if let Some(inspector) = tunnel.pair.inspector_mut() {
            let counted = inspector.forget_count();
            self.taken -= counted;
            gone += counted.cast_signed() as i64;
        }
        self.weight = self.taken;
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
        self.weight > self.limits.hook.load(Ordering::Relaxed)
    }

    fn is_taken_by_messages(&self) -> bool {
        self.taken > self.limits.hook.load(Ordering::Relaxed)
    }

    /// Tells whether a tenth more is kept than may be.
    fn is_pressed(&self) -> bool {
        let most = self.limits.kept.load(Ordering::Relaxed);
        self.kept.get() > most.saturating_add(most / 10)
    }

    /// Tells whether as much is kept as may be, or less.
    fn is_relieved(&self) -> bool {
        self.kept.get() <= self.limits.kept.load(Ordering::Relaxed)
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

    /// Ends the tunnels with the largest unfinished messages, until those of the others are within the limit of this
    /// worker. Holds the largest back while too much is kept for all clients of the process.
    pub(super) fn limit_memory(&mut self, now: Instant) {
        if !self.memory.is_exceeded() {
            return;
        }
        while self.memory.is_taken_by_messages() {
            let Some(largest) = self.directory.all().max_by_key(|slot| self.unfinished(*slot)) else { break };
            if self.unfinished(largest) == 0 {
                break;
            }
            self.act_on(largest, now, |tunnel| tunnel.pair.end_for_memory(now));
        }
        if self.memory.is_pressed() && now >= self.memory.look_at {
            self.memory.look_at = now + STEP;
            self.hold_back(now);
        }
        self.memory.weight = self.memory.taken;
    }

    /// Bytes of unfinished messages of a tunnel.
    fn unfinished(&self, slot: usize) -> usize {
        self.slots[slot].pair.inspector().map_or(0, |inspector| inspector.counted_memory())
    }

    /// Stops reading the tunnels with the largest unfinished messages, as many as have half of all such bytes that are
    /// not held back yet. What other tunnels keep grows no further anyway: whoever does not take what came for him
    /// keeps the other side from being read.
    fn hold_back(&mut self, now: Instant) {
        let is_read = |slot: &usize| self.slots[*slot].pair.inspector().is_some_and(|hooks| !hooks.is_held_back());
        let mut keepers: Vec<_> =
            self.directory.all().filter(is_read).map(|slot| (self.unfinished(slot), slot)).collect();
        keepers.retain(|(bytes, _)| *bytes > 0);
        keepers.sort_unstable_by_key(|(bytes, _)| Reverse(*bytes));
        let all: usize = keepers.iter().map(|(bytes, _)| bytes).sum();
        let mut held = 0;
        for (bytes, slot) in keepers {
            if held * 2 >= all {
                break;
            }
            held += bytes;
            self.slots[slot].pair.hold_back(Some(now));
            self.deadlines.set(slot, now + STEP);
        }
    }

    /// Looks at a tunnel that may be held back: lets it go on once there is room, and ends it where there is none for
    /// [`HELD_BACK`].
    pub(super) fn look_at_held_back(&mut self, slot: usize, now: Instant) {
        let inspector = self.slots.get(slot).and_then(|tunnel| tunnel.pair.inspector());
        let Some(since) = inspector.and_then(|inspector| inspector.held_back()) else { return };
        if self.memory.is_relieved() {
            self.act_on(slot, now, |tunnel| tunnel.pair.hold_back(None));
        } else if now.saturating_duration_since(since) >= HELD_BACK {
            self.act_on(slot, now, |tunnel| {
                tunnel.pair.hold_back(None);
                tunnel.pair.end_for_memory(now);
            });
        } else {
            self.deadlines.set(slot, now + STEP);
        }
    }
}

/// Longest time for which a tunnel is held back. Its unfinished message cannot end while it is not read, so somebody
/// has to go in the end.
const HELD_BACK: Duration = Duration::from_secs(10);
