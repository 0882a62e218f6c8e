//! The rules of one tunnel: two ends, and a flow each way.

mod clock;
mod ending;
mod inspected;
mod limits;
mod state;

use std::io;
use std::time::Instant;

use super::end::End;
use super::flow::Flow;
use super::inspect::Inspector;
use super::reason::Reason;
use crate::config::TunnelLimits;
use crate::metrics::UpstreamMetrics;
use crate::ws::{Side, Sides};
pub(super) use clock::Checked;
use limits::Limits;
pub(super) use state::State;

/// Two ends and what passes between them. Reads no clock: `now` is handed in.
pub(super) struct Pair<E> {
    ends: Sides<Leg<E>>,
    /// By the side the bytes come from.
    flows: Sides<Flow>,
    limits: Limits,
    /// When `max_age`, shortened by its jitter, is reached.
    too_old: Option<Instant>,
    /// An end that was announced for later, so that many tunnels do not end at once.
    planned: Announced,
    /// An end that a change of the configuration announced for later; another change may call it off.
    changing: Announced,
    /// Why the tunnel ends, as far as it is known.
    reason: Option<Reason>,
    /// A side took no more bytes; what it sent before may still say why.
    refused: Option<Side>,
    /// The latest moment at which the tunnel is dropped, whatever is left to do.
    deadline: Option<Instant>,
    /// Something brought the next look at the clock nearer.
    nearer: bool,
    /// The hooks of its route, where that has some.
    inspector: Option<Box<Inspector>>,
}

struct Leg<E> {
    stream: E,
    /// A read may find something. Edge-triggered: only a read that finds nothing (or less than asked for) clears it.
    readable: bool,
    /// A write may be taken; only a write that is not clears it.
    writable: bool,
    /// The poller saw the other side's FIN or an error: a short read is then not the end of what is there.
    hung_up: bool,
    /// When bytes last came from here.
    heard: Instant,
    /// What there is to know of Pings, if one was sent or put off since bytes last came.
    pinging: Option<Box<Pinging>>,
}

/// How it stands with the Pings to a side that is silent.
#[derive(Clone, Copy, Debug)]
struct Pinging {
    /// When it was sent a Ping, if nothing came since.
    sent: Option<Instant>,
    /// No Ping before this moment.
    not_before: Instant,
}

/// An end for which a moment was announced: seldom there, and in all tunnels at once when it is.
type Announced = Option<Box<(Instant, Reason)>>;

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

    /// When it was sent a Ping, if nothing came since.
    fn pinged(&self) -> Option<Instant> {
        self.pinging.as_ref().and_then(|pinging| pinging.sent)
    }
}

/// What the poller says of an end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Readiness {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) hung_up: bool,
}

/// How a pair stands after it was driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Driven {
    /// Nothing is left to do until an end is ready again.
    Waiting,
    /// More can be done at once; others come first.
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
            too_old: limits.max_age.map(|age| now + age.mul_f64(1.0 - jitter)),
            planned: None,
            changing: None,
            reason: None,
            refused: None,
            deadline: None,
            nearer: false,
            inspector: None,
        }
    }

    /// Takes bytes that were read from `side` before the tunnel began.
    pub(super) fn preload(&mut self, side: Side, bytes: &[u8], now: Instant, counters: &UpstreamMetrics) {
        self.relay(side, bytes, now, counters);
    }

    /// Notes what the poller says.
    pub(super) fn note(&mut self, side: Side, ready: Readiness) {
        let leg = &mut self.ends[side];
        leg.readable |= ready.readable;
        leg.writable |= ready.writable;
        leg.hung_up |= ready.hung_up;
    }

    /// Moves bytes both ways until neither way can go on.
    pub(super) fn drive(&mut self, scratch: &mut [u8], now: Instant, counters: &UpstreamMetrics) -> Driven {
        for side in Side::ALL {
            self.drive_flow(side, scratch, now, counters);
        }
        if self.said_goodbye() {
            return Driven::Ended;
        }
        // One way's end can be what the other waited for.
        for side in Side::ALL {
            self.finish(side);
        }
        if self.over() {
            Driven::Ended
        } else if Side::ALL.into_iter().any(|side| self.can_go_on(side)) {
            Driven::More
        } else {
            Driven::Waiting
        }
    }

    /// Whether the flow from `side` stopped only to let others have their turn, or was given something to do since.
    fn can_go_on(&self, side: Side) -> bool {
        let flow = &self.flows[side];
        if flow.kept().is_empty() {
            let unread = self.ends[side].readable && !flow.ended;
            if self.inspector.is_some() { self.has_more(side, unread) } else { unread }
        } else {
            self.ends[side.other()].writable
        }
    }

    /// Moves the bytes that come from `side`, for one turn at most.
    fn drive_flow(&mut self, side: Side, scratch: &mut [u8], now: Instant, counters: &UpstreamMetrics) {
        for _ in 0..READS_PER_TURN {
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
                Ok(0) => self.end_of(side),
                Ok(count) => {
                    // A short read means that the socket is empty, unless an end of the stream stands behind it.
                    leg.readable = count == scratch.len() || leg.hung_up;
                    leg.heard = now;
                    leg.pinging = None;
                    self.relay(side, &scratch[..count], now, counters);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.lost(side, now),
            }
        }
    }

    /// Deals with a chunk from `side`; nothing is kept for its receiver at this moment.
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

    /// Writes what is kept of the bytes from `side`, as far as its receiver takes it.
    fn flush(&mut self, side: Side, now: Instant) {
        let flow = &mut self.flows[side];
        let leg = &mut self.ends[side.other()];
        while !flow.kept().is_empty() {
            if !leg.writable {
                return;
            }
            match leg.stream.write(flow.kept()) {
                Ok(count) => {
                    flow.wrote(count);
                    // Its sender is read again, and can be told to be silent.
                    self.nearer |= self.limits.ping().is_some();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.refused(side.other(), now),
            }
        }
    }

    /// Bytes and messages that came from `side` and were passed on.
    pub(super) fn passed(&self, side: Side) -> (u64, u64) {
        let flow = &self.flows[side];
        (flow.bytes(), flow.messages())
    }

    /// The stream of `side`.
    pub(super) fn stream(&self, side: Side) -> &E {
        &self.ends[side].stream
    }

    /// The stream of `side`, to be registered with a poller.
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
        // An error is met again, and dealt with, when what is kept is flushed.
        self.keep(&bytes[written..]);
    }
}

/// Turns of one flow before the worker's other tunnels come: 16 × 65 KiB is about a quarter of a millisecond's copying.
const READS_PER_TURN: usize = 16;

#[cfg(test)]
mod tests;
