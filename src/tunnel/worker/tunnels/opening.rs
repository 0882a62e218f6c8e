//! The beginning of a tunnel on its worker: its pair, its hooks, and the ends that were announced before it opened.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use log::error;
use mio::Interest;

use super::{OpenTunnels, token_of};
use crate::tunnel::activity::UnderWay;
use crate::tunnel::inspect::Inspector;
use crate::tunnel::new_tunnel::NewTunnel;
use crate::tunnel::pair::{Pair, Sealing};
use crate::tunnel::reason::Reason;
use crate::tunnel::record::Record;
use crate::tunnel::worker::rule;
use crate::tunnel::worker::tunnel::Tunnel;
use crate::ws::{Side, Sides};

impl OpenTunnels {
    /// Counts a tunnel whose handshake was made here, and opens it.
    pub(in crate::tunnel::worker) fn open_own(&mut self, new: Box<NewTunnel>, under_way: UnderWay, now: Instant) {
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(under_way);
        self.open(new, now);
    }

    /// Opens a tunnel that is counted already.
    pub(in crate::tunnel::worker) fn open(&mut self, new: Box<NewTunnel>, now: Instant) {
        self.changes.tell();
        let NewTunnel { client, backend, early, limits, record, kept, hooks } = *new;
        let inspector = match (hooks, &self.caller) {
            (None, _) => None,
            (Some(hooks), Some(caller)) => Some(Inspector::new(hooks, Arc::clone(caller), limits.max_message)),
            (Some(_), None) => {
                self.count_down();
                return error!("a tunnel with hooks is refused: there is no runtime to call them on");
            }
        };
        let watched = Sides::new(client.watched, backend.watched);
        let jitter = limits.max_age.map_or(0.0, |_| rand::random_range(0.0..0.1));
        let mut pair = Pair::new(client.stream, backend.stream, limits, jitter, now);
        record.opened(&self.log);
        if let Some(inspector) = inspector {
            pair.watch(Box::new(inspector));
        }
        if let Some(kept) = kept {
            pair.reattach_with(Arc::from(kept), now);
        }
        if self.rates.are_on()
            && let Some(given) = self.rates.of(&record, &self.keys)
        {
            pair.limit_rates(given, self.keys.start(), now);
        }
        let (late_end, rule) = (self.late_end(&record, now), self.rule.as_deref());
        let mut tunnel = Box::new(Tunnel::new(pair, record));
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
    pub(super) fn late_end(&self, record: &Record, now: Instant) -> Option<(Instant, Reason)> {
        match self.ending {
            Some((by, reason)) => Some((now + by.saturating_duration_since(now).mul_f64(rand::random()), reason)),
            None => record.backend().is_draining().then_some((now, Reason::BackendDrained)),
        }
    }

    /// Adds a tunnel's sockets to the poller, and the tunnel to the queue where it has something to do.
    pub(in crate::tunnel::worker) fn take_on(&mut self, tunnel: Box<Tunnel>, watched: Sides<bool>) -> usize {
        tunnel.counted_open().inc();
        let slot = self.slots.insert(|_| tunnel);
        if let Some(judging) = &mut self.judging {
            judging.leave_out(slot);
        }
        let Tunnel { pair, watched_for_room, .. } = &mut *self.slots[slot];
        let registered = Side::ALL.into_iter().try_for_each(|side| {
            // A socket that has room would be reported at once, for nothing. TLS writes of its own accord.
            watched_for_room[side] = pair.takes_no_more(side) || pair.stream(side).sealing() != Sealing::None;
            let interest = interest(watched_for_room[side]);
            let (stream, token) = (pair.stream_mut(side), token_of(slot, side));
            // Either way readiness that is there already is reported.
            if watched[side] {
                self.registry.reregister(stream, token, interest)
            } else {
                self.registry.register(stream, token, interest)
            }
        });
        if let Err(error) = registered {
            error!("a tunnel could not be registered with the poller and ends: {error}");
            self.remove(slot, Instant::now());
            return slot;
        }
        self.enter(slot);
        self.set_deadline(slot);
        if !self.slots[slot].pair.is_untouched() {
            self.queue(slot);
        }
        slot
    }

    /// Makes the poller watch the sides of a tunnel that take no more for room, from then on for good.
    pub(super) fn watch_for_room(&mut self, slot: usize, now: Instant) {
        let Some(tunnel) = self.slots.get_mut(slot) else { return };
        for side in Side::ALL {
            if !tunnel.pair.takes_no_more(side) || tunnel.watched_for_room[side] {
                continue;
            }
            tunnel.watched_for_room[side] = true;
            // Room that is there by now is reported.
            let stream = tunnel.pair.stream_mut(side);
            if let Err(error) = self.registry.reregister(stream, token_of(slot, side), interest(true)) {
                error!("a tunnel's socket could not be watched for room and the tunnel ends: {error}");
                return self.remove(slot, now);
            }
        }
    }

    /// Registers a tunnel with hooks in the directory and lets this worker call its hooks.
    pub(in crate::tunnel::worker) fn enter(&mut self, slot: usize) {
        let Some(tunnel) = self.slots.get_mut(slot) else { return };
        if let (Some(inspector), Some(caller)) = (tunnel.pair.inspector_mut(), &self.caller) {
            inspector.move_to(caller);
            self.directory.enter(inspector.tunnel(), slot);
        }
    }

    /// Tells the hooks of a tunnel that it is open.
    pub(in crate::tunnel::worker) fn open_hooks(&mut self, slot: usize, now: Instant) {
        let inspector = self.slots.get(slot).and_then(|tunnel| tunnel.pair.inspector());
        if inspector.is_some_and(|inspector| !inspector.knows()) {
            self.act_on(slot, now, |tunnel| tunnel.pair.open_hooks(now, &tunnel.record.metrics));
        }
    }
}

/// Readiness of a socket that the poller watches for.
pub(super) fn interest(for_room: bool) -> Interest {
    if for_room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}
