//! One direction of a tunnel with hooks: what is to be looked at yet, and what is to be put in.

use serde::{Deserialize, Serialize};

use crate::ws::deflate::Inflating;
use crate::ws::{Assembled, Assembler, Side};

/// State of the bytes that come from one side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Inbound {
    /// Puts messages together, where hooks see those of this direction; bytes pass as they are where it is not there.
    pub(super) assembler: Option<Assembler>,
    /// Bytes read and not yet inspected: `held[seen..]`. One chunk at the most; no allocation while empty.
    #[serde(with = "crate::base64_text")]
    held: Vec<u8>,
    seen: usize,
    /// A message whose hooks are still busy with another one.
    #[serde(skip)]
    pub(super) waiting: Option<Assembled>,
    /// Frames to be put in between two messages, as soon as there is such a place.
    #[serde(with = "crate::base64_text")]
    pub(super) queue: Vec<u8>,
    /// Bytes of replies to the side, since it had last taken all that there was for it.
    #[serde(default)]
    pub(super) replied: usize,
    /// The side was not read when there may have been something to read.
    #[serde(skip)]
    pub(super) was_held_up: bool,
}

/// Bytes read and not yet inspected, taken out for inspection.
pub(in crate::tunnel) struct HeldBytes {
    bytes: Vec<u8>,
    seen: usize,
}

/// A compressed message that is being restored, over several turns where it is long.
pub(super) struct Inflation {
    pub(super) message: Assembled,
    pub(super) inflating: Inflating,
}

impl Inbound {
    pub(super) fn new(from: Side, assembled: bool, compressed: bool, max_message: u64) -> Self {
        Self {
            assembler: assembled.then(|| Assembler::new(from, compressed, max_message)),
            held: Vec::new(),
            seen: 0,
            waiting: None,
            queue: Vec::new(),
            replied: 0,
            was_held_up: false,
        }
    }

    /// Tells whether this can be the state of the bytes that come from a side.
    pub(super) fn is_sound(&self, from: Side) -> bool {
        self.seen <= self.held.len() && self.assembler.as_ref().is_none_or(|assembler| assembler.is_sound(from))
    }

    /// Keeps a chunk, or what is left of one, until the hooks are done with what came before.
    pub(super) fn hold(&mut self, chunk: &[u8]) {
        self.held.extend_from_slice(chunk);
    }

    pub(super) fn has_held(&self) -> bool {
        self.seen < self.held.len()
    }

    pub(super) fn take_held(&mut self) -> HeldBytes {
        HeldBytes { bytes: std::mem::take(&mut self.held), seen: std::mem::take(&mut self.seen) }
    }

    /// Puts back what was taken out, but for what has been looked at; an emptied buffer is given back.
    pub(super) fn put_back(&mut self, held: HeldBytes, left: usize) {
        if left > 0 {
            self.seen = held.bytes.len() - left;
            self.held = held.bytes;
        }
    }

    /// Gives up messages, unfinished ones and those to come: bytes of this side make no sense any more.
    pub(super) fn give_up_messages(&mut self) {
        (self.waiting, self.held, self.seen) = (None, Vec::new(), 0);
        if let Some(assembler) = &mut self.assembler {
            assembler.give_up();
        }
    }

    /// Begins anew with the first byte of another sender.
    pub(super) fn meet_next_sender(&mut self, from: Side, compressed: bool, max_message: u64) {
        self.assembler = self.assembler.take().map(|_| Assembler::new(from, compressed, max_message));
    }

    /// Bytes of unfinished messages that are kept.
    pub(super) fn memory(&self) -> usize {
        let waiting = self.waiting.as_ref().map_or(0, |message| message.payload.len());
        // Bytes that are no messages here are a chunk at the most, and cannot be given up.
        self.assembler.as_ref().map_or(0, |assembler| self.held.len() + assembler.held()) + waiting
    }

    /// Bytes that another process would have to be given.
    pub(super) fn weight(&self) -> usize {
        self.held.len() + self.queue.len() + self.assembler.as_ref().map_or(0, Assembler::held)
    }
}

impl HeldBytes {
    pub(in crate::tunnel) fn bytes(&self) -> &[u8] {
        &self.bytes[self.seen..]
    }
}
