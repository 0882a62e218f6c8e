//! Turns: the queues of tunnels with something to do, and how much each moves before others have theirs.

use std::time::{Duration, Instant};

use super::{OpenTunnels, READ_BYTES};
use crate::tunnel::pair::{Driven, End as _};
use crate::tunnel::worker::tunnel::{BrokenTunnel, Queued};

impl OpenTunnels {
    /// Queues a tunnel to be driven in the next turn; one that moved much when it was last driven waits for its turn.
    pub(in crate::tunnel::worker) fn queue(&mut self, slot: usize) {
        let tunnel = &mut self.slots[slot];
        match (tunnel.queued, tunnel.heavy) {
            (Queued::No, false) => {
                tunnel.queued = Queued::Ready;
                self.ready.push(slot);
            }
            (Queued::No, true) => self.queue_as_bulk(slot),
            (Queued::Ready | Queued::Bulk, _) => {}
        }
    }

    fn queue_as_bulk(&mut self, slot: usize) {
        // One that panicked stands in the other queue already.
        if self.slots[slot].queued == Queued::No {
            self.slots[slot].queued = Queued::Bulk;
            self.bulk.push_back(slot);
        }
    }

    /// Tells whether a tunnel can be driven, or judged, at once.
    pub(in crate::tunnel::worker) fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.bulk.is_empty() || self.judging.is_some()
    }

    /// Drives the tunnels that are ready, and one of those with much to move. Each moves one buffer each way at the
    /// most; the latter only a slice of it while others are in use beside them.
    ///
    /// So a tunnel with a small message waits for one slice of one other tunnel, however many move as much as they can.
    pub(in crate::tunnel::worker) fn drive(&mut self, now: Instant) {
        // Chosen first: a tunnel that turns out to have much to move has had its turn.
        let bulk = self.bulk.pop_front();
        std::mem::swap(&mut self.ready, &mut self.driven);
        let mut others = false;
        self.batch.open(self.driven.len());
        for at in 0..self.driven.len() {
            let moved = self.drive_one(self.driven[at], READ_BYTES, now);
            if self.batch.is_full() {
                self.send_out(now);
            }
            // One that moved much is another one of that kind, whose last turn had the end of a message.
            others |= moved < HEAVY;
        }
        self.driven.clear();
        if let Some(slot) = bulk {
            self.batch.open(0);
            let slice = self.slice(others, now);
            self.drive_one(slot, slice, now);
        }
        if !self.batch.is_empty() {
            self.send_out(now);
        }
        self.limit_memory(now);
    }

    /// Makes the writes that were put off, and settles their tunnels.
    pub(super) fn send_out(&mut self, now: Instant) {
        let slots = &self.slots;
        self.batch.send(|slot, side| slots.get(slot)?.pair.stream(side).plain_socket());
        for made in self.batch.made() {
            if let Some(tunnel) = self.slots.get_mut(made.slot) {
                let rest = self.batch.rest(made);
                // What a panic leaves is seen when the tunnel is settled.
                drop(tunnel.guarded(now, |tunnel| tunnel.pair.take_back(made.side, rest, now)));
            }
        }
        for at in 0..self.batch.made().len() {
            let slot = self.batch.made()[at].slot;
            // The writes of one tunnel stand one behind the other.
            if at == 0 || self.batch.made()[at - 1].slot != slot {
                self.settle_one(slot, now);
            }
        }
        self.batch.clear();
    }

    fn settle_one(&mut self, slot: usize, now: Instant) {
        let Some(tunnel) = self.slots.get_mut(slot) else { return };
        let driven = tunnel.guarded(now, |tunnel| tunnel.pair.settle(now, &tunnel.record.metrics));
        self.go_on_after(slot, driven, now);
    }

    /// Bytes that a tunnel with much to move may move each way in this turn; `others` with little were driven in it.
    fn slice(&mut self, others: bool, now: Instant) -> usize {
        if others {
            self.short_until = now + SHORT_FOR;
        }
        if now < self.short_until { BULK_BYTES } else { READ_BYTES }
    }

    /// Drives a tunnel. Returns how many bytes it moved.
    fn drive_one(&mut self, slot: usize, most: usize, now: Instant) -> u32 {
        let tunnel = &mut self.slots[slot];
        tunnel.queued = Queued::No;
        let (scratch, batch) = (&mut self.scratch[..most], self.batch.of(slot));
        let driven = tunnel.guarded(now, |tunnel| tunnel.pair.drive(scratch, now, &tunnel.record.metrics, batch));
        let moved = tunnel.pair.moved();
        tunnel.heavy = moved >= HEAVY;
        if driven.is_err() {
            // It is removed as it is, and its sockets are closed.
            self.batch.forget(slot);
        }
        self.go_on_after(slot, driven, now);
        moved
    }

    /// Does what a tunnel is to have done after it was driven.
    #[inline(always)]
    fn go_on_after(&mut self, slot: usize, driven: Result<Option<Driven>, BrokenTunnel>, now: Instant) {
        match driven {
            Ok(Some(Driven::PutOff)) => return,
            Ok(Some(Driven::Waiting)) => {}
            Ok(Some(Driven::More)) => self.queue_as_bulk(slot),
            Ok(Some(Driven::Asks)) => {
                self.ask(slot, now);
                self.queue(slot);
            }
            Ok(None) => self.queue(slot),
            Ok(Some(Driven::Ended)) | Err(_) => return self.remove(slot, now),
        }
        let tunnel = &mut self.slots[slot];
        self.memory.count(tunnel);
        tunnel.tell(&self.log);
        if tunnel.pair.take_nearer() {
            self.set_deadline(slot);
            self.watch_for_room(slot, now);
        }
    }
}

/// Bytes of one turn from which on a tunnel counts as one with much to move: half a slice, because a read often finds a
/// little less than it has room for.
pub(super) const HEAVY: u32 = BULK_BYTES as u32 / 2;
/// Read at once from a tunnel with much to move while others are in use: moving it takes about as long as asking the
/// poller and passing on a few small messages. A TLS record of the greatest size fits, of TLS 1.2 as well.
pub(super) const BULK_BYTES: usize = 20 * 1024;
const _: () = assert!(BULK_BYTES >= crate::tls::LEAST_BUFFER);
/// Time for which others count as in use after one of them was driven.
pub(super) const SHORT_FOR: Duration = Duration::from_millis(100);
