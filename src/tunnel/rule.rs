//! Which tunnels a change of the configuration ends, and how they are told.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reason::Reason;
use super::record::Record;
use super::worker::{Tunnel, Worker};

/// What decides over tunnels after a change of the configuration. Called on the workers' threads: it must not block.
pub type Rule = dyn Fn(&Standing<'_>) -> Verdict + Send + Sync;

/// A tunnel as a rule sees it.
pub struct Standing<'t> {
    /// Who is connected with whom.
    pub record: &'t Record,
    /// Why it is to end for an earlier change, where that has been announced and has not begun.
    pub announced: Option<Reason>,
    /// It opens at this moment; its handshake was under way when the rule came, or began since.
    pub opening: bool,
}

/// What becomes of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays. What an earlier change announced, and what has not begun, is called off.
    Keep,
    /// It ends. What was announced before for the same reason stays as it was, unless it would now be too late.
    End {
        /// Why: [`Reason::Changed`] or [`Reason::Rehomed`].
        reason: Reason,
        /// Tunnels that end for the same reason within the same time are spread evenly over it.
        over: Duration,
    },
}

/// What became of the tunnels that a rule was asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// How many are to end for [`Reason::Changed`].
    pub changed: usize,
    /// How many are to end for [`Reason::Rehomed`].
    pub rehomed: usize,
    /// How many had been told to end, and stay after all.
    pub called_off: usize,
}

impl AddAssign for Judged {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.rehomed += other.rehomed;
        self.called_off += other.called_off;
    }
}

impl Worker {
    /// Judges every tunnel that is not ending yet, and keeps the rule.
    pub(super) fn judge(&mut self, rule: Arc<Rule>, now: Instant) -> Judged {
        let mut judged = Judged::default();
        let mut told: Vec<(Duration, Reason, usize)> = Vec::new();
        for (slot, tunnel) in self.tunnels.iter_mut().filter(|(_, tunnel)| !tunnel.pair.is_ending()) {
            match verdict(&*rule, tunnel) {
                Verdict::Keep => judged.called_off += usize::from(tunnel.pair.call_off_change()),
                Verdict::End { reason, over } => {
                    match reason {
                        Reason::Rehomed => judged.rehomed += 1,
                        _ => judged.changed += 1,
                    }
                    let in_time = |(at, why): (Instant, Reason)| why == reason && at <= now + over;
                    if !tunnel.pair.changing().is_some_and(in_time) {
                        told.push((over, reason, slot));
                    }
                }
            }
        }
        told.sort_by_key(|(over, reason, _)| (*over, reason.as_str()));
        for group in told.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            for (share, (over, reason, slot)) in spread(group.len()).zip(group) {
                self.tunnels[*slot].pair.plan_change(now + over.mul_f64(share), *reason);
            }
        }
        if !told.is_empty() {
            self.check_by(Some(now));
        }
        self.rule = Some(rule);
        judged
    }
}

/// Asks about a tunnel that opens: its handshake may have begun under another configuration.
pub(super) fn judge_opening(rule: Option<&Rule>, tunnel: &mut Tunnel, now: Instant) {
    let Some(rule) = rule else { return };
    let standing = Standing { record: &tunnel.record, announced: None, opening: true };
    if let Verdict::End { reason, over } = rule(&standing) {
        tunnel.pair.plan_change(now + over.mul_f64(rand::random()), reason);
    }
}

/// Asks once more about a tunnel whose end is due: what it was to make room for, or to go to, may be gone.
pub(super) fn judge_again(rule: Option<&Rule>, tunnel: &mut Tunnel, now: Instant) {
    let due = tunnel.pair.changing().is_some_and(|(at, _)| now >= at);
    if due && rule.is_some_and(|rule| verdict(rule, tunnel) == Verdict::Keep) {
        tunnel.pair.call_off_change();
    }
}

fn verdict(rule: &Rule, tunnel: &Tunnel) -> Verdict {
    let announced = tunnel.pair.changing().map(|(_, reason)| reason);
    rule(&Standing { record: &tunnel.record, announced, opening: false })
}

/// Shares of a window for so many tunnels: one slot of it each, and a random moment within the slot.
pub(super) fn spread(count: usize) -> impl Iterator<Item = f64> {
    (0..count).map(move |place| (place as f64 + rand::random::<f64>()) / count as f64)
}

#[cfg(test)]
mod tests;
