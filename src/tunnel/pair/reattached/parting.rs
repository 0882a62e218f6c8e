//! The way from one backend to the next: leaving, the end of the old backend, and what happens when there is no next.

use std::time::{Duration, Instant};

use super::{Between, Stage, Wanted, between, between_mut};
use crate::config::Reattach;
use crate::hook::Loss;
use crate::tunnel::pair::{End, Pair, Reason, Side};
use crate::tunnel::reattach::{Holding, ReattachOutcome};
use crate::ws::frame;

impl<E: End> Pair<E> {
    /// Begins to leave the backend, instead of ending the tunnel for `reason`; returns whether it does, or did before.
    pub(in crate::tunnel::pair) fn leave(&mut self, reason: Reason, now: Instant) -> bool {
        if !is_a_leave(reason) || self.is_ending() {
            return false;
        }
        let is_between = self.is_between_backends();
        if !is_between && !self.begin(Loss::Leaving, reason, now) {
            return false;
        }
        self.forget_plans_to_leave();
        if !is_between && self.flows[Side::Client].stands_between() {
            self.cut_client(now);
        }
        true
    }

    /// Calls off what was planned for the sake of the backend that is left.
    pub(super) fn forget_plans_to_leave(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.plans.changing = None;
            rare.plans.planned.take_if(|(_, reason)| is_a_leave(*reason));
        }
    }

    /// Takes the first step from the backend to another one; returns whether the pair may be re-attached.
    fn begin(&mut self, loss: Loss, reason: Reason, now: Instant) -> bool {
        let can_follow = Side::ALL.into_iter().all(|side| {
            let flow = &self.flows[side];
            !flow.ended && !flow.is_cut() && flow.closed().is_none() && !flow.cursor().is_lost()
        });
        let ending = self.is_ending();
        let Some(reattach) = self.reattach_mut().filter(|_| can_follow && !ending) else { return false };
        let is_wanted = match loss {
            Loss::Leaving => reattach.kept.policy.on.leaving,
            Loss::GoingAway => reattach.kept.policy.on.going_away,
            Loss::Crash => reattach.kept.policy.on.crash,
        };
        if !is_wanted || !matches!(reattach.stage, Stage::Attached) {
            return false;
        }
        let is_steady = now.saturating_duration_since(reattach.since) >= STEADY;
        reattach.failures = if loss == Loss::Leaving || is_steady { 0 } else { reattach.failures + 1 };
        // The client's messages that waited for the end of a greeting wait for the next backend.
        let holding = reattach.greeting.take().map(|greeting| greeting.holding);
        let between = Between {
            loss,
            since: now,
            reason,
            holding,
            close_length: 0,
            pong: None,
            by_hooks: None,
            is_asking: false,
            dropped: false,
        };
        reattach.stage = Stage::Parting(Box::new(between));
        self.nearer = true;
        true
    }

    /// Says goodbye to the backend between two messages of the client, and holds the client from there on.
    pub(super) fn cut_client(&mut self, now: Instant) {
        let flow = &mut self.flows[Side::Client];
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let Some(between) = between_mut(&mut reattach.stage) else { return };
        let before = flow.kept().len();
        flow.keep_close(between.reason, between.reason.as_str());
        between.close_length = flow.kept().len() - before;
        between.holding.get_or_insert_with(|| Holding::new(flow.cursor().clone(), Some(Vec::new())));
        between.since = now;
        flow.hold(false);
        self.nearer = true;
    }

    /// Holds the client from where it stands, for a backend that takes nothing more. What the old one was not sent
    /// whole is for the next.
    fn hold_now(&mut self, now: Instant) {
        self.forget_written();
        let flow = &mut self.flows[Side::Client];
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let Some(between) = between_mut(&mut reattach.stage) else { return };
        let tail = reattach.tail.take();
        let dropped = tail.is_none();
        match (&mut between.holding, tail) {
            (Some(holding), Some(tail)) => holding.put_before(tail),
            (Some(_), None) => {}
            (none, tail) => {
                between.since = now;
                *none = Some(Holding::new(flow.cursor().clone(), tail));
            }
        }
        flow.hold(true);
        between.dropped |= dropped;
    }

    /// Deals with a Close frame of the backend; returns whether it goes no further.
    pub(super) fn backend_closed(&mut self, code: u16, now: Instant) -> bool {
        if self.is_held() {
            // The old backend is gone already: hooks were slow with its last message.
            return true;
        }
        if !self.is_between_backends() {
            let goes = matches!(code, 1001 | 1012) && self.begin(Loss::GoingAway, Reason::BackendClose, now);
            if !goes {
                return false;
            }
            self.answer_close(code);
        }
        self.let_go(now);
        true
    }

    /// Answers a Close frame of the backend as far as that can be done at once (RFC 6455 §5.5.1).
    fn answer_close(&mut self, code: u16) {
        let (flow, leg) = (&self.flows[Side::Client], &mut self.ends[Side::Backend]);
        if flow.kept().is_empty() && flow.cursor().at_boundary() {
            let close = frame::close(code, "", Some(rand::random()));
            // A failure changes nothing: the backend is going.
            let _ = leg.stream.write(&close);
        }
    }

    /// Deals with the end of the backend's stream; returns whether the pair goes on without it.
    pub(in crate::tunnel::pair) fn backend_ended(&mut self, now: Instant) -> bool {
        if self.is_held() {
            return true;
        }
        if !self.is_between_backends() && !self.begin(Loss::Crash, Reason::BackendGone, now) {
            return false;
        }
        self.let_go(now);
        true
    }

    /// Deals with a backend that takes nothing more; what it sent before is still read. Returns whether the pair goes
    /// on without it.
    pub(in crate::tunnel::pair) fn backend_refused(&mut self, now: Instant) -> bool {
        if self.is_held() {
            return true;
        }
        if !self.is_between_backends() && !self.begin(Loss::Crash, Reason::BackendGone, now) {
            return false;
        }
        self.hold_now(now);
        self.ends[Side::Backend].readable = true;
        true
    }

    /// Lets go of a backend that sends nothing more: from here on the client is held.
    fn let_go(&mut self, now: Instant) {
        self.hold_now(now);
        let leg = &mut self.ends[Side::Backend];
        leg.readable = false;
        leg.pinging = None;
        // A connection that is gone already needs no FIN.
        let _ = leg.stream.shutdown_write();
        let is_broken = !self.flows[Side::Backend].stands_between();
        let Some(reattach) = self.reattach_mut() else { return };
        reattach.closing = Vec::new();
        if let Stage::Parting(between) = std::mem::replace(&mut reattach.stage, Stage::Over) {
            reattach.stage = Stage::Held(between);
        }
        let failures = reattach.failures;
        if is_broken {
            self.not_reattached(ReattachOutcome::HalfMessage, now);
        } else if failures > MOST_FAILURES {
            self.not_reattached(ReattachOutcome::TooOften, now);
        } else {
            self.note_client_left(now);
        }
        self.nearer = true;
    }

    /// Ends a held pair whose client left without a message for the next backend.
    pub(in crate::tunnel::pair) fn note_client_left(&mut self, now: Instant) {
        let Some(reattach) = self.reattach() else { return };
        let Stage::Held(between) = &reattach.stage else { return };
        let is_empty = between.holding.as_ref().is_none_or(|holding| holding.len() == 0);
        if is_empty && self.flows[Side::Client].ended {
            self.reason.get_or_insert(Reason::ClientGone);
            self.call_off(ReattachOutcome::Ended, now);
        }
    }

    /// Ends a pair for which there is no next backend.
    pub(in crate::tunnel) fn not_reattached(&mut self, outcome: ReattachOutcome, now: Instant) {
        let Some(code) = self.reattach().map(|reattach| reattach.kept.policy.code) else { return };
        self.call_off(outcome, now);
        self.end(Reason::NotReattached { code }, now);
    }

    /// Gives a re-attachment up that is under way: the pair ends as any other.
    pub(in crate::tunnel::pair) fn call_off(&mut self, outcome: ReattachOutcome, now: Instant) {
        self.end_greeting();
        if !self.is_between_backends() {
            return;
        }
        let is_held = self.is_held();
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let (Stage::Parting(between) | Stage::Held(between)) = std::mem::replace(&mut reattach.stage, Stage::Over)
        else {
            return;
        };
        reattach.tail.take();
        reattach.tell(&between, outcome, now);
        let flow = &mut self.flows[Side::Client];
        if let Some(holding) = &between.holding {
            flow.stand_at(holding.cursor().clone());
        }
        if is_held {
            flow.abandon();
            self.flows[Side::Backend].ended = true;
        }
    }

    /// Follows the part of the backend's Close frame that was not passed on, when nothing is any more.
    pub(in crate::tunnel::pair) fn follow_closing(&mut self) {
        let closing = self.reattach_mut().map(|reattach| std::mem::take(&mut reattach.closing)).unwrap_or_default();
        if !closing.is_empty() {
            self.flows[Side::Backend].take(&closing, None);
        }
    }

    /// The next moment at which [`check_between`](Self::check_between) may have something to do.
    pub(in crate::tunnel::pair) fn between_due(&self) -> Option<Instant> {
        let reattach = self.reattach()?;
        if let Some(greeting) = &reattach.greeting {
            return greeting.since.checked_add(reattach.kept.policy.within);
        }
        let between = between(&reattach.stage)?;
        let within = between.since.checked_add(reattach.kept.policy.within);
        match &reattach.stage {
            Stage::Parting(_) => between.holding.as_ref().and(self.answer_due(between)).into_iter().chain(within).min(),
            // A search that is under way ends by itself.
            _ => within.filter(|_| !between.is_asking),
        }
    }

    /// Moment by which a backend that was said goodbye to has to have answered.
    fn answer_due(&self, between: &Between) -> Option<Instant> {
        between.since.max(self.ends[Side::Backend].heard).checked_add(CLOSE_WAIT)
    }

    /// Applies the limits in time of a pair between two backends; returns whether one was reached.
    pub(in crate::tunnel::pair) fn check_between(&mut self, now: Instant) -> bool {
        if self.check_greeting(now) {
            return true;
        }
        let Some(reattach) = self.reattach() else { return false };
        let Some(between) = between(&reattach.stage) else { return false };
        let Reattach { within, on, .. } = reattach.kept.policy;
        if !between.is_asking && now.saturating_duration_since(between.since) >= within {
            self.not_reattached(ReattachOutcome::Unfinished, now);
            return true;
        }
        let is_silent = matches!(reattach.stage, Stage::Parting(_))
            && between.holding.is_some()
            // A client that takes nothing keeps the backend from being read.
            && self.flows[Side::Backend].kept().is_empty()
            && self.answer_due(between).is_some_and(|due| now >= due);
        if !is_silent {
            return false;
        }
        if !on.crash {
            self.not_reattached(ReattachOutcome::Unfinished, now);
        } else {
            if let Some(between) = self.reattach_mut().and_then(|reattach| between_mut(&mut reattach.stage)) {
                between.loss = Loss::Crash;
            }
            self.let_go(now);
        }
        true
    }

    /// Tells whether the worker is to ask for a backend.
    pub(in crate::tunnel::pair) fn wants_backend(&self) -> bool {
        let Some(Stage::Held(between)) = self.reattach().map(|reattach| &reattach.stage) else { return false };
        let is_ready = between.holding.as_ref().is_some_and(|holding| !holding.skips());
        // The old backend's messages come before those of the next.
        let is_done = self
            .inspector
            .as_ref()
            .is_none_or(|inspector| !inspector.is_busy_with(Side::Backend) && !inspector.is_called());
        is_ready && is_done && !between.is_asking && !self.is_ending()
    }

    /// The search that the pair asks for, which has begun then.
    pub(in crate::tunnel) fn want(&mut self, now: Instant) -> Option<Wanted> {
        if !self.wants_backend() || !self.has_asked_hooks(now) {
            return None;
        }
        let reattach = self.reattach_mut()?;
        let (kept, number, failures) = (reattach.kept.clone(), reattach.times + 1, reattach.failures);
        let between = between_mut(&mut reattach.stage)?;
        between.is_asking = true;
        let pause = if failures > 0 { FIRST_PAUSE * 2_u32.saturating_pow(failures - 1) } else { Duration::ZERO };
        let until = between.since.checked_add(kept.policy.within)?;
        let by_hooks = between.by_hooks.iter().flat_map(|change| change.headers());
        let headers = by_hooks.map(|(name, value)| (name.clone(), value.clone())).collect();
        Some(Wanted { kept, loss: between.loss, number, not_before: now + pause, until, headers })
    }
}

/// Tells whether a tunnel that would end for this reason can be re-attached instead.
fn is_a_leave(reason: Reason) -> bool {
    matches!(reason, Reason::BackendDrained | Reason::Changed | Reason::Rehomed | Reason::BackendDown)
}

/// Time in which a backend answers the gateway's Close frame, or goes on sending what it had to send.
const CLOSE_WAIT: Duration = Duration::from_secs(5);
/// Time after which a backend counts as one that did not fail at once.
const STEADY: Duration = Duration::from_secs(10);
/// Most backends that fail at once in a row. One message of the client may be the cause of all these failures.
const MOST_FAILURES: u32 = 5;
/// Time before the next backend is asked after one that failed at once; twice as long after the next.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
