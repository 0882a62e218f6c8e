//! Judging: a rule decides over every tunnel of a worker, in slices between its turns.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::rule::{Judged, RuleVerdict, TunnelRule, later, share, verdict};
use super::tunnel::Tunnel;
use crate::slots::Slots;
use crate::tunnel::reason::Reason;

/// A rule on its way over the tunnels that were open when it came: first it decides over each of them, then the ends
/// are announced, which are spread over a time that is known for their number alone.
///
/// Tunnels that open meanwhile are judged as they open, and left out here. Bounds: a number for each slot that was in
/// use when it began.
pub(super) struct Judging {
    rule: Arc<TunnelRule>,
    /// Moment at which the rule came. Times over which ends are spread begin here.
    came: Instant,
    /// Slots to be judged yet.
    left: Range<usize>,
    /// Slots of tunnels that opened since the rule came.
    newcomers: BTreeSet<usize>,
    /// Ends to be announced, by the time over which they are spread, and the name of their reason.
    ends: BTreeMap<(Duration, &'static str), Ends>,
    judged: Judged,
    done: oneshot::Sender<Judged>,
}

/// Ends of tunnels for the same reason, spread over the same time.
struct Ends {
    reason: Reason,
    slots: Vec<usize>,
    /// Number of them that have been announced.
    announced: usize,
}

/// State of a tunnel after a step.
pub(super) enum Stepped {
    /// The tunnel goes on as before.
    Untouched,
    /// Its next deadline may have changed.
    Changed,
    /// Code of the gateway panicked on it: it has something to write.
    Failed,
    /// The gateway can only drop it.
    Broken,
}

impl Judging {
    /// Begins to judge the tunnels in slots up to `end`. The counts are told to `done`.
    pub(super) fn begin(rule: Arc<TunnelRule>, end: usize, now: Instant, done: oneshot::Sender<Judged>) -> Self {
        let (newcomers, ends, judged) = (BTreeSet::new(), BTreeMap::new(), Judged::default());
        Self { rule, came: now, left: 0..end, newcomers, ends, judged, done }
    }

    /// Notes that a tunnel opened in a slot.
    pub(super) fn leave_out(&mut self, slot: usize) {
        if slot < self.left.end {
            self.newcomers.insert(slot);
        }
    }

    /// Judges the next tunnel, or announces the next end; returns the slot. `None` once nothing is left to be done.
    pub(super) fn step(&mut self, tunnels: &mut Slots<Box<Tunnel>>, now: Instant) -> Option<(usize, Stepped)> {
        let (slot, end) = match self.left.next() {
            Some(slot) => (slot, None),
            None => self.next_end()?,
        };
        let is_meant = !self.newcomers.contains(&slot);
        let tunnel = tunnels.get_mut(slot).filter(|tunnel| is_meant && !tunnel.pair.is_ending());
        let stepped = match (tunnel, end) {
            (None, _) => Stepped::Untouched,
            (Some(tunnel), None) => self.judge(slot, tunnel, now),
            (Some(tunnel), Some((at, reason))) => {
                tunnel.pair.plan_change(at, reason);
                Stepped::Changed
            }
        };
        Some((slot, stepped))
    }

    /// Tells the counts.
    pub(super) fn finish(self) {
        // Nobody may wait for them any more.
        let _ = self.done.send(self.judged);
    }

    fn judge(&mut self, slot: usize, tunnel: &mut Tunnel, now: Instant) -> Stepped {
        match tunnel.guarded(now, |tunnel| verdict(&*self.rule, tunnel)) {
            Ok(Some(RuleVerdict::Keep)) => self.judged.called_off += usize::from(tunnel.pair.call_off_change()),
            Ok(Some(RuleVerdict::End { reason, over })) => {
                match reason {
                    Reason::Rehomed => self.judged.rehomed += 1,
                    _ => self.judged.changed += 1,
                }
                let in_time = |(at, why): (Instant, Reason)| why == reason && at <= later(self.came, over);
                if !tunnel.pair.changing().is_some_and(in_time) {
                    let ends = self.ends.entry((over, reason.as_str()));
                    ends.or_insert_with(|| Ends { reason, slots: Vec::new(), announced: 0 }).slots.push(slot);
                }
            }
            Ok(None) => return Stepped::Failed,
            Err(_broken) => return Stepped::Broken,
        }
        Stepped::Untouched
    }

    /// The next end to be announced: slot, moment and reason.
    fn next_end(&mut self) -> Option<(usize, Option<(Instant, Reason)>)> {
        let mut first = self.ends.first_entry()?;
        let ((over, _), ends) = (*first.key(), first.get_mut());
        let (place, count) = (ends.announced, ends.slots.len());
        let end = (ends.slots[place], Some((later(self.came, over.mul_f64(share(place, count))), ends.reason)));
        ends.announced += 1;
        if ends.announced == count {
            first.remove();
        }
        Some(end)
    }
}
