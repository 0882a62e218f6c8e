//! Frames of the gateway's own (RFC 6455 §5.2): whole messages, and control frames to be inserted at a frame boundary.

use serde::{Deserialize, Serialize};

use super::header::{
    self, BINARY, CLOSE, FIN, Fault, FrameHeader, MAX_CONTROL, MAX_HEADER, NO_CODE, PING, PONG, RSV1, TEXT,
};
use super::mask;

/// Kind of a message (RFC 6455 §5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageKind {
    /// UTF-8 text.
    Text,
    /// Bytes of any kind.
    Binary,
}

/// The control frames (RFC 6455 §5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The sender sends nothing after it.
    Close,
    /// Asks for a Pong with the same payload.
    Ping,
    /// Answers a Ping, or comes unasked.
    Pong,
}

/// Appends a whole message, in one frame, to `out`.
///
/// `payload` is sent as it is: with `compressed` it is what permessage-deflate made of the message, and RSV1 says so
/// (RFC 7692 §6). `mask`: `None` towards a client, a fresh random key towards a backend (RFC 6455 §5.3).
pub fn message(out: &mut Vec<u8>, kind: MessageKind, payload: &[u8], compressed: bool, mask: Option<[u8; 4]>) {
    let opcode = match kind {
        MessageKind::Text => TEXT,
        MessageKind::Binary => BINARY,
    };
    append(out, if compressed { FIN | RSV1 } else { FIN } | opcode, payload, mask);
}

/// Appends a control frame to `out`.
///
/// `mask` as for [`message`]. A payload longer than 125 bytes is cut (RFC 6455 §5.5). That of a Close frame is taken
/// as it is; to write one from a code and a reason, see [`close`].
pub fn control(out: &mut Vec<u8>, control: Control, payload: &[u8], mask: Option<[u8; 4]>) {
    let opcode = match control {
        Control::Close => CLOSE,
        Control::Ping => PING,
        Control::Pong => PONG,
    };
    append(out, FIN | opcode, &payload[..payload.len().min(MAX_CONTROL)], mask);
}

/// A Close frame with a status code and a reason.
///
/// `mask` as for [`message`]. A reason longer than 123 bytes is cut at the last whole character. The codes that must
/// never be sent (1005, 1006, 1015: RFC 6455 §7.4.1) give a Close frame without code and reason.
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let (mut payload, mut length) = ([0; MAX_CONTROL], 0);
    if !matches!(code, 1005 | 1006 | 1015) {
        let reason = &reason.as_bytes()[..reason.floor_char_boundary(MAX_CONTROL - 2)];
        length = 2 + reason.len();
        payload[..2].copy_from_slice(&code.to_be_bytes());
        payload[2..length].copy_from_slice(reason);
    }
    let mut frame = Vec::new();
    control(&mut frame, Control::Close, &payload[..length], mask);
    frame
}

/// A Ping frame.
///
/// `mask` as for [`message`]. A payload longer than 125 bytes is cut.
pub fn ping(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::new();
    control(&mut frame, Control::Ping, payload, mask);
    frame
}

/// The payload of the control frame that `bytes` begin with, unmasked; `None` while the frame is not complete.
///
/// # Errors
/// The header is not one of a control frame.
pub fn control_payload(bytes: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
    let Some(header) = FrameHeader::parse(bytes) else { return Ok(None) };
    if let Some(fault) = header.fault() {
        return Err(fault);
    }
    // Of a frame that is no fault the payload has 125 bytes at the most, where it is one of a control frame.
    let length = usize::try_from(header.payload).unwrap_or(usize::MAX);
    let payload = &bytes[header.length..];
    let Some(payload) = payload.get(..length) else { return Ok(None) };
    let mut plain = Vec::with_capacity(length);
    mask::append(&mut plain, payload, header.mask.unwrap_or_default());
    Ok(Some(plain))
}

/// The status code in the payload of a Close frame; 1005 where it has none (RFC 6455 §7.1.5).
pub fn close_code(payload: &[u8]) -> u16 {
    payload.first_chunk().map_or(NO_CODE, |code| u16::from_be_bytes(*code))
}

/// Appends a frame; `first` is its first byte.
fn append(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: Option<[u8; 4]>) {
    out.reserve(MAX_HEADER + payload.len());
    header::append(out, first, payload.len(), mask);
    match mask {
        None => out.extend_from_slice(payload),
        Some(key) => mask::append(out, payload, key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_the_shortest_form() {
        let headers = [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xFF, 0xFF]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ];
        for (length, header) in headers {
            let mut out = Vec::new();
            message(&mut out, MessageKind::Binary, &vec![7; length], false, None);
            assert_eq!(&out[..header.len()], header);
            assert_eq!(out[header.len()..], vec![7; length]);
        }
    }

    #[test]
    fn a_compressed_message_has_rsv1_and_a_masked_one_its_key() {
        let mut out = vec![0xFF];
        message(&mut out, MessageKind::Text, &[0], true, Some([1, 2, 3, 4]));
        assert_eq!(out, [0xFF, 0xC1, 0x81, 1, 2, 3, 4, 1]);
    }

    #[test]
    fn control_frames_are_appended_with_their_opcode() {
        let mut out = Vec::new();
        control(&mut out, Control::Pong, b"a", None);
        control(&mut out, Control::Close, &[], Some([1, 2, 3, 4]));
        assert_eq!(out, [0x8A, 1, b'a', 0x88, 0x80, 1, 2, 3, 4]);
    }

    #[test]
    fn an_unmasked_close_is_code_and_reason() {
        assert_eq!(close(1001, "bye", None), [0x88, 5, 0x03, 0xE9, b'b', b'y', b'e']);
    }

    #[test]
    fn a_masked_close_unmasks_to_code_and_reason() {
        let frame = close(1012, "", Some([1, 2, 3, 4]));
        assert_eq!(frame, [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xF4 ^ 2]);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_whole_character() {
        let frame = close(1000, &"ä".repeat(100), None);
        assert_eq!(frame[1], 124);
        let reason = std::str::from_utf8(&frame[4..]).unwrap();
        assert_eq!(reason, "ä".repeat(61));
    }

    #[test]
    fn codes_that_must_not_be_sent_give_an_empty_close() {
        for code in [1005, 1006, 1015] {
            assert_eq!(close(code, "reason", None), [0x88, 0]);
        }
    }

    #[test]
    fn a_ping_carries_its_payload() {
        assert_eq!(ping(b"hi", None), [0x89, 2, b'h', b'i']);
        assert_eq!(ping(b"hi", Some([9, 8, 7, 6])), [0x89, 0x82, 9, 8, 7, 6, b'h' ^ 9, b'i' ^ 8]);
        assert_eq!(ping(&[0; 200], None).len(), 127);
    }
}
