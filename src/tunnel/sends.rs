//! Writes of one turn of a worker, which the system is asked to make in one call (io_uring).
//!
//! Where clients, gateway and backends share cores, each `send` wakes a receiver, which takes the core from the worker
//! as the call returns. One call for all writes of a turn is not interrupted, and it is one entry into the kernel
//! instead of many: a third of the CPU of an echo (bench/NOTES.md).
//!
//! Nothing of a batch outlasts a turn. Every write is made, or refused, before [`SendBatch::send`] returns; what a
//! socket did not take goes back to its tunnel, which waits for room as it always does. So limits, drains and handovers
//! know nothing of batches, and where there is no io_uring the same writes are made one by one.

mod ring;

use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;

use log::debug;

use crate::config::Engine;
use crate::socket;
use crate::ws::Side;
use ring::SendRing;

/// Writes that are to be made at the end of a turn.
pub(super) struct SendBatch {
    /// Makes many writes in one call; `None` where the system, or the configuration, does not allow that.
    ring: Option<SendRing>,
    /// True until the system was asked for a ring, at the first turn that has use for one.
    is_untried: bool,
    /// Writes are put off now.
    is_open: bool,
    /// Slot of the tunnel that is being driven.
    slot: usize,
    /// The bytes of all writes, one behind the other.
    bytes: Vec<u8>,
    writes: Vec<PutOff>,
}

/// Tells whether the system allows an io_uring.
///
/// # Errors
/// The reason for which it does not.
pub(super) fn probe() -> io::Result<()> {
    SendRing::start(MOST).map(drop)
}

/// A write that was put off.
#[derive(Clone, Copy, Debug)]
pub(super) struct PutOff {
    /// Slot of its tunnel.
    pub(super) slot: usize,
    /// Side of the tunnel that it is for.
    pub(super) side: Side,
    start: usize,
    length: usize,
    /// Bytes that the socket took.
    sent: usize,
    /// Others come soon behind its bytes, or the end of the stream.
    more: bool,
}

impl PutOff {
    /// Place of its bytes among those of all.
    fn place(&self) -> Range<usize> {
        self.start..self.start + self.length
    }
}

impl SendBatch {
    /// An empty batch; with [`Engine::Epoll`] it takes nothing.
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            ring: None,
            is_untried: engine != Engine::Epoll,
            is_open: false,
            slot: 0,
            bytes: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Begins a part of a turn in which so many tunnels are driven; the writes of few are not put off.
    pub(super) fn open(&mut self, tunnels: usize) {
        self.is_open = tunnels > FEW && (self.is_untried || self.ring.is_some());
    }

    /// The batch for the writes of the tunnel in `slot`; `None` where writes are not put off.
    #[inline]
    pub(super) fn of(&mut self, slot: usize) -> Option<&mut Self> {
        self.slot = slot;
        self.is_open.then_some(self)
    }

    /// Takes a write, unless it is too long to be worth a copy. `more`: see [`socket::send_more`].
    #[inline]
    pub(super) fn take(&mut self, side: Side, bytes: &[u8], more: bool) -> bool {
        if bytes.len() > LONGEST {
            return false;
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.writes.push(PutOff { slot: self.slot, side, start, length: bytes.len(), sent: 0, more });
        true
    }

    /// Tells whether it has no room for the writes of another tunnel.
    pub(super) fn is_full(&self) -> bool {
        self.writes.len() + 2 > MOST || self.bytes.len() + 2 * LONGEST > MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Makes all writes. `socket` is the non-blocking socket of a side of the tunnel in a slot.
    pub(super) fn send<'a>(&mut self, socket: impl Fn(usize, Side) -> Option<BorrowedFd<'a>>) {
        let is_few = self.writes.len() <= FEW;
        if !is_few && std::mem::take(&mut self.is_untried) {
            self.ring = SendRing::start(MOST)
                .map_err(|error| debug!("no io_uring ({error}): each message is sent by a call of its own"))
                .ok();
        }
        let Self { ring, bytes, writes, .. } = self;
        let bytes = &*bytes;
        let send_of = |put_off: &PutOff| Some((socket(put_off.slot, put_off.side)?, &bytes[put_off.place()]));
        match ring {
            Some(of_many) if !is_few => {
                if !of_many.send(writes, send_of) {
                    *ring = None;
                }
            }
            _ => {
                for put_off in writes {
                    let Some((socket, bytes)) = send_of(put_off) else { continue };
                    // What is not taken is tried again by the tunnel, which meets the error, too.
                    let send = if put_off.more { socket::send_more } else { socket::send };
                    put_off.sent = send(&socket, bytes).unwrap_or(0);
                }
            }
        }
    }

    /// The writes, in order.
    pub(super) fn made(&self) -> &[PutOff] {
        &self.writes
    }

    /// Bytes of a write that its socket did not take.
    pub(super) fn rest(&self, made: &PutOff) -> &[u8] {
        &self.bytes[made.place()][made.sent..]
    }

    /// Forgets the writes of one tunnel.
    pub(super) fn forget(&mut self, slot: usize) {
        self.writes.retain(|put_off| put_off.slot != slot);
    }

    /// Forgets the writes, which are made.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.writes.clear();
    }
}

/// Longer writes are made at once.
const LONGEST: usize = 8 * 1024;
/// Bounds of one call, and so of the memory of a batch.
const MOST: usize = 256;
const MOST_BYTES: usize = 64 * 1024;
/// As few writes, or tunnels in a turn, as this cost less one by one: a lone send by a ring costs 5 % more.
const FEW: usize = 4;

#[cfg(test)]
mod tests;
