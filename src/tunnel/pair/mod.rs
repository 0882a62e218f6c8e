//! The rules of one tunnel: two ends, and a flow each way.

mod clock;
mod end;
mod ending;
mod flow;
mod flush;
mod inspected;
mod limits;
mod moment;
mod rated;
mod reattached;
mod relay;
mod state;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inspect::Inspector;
use super::rates::{self, Throttle};
use super::reason::Reason;
use super::sends::SendBatch;
use crate::config::TunnelLimits;
use crate::metrics::UpstreamMetrics;
use crate::ws::{Side, Sides};
pub(super) use clock::Checked;
pub(super) use end::{End, Sealing, TunnelStream};
use flow::Flow;
use limits::{PairLimits, ShortTime};
use moment::Moment;
use reattached::ReattachProgress;
pub(super) use reattached::Wanted;
use relay::WayOut;
pub(super) use state::PairState;

/// Two ends and what passes between them. Reads no clock: `now` is handed in.
pub(super) struct Pair<E> {
    ends: Sides<Leg<E>>,
    /// Flows by the side that sends their bytes.
    flows: Sides<Flow>,
    limits: Arc<PairLimits>,
    /// Time from its opening in which the tunnel may stay.
    lifetime: Option<ShortTime>,
    /// Moment at which the tunnel opened, in another process perhaps.
    since: Moment,
    /// Parts that few tunnels have.
    rare: Option<Box<Rare>>,
    /// Reason of the end, as far as it is known.
    reason: Option<Reason>,
    /// Side that took no more bytes; its earlier bytes may still tell the reason.
    refused: Option<Side>,
    /// Bytes that the latest [`drive`](Self::drive) passed on, both ways together.
    moved: u32,
    /// Set when the next moment to look at the clock may have come nearer, or a side takes no more.
    nearer: bool,
    /// Hooks of the route; `None` on a route without hooks.
    inspector: Option<Box<Inspector>>,
    /// There is an inspector, a throttle, or state for re-attachment: the one question that bytes on most tunnels are
    /// asked.
    is_special: bool,
}

struct Leg<E> {
    stream: E,
    /// A read may find something. Edge-triggered: only a read that empties the stream clears it.
    readable: bool,
    /// A write may be taken. Only a write that is refused clears it.
    writable: bool,
    /// A write stands in the batch: nothing else is written before it is made.
    put_off: bool,
    /// The poller saw a FIN or an error of this side: a read that empties the stream then leaves its end to be read.
    hung_up: bool,
    /// Moment at which bytes last came from here.
    heard: Instant,
    /// Pings since bytes last came, if one was sent or put off.
    pinging: Option<Box<Pinging>>,
}

/// Pings to a side that is silent.
#[derive(Clone, Copy, Debug)]
struct Pinging {
    /// Moment of the Ping that the side has not answered.
    sent: Option<Instant>,
    /// No Ping before this moment.
    not_before: Instant,
}

/// Parts of a pair that few pairs have: apart from it, so that the others are given no room for them.
#[derive(Default)]
struct Rare {
    plans: Plans,
    /// Rates of the client; `None` where they are not limited.
    throttle: Option<Box<Throttle>>,
    /// State of the throttle in the process that the pair came from, until it is given rates here.
    crossed: Option<Box<rates::ThrottleState>>,
    /// State of a pair that may be re-attached.
    reattach: Option<Box<ReattachProgress>>,
}

/// Moments at which a tunnel ends that was told to end.
#[derive(Clone, Debug, Default)]
struct Plans {
    /// End announced for later, so that many tunnels do not end at once.
    planned: Option<Announced>,
    /// End that a change of the configuration announced for later; another change may call it off.
    changing: Option<Announced>,
    /// Latest moment at which the tunnel is dropped, whatever is left to do.
    deadline: Option<Instant>,
    /// Reason text of an operator's Close frames.
    words: Option<Arc<str>>,
}

/// Plans of a tunnel that nothing is known of but its limits.
static NO_PLANS: Plans = Plans { planned: None, changing: None, deadline: None, words: None };

/// Moment and reason of an announced end.
type Announced = (Instant, Reason);

impl<E> Leg<E> {
    fn new(stream: E, now: Instant) -> Self {
        Self {
            stream,
            // The poller reports what is there already as soon as the stream is registered.
            readable: false,
            writable: true,
            put_off: false,
            hung_up: false,
            heard: now,
            pinging: None,
        }
    }

    /// Moment of the Ping that the side has not answered.
    fn pinged(&self) -> Option<Instant> {
        self.pinging.as_ref().and_then(|pinging| pinging.sent)
    }
}

/// Readiness of an end, as the poller reports it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) hung_up: bool,
}

/// State of a pair after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    /// Writes stand in the batch. Once they are made, the tunnel is told of them and settled.
    PutOff,
    /// Nothing is left to do until an end is ready again.
    Waiting,
    /// More can be done at once, after other tunnels had their turn.
    More,
    /// The tunnel has no backend, and its worker is to ask for one.
    Asks,
    /// The tunnel has ended.
    Ended,
}

impl<E: End> Pair<E> {
    /// A tunnel that opens `now`; `max_age` is cut short by the share `jitter` (0 to 0.1) so that tunnels opened
    /// together do not end together.
    pub(super) fn new(client: E, backend: E, limits: TunnelLimits, jitter: f64, now: Instant) -> Self {
        let limits = PairLimits::shared(limits);
        Self {
            ends: Sides::new(Leg::new(client, now), Leg::new(backend, now)),
            flows: Sides::from_fn(Flow::new),
            lifetime: limits.lifetime(jitter),
            limits,
            since: now.into(),
            rare: None,
            reason: None,
            refused: None,
            moved: 0,
            nearer: false,
            inspector: None,
            is_special: false,
        }
    }

    /// Relays bytes that were read from `side` before the tunnel began.
    pub(super) fn preload(&mut self, side: Side, bytes: &[u8], now: Instant, counters: &UpstreamMetrics) {
        self.relay(side, bytes, now, counters, WayOut::default());
    }

    /// Notes the readiness of an end.
    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        let leg = &mut self.ends[side];
        leg.readable |= ready.readable;
        leg.writable |= ready.writable;
        leg.hung_up |= ready.hung_up;
    }

    /// Tells whether a side has refused a write, and the poller has not said since that it may take one.
    pub(super) fn takes_no_more(&self, side: Side) -> bool {
        !self.ends[side].writable
    }

    /// Moves bytes both ways, at most as many each way as `scratch` holds. Writes may be put off into the batch.
    pub(super) fn drive(
        &mut self,
        scratch: &mut [u8],
        now: Instant,
        counters: &UpstreamMetrics,
        mut batch: Option<&mut SendBatch>,
    ) -> Driven {
        let may_put_off = batch.is_some();
        self.moved = 0;
        for side in Side::ALL {
            // Nearly always a message has come from one side alone.
            if self.ends[side].readable || self.flows[side].keeps() || self.is_special {
                self.drive_flow(side, scratch, now, counters, batch.as_deref_mut());
            }
        }
        if may_put_off && self.ends.iter().any(|leg| leg.put_off) { Driven::PutOff } else { self.settle(now, counters) }
    }

    /// Finds out what is left to be done after bytes were moved; no write is put off any more.
    #[inline(always)]
    pub(super) fn settle(&mut self, now: Instant, counters: &UpstreamMetrics) -> Driven {
        if self.is_special {
            self.release_client(now, counters);
        }
        if self.flows.iter().any(Flow::is_ending) && self.finish_both() {
            Driven::Ended
        } else if self.is_special && self.wants_backend() {
            Driven::Asks
        } else if self.can_go_on(Side::Client) || self.can_go_on(Side::Backend) {
            Driven::More
        } else {
            Driven::Waiting
        }
    }

    /// Tells whether the flow from `side` stopped only to give other tunnels their turn, or has something to do since.
    #[inline]
    fn can_go_on(&self, side: Side) -> bool {
        let flow = &self.flows[side];
        if flow.kept().is_empty() {
            let unread = self.ends[side].readable && !flow.ended;
            if self.is_special { self.can_go_on_specially(side, unread) } else { unread }
        } else {
            self.ends[side.other()].writable
        }
    }

    /// Count of the bytes and messages that came from `side` and were passed on.
    pub(super) fn passed(&self, side: Side) -> (u64, u64) {
        let flow = &self.flows[side];
        (flow.bytes(), flow.messages())
    }

    /// Tells whether there may be bytes that a side has yet to take, or messages that hooks wait for.
    pub(super) fn keeps_anything(&self) -> bool {
        self.is_special || self.flows[Side::Client].keeps() || self.flows[Side::Backend].keeps()
    }

    /// Bytes that the two sides have yet to take, and those that the client's rates hold back.
    pub(super) fn kept(&self) -> usize {
        let held = self.throttle().map_or(0, Throttle::held) + self.kept_for_next();
        self.flows.iter().map(|flow| flow.kept().len()).sum::<usize>() + held
    }

    /// Bytes that are kept for the two sides, sealed ones among them.
    pub(super) fn kept_in_all(&self) -> usize {
        self.kept() + self.ends.iter().map(|leg| leg.stream.kept()).sum::<usize>()
    }

    /// Bytes that the latest [`drive`](Self::drive) passed on, both ways together.
    pub(super) fn moved(&self) -> u32 {
        self.moved
    }

    /// Time after which the system gives a side up that acknowledges nothing.
    pub(super) fn tcp_user_timeout(&self) -> Option<Duration> {
        self.limits.tcp_user_timeout()
    }

    /// The stream of `side`.
    pub(super) fn stream(&self, side: Side) -> &E {
        &self.ends[side].stream
    }

    /// Says goodbye to both sides of a tunnel that has ended, before it is dropped. A side that has not taken
    /// everything is told nothing: its stream is cut off.
    pub(super) fn say_goodbye(&mut self) {
        for side in Side::ALL {
            if self.flows[side.other()].kept().is_empty() {
                self.ends[side].stream.say_goodbye();
            }
        }
    }

    /// The stream of `side`, to be added to a poller.
    pub(super) fn stream_mut(&mut self, side: Side) -> &mut E {
        &mut self.ends[side].stream
    }
}

#[cfg(test)]
mod tests;
