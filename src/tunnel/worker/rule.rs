//! Rules: a change of the configuration decides which tunnels end, and when.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::tunnel::Tunnel;
use crate::slots::Slots;
use crate::tunnel::reason::Reason;
use crate::tunnel::record::Record;

/// A decision over tunnels after a change of the configuration. Called on the workers' threads: it must not block.
pub type TunnelRule = dyn Fn(&Standing<'_>) -> RuleVerdict + Send + Sync;

/// A tunnel as a rule sees it.
pub struct Standing<'t> {
    /// Identity of the tunnel.
    pub record: &'t Record,
    /// Reason of an end that an earlier change announced and that has not begun.
    pub announced: Option<Reason>,
    /// The tunnel opens at this moment; its handshake was under way when the rule came, or began since.
    pub opening: bool,
}

/// Decision over a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleVerdict {
    /// The tunnel stays. An end that an earlier change announced and that has not begun is called off.
    Keep,
    /// The tunnel ends. An end announced before for the same reason stays as it is, unless that is too late now.
    End {
        /// [`Reason::Changed`], [`Reason::BackendDrained`] or [`Reason::Rehomed`].
        reason: Reason,
        /// Time over which the tunnels that end for the same reason within the same time are spread evenly.
        over: Duration,
    },
}

/// Counts of the decisions of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Tunnels that are to end for [`Reason::Changed`] or [`Reason::BackendDrained`].
    pub changed: usize,
    /// Tunnels that are to end for [`Reason::Rehomed`].
    pub rehomed: usize,
    /// Tunnels whose announced end was called off.
    pub called_off: usize,
}

impl AddAssign for Judged {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.rehomed += other.rehomed;
        self.called_off += other.called_off;
    }
}

/// Slots of tunnels that a rule touched.
#[derive(Default)]
pub(super) struct Touched {
    /// Tunnels whose next deadline may have changed.
    pub(super) changed: Vec<usize>,
    /// Tunnels that the gateway can only drop.
    pub(super) broken: Vec<usize>,
}

/// Judges every tunnel that is not ending yet.
pub(super) fn judge(rule: &TunnelRule, tunnels: &mut Slots<Box<Tunnel>>, now: Instant) -> (Judged, Touched) {
    let (mut judged, mut touched) = (Judged::default(), Touched::default());
    let mut told: Vec<(Duration, Reason, usize)> = Vec::new();
    for (slot, tunnel) in tunnels.iter_mut().filter(|(_, tunnel)| !tunnel.pair.is_ending()) {
        match tunnel.guarded(now, |tunnel| verdict(rule, tunnel)) {
            Ok(Some(RuleVerdict::Keep)) => judged.called_off += usize::from(tunnel.pair.call_off_change()),
            Ok(Some(RuleVerdict::End { reason, over })) => {
                match reason {
                    Reason::Rehomed => judged.rehomed += 1,
                    _ => judged.changed += 1,
                }
                let in_time = |(at, why): (Instant, Reason)| why == reason && at <= later(now, over);
                if !tunnel.pair.changing().is_some_and(in_time) {
                    told.push((over, reason, slot));
                }
            }
            Ok(None) => touched.changed.push(slot),
            Err(_broken) => touched.broken.push(slot),
        }
    }
    told.sort_by_key(|(over, reason, _)| (*over, reason.as_str()));
    for group in told.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        for (share, (over, reason, slot)) in spread(group.len()).zip(group) {
            tunnels[*slot].pair.plan_change(later(now, over.mul_f64(share)), *reason);
            touched.changed.push(*slot);
        }
    }
    (judged, touched)
}

/// The moment after `time`; the latest that can be told where that overflows.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).or_else(|| now.checked_add(FOR_EVER)).unwrap_or(now)
}

/// Asks about a tunnel that opens. Its handshake may have begun under another configuration.
pub(super) fn judge_opening(rule: Option<&TunnelRule>, tunnel: &mut Tunnel, now: Instant) {
    let Some(rule) = rule else { return };
    let standing = Standing { record: &tunnel.record, announced: None, opening: true };
    if let RuleVerdict::End { reason, over } = rule(&standing) {
        tunnel.pair.plan_change(later(now, over.mul_f64(rand::random())), reason);
    }
}

/// Asks once more about a tunnel whose end is due: the reason for it may be gone.
pub(super) fn judge_again(rule: Option<&TunnelRule>, tunnel: &mut Tunnel, now: Instant) {
    let due = tunnel.pair.changing().is_some_and(|(at, _)| now >= at);
    if due && rule.is_some_and(|rule| verdict(rule, tunnel) == RuleVerdict::Keep) {
        tunnel.pair.call_off_change();
    }
}

fn verdict(rule: &TunnelRule, tunnel: &Tunnel) -> RuleVerdict {
    let announced = tunnel.pair.changing().map(|(_, reason)| reason);
    rule(&Standing { record: &tunnel.record, announced, opening: false })
}

/// Shares of a window for `count` tunnels: a random moment within a slot of its own for each.
pub(super) fn spread(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |place| (place as f64 + rand::random::<f64>()) / count as f64)
}

/// Longer than any process runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests;
