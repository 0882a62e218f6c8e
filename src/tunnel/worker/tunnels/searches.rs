//! Searches for the next backends of tunnels that are held, and their outcomes.

use std::time::Instant;

use log::{debug, warn};

use super::opening::interest;
use super::{OpenTunnels, token_of};
use crate::socket::keepalive;
use crate::tunnel::accept::Socket;
use crate::tunnel::pair::{TunnelStream, Wanted};
use crate::tunnel::reattach::{Asking, Attached, ReattachOutcome, SearchOutcome};
use crate::tunnel::worker::rule;
use crate::tunnel::worker::seen::Spot;
use crate::tunnel::worker::tunnel::Tunnel;
use crate::ws::Side;

/// Searches that have yet to begin, or to be given up; as many as there are tunnels at the most.
#[derive(Default)]
pub(super) struct Searches {
    wanted: Vec<(Spot, Asking)>,
    /// Slots of the searches for tunnels that have ended.
    given_up: Vec<(usize, Spot)>,
}

impl OpenTunnels {
    /// Tells whether there are searches to begin or to give up.
    pub(in crate::tunnel::worker) fn has_asks(&self) -> bool {
        !self.asks.wanted.is_empty() || !self.asks.given_up.is_empty()
    }

    /// Takes the searches that are to begin.
    pub(in crate::tunnel::worker) fn take_asking(&mut self) -> Vec<(Spot, Asking)> {
        std::mem::take(&mut self.asks.wanted)
    }

    /// Takes the searches that are to be given up.
    pub(in crate::tunnel::worker) fn take_given_up(&mut self) -> Vec<(usize, Spot)> {
        std::mem::take(&mut self.asks.given_up)
    }

    /// Notes the slot of a tunnel's search.
    pub(in crate::tunnel::worker) fn note_search(&mut self, spot: Spot, search: usize) {
        if let Some(tunnel) = self.in_spot(spot) {
            tunnel.pair.note_search(search);
        }
    }

    fn in_spot(&mut self, spot: Spot) -> Option<&mut Tunnel> {
        self.slots.get_mut(spot.slot).filter(|tunnel| tunnel.record.id == spot.id).map(|tunnel| &mut **tunnel)
    }

    /// Begins the search for the next backend of a tunnel.
    pub(super) fn ask(&mut self, slot: usize, now: Instant) {
        let tunnel = &mut self.slots[slot];
        let Some(Wanted { kept, loss, number, not_before, until, headers }) = tunnel.pair.want(now) else { return };
        let record = &tunnel.record;
        let asking = Asking {
            kept,
            loss,
            number,
            not_before,
            until,
            request_id: record.request_id.text(),
            client: record.client(),
            peer: record.peer(),
            route: record.route.clone(),
            upstream: record.by_hook.then(|| record.backend().upstream().into()),
            key_source: record.key_source,
            headers,
        };
        self.asks.wanted.push((Spot { slot, id: record.id }, asking));
    }

    /// Gives up the search for a tunnel that ends.
    pub(super) fn give_up_search(&mut self, slot: usize, tunnel: &Tunnel) {
        if let Some(search) = tunnel.pair.search() {
            self.asks.given_up.push((search, Spot { slot, id: tunnel.record.id }));
        }
    }

    /// Goes on with the backend that a search found, or ends the tunnel. A tunnel that has ended since lets go of it.
    pub(in crate::tunnel::worker) fn asked(&mut self, spot: Spot, asked: SearchOutcome, now: Instant) {
        if !self.in_spot(spot).is_some_and(|tunnel| tunnel.pair.is_held() && !tunnel.pair.is_ending()) {
            return;
        }
        let slot = spot.slot;
        let failed = match asked {
            SearchOutcome::Attached(attached) => self.attach(slot, *attached, now),
            SearchOutcome::Failed(outcome) => Err(outcome),
        };
        if let Err(outcome) = failed {
            self.act_on(slot, now, |tunnel| tunnel.pair.not_reattached(outcome, now));
        }
        self.tell(slot);
    }

    /// Gives a tunnel its next backend.
    fn attach(&mut self, slot: usize, attached: Attached, now: Instant) -> Result<(), ReattachOutcome> {
        let Attached { backend, early, guard, metrics, generation } = attached;
        let stream = self.watch_next(slot, backend)?;
        let tunnel = &mut self.slots[slot];
        tunnel.counted_open().dec();
        tunnel.record.succeed(guard, metrics, generation);
        let (late_end, rule) = (self.late_end(&self.slots[slot].record, now), self.rule.clone());
        let tunnel = &mut self.slots[slot];
        let attached = tunnel.guarded(now, |tunnel| {
            tunnel.pair.attach(stream, &early, now, &tunnel.record.metrics);
            if let Some((at, reason)) = late_end {
                tunnel.pair.plan_end(at, reason);
            }
            rule::judge_opening(rule.as_deref(), tunnel, now);
        });
        tunnel.counted_open().inc();
        if attached.is_err() {
            self.remove(slot, now);
            return Ok(());
        }
        self.count_memory(slot);
        self.set_deadline(slot);
        self.queue(slot);
        Ok(())
    }

    /// Makes the poller watch the next backend's connection in place of the old one's.
    fn watch_next(&mut self, slot: usize, backend: Socket) -> Result<TunnelStream, ReattachOutcome> {
        let (mut stream, watched) = (backend.stream, backend.watched);
        let (token, interest) = (token_of(slot, Side::Backend), interest(true));
        let Tunnel { pair, watched_for_room, .. } = &mut *self.slots[slot];
        watched_for_room[Side::Backend] = true;
        // A socket that cannot be taken off the poller's list leaves it when it is closed.
        let _ = self.registry.deregister(pair.stream_mut(Side::Backend));
        let registered = match watched {
            true => self.registry.reregister(&mut stream, token, interest),
            false => self.registry.register(&mut stream, token, interest),
        };
        if let Err(error) = registered {
            warn!("a backend's connection could not be registered with the poller: {error}");
            return Err(ReattachOutcome::Fault);
        }
        let timeout = pair.tcp_user_timeout();
        if let Err(error) = keepalive::watch(pair.stream(Side::Client), &stream, timeout, timeout) {
            debug!("a tunnel's sockets cannot be watched for a lost peer: {error}");
        }
        Ok(stream)
    }

    /// Logs and counts the outcome of a tunnel's re-attachment, if there is one.
    pub(super) fn tell(&mut self, slot: usize) {
        if let Some(tunnel) = self.slots.get_mut(slot) {
            tunnel.tell(&self.log);
        }
    }
}
