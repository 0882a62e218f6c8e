//! permessage-deflate: messages that a stranger compressed, messages of our own, and the header that agrees on it.
//!
//! Flags: 0-1 the bytes are a compressed message, a message, or two lines of `Sec-WebSocket-Extensions`: a client's
//! offer and a backend's answer. The plan is the limit, in bytes, and the budget of one step.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;
use longhaul::ws::Side;
use longhaul::ws::deflate::{self, Codec, InflateError};
use longhaul_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let [high, low, budget] = input.plan;
    let limit = u64::from(u16::from_be_bytes([high, low]));
    match input.flags & 3 {
        0 | 1 => restore(input.bytes, limit, usize::from(budget).max(1)),
        2 => compress(input.bytes),
        _ => agree(input.bytes),
    }
});

/// A message that a stranger compressed is within the limit or refused, the same part by part, and leaves nothing
/// behind in the codec.
fn restore(payload: &[u8], limit: u64, budget: usize) {
    let mut codec = Codec::new();
    let restored = codec.inflate(payload, limit);
    let mut inflating = codec.begin(payload.len(), limit);
    let in_parts = loop {
        match codec.go_on(&mut inflating, payload, budget) {
            Ok(None) => assert!(inflating.restored() as u64 <= limit),
            Ok(Some(message)) => break Ok(message),
            Err(error) => break Err(error),
        }
    };
    assert_eq!(restored, in_parts);
    match restored {
        Ok(message) => {
            assert!(message.len() as u64 <= limit);
            let again = codec.deflate(&message);
            assert_eq!(codec.inflate(&again, limit), Ok(message));
        }
        Err(error) => assert!([1007, 1009].contains(&error.code())),
    }
    let hello = codec.deflate(b"hello");
    assert_eq!(codec.inflate(&hello, 5), Ok(b"hello".to_vec()), "nothing is left of the message before");
}

/// A message of our own is what it was, and is refused by a limit that it exceeds by a byte.
fn compress(message: &[u8]) {
    let mut codec = Codec::new();
    let payload = codec.deflate(message);
    assert_eq!(Codec::new().inflate(&payload, message.len() as u64).as_deref(), Ok(message));
    if let Some(less) = message.len().checked_sub(1) {
        assert_eq!(codec.inflate(&payload, less as u64), Err(InflateError::TooBig));
    }
    assert_eq!(codec.deflate(message), payload, "nothing is left of the message before");
}

/// What is offered to a backend is an offer, and what is told to the client is what was agreed.
fn agree(lines: &[u8]) {
    let mut lines = lines.split(|byte| *byte == b'\n').map(HeaderValue::from_bytes);
    let Some(Ok(line)) = lines.next() else { return };
    let Some(offer) = deflate::offer([&line]) else { return };
    assert_eq!(deflate::offer([&offer.header()]), Some(offer));
    let answer: Vec<HeaderValue> = lines.flatten().collect();
    if let Ok(Some(agreement)) = offer.agree(&answer) {
        assert_eq!(offer.agree([&agreement.header()]), Ok(Some(agreement)));
        for side in Side::ALL {
            assert!((8..=15).contains(&agreement.window_bits(side)));
        }
    }
}
