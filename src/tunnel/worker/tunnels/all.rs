//! Commands for many tunnels of a worker: ends, rules, items of hooks, freezing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::OpenTunnels;
use crate::hook::{Item, To, TunnelId};
use crate::tunnel::inspect::{CallOutcome, Travels};
use crate::tunnel::rates::{RateTable, RatesInForce};
use crate::tunnel::reason::Reason;
use crate::tunnel::worker::frozen::{self, Batch, Frozen};
use crate::tunnel::worker::judging::{Judging, Stepped};
use crate::tunnel::worker::rule::{self, Judged, TunnelRule, later};
use crate::tunnel::worker::seen::{Look, Seen, Spot};
use crate::tunnel::worker::slice::Slice;
use crate::tunnel::worker::tunnel::{Scope, caught};
use crate::ws::{Side, Sides};

impl OpenTunnels {
    /// Shows tunnels from a slot on, for one slice; returns the slot to go on from, and `None` where none is left. A
    /// tunnel keeps its slot, so one that is open all the while is shown once.
    pub(in crate::tunnel::worker) fn visit(&self, look: &Look, from: usize) -> Option<usize> {
        let (now, mut slice) = (Instant::now(), Slice::begin());
        for slot in from..self.slots.end() {
            if let Some(tunnel) = self.slots.get(slot) {
                caught("a look at a tunnel", || look(&Seen::new(tunnel, slot, now)));
            }
            if slice.is_over() {
                return Some(slot + 1);
            }
        }
        None
    }

    /// Ends the tunnels in these places at the given moments, for an operator. A tunnel that has left its place is
    /// skipped. Returns the number of tunnels that were not ending already.
    pub(in crate::tunnel::worker) fn close(
        &mut self,
        ends: &[(Spot, Instant)],
        code: u16,
        words: Option<&Arc<str>>,
    ) -> usize {
        let mut closed = 0;
        for (spot, at) in ends {
            let Some(tunnel) = self.slots.get_mut(spot.slot).filter(|tunnel| tunnel.record.id == spot.id) else {
                continue;
            };
            if tunnel.pair.plan_close(*at, Reason::OperatorClosed { code }, words) {
                closed += 1;
                self.set_deadline(spot.slot);
            }
        }
        closed
    }

    /// Announces the ends of the tunnels in a scope, evenly spread over a time.
    pub(in crate::tunnel::worker) fn end(&mut self, scope: &Scope, reason: Reason, over: Duration, now: Instant) {
        if matches!(scope, Scope::All) {
            self.ending = Some((later(now, over), reason));
        }
        let chosen: Vec<usize> =
            self.slots.iter().filter(|(_, tunnel)| scope.holds(tunnel)).map(|(slot, _)| slot).collect();
        for (share, slot) in rule::spread(chosen.len()).zip(chosen) {
            self.slots[slot].pair.plan_end(later(now, over.mul_f64(share)), reason);
            self.set_deadline(slot);
        }
    }

    /// Calls off ends in a scope that were announced for a reason and have not begun.
    pub(in crate::tunnel::worker) fn spare(&mut self, scope: &Scope, reason: Reason) {
        let tunnels = self.slots.iter_mut().map(|(_, tunnel)| tunnel);
        tunnels.filter(|tunnel| scope.holds(tunnel)).for_each(|tunnel| tunnel.pair.spare(reason));
    }

    /// Begins to let a rule decide over every tunnel, and keeps it for tunnels that open from now on. The counts are
    /// told to `done`.
    pub(in crate::tunnel::worker) fn judge(
        &mut self,
        rule: Arc<TunnelRule>,
        done: oneshot::Sender<Judged>,
        now: Instant,
    ) {
        self.finish_judging(now);
        self.judging = Some(Box::new(Judging::begin(Arc::clone(&rule), self.slots.end(), now, done)));
        self.rule = Some(rule);
    }

    /// Lets a rule decide over tunnels for one slice, where there are some that it has not decided over.
    #[inline]
    pub(in crate::tunnel::worker) fn judge_on(&mut self, now: Instant) {
        if let Some(judging) = self.judging.take() {
            self.judging = self.judge_some(judging, Some(Slice::begin()), now);
        }
    }

    /// Lets a rule decide over all tunnels that are left, before something else is done to them that has to come
    /// behind it.
    fn finish_judging(&mut self, now: Instant) {
        if let Some(judging) = self.judging.take() {
            self.judge_some(judging, None, now);
        }
    }

    /// Judges tunnels until the slice is over. Returns what is left to be done.
    fn judge_some(
        &mut self,
        mut judging: Box<Judging>,
        mut slice: Option<Slice>,
        now: Instant,
    ) -> Option<Box<Judging>> {
        while let Some((slot, stepped)) = judging.step(&mut self.slots, now) {
            match stepped {
                Stepped::Untouched => {}
                Stepped::Changed => self.set_deadline(slot),
                Stepped::Failed => {
                    self.set_deadline(slot);
                    self.queue(slot);
                }
                Stepped::Broken => self.remove(slot, now),
            }
            if slice.as_mut().is_some_and(Slice::is_over) {
                return Some(judging);
            }
        }
        judging.finish();
        None
    }

    /// Holds clients to these rates, those of tunnels that open later too. A tunnel whose upstream is not among them
    /// keeps its rates.
    pub(in crate::tunnel::worker) fn limit_rates(&mut self, rates: Arc<RateTable>, now: Instant) {
        let before = std::mem::replace(&mut self.rates, rates);
        let slots = if before.are_on() || self.rates.are_on() { self.all() } else { Vec::new() };
        for slot in slots {
            if let Some(given) = self.rates.of(&self.slots[slot].record, &self.keys) {
                let start = self.keys.start();
                self.act_on(slot, now, |tunnel| tunnel.pair.limit_rates(given, start, now));
            }
        }
    }

    /// Carries an item of a hook to the tunnels meant; returns how many took it.
    pub(in crate::tunnel::worker) fn deliver(&mut self, to: &To, item: &Item, now: Instant) -> usize {
        let meant = self.directory.meant(to, |slot| &*self.slots[slot].record.route);
        let took = |slot| self.act_on(slot, now, |tunnel| tunnel.pair.inject(item, now)).unwrap_or(false);
        meant.into_iter().map(took).filter(|took| *took).count()
    }

    /// Acts on the outcome of a hook's call that waited. The hooks of a tunnel that has ended since know of the end
    /// already.
    pub(in crate::tunnel::worker) fn hear(&mut self, id: TunnelId, outcome: CallOutcome, now: Instant) {
        if let Some(slot) = self.directory.find(id) {
            self.act_on(slot, now, |tunnel| tunnel.pair.heard(outcome, now, &tunnel.record.metrics));
            self.changes.tell();
        }
    }

    /// Takes tunnels off between two turns, when each is consistent: all that was read is written or kept.
    pub(in crate::tunnel::worker) fn freeze(&mut self, most: usize, with_tls: bool, now: Instant) -> Batch {
        // What is announced goes along.
        self.finish_judging(now);
        let (slots, busy, staying) = frozen::choose(&mut self.slots, most, with_tls);
        Batch { frozen: slots.into_iter().map(|slot| self.freeze_one(slot)).collect(), busy, staying }
    }

    fn freeze_one(&mut self, slot: usize) -> Frozen {
        let mut tunnel = self.take_out(slot);
        for side in Side::ALL {
            // A socket that cannot be taken off the poller's list leaves it when its last copy is closed.
            let _ = self.registry.deregister(tunnel.pair.stream_mut(side));
        }
        self.count_down();
        Frozen::new(tunnel)
    }

    /// Takes on frozen tunnels that nobody waits for any more.
    pub(in crate::tunnel::worker) fn take_back(&mut self, batch: Batch) {
        for frozen in batch.frozen {
            self.count.fetch_add(1, Ordering::Relaxed);
            self.thaw(frozen);
        }
    }

    /// Takes on a frozen tunnel that is counted already.
    pub(in crate::tunnel::worker) fn thaw(&mut self, frozen: Frozen) {
        let (mut tunnel, now) = (frozen.into_tunnel(), Instant::now());
        tunnel.pair.forget_readiness();
        let given = self.rates.of(&tunnel.record, &self.keys);
        // What was held in another process has to pass here, whatever the rates are.
        if let Some(given) = given.or_else(|| tunnel.pair.has_crossed().then(RatesInForce::none)) {
            tunnel.pair.limit_rates(given, self.keys.start(), now);
        }
        // A rule may have come while it was off; the end that an earlier rule announced stays.
        let rule = self.rule.as_deref().filter(|_| tunnel.pair.changing().is_none());
        let judged = tunnel.guarded(now, |tunnel| rule::judge_opening(rule, tunnel, now));
        let slot = self.take_on(tunnel, Sides::default());
        match judged {
            Ok(_) => self.open_hooks(slot, now),
            Err(_broken) => self.remove(slot, now),
        }
    }

    /// Accounts for the tunnels that are cut off when the worker stops.
    pub(in crate::tunnel::worker) fn stop(&mut self, now: Instant) {
        for slot in self.all() {
            self.slots[slot].pair.stop();
            self.remove(slot, now);
        }
    }

    /// Takes every tunnel off that another worker can go on with, and ends the rest.
    pub(in crate::tunnel::worker) fn give_up(&mut self, now: Instant) -> Vec<Frozen> {
        let mut saved = Vec::new();
        // The worker may have ended in the middle of a turn.
        caught("the writes of a turn", || self.send_out(now));
        for slot in self.all() {
            // The outcome of a hook's call that is under way would be reported to this worker.
            if self.slots[slot].pair.pack(usize::MAX) == Travels::Later {
                self.slots[slot].pair.fail(now);
                self.remove(slot, now);
            } else {
                saved.extend(caught("a tunnel", || self.freeze_one(slot)));
            }
        }
        saved
    }

    fn all(&self) -> Vec<usize> {
        self.slots.iter().map(|(slot, _)| slot).collect()
    }
}
