//! One direction of a tunnel: the position in its frames, and the bytes that its receiver has yet to take.

mod kept;

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::tunnel::reason::Reason;
use crate::ws::{Control, Cursor, FrameEvent, Side, cursor::MOST_COUNTED, frame};
use kept::Kept;

/// The bytes that one side sends to the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Flow {
    cursor: Cursor,
    from: Side,
    cut: Cut,
    #[serde(flatten)]
    kept: Kept,
    /// Bytes passed on, the gateway's own frames left out.
    bytes: u64,
    /// Messages whose last byte was passed on.
    messages: u64,
    /// The sender sends nothing more.
    pub(super) ended: bool,
    /// The receiver was told so, or takes nothing any more.
    pub(super) finished: bool,
}

/// Progress of the end that the gateway gives a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Cut {
    /// Everything is passed on.
    Open,
    /// A Close frame is due at the next frame boundary.
    Due(Reason),
    /// Nothing is passed on until another receiver takes the place of the one that goes.
    Held,
    /// Nothing is passed on any more; what the sender still sends is read for its Close frame only.
    Made,
}

/// Result of following a chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FollowedChunk {
    /// Bytes of the chunk that are to be passed on.
    pub(super) pass: usize,
    /// Messages that ended in the chunk.
    pub(super) messages: u64,
    /// Close frame to be passed on behind them.
    pub(super) close: Option<Reason>,
    /// A message exceeds the limit.
    pub(super) too_big: bool,
}

impl Flow {
    pub(super) fn new(from: Side) -> Self {
        Self {
            cursor: Cursor::new(from),
            from,
            cut: Cut::Open,
            kept: Kept::default(),
            bytes: 0,
            messages: 0,
            ended: false,
            finished: false,
        }
    }

    /// Tells whether nothing has come from the sender, and nothing is to be done about it.
    pub(super) fn is_untouched(&self) -> bool {
        self.bytes == 0 && self.cut == Cut::Open && !self.ended && !self.finished && self.kept.0.is_none()
    }

    /// Tells whether a flow that comes from another process can be one of the bytes that `from` sends.
    pub(super) fn is_sound(&self, from: Side) -> bool {
        self.from == from && self.cursor.is_sound(from) && self.bytes.max(self.messages) <= MOST_COUNTED
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Place of the stream, as far as it was followed.
    pub(super) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// The status code of the sender's Close frame, once it has passed.
    pub(super) fn closed(&self) -> Option<u16> {
        self.cursor.closed()
    }

    /// Tells whether the sender's Close frame has passed, so that nothing more is to come.
    ///
    /// False for a sender that [was given up](Self::give_up): a connection that is closed before everything was read is
    /// reset, and the reset could overtake the bytes sent last.
    pub(super) fn said_goodbye(&self) -> bool {
        self.closed().is_some() && !self.cursor.is_lost()
    }

    /// Tells whether the gateway ended this flow and everything that it passes on has been written.
    pub(super) fn cut_off(&self) -> bool {
        self.cut == Cut::Made && self.kept().is_empty()
    }

    /// Tells whether the flow has come to an end, or to a cut. The tunnel of two that have not goes on.
    pub(super) fn is_ending(&self) -> bool {
        self.ended || self.finished || self.cut == Cut::Made
    }

    /// Follows a chunk from the sender; tells how much of it is to be passed on.
    #[inline]
    pub(super) fn take(&mut self, chunk: &[u8], max_message: Option<u64>) -> FollowedChunk {
        if self.cut != Cut::Open || max_message.is_some() {
            return self.take_bounded(chunk, max_message);
        }
        // Nearly always.
        let mut messages = 0;
        self.cursor.advance(chunk, &mut |event| messages += ended(&event));
        self.bytes += chunk.len() as u64;
        self.messages += messages;
        FollowedChunk { pass: chunk.len(), messages, close: None, too_big: false }
    }

    /// Follows a chunk that the flow may not pass on to its end.
    fn take_bounded(&mut self, chunk: &[u8], max_message: Option<u64>) -> FollowedChunk {
        let taken = match self.cut {
            Cut::Open => self.take_limited(chunk, max_message.unwrap_or(u64::MAX)),
            Cut::Due(reason) => {
                let mut messages = 0;
                let pass = self.cursor.next_boundary(chunk, &mut |event| messages += ended(&event));
                FollowedChunk { pass, messages, close: self.cut_here(reason), too_big: false }
            }
            Cut::Made | Cut::Held => {
                self.cursor.advance(chunk, &mut |_| {});
                return FollowedChunk { pass: 0, messages: 0, close: None, too_big: false };
            }
        };
        if self.cut == Cut::Made {
            self.cursor.advance(&chunk[taken.pass..], &mut |_| {});
        }
        self.bytes += taken.pass as u64;
        self.messages += taken.messages;
        taken
    }

    /// Follows a chunk frame by frame, and cuts before the frame whose header announces too long a message.
    fn take_limited(&mut self, chunk: &[u8], limit: u64) -> FollowedChunk {
        let (mut pass, mut messages) = (0, 0);
        while pass < chunk.len() {
            let header_starts_here = self.cursor.at_boundary();
            let mut ahead = self.cursor.clone();
            let (mut too_big, mut here) = (false, 0);
            let step = ahead.next_boundary(&chunk[pass..], &mut |event| {
                too_big |= matches!(event, FrameEvent::Data { size, .. } if size > limit);
                here += ended(&event);
            });
            if too_big {
                self.cut = Cut::Made;
                // Where the header began in an earlier chunk it is on its way, and no frame of ours can follow it; nor
                // can one follow the sender's own Close.
                let ours = header_starts_here && self.cursor.closed().is_none();
                let close = ours.then_some(Reason::MessageTooBig);
                return FollowedChunk { pass, messages, close, too_big };
            }
            self.cursor = ahead;
            pass += step;
            messages += here;
        }
        FollowedChunk { pass, messages, close: None, too_big: false }
    }

    /// Ends the flow with a Close frame at its next boundary, behind everything passed on before. Returns the reason
    /// that the frame states if the flow stands at a boundary now.
    pub(super) fn cut(&mut self, reason: Reason) -> Option<Reason> {
        match self.cut {
            Cut::Open => {}
            Cut::Held => {
                self.cut = Cut::Made;
                return None;
            }
            Cut::Due(_) | Cut::Made => return None,
        }
        self.cut = Cut::Due(reason);
        self.cut_here(reason)
    }

    /// Ends the flow where it stands: with a Close frame at a boundary, without one inside a frame.
    pub(super) fn cut_now(&mut self, reason: Reason) -> Option<Reason> {
        let close = self.cut(reason);
        self.cut = Cut::Made;
        close
    }

    /// Tells whether nothing is passed on any more.
    pub(super) fn is_cut(&self) -> bool {
        self.cut == Cut::Made
    }

    /// Holds the flow where it stands, for another receiver. What this one has not taken is dropped where it is gone.
    pub(super) fn hold(&mut self, is_gone: bool) {
        self.cut = Cut::Held;
        if is_gone {
            self.kept = Kept::default();
        }
    }

    /// Goes on, at the beginning of a message, with another receiver or another sender.
    pub(super) fn restart(&mut self) {
        self.cut = Cut::Open;
        self.cursor = Cursor::new(self.from);
        self.finished = false;
    }

    /// Follows the stream from another place on.
    pub(super) fn stand_at(&mut self, cursor: Cursor) {
        self.cursor = cursor;
    }

    /// Length of the prefix of `chunk` before the first Close frame; `chunk.len()` when there is none.
    pub(super) fn until_close(&self, chunk: &[u8]) -> usize {
        let mut ahead = self.cursor.clone();
        let mut passed = 0;
        while passed < chunk.len() {
            if ahead.at_boundary() && ahead.is_close(chunk[passed]) {
                return passed;
            }
            passed += ahead.next_boundary(&chunk[passed..], &mut |_| {});
        }
        passed
    }

    /// Tells whether the stream stands between two messages, so that another sender or receiver can go on with it.
    pub(super) fn stands_between(&self) -> bool {
        self.cursor.at_boundary() && !self.cursor.in_message()
    }

    /// Inserts a Pong behind the bytes passed on, where one is legal there.
    pub(super) fn pong(&mut self, payload: &[u8]) -> bool {
        let legal = self.takes_pings() && self.cursor.at_boundary();
        if legal && self.kept().len() < MOST_KEPT {
            let mut pong = Vec::new();
            frame::control(&mut pong, Control::Pong, payload, self.mask());
            self.keep(&pong);
        }
        legal
    }

    /// Gives up a sender whose bytes make no sense any more. It counts as one that sent a Close frame with this code.
    pub(super) fn give_up(&mut self, code: u16) {
        self.cut = Cut::Made;
        self.cursor.give_up(code);
    }

    /// Gives up on the receiver: nothing is passed on any more.
    pub(super) fn abandon(&mut self) {
        self.cut = Cut::Made;
        self.kept = Kept::default();
        self.finished = true;
    }

    /// Makes a cut that is due, if the stream stands at a boundary. Returns the reason for the Close frame; `None`
    /// where the sender's own has passed (RFC 6455 §5.5.1: nothing follows a Close frame).
    fn cut_here(&mut self, reason: Reason) -> Option<Reason> {
        if !self.cursor.at_boundary() {
            return None;
        }
        self.cut = Cut::Made;
        self.cursor.closed().is_none().then_some(reason)
    }

    /// Tells whether a Ping may be inserted into this flow, at once or at its next frame boundary.
    pub(super) fn takes_pings(&self) -> bool {
        self.cut == Cut::Open && !self.ended && !self.cursor.is_lost() && self.cursor.closed().is_none()
    }

    /// Inserts a Ping behind the bytes passed on, if one is legal there; tells whether it was.
    ///
    /// A receiver that takes nothing is not sent one Ping after the other: the ones that it has not taken will do.
    pub(super) fn ping(&mut self) -> bool {
        let legal = self.takes_pings() && self.cursor.at_boundary();
        if legal && self.kept().len() < MOST_KEPT {
            self.keep(&frame::ping(b"longhaul", self.mask()));
        }
        legal
    }

    /// Length of the prefix of `chunk` that ends at the first message boundary; 0 when the flow stands at one already,
    /// and `chunk.len()` when the chunk holds none.
    pub(super) fn until_between(&self, chunk: &[u8]) -> usize {
        let mut ahead = self.cursor.clone();
        let mut passed = 0;
        while passed < chunk.len() && (ahead.in_message() || !ahead.at_boundary()) {
            passed += ahead.next_boundary(&chunk[passed..], &mut |_| {});
        }
        passed
    }

    /// Tells whether a whole message may be inserted here (RFC 6455 §5.4: not between the fragments of another one).
    pub(super) fn is_between(&self) -> bool {
        self.takes_pings() && self.cursor.at_boundary() && !self.cursor.in_message()
    }

    /// Keeps a Close frame of the gateway for the receiver.
    pub(super) fn keep_close(&mut self, reason: Reason, text: &str) {
        if let Some(code) = reason.close_code() {
            let close = frame::close(code, text, self.mask());
            self.keep(&close);
        }
    }

    /// Keeps bytes that the receiver did not take.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.kept.0.get_or_insert_default().bytes.extend_from_slice(bytes);
        }
    }

    /// Keeps bytes that the receiver did not take, in front of those that are kept already.
    pub(super) fn keep_in_front(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() && !self.finished {
            self.kept.0.get_or_insert_default().bytes.splice(..0, bytes.iter().copied());
        }
    }

    /// Tells whether there are bytes that the receiver has yet to take.
    pub(super) fn keeps(&self) -> bool {
        self.kept.0.is_some()
    }

    /// Bytes that the receiver has yet to take.
    pub(super) fn kept(&self) -> &[u8] {
        self.kept.0.as_ref().map_or(&[], |waiting| &waiting.bytes[waiting.written..])
    }

    /// Removes `count` kept bytes, which the receiver took; an emptied buffer is given back.
    pub(super) fn wrote(&mut self, count: usize) {
        let Some(waiting) = &mut self.kept.0 else { return };
        waiting.written += count;
        waiting.refused_since = None;
        if waiting.written == waiting.bytes.len() {
            self.kept = Kept::default();
        }
    }

    /// Notes that the receiver takes nothing more for now; tells whether that is news.
    pub(super) fn note_refused(&mut self, now: Instant) -> bool {
        let Some(waiting) = &mut self.kept.0 else { return false };
        let is_news = waiting.refused_since.is_none();
        waiting.refused_since.get_or_insert(now);
        is_news
    }

    /// Moment since which the receiver has taken none of the kept bytes; `None` while none are kept.
    pub(super) fn refused_since(&self) -> Option<Instant> {
        self.kept.0.as_ref()?.refused_since
    }

    /// Frames towards a backend are masked, with a key that nobody can guess (RFC 6455 §5.3).
    fn mask(&self) -> Option<[u8; 4]> {
        match self.from {
            Side::Client => Some(rand::random()),
            Side::Backend => None,
        }
    }
}

/// Number of messages that an event ends: 1 or 0.
fn ended(event: &FrameEvent) -> u64 {
    matches!(event, FrameEvent::MessageEnded { .. }).into()
}

/// Most kept bytes to which a Ping is added: a Ping (14 bytes) and a Close (131 at the most) stay within 65 KiB.
const MOST_KEPT: usize = 65 * 1024 - 256;
