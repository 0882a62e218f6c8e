//! Rules for STOMP 1.0 to 1.2: one frame in each message, as its WebSocket clients and brokers send it.

use super::memory::{Keep, MemoryNote, MessageKey};
use crate::hook::Direction;

/// Adds to `notes` what a frame means.
pub(super) fn read(direction: Direction, payload: &[u8], notes: &mut Vec<MemoryNote>) {
    let Some(frame) = Frame::read(payload) else { return };
    // In STOMP 1.0 the destination stands for an id that is left out.
    let subscription = || frame.header("id").or_else(|| frame.header("destination")).unwrap_or_default();
    let receipt = |name| frame.header(name).map(|id| MessageKey::new(RECEIPT, id));
    match (direction, frame.command) {
        (Direction::ToBackend, "CONNECT" | "STOMP") => {
            let key = MessageKey::new(CONNECTION, "");
            notes.push(MemoryNote::Keep(Keep { key: key.clone(), answer: Some(key), greets: true }));
        }
        (Direction::ToBackend, "SUBSCRIBE") => {
            let key = MessageKey::new(SUBSCRIPTION, subscription());
            notes.push(MemoryNote::Keep(Keep { key, answer: receipt("receipt"), greets: false }));
        }
        (Direction::ToBackend, "UNSUBSCRIBE") => {
            notes.push(MemoryNote::Forget(MessageKey::new(SUBSCRIPTION, subscription())))
        }
        (Direction::ToBackend, "DISCONNECT") => notes.push(MemoryNote::ForgetAll),
        (Direction::ToClient, "CONNECTED") => notes.push(MemoryNote::Answer(MessageKey::new(CONNECTION, ""))),
        (Direction::ToClient, "RECEIPT") => notes.extend(receipt("receipt-id").map(MemoryNote::Answer)),
        _ => {}
    }
}

const CONNECTION: usize = 0;
const SUBSCRIPTION: usize = 1;
const RECEIPT: usize = 2;

struct Frame<'p> {
    command: &'p str,
    headers: &'p str,
}

impl<'p> Frame<'p> {
    /// The head of a frame; the body may be anything.
    fn read(payload: &'p [u8]) -> Option<Self> {
        // Lines between frames are heart-beats.
        let start = payload.iter().position(|byte| !matches!(byte, b'\r' | b'\n'))?;
        let payload = &payload[start..];
        let lf = payload.windows(2).position(|two| two == b"\n\n");
        let crlf = payload.windows(3).position(|three| three == b"\n\r\n");
        let end = [lf, crlf].into_iter().flatten().min()?;
        let head = std::str::from_utf8(&payload[..end]).ok()?;
        let (command, headers) = head.split_once('\n').unwrap_or((head, ""));
        Some(Self { command: command.trim_end_matches('\r'), headers })
    }

    /// The first value of a header, which is the one that counts.
    fn header(&self, name: &str) -> Option<&'p str> {
        let mut lines = self.headers.split('\n').map(|line| line.trim_end_matches('\r'));
        lines.find_map(|line| line.split_once(':').filter(|(known, _)| *known == name)).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(direction: Direction, frame: &str) -> Vec<MemoryNote> {
        let mut notes = Vec::new();
        read(direction, frame.as_bytes(), &mut notes);
        notes
    }

    #[test]
    fn frames_are_read_with_either_line_ending_and_behind_heart_beats() {
        let key = MessageKey::new(SUBSCRIPTION, "7");
        for frame in ["SUBSCRIBE\nid:7\nreceipt:r\n\n\0", "\r\n\nSUBSCRIBE\r\nid:7\r\nreceipt:r\r\n\r\n\0"] {
            let answer = Some(MessageKey::new(RECEIPT, "r"));
            assert_eq!(
                notes(Direction::ToBackend, frame),
                [MemoryNote::Keep(Keep { key: key.clone(), answer, greets: false })],
                "{frame:?}"
            );
        }
        assert_eq!(notes(Direction::ToBackend, "UNSUBSCRIBE\nid:7\nid:8\n\n\0"), [MemoryNote::Forget(key)]);
        assert_eq!(
            notes(Direction::ToClient, "RECEIPT\nreceipt-id:r\n\n\0"),
            [MemoryNote::Answer(MessageKey::new(RECEIPT, "r"))]
        );
        assert_eq!(notes(Direction::ToBackend, "DISCONNECT\n\n\0"), [MemoryNote::ForgetAll]);
    }

    #[test]
    fn other_frames_and_other_bytes_mean_nothing() {
        for frame in ["\n", "", "SEND\ndestination:/a\n\nSUBSCRIBE\nid:7\n\n\0", "SUBSCRIBE\nid:7\n", "\u{fffd}"] {
            assert_eq!(notes(Direction::ToBackend, frame), [], "{frame:?}");
        }
        assert_eq!(notes(Direction::ToClient, "SUBSCRIBE\nid:7\n\n\0"), []);
    }
}
