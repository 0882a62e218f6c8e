//! Messages as frames in the stream of one side.

use crate::hook::Message;
use crate::ws::{MessageKind, Side, frame};

/// A message as one frame, not compressed, in the stream from `from`.
pub(in crate::tunnel) fn encode(from: Side, message: &Message) -> Vec<u8> {
    let mut out = Vec::new();
    frame::message(&mut out, kind(message), message.as_bytes(), false, mask(from));
    out
}

pub(super) fn kind(message: &Message) -> MessageKind {
    if message.is_text() { MessageKind::Text } else { MessageKind::Binary }
}

/// Frames towards a backend are masked, with a key that nobody can guess (RFC 6455 §5.3).
pub(super) fn mask(from: Side) -> Option<[u8; 4]> {
    (from == Side::Client).then(rand::random)
}
