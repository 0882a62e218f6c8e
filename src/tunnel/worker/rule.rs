//! Rules: a change of the configuration decides which tunnels end, and when.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::tunnel::Tunnel;
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

/// Decision over an open tunnel.
pub(super) fn verdict(rule: &TunnelRule, tunnel: &Tunnel) -> RuleVerdict {
    let announced = tunnel.pair.changing().map(|(_, reason)| reason);
    rule(&Standing { record: &tunnel.record, announced, opening: false })
}

/// Shares of a window for `count` tunnels: a random moment within a slot of its own for each.
pub(super) fn spread(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |place| share(place, count))
}

/// Share of a window for one of `count` tunnels, by its place among them.
pub(super) fn share(place: usize, count: usize) -> f64 {
    (place as f64 + rand::random::<f64>()) / count as f64
}

/// Longer than any process runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests;
