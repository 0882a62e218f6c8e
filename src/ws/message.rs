//! Whole messages: a strict reader of one direction of a WebSocket byte stream (RFC 6455 §5 to §8).

use serde::{Deserialize, Serialize};

use super::frame::{Control, MessageKind};
use super::header::{
    BINARY, CLOSE, CONTINUATION, FIN, Fault, FrameHeader, MAX_CONTROL, MAX_HEADER, OPCODE, PING, PONG, RESERVED, RSV1,
    TEXT,
};
use super::mask;
use super::side::Side;

/// Puts the messages of one direction together, and refuses whatever RFC 6455 forbids.
///
/// Memory: nothing is allocated between two messages. The buffer of a message under way is at most twice of what came
/// of it, and a message that came whole costs one allocation of its own size. A control frame has 125 bytes at most.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assembler {
    sender: Side,
    compressed_allowed: bool,
    /// Of one message's payload on the wire, in bytes.
    max_message: u64,
    at: At,
    /// The header's first `have` bytes, when a chunk ended inside it.
    held: [u8; MAX_HEADER],
    have: u8,
    /// The key of the current frame, turned so that its first byte is the next to be used; zeros if not masked.
    mask: [u8; 4],
    /// Payload bytes of the current frame that have not come yet.
    left: u64,
    /// The message under way: what it carries, and whether it is compressed.
    begun: Option<(MessageKind, bool)>,
    /// Bytes that came of the message under way, unmasked.
    #[serde(with = "crate::base64_text")]
    payload: Vec<u8>,
    /// Bytes that came of the control frame under way, unmasked.
    #[serde(with = "crate::base64_text")]
    control: Vec<u8>,
}

/// Part of a frame that the next byte belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Header,
    /// A frame of a message, the last one or not.
    Data {
        last: bool,
    },
    Control(Control),
    /// Nothing that counts: a Close frame or a violation came before.
    End,
}

/// Unit of the stream that came whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WholeItem {
    /// A message.
    Message(Assembled),
    /// A control frame; those between the fragments of a message come before it.
    Control {
        /// Which one.
        opcode: Control,
        /// Unmasked; at most 125 bytes. That of a Close frame is valid, see [`close_code`](super::frame::close_code).
        payload: Vec<u8>,
    },
}

/// A message: all its fragments joined and unmasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Kind of the message. Text has not been checked to be UTF-8: see [`into_text`].
    pub kind: MessageKind,
    /// At most `max_message` bytes.
    pub payload: Vec<u8>,
    /// RSV1 was set: permessage-deflate made the payload of the message (RFC 7692 §6).
    pub compressed: bool,
}

/// Violation of RFC 6455, or of the limit, by the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// §5.2; RSV1 is fine on a message's first frame where permessage-deflate was agreed (RFC 7692 §6).
    #[error("a reserved bit is set")]
    ReservedBit,
    /// §5.2.
    #[error("opcode {0} is not defined")]
    UnknownOpcode(u8),
    /// §5.1: a client must.
    #[error("a frame of the client's is not masked")]
    NotMasked,
    /// §5.1: a server must not.
    #[error("a frame of the backend's is masked")]
    Masked,
    /// §5.2, §5.5: the frame's length or shape.
    #[error(transparent)]
    Framing(#[from] Fault),
    /// §5.2: the minimal number of bytes must be used.
    #[error("a frame's length is not written in the shortest form")]
    LengthNotShortest,
    /// §5.4.
    #[error("a continuation frame continues nothing")]
    NothingToContinue,
    /// §5.4.
    #[error("a message begins inside another one")]
    MessageInMessage,
    /// §5.5.1: no payload, or a code of two bytes and more.
    #[error("a Close frame has half a code")]
    CloseTooShort,
    /// §7.4: a code that nobody may send, or that is not defined.
    #[error("{0} is no code that a Close frame may have")]
    CloseCode(u16),
    /// §5.5.1.
    #[error("the reason in a Close frame is not UTF-8")]
    ReasonNotUtf8,
    /// §8.1.
    #[error("a text message is not UTF-8")]
    TextNotUtf8,
    /// §10.4: longer than the limit, by its headers.
    #[error("a message is longer than the limit")]
    TooLong,
}

impl Violation {
    /// The status code to close with (RFC 6455 §7.4.1): 1007 for what is not UTF-8, 1009 for what is too long, else
    /// 1002.
    pub fn code(self) -> u16 {
        match self {
            Self::ReasonNotUtf8 | Self::TextNotUtf8 => 1007,
            Self::TooLong => 1009,
            _ => 1002,
        }
    }
}

impl Assembler {
    /// A reader at the first byte after the handshake, for the bytes that `sender` sends.
    ///
    /// `compressed_allowed`: whether permessage-deflate was agreed. `max_message`: the longest payload of a message in
    /// bytes, as it is on the wire (compressed where it is); `u64::MAX` for no limit.
    pub fn new(sender: Side, compressed_allowed: bool, max_message: u64) -> Self {
        Self {
            sender,
            compressed_allowed,
            max_message,
            at: At::Header,
            held: [0; MAX_HEADER],
            have: 0,
            mask: [0; 4],
            left: 0,
            begun: None,
            payload: Vec::new(),
            control: Vec::new(),
        }
    }

    /// Reads on until something came whole, and moves `chunk` behind it; `None` once the chunk is used up.
    ///
    /// After a Close frame or a violation nothing counts any more (RFC 6455 §1.4, §7.1.7): all further bytes are passed
    /// over, and memory is given back.
    ///
    /// # Errors
    /// The first [`Violation`], once. What an overlong frame's header announces is refused before anything is kept.
    pub fn next(&mut self, chunk: &mut &[u8]) -> Option<Result<WholeItem, Violation>> {
        loop {
            let came = match self.at {
                At::Header => match self.header(chunk).map(|header| self.begin(&header))? {
                    Ok(()) => continue,
                    Err(violation) => Err(violation),
                },
                At::Data { last } => {
                    fill(&mut self.payload, &mut self.left, &mut self.mask, last, chunk)?;
                    self.at = At::Header;
                    match self.begun {
                        Some((kind, compressed)) if last => {
                            self.begun = None;
                            let payload = std::mem::take(&mut self.payload);
                            Ok(WholeItem::Message(Assembled { kind, payload, compressed }))
                        }
                        _ => continue,
                    }
                }
                At::Control(opcode) => {
                    fill(&mut self.control, &mut self.left, &mut self.mask, true, chunk)?;
                    self.at = At::Header;
                    let payload = std::mem::take(&mut self.control);
                    let valid = if opcode == Control::Close { check_close(&payload) } else { Ok(()) };
                    valid.map(|()| WholeItem::Control { opcode, payload })
                }
                At::End => {
                    *chunk = &[];
                    return None;
                }
            };
            if matches!(came, Err(_) | Ok(WholeItem::Control { opcode: Control::Close, .. })) {
                self.end();
            }
            return Some(came);
        }
    }

    /// Tells whether this is a state that the bytes of `sender` can lead to, as far as memory and bounds rely on it. An
    /// assembler that comes from another process may be in any.
    pub fn is_sound(&self, sender: Side) -> bool {
        let is_within = |came: &[u8], most: u64| (came.len() as u64).saturating_add(self.left) <= most;
        let is_right = match self.at {
            At::Header => is_within(&self.payload, u64::MAX) && self.control.is_empty(),
            At::Data { .. } => is_within(&self.payload, self.max_message) && self.control.is_empty(),
            At::Control(_) => is_within(&self.control, MAX_CONTROL as u64),
            At::End => self.held() == 0,
        };
        let is_begun = self.begun.is_some() || self.payload.is_empty() && !matches!(self.at, At::Data { .. });
        self.sender == sender && usize::from(self.have) < MAX_HEADER && is_right && is_begun
    }

    /// Tells whether nothing counts any more: a Close frame or a violation came.
    pub fn is_at_end(&self) -> bool {
        self.at == At::End
    }

    /// Tells whether a message has begun that has not ended.
    pub fn in_message(&self) -> bool {
        self.begun.is_some()
    }

    /// Tells whether the stream stands between two messages, and between two frames.
    pub fn is_between(&self) -> bool {
        self.at == At::Header && self.have == 0 && self.begun.is_none()
    }

    /// Bytes that are kept of the message or control frame under way.
    pub fn held(&self) -> usize {
        self.payload.len() + self.control.len()
    }

    /// Gives up: nothing counts any more, and memory is given back.
    pub fn give_up(&mut self) {
        self.end();
    }

    /// Reads a header, or what the chunk has of it.
    #[inline]
    fn header(&mut self, chunk: &mut &[u8]) -> Option<FrameHeader> {
        if self.have == 0
            && let Some(header) = FrameHeader::parse(chunk)
        {
            *chunk = &chunk[header.length..];
            return Some(header);
        }
        while let Some((byte, rest)) = chunk.split_first() {
            *chunk = rest;
            // Fewer than MAX_HEADER are held here: that many are always a header, which would have been parsed.
            self.held[usize::from(self.have)] = *byte;
            self.have += 1;
            if let Some(header) = FrameHeader::parse(&self.held[..usize::from(self.have)]) {
                self.have = 0;
                return Some(header);
            }
        }
        None
    }

    /// Goes from a complete header to its payload, if the header is legal here.
    fn begin(&mut self, header: &FrameHeader) -> Result<(), Violation> {
        self.check(header)?;
        self.left = header.payload;
        self.mask = header.mask.unwrap_or_default();
        let last = header.first & FIN != 0;
        let compressed = header.first & RSV1 != 0;
        self.at = match header.first & OPCODE {
            CONTINUATION => At::Data { last },
            TEXT => {
                self.begun = Some((MessageKind::Text, compressed));
                At::Data { last }
            }
            BINARY => {
                self.begun = Some((MessageKind::Binary, compressed));
                At::Data { last }
            }
            CLOSE => At::Control(Control::Close),
            PING => At::Control(Control::Ping),
            PONG => At::Control(Control::Pong),
            opcode => return Err(Violation::UnknownOpcode(opcode)),
        };
        Ok(())
    }

    /// Checks a header for every violation, except for an unknown opcode.
    fn check(&self, header: &FrameHeader) -> Result<(), Violation> {
        let opcode = header.first & OPCODE;
        let begins = matches!(opcode, TEXT | BINARY);
        let may_be_set = if self.compressed_allowed && begins { RSV1 } else { 0 };
        if header.first & RESERVED & !may_be_set != 0 {
            return Err(Violation::ReservedBit);
        }
        match (self.sender, header.mask) {
            (Side::Client, None) => return Err(Violation::NotMasked),
            (Side::Backend, Some(_)) => return Err(Violation::Masked),
            _ => {}
        }
        if let Some(fault) = header.fault() {
            return Err(fault.into());
        }
        if !header.is_shortest() {
            return Err(Violation::LengthNotShortest);
        }
        if opcode == CONTINUATION && self.begun.is_none() {
            return Err(Violation::NothingToContinue);
        }
        if begins && self.begun.is_some() {
            return Err(Violation::MessageInMessage);
        }
        let is_data = begins || opcode == CONTINUATION;
        if is_data && (self.payload.len() as u64).saturating_add(header.payload) > self.max_message {
            return Err(Violation::TooLong);
        }
        Ok(())
    }

    fn end(&mut self) {
        self.at = At::End;
        self.begun = None;
        self.payload = Vec::new();
        self.control = Vec::new();
    }
}

/// Takes a frame's payload, of which `left` bytes are yet to come, from the chunk; `None` if that does not have it all.
#[inline]
fn fill(buffer: &mut Vec<u8>, left: &mut u64, mask: &mut [u8; 4], last: bool, chunk: &mut &[u8]) -> Option<()> {
    let length = usize::try_from(*left).map_or(chunk.len(), |left| left.min(chunk.len()));
    let (piece, rest) = chunk.split_at(length);
    *chunk = rest;
    grow(buffer, length, *left, last);
    *left -= length as u64;
    if *mask == [0; 4] {
        buffer.extend_from_slice(piece);
    } else {
        mask::append(buffer, piece, *mask);
        mask.rotate_left(length % 4);
    }
    (*left == 0).then_some(())
}

/// Makes room for a piece: twice of what is needed, but no more than a last frame announces.
fn grow(buffer: &mut Vec<u8>, piece: usize, left: u64, last: bool) {
    let needed = buffer.len() + piece;
    if needed <= buffer.capacity() {
        return;
    }
    let announced = usize::try_from(left).map_or(usize::MAX, |left| left.saturating_add(buffer.len()));
    let room = if last { (2 * needed).min(announced) } else { 2 * needed };
    buffer.reserve_exact(room - buffer.len());
}

/// Takes a message's payload for text, once it is inflated where it was compressed.
///
/// # Errors
/// [`Violation::TextNotUtf8`].
pub fn into_text(payload: Vec<u8>) -> Result<String, Violation> {
    String::from_utf8(payload).map_err(|_not_utf8| Violation::TextNotUtf8)
}

/// Checks the payload of a Close frame (RFC 6455 §5.5.1, §7.4).
fn check_close(payload: &[u8]) -> Result<(), Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(()) } else { Err(Violation::CloseTooShort) };
    };
    match u16::from_be_bytes(*code) {
        // Defined by RFC 6455 §7.4.1 or registered with IANA; then those for libraries and applications.
        1000..=1003 | 1007..=1014 | 3000..=4999 => {}
        code => return Err(Violation::CloseCode(code)),
    }
    std::str::from_utf8(reason).map(|_text| ()).map_err(|_not_utf8| Violation::ReasonNotUtf8)
}

#[cfg(test)]
mod tests;
