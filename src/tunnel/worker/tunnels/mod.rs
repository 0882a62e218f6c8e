//! Open tunnels of one worker: their queues, their deadlines, and the turns that drive them.

mod all;
mod memory;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::error;
use mio::{Interest, Registry, Token};
use prometheus::IntGauge;
use slab::Slab;

use super::directory::Directory;
use super::rule::{self, Rule};
use super::tunnel::{Queued, Tunnel, caught};
use crate::access_log::AccessLog;
use crate::hook::Closed;
use crate::tunnel::activity::{Changes, UnderWay};
use crate::tunnel::deadlines::{Deadlines, STEP};
use crate::tunnel::inspect::{Caller, Inspector};
use crate::tunnel::new_tunnel::NewTunnel;
use crate::tunnel::pair::{Checked, Driven, Pair, Readiness};
use crate::tunnel::reason::Reason;
use crate::tunnel::record::{Ending, Record};
use crate::ws::{Side, Sides};
use memory::Memory;

/// The open tunnels of one worker.
pub(super) struct OpenTunnels {
    registry: Rc<Registry>,
    /// Each in an allocation of its own, so that its memory goes when it ends; a slab never shrinks.
    slots: Slab<Box<Tunnel>>,
    /// Tunnels with something to do at once; never more than there are.
    ready: Vec<usize>,
    /// Tunnels whose turn it is. Empty between two turns, and kept because a new list would be an allocation a message.
    driven: Vec<usize>,
    /// Tunnels with much to move, which take turns; never more than there are.
    bulk: VecDeque<usize>,
    /// Moment up to which tunnels with much to move have the shorter slice, because others were driven beside them.
    short_until: Instant,
    deadlines: Deadlines,
    directory: Directory,
    /// Rule of the last change of the configuration.
    rule: Option<Arc<Rule>>,
    /// Reason and moment by which every tunnel is being ended, tunnels that open now as well.
    ending: Option<(Instant, Reason)>,
    /// Number of tunnels, for whoever chooses a worker.
    count: Arc<AtomicUsize>,
    /// Told when a tunnel opens and when the last one leaves.
    changes: Changes,
    log: AccessLog,
    /// Calls hooks; `None` where there is no runtime to do so on.
    caller: Option<Arc<Caller>>,
    memory: Memory,
    scratch: Box<[u8]>,
}

/// Parts that the tunnels of all workers share.
pub(in crate::tunnel::worker) struct Shared {
    pub(in crate::tunnel::worker) log: AccessLog,
    /// Calls the hooks of one worker; `None` where there is no runtime to do so on.
    pub(in crate::tunnel::worker) caller: Option<Arc<Caller>>,
    /// Bytes that unfinished messages may take on each worker.
    pub(in crate::tunnel::worker) hook_memory: Arc<AtomicUsize>,
    /// Bytes that all workers keep.
    pub(in crate::tunnel::worker) kept: IntGauge,
    /// Told when a tunnel opens and when the last one leaves.
    pub(in crate::tunnel::worker) changes: Changes,
}

impl OpenTunnels {
    /// No tunnels yet; `count` is kept up to date.
    pub(super) fn new(registry: Rc<Registry>, count: Arc<AtomicUsize>, shared: Shared, now: Instant) -> Self {
        let Shared { log, caller, hook_memory, kept, changes } = shared;
        Self {
            registry,
            slots: Slab::new(),
            ready: Vec::new(),
            driven: Vec::new(),
            bulk: VecDeque::new(),
            short_until: now,
            deadlines: Deadlines::new(now),
            directory: Directory::default(),
            rule: None,
            ending: None,
            count,
            changes,
            log,
            caller,
            memory: Memory::new(hook_memory, kept),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Counts a tunnel whose handshake was made here, and opens it.
    pub(super) fn open_own(&mut self, new: NewTunnel, under_way: UnderWay, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(under_way);
        self.open(new, now);
    }

    /// Opens a tunnel that is counted already.
    pub(super) fn open(&mut self, new: NewTunnel, now: Instant) {
        self.changes.tell();
        let NewTunnel { client, backend, early, limits, record, hooks } = new;
        let inspector = match (hooks, &self.caller) {
            (None, _) => None,
            (Some(hooks), Some(caller)) => Some(Inspector::new(hooks, Arc::clone(caller), limits.max_message)),
            (Some(_), None) => {
                self.count_down();
                return error!("a tunnel with hooks is refused: there is no runtime to call them on");
            }
        };
        let watched = Sides::new(client.watched, backend.watched);
        let mut pair = Pair::new(client.stream, backend.stream, limits, rand::random_range(0.0..0.1), now);
        record.opened(&self.log, inspector.as_ref().map(|inspector| inspector.tunnel().id));
        if let Some(inspector) = inspector {
            pair.watch(Box::new(inspector));
        }
        let (late_end, rule) = (self.late_end(&record, now), self.rule.as_deref());
        let mut tunnel = Box::new(Tunnel::new(pair, record, now));
        let begun = tunnel.guarded(now, |tunnel| {
            for side in Side::ALL {
                tunnel.pair.preload(side, &early[side], now, &tunnel.record.metrics);
            }
            if let Some((at, reason)) = late_end {
                tunnel.pair.plan_end(at, reason);
            }
            rule::judge_opening(rule, tunnel, now);
        });
        let slot = self.take_on(tunnel, watched);
        match begun {
            Ok(_) => self.open_hooks(slot, now),
            Err(_broken) => self.remove(slot, now),
        }
    }

    /// Moment and reason of the end of a tunnel that opens although ends were announced during its handshake.
    fn late_end(&self, record: &Record, now: Instant) -> Option<(Instant, Reason)> {
        match self.ending {
            Some((by, reason)) => Some((now + by.saturating_duration_since(now).mul_f64(rand::random()), reason)),
            None => record.backend().is_draining().then_some((now, Reason::BackendDrained)),
        }
    }

    /// Adds a tunnel's sockets to the poller, and the tunnel to the queue.
    fn take_on(&mut self, mut tunnel: Box<Tunnel>, watched: Sides<bool>) -> usize {
        let entry = self.slots.vacant_entry();
        let slot = entry.key();
        let registered = Side::ALL.into_iter().try_for_each(|side| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let (stream, token) = (tunnel.pair.stream_mut(side), token_of(slot, side));
            // Either way readiness that is there already is reported.
            if watched[side] {
                self.registry.reregister(stream, token, interest)
            } else {
                self.registry.register(stream, token, interest)
            }
        });
        tunnel.counted_open().inc();
        entry.insert(tunnel);
        if let Err(error) = registered {
            error!("a tunnel could not be registered with the poller and ends: {error}");
            self.remove(slot, Instant::now());
            return slot;
        }
        self.enter(slot);
        self.set_deadline(slot);
        self.queue(slot);
        slot
    }

    /// Registers a tunnel with hooks in the directory and lets this worker call its hooks.
    fn enter(&mut self, slot: usize) {
        let Some(tunnel) = self.slots.get_mut(slot) else { return };
        if let (Some(inspector), Some(caller)) = (tunnel.pair.inspector_mut(), &self.caller) {
            inspector.move_to(caller);
            self.directory.enter(inspector.tunnel(), slot);
        }
    }

    /// Tells the hooks of a tunnel that it is open.
    fn open_hooks(&mut self, slot: usize, now: Instant) {
        let inspector = self.slots.get(slot).and_then(|tunnel| tunnel.pair.inspector());
        if inspector.is_some_and(|inspector| !inspector.knows()) {
            self.act_on(slot, now, |tunnel| tunnel.pair.open_hooks(now, &tunnel.record.metrics));
        }
    }

    /// Acts on a tunnel, which is to be driven then.
    fn act_on<T>(&mut self, slot: usize, now: Instant, act: impl FnOnce(&mut Tunnel) -> T) -> Option<T> {
        match self.slots.get_mut(slot)?.guarded(now, act) {
            Ok(done) => {
                self.count_memory(slot);
                self.set_deadline(slot);
                self.queue(slot);
                done
            }
            Err(_broken) => {
                self.remove(slot, now);
                None
            }
        }
    }

    /// Notes the readiness of the end that `token` stands for.
    pub(super) fn note(&mut self, token: Token, readiness: Readiness) {
        let (slot, side) = slot_of(token);
        let Some(tunnel) = self.slots.get_mut(slot) else { return };
        tunnel.pair.note(side, readiness);
        self.queue(slot);
    }

    /// Queues a tunnel to be driven in the next turn; one that moved much when it was last driven waits for its turn.
    fn queue(&mut self, slot: usize) {
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
        self.slots[slot].queued = Queued::Bulk;
        self.bulk.push_back(slot);
    }

    /// Tells whether a tunnel can be driven at once.
    pub(super) fn is_busy(&self) -> bool {
        !self.ready.is_empty() || !self.bulk.is_empty()
    }

    /// Drives the tunnels that are ready, and one of those with much to move. Each moves one buffer each way at the
    /// most; the latter only a slice of it while others are in use beside them.
    ///
    /// So a tunnel with a small message waits for one slice of one other tunnel, however many move as much as they can.
    pub(super) fn drive(&mut self, now: Instant) {
        // Chosen first: a tunnel that turns out to have much to move has had its turn.
        let bulk = self.bulk.pop_front().map(|slot| (slot, self.slice(now)));
        let mut driven = std::mem::replace(&mut self.ready, std::mem::take(&mut self.driven));
        for slot in driven.drain(..) {
            self.drive_one(slot, READ_BYTES, now);
        }
        self.driven = driven;
        if let Some((slot, slice)) = bulk {
            self.drive_one(slot, slice, now);
        }
        self.limit_memory(now);
    }

    /// Bytes that a tunnel with much to move may move each way in this turn.
    fn slice(&mut self, now: Instant) -> usize {
        if !self.ready.is_empty() {
            self.short_until = now + SHORT_FOR;
        }
        if now < self.short_until { BULK_BYTES } else { READ_BYTES }
    }

    fn drive_one(&mut self, slot: usize, most: usize, now: Instant) {
        let tunnel = &mut self.slots[slot];
        tunnel.queued = Queued::No;
        let scratch = &mut self.scratch[..most];
        let driven = tunnel.guarded(now, |tunnel| tunnel.pair.drive(scratch, now, &tunnel.record.metrics));
        tunnel.heavy = tunnel.pair.moved() >= HEAVY;
        match driven {
            Ok(Some(Driven::Waiting)) => {}
            Ok(Some(Driven::More)) => self.queue_as_bulk(slot),
            Ok(None) => self.queue(slot),
            Ok(Some(Driven::Ended)) | Err(_) => return self.remove(slot, now),
        }
        self.count_memory(slot);
        if self.slots[slot].pair.take_nearer() {
            self.set_deadline(slot);
        }
    }

    /// The next moment at which a limit is due; `None`, and the worker sleeps until it is woken.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Looks at the limits of the tunnels whose deadline has passed. Returns how many it looked at.
    pub(super) fn check(&mut self, now: Instant) -> usize {
        let mut looked_at = 0;
        while let Some(slot) = self.deadlines.take_due(now) {
            looked_at += 1;
            self.check_one(slot, now);
        }
        looked_at
    }

    fn check_one(&mut self, slot: usize, now: Instant) {
        let (Some(tunnel), rule) = (self.slots.get_mut(slot), self.rule.as_deref()) else { return };
        let checked = tunnel.guarded(now, |tunnel| {
            rule::judge_again(rule, tunnel, now);
            tunnel.pair.check(now)
        });
        match checked {
            Ok(Some(Checked::Fine)) => {}
            Ok(Some(Checked::Changed) | None) => self.queue(slot),
            Ok(Some(Checked::Expired)) | Err(_) => return self.remove(slot, now),
        }
        if let Some(due) = self.slots[slot].pair.due() {
            // Not again within the same look, whatever the pair says.
            self.deadlines.set(slot, due.max(now + STEP));
        }
    }

    fn set_deadline(&mut self, slot: usize) {
        if let Some(due) = self.slots[slot].pair.due() {
            self.deadlines.set(slot, due);
        }
    }

    /// Takes a tunnel out of every list of this worker.
    fn take_out(&mut self, slot: usize) -> Box<Tunnel> {
        let mut tunnel = self.slots.remove(slot);
        tunnel.counted_open().dec();
        self.deadlines.forget(slot);
        self.memory.forget(&mut tunnel);
        if let Some(inspector) = tunnel.pair.inspector() {
            self.directory.leave(inspector.tunnel(), slot);
        }
        match std::mem::replace(&mut tunnel.queued, Queued::No) {
            Queued::No => {}
            Queued::Ready => self.ready.retain(|other| *other != slot),
            Queued::Bulk => self.bulk.retain(|other| *other != slot),
        }
        tunnel
    }

    /// Ends a tunnel for good, and accounts for it.
    fn remove(&mut self, slot: usize, now: Instant) {
        let tunnel = self.take_out(slot);
        caught("the end of a tunnel", || account_for(*tunnel, &self.log, now));
        self.count_down();
    }

    fn count_down(&self) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.changes.tell();
        }
    }
}

/// Closes a tunnel, counts and logs its end, and tells its hooks.
fn account_for(tunnel: Tunnel, log: &AccessLog, now: Instant) {
    let Tunnel { mut pair, record, since, .. } = tunnel;
    let inspector = pair.take_inspector();
    let ending = Ending::new(pair.reason(), pair.close_code(), since, now, |side| pair.passed(side));
    // Client and backend do not wait for hooks.
    pair.say_goodbye();
    drop(pair);
    record.metrics.ended(ending.reason.as_str());
    let Some(inspector) = inspector else { return record.log_end(log, &ending, None, &[]) };
    let [from_client, from_backend] = ending.passed.into_array();
    let closed = Closed::new(
        ending.reason.as_str(),
        ending.close_code,
        ending.lasted,
        [from_client.0, from_backend.0],
        [from_client.1, from_backend.1],
    );
    let log = log.clone();
    inspector.farewell(closed, move |id, added| record.log_end(&log, &ending, Some(id), added));
}

fn token_of(slot: usize, side: Side) -> Token {
    Token(slot << 1 | usize::from(side == Side::Backend))
}

fn slot_of(token: Token) -> (usize, Side) {
    (token.0 >> 1, if token.0 & 1 == 0 { Side::Client } else { Side::Backend })
}

/// Read at once, and so the most that is ever kept of what a receiver does not take; the rest up to 65 KiB is left for
/// the gateway's own control frames. A message of 64 KiB, a size that many senders use, comes whole with its header: a
/// buffer of a few bytes less would take two reads and two writes for each, one of them tiny (bench/NOTES.md).
const READ_BYTES: usize = 65 * 1024 - 512;
/// Bytes of one turn from which on a tunnel counts as one with much to move: half a slice, because a read often finds a
/// little less than it has room for.
const HEAVY: u32 = BULK_BYTES as u32 / 2;
/// Read at once from a tunnel with much to move while others are in use: moving it takes about as long as asking the
/// poller and passing on a few small messages. A TLS record of the greatest size fits, of TLS 1.2 as well.
const BULK_BYTES: usize = 20 * 1024;
const _: () = assert!(BULK_BYTES >= crate::tls::LEAST_BUFFER);
/// Time for which others count as in use after one of them was driven.
const SHORT_FOR: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
