//! Commands for many tunnels of a worker: ends, rules, items of hooks, freezing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::OpenTunnels;
use crate::hook::{Item, To, TunnelId};
use crate::tunnel::inspect::{Outcome, Travels};
use crate::tunnel::reason::Reason;
use crate::tunnel::worker::commands::Look;
use crate::tunnel::worker::frozen::{self, Batch, Frozen};
use crate::tunnel::worker::rule::{self, Judged, Rule, later};
use crate::tunnel::worker::tunnel::{Scope, caught};
use crate::ws::{Side, Sides};

impl OpenTunnels {
    /// Shows every tunnel.
    pub(in crate::tunnel::worker) fn visit(&self, look: &Look, now: Instant) {
        for (_, tunnel) in &self.slots {
            caught("a look at a tunnel", || look(&tunnel.record, now.saturating_duration_since(tunnel.since)));
        }
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

    /// Lets a rule decide over every tunnel, and keeps it for tunnels that open later.
    pub(in crate::tunnel::worker) fn judge(&mut self, rule: Arc<Rule>, now: Instant) -> Judged {
        let (judged, touched) = rule::judge(&*rule, &mut self.slots, now);
        for slot in touched.changed {
            self.set_deadline(slot);
            self.queue(slot);
        }
        touched.broken.into_iter().for_each(|slot| self.remove(slot, now));
        self.rule = Some(rule);
        judged
    }

    /// Carries an item of a hook to the tunnels meant; returns how many took it.
    pub(in crate::tunnel::worker) fn deliver(&mut self, to: &To, item: &Item, now: Instant) -> usize {
        let meant = self.directory.meant(to, |slot| &*self.slots[slot].record.route);
        let took = |slot| self.act_on(slot, now, |tunnel| tunnel.pair.inject(item, now)).unwrap_or(false);
        meant.into_iter().map(took).filter(|took| *took).count()
    }

    /// Acts on the outcome of a hook's call that waited. The hooks of a tunnel that has ended since know of the end
    /// already.
    pub(in crate::tunnel::worker) fn hear(&mut self, id: TunnelId, outcome: Outcome, now: Instant) {
        if let Some(slot) = self.directory.find(id) {
            self.act_on(slot, now, |tunnel| tunnel.pair.heard(outcome, now, &tunnel.record.metrics));
            self.changes.tell();
        }
    }

    /// Takes tunnels off between two turns, when each is consistent: all that was read is written or kept.
    pub(in crate::tunnel::worker) fn freeze(&mut self, most: usize, with_tls: bool) -> Batch {
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
