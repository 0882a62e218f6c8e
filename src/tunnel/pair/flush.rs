//! Writes to the receiver of a flow, and bytes that it has yet to take.

use std::io;
use std::time::Instant;

use super::flow::Flow;
use super::{End, Leg, Pair, Side};

impl<E: End> Pair<E> {
    /// Writes the kept bytes of the flow from `side`, as far as its receiver takes them.
    #[inline]
    pub(super) fn flush(&mut self, side: Side, now: Instant) {
        if self.flows[side].keeps() {
            self.flush_kept(side, now);
        }
    }

    fn flush_kept(&mut self, side: Side, now: Instant) {
        let flow = &mut self.flows[side];
        let leg = &mut self.ends[side.other()];
        if leg.put_off {
            return;
        }
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    leg.writable = false;
                    // The poller may have to watch for it.
                    self.nearer = true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.refused(side.other(), &error, now),
            }
        }
        if flow.note_refused(now) {
            self.nearer |= self.limits.stall().is_some();
        }
    }
}

impl Flow {
    /// Tells whether a frame has begun whose rest is still to come.
    pub(super) fn is_amid_frame(&self) -> bool {
        !self.cursor().at_boundary() && !self.cursor().is_lost()
    }

    /// Writes `bytes` to `leg` as far as it takes them at once, and keeps the rest. `more`: by
    /// [`End::write_more`].
    pub(super) fn keep_unwritten<E: End>(&mut self, leg: &mut Leg<E>, bytes: &[u8], more: bool) {
        if bytes.is_empty() {
            return;
        }
        let is_next = leg.writable && !leg.put_off && self.kept().is_empty();
        let written = match (is_next, more) {
            (false, _) => 0,
            (true, false) => leg.stream.write(bytes).unwrap_or(0),
            (true, true) => leg.stream.write_more(bytes).unwrap_or(0),
        };
        // An error is met again, and dealt with, when the kept bytes are flushed.
        self.keep(&bytes[written..]);
    }
}
