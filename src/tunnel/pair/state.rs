//! State of a pair, apart from its sockets, in a form that another process can go on with.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::limits::{PairLimits, ShortTime};
use super::{End, Flow, Leg, Pair, Pinging, Plans, Rare, Reason, ReattachProgress, Side, reattached};
use crate::config::TunnelLimits;
use crate::tunnel::rates;
use crate::tunnel::reattach::Heads;
use crate::ws::Sides;

/// The state of a pair, with moments as distances from the moment it was taken.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::tunnel) struct PairState {
    flows: Sides<Flow>,
    limits: TunnelLimits,
    legs: Sides<LegState>,
    too_old_in: Option<Duration>,
    planned_in: Option<(Duration, Reason)>,
    #[serde(default)]
    changing_in: Option<(Duration, Reason)>,
    deadline_in: Option<Duration>,
    reason: Option<Reason>,
    refused: Option<Side>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    words: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    throttle: Option<Box<rates::ThrottleState>>,
    /// A process that does not know this field goes on with a tunnel that is not re-attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reattach: Option<Box<reattached::ReattachState>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct LegState {
    heard_ago: Duration,
    pinged_ago: Option<Duration>,
    ping_after_in: Duration,
}

impl PairState {
    /// Tells whether a pair can go on in this state.
    pub(in crate::tunnel) fn is_sound(&self) -> bool {
        Side::ALL.into_iter().all(|side| self.flows[side].is_sound(side))
            && self.reattach.as_ref().is_none_or(|reattach| reattach.is_sound())
    }

    /// Shares what the head that is kept has in common with others.
    pub(in crate::tunnel) fn share_head(&mut self, heads: &Heads) {
        if let Some(reattach) = &mut self.reattach {
            reattach.share_head(heads);
        }
    }

    /// Number of bytes that a side has yet to take.
    pub(in crate::tunnel) fn kept_for(&self, side: Side) -> usize {
        self.flows[side.other()].kept().len()
    }
}

impl<E: End> Pair<E> {
    /// The state as it is `now`; the pair must not be driven any more once another process goes on with it.
    pub(in crate::tunnel) fn state(&self, now: Instant) -> PairState {
        let until = |moment: Instant| moment.saturating_duration_since(now);
        let since = |moment: Instant| now.saturating_duration_since(moment);
        let Plans { planned, changing, deadline, ref words } = *self.plans();
        PairState {
            flows: self.flows.clone(),
            limits: (*self.limits).into(),
            legs: self.ends.each_ref().map(|leg| LegState {
                heard_ago: since(leg.heard),
                pinged_ago: leg.pinged().map(since),
                ping_after_in: leg.pinging.as_ref().map_or(Duration::ZERO, |pinging| until(pinging.not_before)),
            }),
            too_old_in: self.too_old().map(until),
            planned_in: planned.map(|(at, reason)| (until(at), reason)),
            changing_in: changing.map(|(at, reason)| (until(at), reason)),
            deadline_in: deadline.map(until),
            reason: self.reason,
            refused: self.refused,
            words: words.as_deref().map(Into::into),
            throttle: self.throttle().map(|throttle| Box::new(throttle.state(now))),
            reattach: self.reattach().map(|reattach| Box::new(reattach.state())),
        }
    }

    /// A pair that goes on `now` where another left off; its tunnel opened an `age` ago.
    pub(in crate::tunnel) fn resume(client: E, backend: E, state: PairState, age: Duration, now: Instant) -> Self {
        // A moment before the machine started cannot be told; then it was now.
        let before = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        // A moment that cannot be told never comes.
        let after = |left: Duration| now.checked_add(left);
        let since = before(age);
        let leg = |stream, leg: &LegState| {
            let pinging =
                Pinging { sent: leg.pinged_ago.map(before), not_before: after(leg.ping_after_in).unwrap_or(now) };
            let told = pinging.sent.is_some() || pinging.not_before > now;
            Leg { heard: before(leg.heard_ago), pinging: told.then(|| Box::new(pinging)), ..Leg::new(stream, now) }
        };
        let announced = |(left, reason)| after(left).map(|at| (at, reason));
        let plans = Plans {
            planned: state.planned_in.and_then(announced),
            changing: state.changing_in.and_then(announced),
            deadline: state.deadline_in.and_then(after),
            words: state.words.map(Into::into),
        };
        let is_planned = plans.planned.is_some() || plans.changing.is_some() || plans.deadline.is_some();
        let is_rare = is_planned || state.throttle.is_some() || state.reattach.is_some();
        let reattach = state.reattach.map(|state| Box::new(ReattachProgress::resume(*state, now)));
        let is_special = reattach.is_some();
        let [client_leg, backend_leg] = state.legs.each_ref().into_array();
        Self {
            ends: Sides::new(leg(client, client_leg), leg(backend, backend_leg)),
            limits: PairLimits::shared(state.limits),
            lifetime: state.too_old_in.map(|left| ShortTime::of(left.saturating_add(now - since))),
            since: since.into(),
            rare: is_rare.then(|| Box::new(Rare { plans, throttle: None, crossed: state.throttle, reattach })),
            reason: state.reason,
            refused: state.refused,
            flows: state.flows,
            moved: 0,
            nearer: true,
            inspector: None,
            is_special,
        }
    }

    /// Forgets what the poller said: a poller that the streams are registered with anew says it again.
    pub(in crate::tunnel) fn forget_readiness(&mut self) {
        for leg in self.ends.iter_mut() {
            leg.readable = false;
            leg.writable = true;
            leg.hung_up = false;
        }
    }
}
