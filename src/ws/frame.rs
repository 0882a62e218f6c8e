//! Control frames of the gateway's own (RFC 6455 §5.5), to be inserted at a frame boundary.

/// A Close frame with a status code and a reason.
///
/// `mask`: `None` towards a client, a fresh random key towards a backend (RFC 6455 §5.3). A reason longer than 123
/// bytes is cut at the last whole character. The codes that must never be sent (1005, 1006, 1015: RFC 6455 §7.4.1)
/// give a Close frame without code and reason.
pub fn close(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    if matches!(code, 1005 | 1006 | 1015) {
        return control(CLOSE, &[], mask);
    }
    let mut payload = code.to_be_bytes().to_vec();
    let end = reason.floor_char_boundary(MAX_PAYLOAD - payload.len());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    control(CLOSE, &payload, mask)
}

/// A Ping frame.
///
/// `mask` as for [`close`]. A payload longer than 125 bytes is cut.
pub fn ping(payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    control(PING, &payload[..payload.len().min(MAX_PAYLOAD)], mask)
}

/// A whole control frame; `payload` is at most [`MAX_PAYLOAD`] bytes.
fn control(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("both callers cut the payload to 125 bytes");
    let mut frame = Vec::with_capacity(2 + 4 + payload.len());
    frame.push(FIN | opcode);
    match mask {
        None => {
            frame.push(length);
            frame.extend_from_slice(payload);
        }
        Some(key) => {
            frame.push(MASKED | length);
            frame.extend_from_slice(&key);
            frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
/// Longest payload of a control frame (RFC 6455 §5.5).
const MAX_PAYLOAD: usize = 125;

#[cfg(test)]
mod tests {
    use super::*;

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
