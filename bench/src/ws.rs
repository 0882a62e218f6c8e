//! Handshake and frames (RFC 6455) of the generator and the echo.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The key that every client of the generator sends: the example of RFC 6455 §1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The `Sec-WebSocket-Accept` for [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accept(key: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(key);
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

/// The request that opens a tunnel, about as long as a browser's.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: bench.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nOrigin: http://bench.example.com\r\n\
         User-Agent: longhaul-bench\r\n\r\n"
    )
    .into_bytes()
}

/// True when `head`, a whole response header, is a 101 that accepts [`KEY`].
pub fn accepts(head: &[u8]) -> bool {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    matches!(response.parse(head), Ok(httparse::Status::Complete(_)))
        && response.code == Some(101)
        && response
            .headers
            .iter()
            .any(|h| h.name.eq_ignore_ascii_case("sec-websocket-accept") && h.value == ACCEPT.as_bytes())
}

/// A binary message as the client sends it (masked), and as it must come back (not masked).
pub struct Message {
    /// The frame of the client.
    pub frame: Vec<u8>,
    /// The frame that must come back.
    pub answer: Vec<u8>,
    /// Bytes of payload.
    pub payload: usize,
}

impl Message {
    /// A message of `payload` bytes.
    pub fn new(payload: usize) -> Self {
        let body: Vec<u8> = (0..payload).map(|at| (at % 251) as u8).collect();
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = header(0x2, payload, 0x80);
        frame.extend_from_slice(&mask);
        frame.extend(body.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        let mut answer = header(0x2, payload, 0);
        answer.extend_from_slice(&body);
        Self { frame, answer, payload }
    }
}

/// A masked Close frame with code 1000.
pub fn close_frame() -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = header(0x8, 2, 0x80);
    frame.extend_from_slice(&mask);
    frame.extend([0x03 ^ mask[0], 0xe8 ^ mask[1]]);
    frame
}

/// The header of an unfragmented frame; `masked` is 0x80 or 0.
pub fn header(opcode: u8, payload: usize, masked: u8) -> Vec<u8> {
    let mut header = vec![0x80 | opcode];
    match payload {
        0..=125 => header.push(masked | payload as u8),
        126..=0xffff => {
            header.push(masked | 126);
            header.extend((payload as u16).to_be_bytes());
        }
        _ => {
            header.push(masked | 127);
            header.extend((payload as u64).to_be_bytes());
        }
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_the_key_is_the_one_of_the_standard() {
        assert_eq!(accept(KEY.as_bytes()), ACCEPT);
    }

    #[test]
    fn a_message_comes_back_unmasked_with_the_same_length() {
        let message = Message::new(64);
        assert_eq!(message.frame[..2], [0x82, 0x80 | 64]);
        assert_eq!(message.answer[..2], [0x82, 64]);
        assert_eq!(message.frame.len(), message.answer.len() + 4);
        assert_eq!(Message::new(65_536).answer[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn only_a_101_with_the_right_accept_opens_a_tunnel() {
        let right = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n");
        assert!(accepts(right.as_bytes()));
        assert!(!accepts(right.replace("101", "200").as_bytes()));
        assert!(!accepts(right.replace("s3p", "s4p").as_bytes()));
    }
}
