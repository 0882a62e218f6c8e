//! The cursor: it follows the frame boundaries of one direction of a WebSocket byte stream as the bytes pass.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize, Serializer};

use super::header::{CLOSE, CONTROL, FIN, Fault, FrameHeader, MAX_HEADER, NO_CODE, OPCODE, PING, PONG};
use super::side::Side;

/// Event that a cursor reports.
///
/// Opcodes and reserved bits that RFC 6455 does not define are passed over like any others, since an extension may
/// have given them a meaning; opcodes 8 to 15 are control frames, the others carry data (§5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameEvent {
    /// The header of a frame that carries data was read; its payload is yet to come.
    Data {
        /// Opcode of the message's first frame.
        opcode: u8,
        /// Payload bytes of the message so far, all of this frame's included; stays at `u64::MAX` once there.
        size: u64,
    },
    /// The last byte of a message passed.
    MessageEnded {
        /// Opcode of the message's first frame: 1 text, 2 binary; 0 where a message began with a continuation frame.
        opcode: u8,
        /// Payload bytes of all its frames, as they are on the wire (compressed where an extension compresses).
        size: u64,
    },
    /// The last byte of a Ping frame passed.
    Ping,
    /// The last byte of a Pong frame passed.
    Pong,
    /// The last byte of a Close frame passed; its status code, 1005 where it has none (RFC 6455 §7.1.5).
    Close(u16),
    /// A frame is masked that must not be, or the other way round (RFC 6455 §5.1). The cursor goes on all the same.
    MaskWrong,
    /// The stream can no longer be followed. Reported once; nothing else is reported after it.
    Lost(Fault),
}

/// Follows the frames of one direction (RFC 6455 §5.2): reads headers, skips payloads, never keeps any bytes.
///
/// A cursor takes any bytes. Where the framing breaks it is *lost*: it lets all further bytes pass unseen and never
/// stands at a boundary again, so that the gateway writes no frame of its own into the stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cursor {
    /// Payload bytes of the current frame that have not passed yet.
    left: u64,
    /// Payload bytes of the current message, from the headers seen so far.
    size: u64,
    /// `At::Header`: the header's first `have` bytes, when a chunk ended inside it.
    /// `At::Payload` of a Close frame: two bytes of mask, then the first `have` bytes of the status code.
    held: [u8; MAX_HEADER],
    /// Number of bytes in `held`.
    have: u8,
    /// First byte of the current frame: FIN, reserved bits, opcode.
    first: u8,
    /// Opcode of the current message's first frame.
    opcode: u8,
    /// A message has begun that has not ended.
    in_message: bool,
    at: At,
    sender: Side,
    closed: Option<u16>,
    #[serde(default)]
    messages: Uncounted,
}

/// The number of messages, which cursors of earlier releases kept and want to be given: 0, and nothing here.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(from = "IgnoredAny")]
struct Uncounted;

impl From<IgnoredAny> for Uncounted {
    fn from(_: IgnoredAny) -> Self {
        Self
    }
}

impl Serialize for Uncounted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(0)
    }
}

/// Position of the stream within a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum At {
    Header,
    Payload,
    Lost,
}

impl Cursor {
    /// A cursor at the first byte after the handshake, for the bytes that `sender` sends.
    pub fn new(sender: Side) -> Self {
        Self {
            left: 0,
            size: 0,
            held: [0; MAX_HEADER],
            have: 0,
            first: 0,
            opcode: 0,
            in_message: false,
            at: At::Header,
            sender,
            closed: None,
            messages: Uncounted,
        }
    }

    /// Follows a whole chunk, and tells `on` what happens in it, in order.
    #[inline]
    pub fn advance(&mut self, mut chunk: &[u8], on: &mut impl FnMut(FrameEvent)) {
        while !chunk.is_empty() {
            let passed = self.next_boundary(chunk, on);
            chunk = &chunk[passed..];
        }
    }

    /// Follows a chunk up to the end of the current frame, or of the chunk if that comes first.
    ///
    /// Returns how many bytes passed: 0 for an empty chunk only. Whether they end at a boundary, ask
    /// [`at_boundary`](Self::at_boundary). When the cursor stands at a boundary already, the step goes over one frame.
    #[inline]
    pub fn next_boundary(&mut self, chunk: &[u8], on: &mut impl FnMut(FrameEvent)) -> usize {
        let mut passed = 0;
        if self.at == At::Header {
            passed = self.header(chunk, on);
        }
        match self.at {
            At::Header => passed,
            At::Payload => passed + self.payload(&chunk[passed..], on),
            At::Lost => chunk.len(),
        }
    }

    /// Tells whether the stream stands between two frames, where another frame may be inserted.
    ///
    /// True before the first byte. After a Close frame its sender must send nothing more: see [`closed`](Self::closed).
    #[inline]
    pub fn at_boundary(&self) -> bool {
        self.at == At::Header && self.have == 0
    }

    /// Tells whether a message has begun that has not ended: no other one may begin there (RFC 6455 §5.4).
    pub fn in_message(&self) -> bool {
        self.in_message
    }

    /// Tells whether a data message begins with the next byte, if that is `byte`.
    pub fn opens_message(&self, byte: u8) -> bool {
        self.at_boundary() && !self.in_message && byte & CONTROL == 0
    }

    /// Tells whether the next byte, if that is `byte`, belongs to a Close frame.
    pub fn is_close(&self, byte: u8) -> bool {
        let first = match self.at {
            At::Header if self.have == 0 => byte,
            At::Header => self.held[0],
            At::Payload => self.first,
            At::Lost => return false,
        };
        first & OPCODE == CLOSE
    }

    /// Tells whether a frame that begins with `byte` is a control frame.
    pub fn is_control(byte: u8) -> bool {
        byte & CONTROL != 0
    }

    /// Follows the stream no further, as if it were closed with this code: its sender broke the rules.
    pub fn give_up(&mut self, code: u16) {
        self.closed.get_or_insert(code);
        self.at = At::Lost;
    }

    /// Tells whether the framing broke, so that this stream is no longer followed.
    pub fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Payload bytes of the message under way: the sum over the headers seen so far, hence ahead of the bytes that
    /// passed. 0 when none is under way.
    pub fn message_size(&self) -> u64 {
        self.size
    }

    /// Tells whether this is a state that the bytes of `sender` can lead to, as far as following them relies on it. A
    /// cursor that comes from another process may be in any.
    pub fn is_sound(&self, sender: Side) -> bool {
        let most_held = match self.at {
            At::Header => MAX_HEADER - 1,
            At::Payload if self.first & OPCODE == CLOSE => 2,
            At::Payload | At::Lost => 0,
        };
        self.sender == sender && usize::from(self.have) <= most_held
    }

    /// The status code of the first Close frame, once its last byte has passed; 1005 where it has none.
    pub fn closed(&self) -> Option<u16> {
        self.closed
    }

    /// Reads the rest of a header, and returns how many bytes of the chunk belong to it.
    fn header(&mut self, chunk: &[u8], on: &mut impl FnMut(FrameEvent)) -> usize {
        if self.have == 0
            && let Some(header) = FrameHeader::parse(chunk)
        {
            self.begin(&header, on);
            return header.length;
        }
        for (taken, byte) in chunk.iter().enumerate() {
            // Fewer than MAX_HEADER are held here: that many are always a header, which would have been parsed.
            self.held[usize::from(self.have)] = *byte;
            self.have += 1;
            let held = self.held;
            if let Some(header) = FrameHeader::parse(&held[..usize::from(self.have)]) {
                self.begin(&header, on);
                return taken + 1;
            }
        }
        chunk.len()
    }

    /// Goes from a complete header to its payload.
    fn begin(&mut self, header: &FrameHeader, on: &mut impl FnMut(FrameEvent)) {
        self.have = 0;
        if let Some(fault) = header.fault() {
            self.at = At::Lost;
            on(FrameEvent::Lost(fault));
            return;
        }
        if header.mask.is_some() != (self.sender == Side::Client) {
            on(FrameEvent::MaskWrong);
        }
        self.at = At::Payload;
        self.first = header.first;
        self.left = header.payload;
        let opcode = self.first & OPCODE;
        if opcode & CONTROL == 0 {
            if !self.in_message {
                self.in_message = true;
                self.opcode = opcode;
            }
            self.size = self.size.saturating_add(header.payload);
            on(FrameEvent::Data { opcode: self.opcode, size: self.size });
        } else if opcode == CLOSE {
            let [first, second, ..] = header.mask.unwrap_or_default();
            self.held[..2].copy_from_slice(&[first, second]);
        }
    }

    /// Skips payload, and returns how many bytes of the chunk belong to it.
    fn payload(&mut self, chunk: &[u8], on: &mut impl FnMut(FrameEvent)) -> usize {
        let length = usize::try_from(self.left).map_or(chunk.len(), |left| left.min(chunk.len()));
        if self.first & OPCODE == CLOSE {
            for byte in chunk[..length].iter().take(2 - usize::from(self.have)) {
                self.held[2 + usize::from(self.have)] = *byte;
                self.have += 1;
            }
        }
        self.left -= length as u64;
        if self.left == 0 {
            self.end(on);
        }
        length
    }

    /// Goes from a complete frame to the boundary behind it.
    fn end(&mut self, on: &mut impl FnMut(FrameEvent)) {
        self.at = At::Header;
        match self.first & OPCODE {
            opcode if opcode & CONTROL == 0 && self.first & FIN != 0 => {
                let ended = FrameEvent::MessageEnded { opcode: self.opcode, size: self.size };
                self.in_message = false;
                self.size = 0;
                on(ended);
            }
            CLOSE => {
                let [m0, m1, c0, c1, ..] = self.held;
                let code = if self.have == 2 { u16::from_be_bytes([m0 ^ c0, m1 ^ c1]) } else { NO_CODE };
                self.have = 0;
                self.closed.get_or_insert(code);
                on(FrameEvent::Close(code));
            }
            PING => on(FrameEvent::Ping),
            PONG => on(FrameEvent::Pong),
            _ => {}
        }
    }
}

/// More than any stream has: so many are never counted up to.
pub const MOST_COUNTED: u64 = u64::MAX / 2;

#[cfg(test)]
pub(super) mod tests;
