//! Bytes that are read from one end and passed on to the other.

use std::io;
use std::time::Instant;

use super::end::Read;
use super::flow::Flow;
use super::{End, Leg, Pair, Reason, SendBatch, Side};
use crate::metrics::UpstreamMetrics;

/// The way that a chunk goes out.
#[derive(Default)]
pub(super) struct WayOut<'b> {
    /// Takes writes that are put off; `None` where they are made at once.
    batch: Option<&'b mut SendBatch>,
    /// The end of the stream is behind the chunk, and is passed on right after it.
    before_end: bool,
}

/// Point that a read came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadTo {
    /// To the last bytes of a side that has hung up: its end is next.
    Last,
    /// To any other point.
    Rest,
}

impl<E: End> Pair<E> {
    /// Moves the bytes that come from `side`, at most one buffer of them.
    #[inline]
    pub(super) fn drive_flow(
        &mut self,
        side: Side,
        scratch: &mut [u8],
        now: Instant,
        counters: &UpstreamMetrics,
        mut batch: Option<&mut SendBatch>,
    ) {
        self.flush(side, now);
        if self.is_special && !self.go_on_specially(side, now, counters) {
            return;
        }
        // Behind the last bytes of a side that has hung up is its end, for which nobody asks the poller again.
        for _ in 0..2 {
            if self.read_once(side, scratch, now, counters, batch.as_deref_mut()) == ReadTo::Rest {
                return;
            }
        }
    }

    /// Reads from `side` and passes on what comes, if that may be read now.
    #[inline]
    fn read_once(
        &mut self,
        side: Side,
        scratch: &mut [u8],
        now: Instant,
        counters: &UpstreamMetrics,
        batch: Option<&mut SendBatch>,
    ) -> ReadTo {
        let flow = &self.flows[side];
        let leg = &mut self.ends[side];
        if !flow.kept().is_empty() || flow.ended || !leg.readable {
            return ReadTo::Rest;
        }
        match leg.stream.read(scratch) {
            Ok(Read { count: 0, .. }) => self.end_of(side, now),
            Ok(Read { count, empties }) => {
                leg.readable = !empties || leg.hung_up;
                let read = if empties && leg.hung_up && !self.is_special { ReadTo::Last } else { ReadTo::Rest };
                leg.heard = now;
                leg.pinging = None;
                let out = WayOut { batch, before_end: read == ReadTo::Last };
                self.relay(side, &scratch[..count], now, counters, out);
                // Closing frames, frames of hooks, and the part of the chunk that was not taken at once.
                self.flush(side, now);
                return read;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => leg.readable = false,
            // A part of a record: the side is alive.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                leg.heard = now;
                leg.pinging = None;
            }
            Err(error) => self.lost(side, &error, now),
        }
        ReadTo::Rest
    }

    /// Relays a chunk from `side`; nothing is kept for its receiver at this moment.
    #[inline]
    pub(super) fn relay(
        &mut self,
        side: Side,
        chunk: &[u8],
        now: Instant,
        counters: &UpstreamMetrics,
        out: WayOut<'_>,
    ) {
        if self.is_special {
            self.relay_read(side, chunk, now, counters);
        } else {
            self.pass_on_by(side, chunk, self.limits.max_message(), now, counters, out);
        }
    }

    /// Follows and passes on bytes from `side`.
    pub(super) fn pass_on(
        &mut self,
        side: Side,
        chunk: &[u8],
        limit: Option<u64>,
        now: Instant,
        counters: &UpstreamMetrics,
    ) {
        self.pass_on_by(side, chunk, limit, now, counters, WayOut::default());
    }

    /// Does the same by a given way.
    #[inline(always)]
    fn pass_on_by(
        &mut self,
        side: Side,
        chunk: &[u8],
        limit: Option<u64>,
        now: Instant,
        counters: &UpstreamMetrics,
        out: WayOut<'_>,
    ) {
        let flow = &mut self.flows[side];
        let taken = flow.take(chunk, limit);
        counters.bytes[side].inc_by(taken.pass as u64);
        // A chunk is a buffer, or the frames of one message: both are far below 4 GiB.
        self.moved = self.moved.saturating_add(taken.pass as u32);
        if taken.messages > 0 {
            counters.messages[side].inc_by(taken.messages);
        }
        let receiver = side.other();
        let leg = &mut self.ends[receiver];
        let passed = &chunk[..taken.pass];
        let more = out.before_end || passed.len() >= LONG && flow.is_amid_frame();
        if !leg.put_off_into(out.batch, receiver, flow, passed, more) {
            flow.keep_unwritten(leg, passed, more);
        }
        if taken.close.is_some() {
            self.keep_close(side, taken.close);
        }
        if taken.too_big {
            self.end(Reason::MessageTooBig, now);
        }
        if self.flows[side].closed().is_some() {
            self.close_seen(side, now);
        }
    }

    /// Takes back what `side` did not take of a write that was put off.
    pub(in crate::tunnel) fn take_back(&mut self, side: Side, rest: &[u8], now: Instant) {
        self.ends[side].put_off = false;
        self.flows[side.other()].keep_in_front(rest);
        self.flush(side.other(), now);
    }
}

impl<E: End> Leg<E> {
    /// Puts a write to this end, which is `side`'s, off into the batch, if there is one; tells whether it did.
    #[inline]
    fn put_off_into(
        &mut self,
        batch: Option<&mut SendBatch>,
        side: Side,
        flow: &Flow,
        bytes: &[u8],
        more: bool,
    ) -> bool {
        let Some(batch) = batch else { return false };
        let is_next = !bytes.is_empty() && self.writable && !self.put_off && !flow.keeps();
        if is_next && self.stream.plain_socket().is_some() {
            self.put_off = batch.take(side, bytes, more);
        }
        is_next && self.put_off
    }
}

/// From this length on a part of a frame is sent in full packets: what is over waits for the rest of the frame, which a
/// sender of long messages has under way. Shorter parts pass as they come.
const LONG: usize = 4 * 1024;
