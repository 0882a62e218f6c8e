//! Frame headers (RFC 6455 §5.2): their bits, opcodes and lengths.

/// Violation of the framing, after which a stream can no longer be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// RFC 6455 §5.5.
    #[error("a control frame is longer than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 §5.5.
    #[error("a control frame is fragmented")]
    ControlFragmented,
    /// RFC 6455 §5.2: the most significant bit must be 0.
    #[error("a frame's length exceeds 63 bits")]
    LengthTooLong,
}

/// A frame's header (RFC 6455 §5.2).
pub(super) struct FrameHeader {
    /// FIN, reserved bits, opcode.
    pub(super) first: u8,
    pub(super) mask: Option<[u8; 4]>,
    /// Length of the payload in bytes.
    pub(super) payload: u64,
    /// Length of the header itself in bytes.
    pub(super) length: usize,
}

impl FrameHeader {
    /// Reads the header that `bytes` begin with; `None` when they end inside it.
    #[inline]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let (payload, rest) = match second & LENGTH {
            LENGTH_IN_2 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            LENGTH_IN_8 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            length => (u64::from(length), rest),
        };
        let (mask, rest) = if second & MASKED != 0 {
            let (mask, rest) = rest.split_first_chunk()?;
            (Some(*mask), rest)
        } else {
            (None, rest)
        };
        Some(Self { first: *first, mask, payload, length: bytes.len() - rest.len() })
    }

    /// Tells whether the length is written in as few bytes as it can be (RFC 6455 §5.2).
    pub(super) fn is_shortest(&self) -> bool {
        match self.length - self.mask.map_or(0, |mask| mask.len()) {
            2 => true,
            4 => self.payload >= u64::from(LENGTH_IN_2),
            _ => self.payload > u64::from(u16::MAX),
        }
    }

    /// Violation that makes the rest of the stream unreadable, if the header is one.
    #[inline]
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.first & CONTROL != 0 {
            if self.payload > MAX_CONTROL as u64 {
                return Some(Fault::ControlTooLong);
            }
            if self.first & FIN == 0 {
                return Some(Fault::ControlFragmented);
            }
        }
        (self.payload >> 63 != 0).then_some(Fault::LengthTooLong)
    }
}

/// Appends a header for `payload` bytes to `out`; `first` is its first byte. The length is written in the shortest
/// form.
pub(super) fn append(out: &mut Vec<u8>, first: u8, payload: usize, mask: Option<[u8; 4]>) {
    let masked = if mask.is_some() { MASKED } else { 0 };
    out.push(first);
    if let Ok(length) = u8::try_from(payload)
        && length < LENGTH_IN_2
    {
        out.push(masked | length);
    } else if let Ok(length) = u16::try_from(payload) {
        out.push(masked | LENGTH_IN_2);
        out.extend_from_slice(&length.to_be_bytes());
    } else {
        out.push(masked | LENGTH_IN_8);
        out.extend_from_slice(&(payload as u64).to_be_bytes());
    }
    out.extend_from_slice(mask.as_ref().map_or(&[], |key| key.as_slice()));
}

pub(super) const FIN: u8 = 0x80;
/// The reserved bits.
pub(super) const RESERVED: u8 = 0x70;
/// The reserved bit that marks a compressed message (RFC 7692 §6).
pub(super) const RSV1: u8 = 0x40;
pub(super) const OPCODE: u8 = 0x0F;
/// The bit that control opcodes have and others do not.
pub(super) const CONTROL: u8 = 0x08;
pub(super) const CONTINUATION: u8 = 0x0;
pub(super) const TEXT: u8 = 0x1;
pub(super) const BINARY: u8 = 0x2;
pub(super) const CLOSE: u8 = 0x8;
pub(super) const PING: u8 = 0x9;
pub(super) const PONG: u8 = 0xA;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7F;
const LENGTH_IN_2: u8 = 126;
const LENGTH_IN_8: u8 = 127;
/// Longest header: two bytes, a length of eight, a mask of four.
pub(super) const MAX_HEADER: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub(super) const MAX_CONTROL: usize = 125;
/// Status code that stands for a Close frame without one (RFC 6455 §7.1.5).
pub(super) const NO_CODE: u16 = 1005;
