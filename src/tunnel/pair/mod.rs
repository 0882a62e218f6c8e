//! The rules of one tunnel: two ends, and a flow each way.

mod clock;
mod end;
mod ending;
mod flow;
mod inspected;
mod limits;
mod state;
mod tcp_info;

use std::io;
use std::time::Instant;

use super::inspect::Inspector;
use super::reason::Reason;
use crate::config::TunnelLimits;
use crate::metrics::UpstreamMetrics;
use crate::ws::{Side, Sides};
pub(super) use clock::Checked;
use end::Read;
pub(super) use end::{End, Sealing, TunnelStream};
use flow::Flow;
use limits::Limits;
pub(super) use state::State;

/// Two ends and what passes between them. Reads no clock: `now` is handed in.
pub(super) struct Pair<E> {
    ends: Sides<Leg<E>>,
    /// Flows by the side that sends their bytes.
    flows: Sides<Flow>,
    limits: Limits,
    /// Moment at which `max_age`, shortened by its jitter, is reached.
    too_old: Option<Instant>,
    /// Moments of an end; `None` for a tunnel that nothing is known of but its limits.
    plans: Option<Box<Plans>>,
    /// Reason of the end, as far as it is known.
    reason: Option<Reason>,
    /// Side that took no more bytes; its earlier bytes may still tell the reason.
    refused: Option<Side>,
    /// Bytes that the latest [`drive`](Self::drive) passed on, both ways together.
    moved: u32,
    /// Set when the next moment to look at the clock may have come nearer.
    nearer: bool,
    /// Hooks of the route; `None` on a route without hooks.
    inspector: Option<Box<Inspector>>,
}

struct Leg<E> {
    stream: E,
    /// A read may find something. Edge-triggered: only a read that empties the stream clears it.
    readable: bool,
    /// A write may be taken. Only a write that is refused clears it.
    writable: bool,
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

/// Moments at which a tunnel ends that was told to. Apart from the pair, because few tunnels have one.
#[derive(Clone, Copy, Debug, Default)]
struct Plans {
    /// End announced for later, so that many tunnels do not end at once.
    planned: Option<Announced>,
    /// End that a change of the configuration announced for later; another change may call it off.
    changing: Option<Announced>,
    /// Latest moment at which the tunnel is dropped, whatever is left to do.
    deadline: Option<Instant>,
}

/// Moment and reason of an announced end.
type Announced = (Instant, Reason);

impl<E> Leg<E> {
    fn new(stream: E, now: Instant) -> Self {
        Self {
            stream,
            // The poller reports what is there already as soon as the stream is registered.
            readable: false,
            writable: true,
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
    /// Nothing is left to do until an end is ready again.
    Waiting,
    /// More can be done at once, after other tunnels had their turn.
    More,
    /// The tunnel has ended.
    Ended,
}

impl<E: End> Pair<E> {
    /// A tunnel that opens `now`; `max_age` is cut short by the share `jitter` (0 to 0.1) so that tunnels opened
    /// together do not end together.
    pub(super) fn new(client: E, backend: E, limits: TunnelLimits, jitter: f64, now: Instant) -> Self {
        Self {
            ends: Sides::new(Leg::new(client, now), Leg::new(backend, now)),
            flows: Sides::from_fn(Flow::new),
            limits: limits.into(),
            too_old: Limits::from(limits).max_age().and_then(|age| now.checked_add(age.mul_f64(1.0 - jitter))),
            plans: None,
            reason: None,
            refused: None,
            moved: 0,
            nearer: false,
            inspector: None,
        }
    }

    /// Relays bytes that were read from `side` before the tunnel began.
    pub(super) fn preload(&mut self, side: Side, bytes: &[u8], now: Instant, counters: &UpstreamMetrics) {
        self.relay(side, bytes, now, counters);
    }

    /// Notes the readiness of an end.
    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        let leg = &mut self.ends[side];
        leg.readable |= ready.readable;
        leg.writable |= ready.writable;
        leg.hung_up |= ready.hung_up;
    }

    /// Moves bytes both ways, at most as many each way as `scratch` holds.
    pub(super) fn drive(&mut self, scratch: &mut [u8], now: Instant, counters: &UpstreamMetrics) -> Driven {
        self.moved = 0;
        self.drive_flow(Side::Client, scratch, now, counters);
        self.drive_flow(Side::Backend, scratch, now, counters);
        if self.said_goodbye() {
            return Driven::Ended;
        }
        // The end of one way can be what the other waited for.
        self.finish(Side::Client);
        self.finish(Side::Backend);
        if self.over() {
            Driven::Ended
        } else if self.can_go_on(Side::Client) || self.can_go_on(Side::Backend) {
            Driven::More
        } else {
            Driven::Waiting
        }
    }

    /// Tells whether the flow from `side` stopped only to give other tunnels their turn, or has something to do since.
    fn can_go_on(&self, side: Side) -> bool {
        let flow = &self.flows[side];
        if flow.kept().is_empty() {
            let unread = self.ends[side].readable && !flow.ended;
            if self.inspector.is_some() { self.has_more(side, unread) } else { unread }
        } else {
            self.ends[side.other()].writable
        }
    }

    /// Moves the bytes that come from `side`, at most one buffer of them.
    fn drive_flow(&mut self, side: Side, scratch: &mut [u8], now: Instant, counters: &UpstreamMetrics) {
        self.flush(side, now);
        if self.inspector.is_some() && !self.go_on(side, now, counters) {
            return;
        }
        let flow = &self.flows[side];
        let leg = &mut self.ends[side];
        if !flow.kept().is_empty() || flow.ended || !leg.readable {
            return;
        }
        match leg.stream.read(scratch) {
            Ok(Read { count: 0, .. }) => self.end_of(side),
            Ok(Read { count, empties }) => {
                leg.readable = !empties || leg.hung_up;
                leg.heard = now;
                leg.pinging = None;
                self.relay(side, &scratch[..count], now, counters);
                // Closing frames, frames of hooks, and the part of the chunk that was not taken at once.
                self.flush(side, now);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.readable = false,
            // A part of a record: the side is alive.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                leg.heard = now;
                leg.pinging = None;
            }
            Err(error) => self.lost(side, &error, now),
        }
    }

    /// Relays a chunk from `side`; nothing is kept for its receiver at this moment.
    fn relay(&mut self, side: Side, chunk: &[u8], now: Instant, counters: &UpstreamMetrics) {
        if self.inspector.is_some() {
            self.relay_inspected(side, chunk, now, counters);
        } else {
            self.pass(side, chunk, self.limits.max_message(), now, counters);
        }
    }

    /// Follows and passes on bytes from `side`.
    fn pass(&mut self, side: Side, chunk: &[u8], limit: Option<u64>, now: Instant, counters: &UpstreamMetrics) {
        let flow = &mut self.flows[side];
        let taken = flow.take(chunk, limit);
        counters.bytes[side].inc_by(taken.pass as u64);
        // A chunk is a buffer, or the frames of one message: both are far below 4 GiB.
        self.moved = self.moved.saturating_add(taken.pass as u32);
        if taken.messages > 0 {
            counters.messages[side].inc_by(taken.messages);
        }
        flow.keep_unwritten(&mut self.ends[side.other()], &chunk[..taken.pass]);
        self.keep_close(side, taken.close);
        if taken.too_big {
            self.end(Reason::MessageTooBig, now);
        }
        if self.flows[side].closed().is_some() {
            self.close_seen(side, now);
        }
    }

    /// Writes the kept bytes of the flow from `side`, as far as its receiver takes them.
    fn flush(&mut self, side: Side, now: Instant) {
        let flow = &mut self.flows[side];
        let leg = &mut self.ends[side.other()];
        while !flow.kept().is_empty() {
            if !leg.writable {
                break;
            }
            match leg.stream.write(flow.kept()) {
                Ok(count) => {
                    flow.wrote(count);
                    // Its sender is read again, and can be found to be silent.
                    self.nearer |= self.limits.ping().is_some();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.refused(side.other(), &error, now),
            }
        }
        if flow.note_refused(now) {
            self.nearer |= self.limits.stall().is_some();
        }
    }

    /// Count of the bytes and messages that came from `side` and were passed on.
    pub(super) fn passed(&self, side: Side) -> (u64, u64) {
        let flow = &self.flows[side];
        (flow.bytes(), flow.messages())
    }

    /// Tells whether there may be bytes that a side has yet to take, or messages that hooks wait for.
    pub(super) fn keeps_anything(&self) -> bool {
        self.inspector.is_some() || self.flows[Side::Client].keeps() || self.flows[Side::Backend].keeps()
    }

    /// Bytes that the two sides have yet to take.
    pub(super) fn kept(&self) -> usize {
        self.flows.iter().map(|flow| flow.kept().len()).sum()
    }

    /// Bytes that the latest [`drive`](Self::drive) passed on, both ways together.
    pub(super) fn moved(&self) -> u32 {
        self.moved
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

impl Flow {
    /// Writes `bytes` to `leg` as far as it takes them at once, and keeps the rest.
    fn keep_unwritten<E: End>(&mut self, leg: &mut Leg<E>, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let written = if leg.writable && self.kept().is_empty() { leg.stream.write(bytes).unwrap_or(0) } else { 0 };
        // An error is met again, and dealt with, when the kept bytes are flushed.
        self.keep(&bytes[written..]);
    }
}

#[cfg(test)]
mod tests;
