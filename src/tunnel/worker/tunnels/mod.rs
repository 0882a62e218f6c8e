//! Open tunnels of one worker: where they stand, their deadlines and their ends.

mod all;
mod cached;
mod memory;
mod opening;
mod searches;
mod turns;

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use mio::{Registry, Token};
use prometheus::IntGauge;

use super::directory::Directory;
use super::judging::Judging;
use super::rule::{self, TunnelRule};
use super::slice::Slice;
use super::tunnel::{Queued, Tunnel, caught};
use crate::access_log::AccessLog;
use crate::config::Engine;
use crate::hook::Closed;
use crate::slots::{GiveBack, Slots};
use crate::tunnel::activity::ChangeSignal;
use crate::tunnel::deadlines::{Deadlines, STEP};
use crate::tunnel::inspect::Caller;
use crate::tunnel::pair::{Checked, Readiness};
use crate::tunnel::rates::{RateTable, RatedKeys};
use crate::tunnel::reason::Reason;
use crate::tunnel::record::Ending;
use crate::tunnel::sends::SendBatch;
use crate::ws::Side;
use memory::Memory;
pub(in crate::tunnel) use memory::MemoryLimits;
use searches::Searches;

/// The open tunnels of one worker.
pub(super) struct OpenTunnels {
    registry: Rc<Registry>,
    /// Each in an allocation of its own, so that its memory goes when it ends.
    slots: Slots<Box<Tunnel>>,
    /// Tunnels with something to do at once; never more than there are.
    ready: Vec<usize>,
    /// Tunnels whose turn it is. Empty between two turns, and kept because a new list would be an allocation a message.
    driven: Vec<usize>,
    /// Tunnels with much to move, which take turns; never more than there are.
    bulk: VecDeque<usize>,
    /// Moment up to which tunnels with much to move have the shorter slice, because others moved little beside them.
    short_until: Instant,
    deadlines: Deadlines,
    directory: Directory,
    /// Rule of the last change of the configuration.
    rule: Option<Arc<TunnelRule>>,
    /// That rule, while there are tunnels to be judged.
    judging: Option<Box<Judging>>,
    /// Rates of clients, by the upstreams of their tunnels.
    rates: Arc<RateTable>,
    /// Rates that the tunnels of one affinity key share, on all workers.
    keys: Arc<RatedKeys>,
    /// Reason and moment by which every tunnel is being ended, tunnels that open now as well.
    ending: Option<(Instant, Reason)>,
    /// Number of tunnels, for whoever chooses a worker.
    count: Arc<AtomicUsize>,
    /// Told when a tunnel opens and when the last one leaves.
    changes: ChangeSignal,
    log: AccessLog,
    /// Calls hooks; `None` where there is no runtime to do so on.
    caller: Option<Arc<Caller>>,
    memory: Memory,
    /// Most tunnels since the allocator last gave back what it keeps for this thread.
    most: usize,
    asks: Searches,
    scratch: Box<[u8]>,
    batch: SendBatch,
}

/// Parts that the tunnels of all workers share.
pub(in crate::tunnel::worker) struct Shared {
    pub(in crate::tunnel::worker) engine: Engine,
    pub(in crate::tunnel::worker) log: AccessLog,
    /// Calls the hooks of one worker; `None` where there is no runtime to do so on.
    pub(in crate::tunnel::worker) caller: Option<Arc<Caller>>,
    pub(in crate::tunnel::worker) limits: Arc<MemoryLimits>,
    /// Bytes that all workers keep.
    pub(in crate::tunnel::worker) kept: IntGauge,
    /// Told when a tunnel opens and when the last one leaves.
    pub(in crate::tunnel::worker) changes: ChangeSignal,
    /// Rates that the tunnels of one affinity key share.
    pub(in crate::tunnel::worker) keys: Arc<RatedKeys>,
}

impl OpenTunnels {
    /// No tunnels yet; `count` is kept up to date.
    pub(super) fn new(registry: Rc<Registry>, count: Arc<AtomicUsize>, shared: Shared, now: Instant) -> Self {
        let Shared { engine, log, caller, limits, kept, changes, keys } = shared;
        Self {
            registry,
            slots: Slots::default(),
            ready: Vec::new(),
            driven: Vec::new(),
            bulk: VecDeque::new(),
            short_until: now,
            deadlines: Deadlines::new(now),
            directory: Directory::default(),
            rule: None,
            judging: None,
            rates: Arc::default(),
            keys,
            ending: None,
            count,
            changes,
            log,
            caller,
            memory: Memory::new(limits, kept, now),
            most: 0,
            asks: Searches::default(),
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
            batch: SendBatch::new(engine),
        }
    }

    /// Acts on a tunnel, which is to be driven then.
    fn act_on<T>(&mut self, slot: usize, now: Instant, act: impl FnOnce(&mut Tunnel) -> T) -> Option<T> {
        match self.slots.get_mut(slot)?.guarded(now, act) {
            Ok(done) => {
                self.count_memory(slot);
                self.set_deadline(slot);
                self.queue(slot);
                self.watch_for_room(slot, now);
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

    /// The next moment at which a limit is due; `None`, and the worker sleeps until it is woken.
    pub(super) fn due(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// Looks at the limits of the tunnels whose deadline has passed, for one slice: those that are left are due still.
    /// Returns how many it looked at.
    pub(super) fn check(&mut self, now: Instant) -> usize {
        let (mut looked_at, mut slice) = (0, Slice::begin());
        while looked_at < CHECKED_AT_ONCE
            && let Some(slot) = self.deadlines.take_due(now)
        {
            looked_at += 1;
            self.check_one(slot, now);
            if slice.is_over() {
                break;
            }
        }
        looked_at
    }

    fn check_one(&mut self, slot: usize, now: Instant) {
        self.look_at_held_back(slot, now);
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
        let mut tunnel = self.slots.remove(slot).expect("a tunnel stays in its slot until it is taken out");
        self.give_up_search(slot, &tunnel);
        tunnel.counted_open().dec();
        self.deadlines.forget(slot);
        self.memory.forget(&mut tunnel);
        // Whoever takes it on looks for himself whether memory is short.
        tunnel.pair.hold_back(None);
        if let Some(inspector) = tunnel.pair.inspector() {
            self.directory.leave(inspector.tunnel(), slot);
        }
        match std::mem::replace(&mut tunnel.queued, Queued::No) {
            Queued::No => {}
            Queued::Ready => self.ready.retain(|other| *other != slot),
            Queued::Bulk => self.bulk.retain(|other| *other != slot),
        }
        // No queue is longer than there are slots.
        let end = self.slots.end();
        self.ready.give_back(end);
        self.driven.give_back(end);
        self.bulk.give_back(end);
        tunnel
    }

    /// Ends a tunnel for good, and accounts for it.
    fn remove(&mut self, slot: usize, now: Instant) {
        self.tell(slot);
        let tunnel = self.take_out(slot);
        caught("the end of a tunnel", || account_for(*tunnel, &self.log, now));
        self.count_down();
    }

    fn count_down(&mut self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        if before == 1 {
            self.changes.tell();
        }
        self.most = self.most.max(before);
        if self.most >= cached::MANY && before <= self.most / 4 {
            self.most = before;
            cached::give_back();
        }
    }
}

/// Closes a tunnel, counts and logs its end, and tells its hooks.
fn account_for(tunnel: Tunnel, log: &AccessLog, now: Instant) {
    let Tunnel { mut pair, record, .. } = tunnel;
    let since = pair.since();
    let inspector = pair.take_inspector();
    let reattached = pair.reattached();
    let ending = Ending::new(pair.reason(), pair.close_code(), reattached, since, now, |side| pair.passed(side));
    // Client and backend do not wait for hooks.
    pair.say_goodbye();
    drop(pair);
    record.metrics.ended(ending.reason.as_str(), ending.reason.by(), ending.close_code);
    let Some(inspector) = inspector else { return record.log_end(log, &ending, &[]) };
    let [from_client, from_backend] = ending.passed.into_array();
    let closed = Closed::new(
        ending.reason.as_str(),
        ending.close_code,
        ending.lasted,
        [from_client.0, from_backend.0],
        [from_client.1, from_backend.1],
    );
    let log = log.clone();
    inspector.farewell(closed, move |added| record.log_end(&log, &ending, added));
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
/// Tunnels that are looked at in one turn, at the most: each may have a Ping or a Close frame for both sides, all of
/// which are sent in the next turn.
const CHECKED_AT_ONCE: usize = 256;

#[cfg(test)]
mod tests;
