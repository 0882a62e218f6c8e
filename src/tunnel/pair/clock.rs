//! Limits in time of a pair, its Pings, and ends that were announced for later.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Announced, End, Flow, NO_PLANS, Pair, Pinging, Plans, Reason, Side};
use crate::tunnel::deadlines::earlier;

/// Result of a look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) enum Checked {
    /// Nothing is due.
    Fine,
    /// The pair has something to write.
    Changed,
    /// The pair is to be dropped as it is.
    Expired,
}

impl<E: End> Pair<E> {
    /// Ends the tunnel at a later moment.
    pub(in crate::tunnel) fn plan_end(&mut self, at: Instant, reason: Reason) {
        if self.plans().planned.is_none_or(|(earlier, _)| at < earlier) {
            self.plans_mut().planned = Some((at, reason));
        }
    }

    /// Ends the tunnel at a later moment for an operator, whose Close frames have `words` for their reason text. Tells
    /// whether it ends by then, where its end has not begun.
    pub(in crate::tunnel) fn plan_close(&mut self, at: Instant, reason: Reason, words: Option<&Arc<str>>) -> bool {
        if self.is_ending() {
            return false;
        }
        self.plan_end(at, reason);
        let plans = self.plans_mut();
        if plans.planned == Some((at, reason)) {
            plans.words = words.cloned();
        }
        true
    }

    /// Moment at which the tunnel opened, in another process perhaps.
    pub(in crate::tunnel) fn since(&self) -> Instant {
        self.since.into()
    }

    /// Tells whether the pair has nothing to do before the poller or the clock says so.
    pub(in crate::tunnel) fn is_untouched(&self) -> bool {
        !self.is_special && self.reason.is_none() && self.flows.iter().all(Flow::is_untouched)
    }

    /// Time since bytes last came, from either side.
    pub(in crate::tunnel) fn idle_for(&self, now: Instant) -> Duration {
        let heard = self.ends[Side::Client].heard.max(self.ends[Side::Backend].heard);
        now.saturating_duration_since(heard)
    }

    /// Moment and reason of the end that was announced, or has begun.
    pub(in crate::tunnel) fn announced(&self) -> Option<(Instant, Reason)> {
        let Plans { planned, changing, deadline, .. } = *self.plans();
        match deadline {
            Some(at) => Some((at, self.reason())),
            None => [planned, changing].into_iter().flatten().min_by_key(|(at, _)| *at),
        }
    }

    /// Calls an end off that was planned for this reason and has not begun.
    pub(in crate::tunnel) fn spare(&mut self, reason: Reason) {
        if let Some(rare) = &mut self.rare {
            rare.plans.planned.take_if(|(_, planned)| *planned == reason);
        }
    }

    /// Ends the tunnel at a later moment for a change of the configuration, instead of what an earlier change
    /// announced.
    pub(in crate::tunnel) fn plan_change(&mut self, at: Instant, reason: Reason) {
        self.plans_mut().changing = Some((at, reason));
    }

    /// Moment and reason of the end that a change of the configuration announced; `None` once the end has begun.
    pub(in crate::tunnel) fn changing(&self) -> Option<(Instant, Reason)> {
        self.plans().changing.filter(|_| !self.is_ending())
    }

    /// Calls off what [`plan_change`](Self::plan_change) announced; says whether something was.
    pub(in crate::tunnel) fn call_off_change(&mut self) -> bool {
        self.changing().is_some() && self.plans_mut().changing.take().is_some()
    }

    /// Tells whether the tunnel is to end, now or at a moment that was announced for good.
    pub(in crate::tunnel) fn is_to_end(&self) -> bool {
        self.is_ending() || self.plans().planned.is_some()
    }

    /// Tells whether the end of the tunnel has begun.
    pub(in crate::tunnel) fn is_ending(&self) -> bool {
        self.plans().deadline.is_some()
    }

    /// Moments at which the tunnel ends.
    pub(super) fn plans(&self) -> &Plans {
        self.rare.as_ref().map_or(&NO_PLANS, |rare| &rare.plans)
    }

    /// The same, to be changed.
    pub(super) fn plans_mut(&mut self) -> &mut Plans {
        &mut self.rare.get_or_insert_default().plans
    }

    /// Applies the limits that have to do with time; says whether the pair is to be driven, or dropped.
    pub(in crate::tunnel) fn check(&mut self, now: Instant) -> Checked {
        if let Some(deadline) = self.plans().deadline {
            return match now >= deadline {
                true => Checked::Expired,
                false if self.may_resume(now) => Checked::Changed,
                false => Checked::Fine,
            };
        }
        if let Some(reason) = self.overdue(now) {
            if !(self.is_special && self.leave(reason, now)) {
                self.end(reason, now);
            }
            return Checked::Changed;
        }
        if self.is_special && self.check_between(now) {
            return Checked::Changed;
        }
        let has_pinged = self.send_pings(now);
        if has_pinged || self.may_resume(now) { Checked::Changed } else { Checked::Fine }
    }

    fn overdue(&self, now: Instant) -> Option<Reason> {
        let passed = |moment: Option<Instant>| moment.is_some_and(|moment| now >= moment);
        let announced = |end: Option<Announced>| end.filter(|(at, _)| now >= *at).map(|(_, reason)| reason);
        let Plans { planned, changing, .. } = *self.plans();
        match announced(planned).or_else(|| announced(changing)) {
            Some(reason) => Some(reason),
            _ if passed(self.too_old()) => Some(Reason::MaxAge),
            _ if passed(self.idle_at()) => Some(Reason::Idle),
            _ if passed(self.stalled_at(Side::Client)) => Some(Reason::Stalled { side: Side::Client }),
            _ if passed(self.stalled_at(Side::Backend)) => Some(Reason::Stalled { side: Side::Backend }),
            _ if Side::ALL.into_iter().any(|side| self.pinged(side) && passed(self.ping_at(side))) => {
                Some(Reason::PingTimeout)
            }
            _ => None,
        }
    }

    /// Tells whether the time has come in which the client sends no more than its rates allow.
    fn may_resume(&self, now: Instant) -> bool {
        self.resumes_at().is_some_and(|at| now >= at)
    }

    fn pinged(&self, side: Side) -> bool {
        self.ends[side].pinged().is_some()
    }

    fn send_pings(&mut self, now: Instant) -> bool {
        let mut sent = false;
        for side in Side::ALL {
            if self.pinged(side) || self.ping_at(side).is_none_or(|at| now < at) {
                continue;
            }
            let legal = self.flows[side.other()].ping();
            let pinging = if legal {
                Pinging { sent: Some(now), not_before: now }
            } else {
                Pinging { sent: None, not_before: now + PING_AGAIN }
            };
            self.ends[side].pinging = Some(Box::new(pinging));
            sent |= legal;
        }
        sent
    }

    /// Moment at which the tunnel has lived long enough; `None` without a limit, or where that cannot be told.
    pub(super) fn too_old(&self) -> Option<Instant> {
        self.since().checked_add(self.lifetime?.duration())
    }

    /// Moment at which the tunnel counts as idle. A tunnel that is closed one way is not given a day for the other.
    fn idle_at(&self) -> Option<Instant> {
        if self.is_throttled(Side::Client) {
            // It has sent more than was let pass.
            return None;
        }
        let heard = self.ends.iter().map(|leg| leg.heard).max()?;
        let half_closed = self.flows.iter().any(|flow| flow.ended);
        let limit = match self.limits.idle() {
            Some(idle) if half_closed => Some(idle.min(HALF_CLOSED_IDLE)),
            None if half_closed => Some(HALF_CLOSED_IDLE),
            idle => idle,
        };
        limit.map(|limit| heard + limit)
    }

    /// Moment at which `side` has taken nothing for too long of what is kept for it.
    fn stalled_at(&self, side: Side) -> Option<Instant> {
        if self.is_special && side == Side::Backend && self.is_between_backends() {
            return None;
        }
        Some(self.flows[side.other()].refused_since()? + self.limits.stall()?)
    }

    /// Moment at which `side` is to be sent a Ping, or at which it must have answered one.
    fn ping_at(&self, side: Side) -> Option<Instant> {
        let ping = self.limits.ping()?;
        if self.is_special && side == Side::Backend && self.is_between_backends() {
            return None;
        }
        let from = &self.flows[side];
        // A side that ended its stream cannot answer, and one that is not read now may have.
        if from.ended || !from.kept().is_empty() || self.is_held_up(side) || self.is_throttled(side) {
            return None;
        }
        let leg = &self.ends[side];
        match leg.pinged() {
            Some(at) => Some(at + ping),
            None if self.flows[side.other()].takes_pings() => {
                let due = leg.heard + ping;
                Some(leg.pinging.as_ref().map_or(due, |pinging| due.max(pinging.not_before)))
            }
            None => None,
        }
    }

    /// The next moment at which [`check`](Self::check) may have something to do.
    pub(in crate::tunnel) fn due(&self) -> Option<Instant> {
        let Plans { planned, changing, deadline, .. } = *self.plans();
        if deadline.is_some() {
            return deadline.into_iter().chain(self.resumes_at()).min();
        }
        // One after the other: a list of them all takes three times as long, in every handshake.
        let mut due = earlier(self.too_old(), self.idle_at());
        for side in Side::ALL {
            due = earlier(due, earlier(self.ping_at(side), self.stalled_at(side)));
        }
        for end in [planned, changing] {
            due = earlier(due, end.map(|(at, _)| at));
        }
        earlier(due, earlier(self.resumes_at(), self.between_due()))
    }

    /// Tells whether [`due`](Self::due) may have come nearer since this was last asked, or a side has become
    /// [full](Self::takes_no_more).
    pub(in crate::tunnel) fn take_nearer(&mut self) -> bool {
        std::mem::take(&mut self.nearer)
    }
}

/// The idle limit of a tunnel that is closed one way, where `idle` is not shorter.
const HALF_CLOSED_IDLE: Duration = Duration::from_secs(60);
/// Time after which a Ping is tried again that was not legal because the stream stood inside a frame.
const PING_AGAIN: Duration = Duration::from_secs(1);
