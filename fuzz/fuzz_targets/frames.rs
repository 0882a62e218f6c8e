//! The frame cursor against a stream that may have any bytes in it: it reports what a plain reader of the whole stream
//! finds, however the stream is cut, and also where it moves to another process between two pieces.
//!
//! Flags: 0 the sender is the backend.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::ws::{Cursor, Fault, FrameEvent, Side};
use longhaul_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let sender = if input.flag(0) { Side::Backend } else { Side::Client };
    let expected = Expected::of(input.bytes, sender);

    let (mut events, mut cursor) = (Vec::new(), Cursor::new(sender));
    cursor.advance(input.bytes, &mut |event| events.push(event));
    expected.is_met_by(&cursor, &events);

    let (mut events, mut cursor) = (Vec::new(), Cursor::new(sender));
    for (number, piece) in input.pieces().into_iter().enumerate() {
        cursor.advance(piece, &mut |event| events.push(event));
        if number < MOVES {
            let moved = serde_json::to_string(&cursor).expect("a cursor is numbers");
            cursor = serde_json::from_str(&moved).expect("what a cursor wrote is a cursor");
        }
    }
    expected.is_met_by(&cursor, &events);

    steps_end_at_boundaries(&input, sender, &expected);
});

/// Most changes of processes of one stream: each costs more than all the rest.
const MOVES: usize = 20;

/// Goes frame by frame, as the gateway does when it has something to put in between.
fn steps_end_at_boundaries(input: &Input<'_>, sender: Side, expected: &Expected) {
    let (mut events, mut cursor) = (Vec::new(), Cursor::new(sender));
    for mut piece in input.pieces() {
        while !piece.is_empty() {
            let passed = cursor.next_boundary(piece, &mut |event| events.push(event));
            assert!(0 < passed && passed <= piece.len());
            assert!(passed == piece.len() || cursor.at_boundary() || cursor.is_lost());
            piece = &piece[passed..];
        }
    }
    expected.is_met_by(&cursor, &events);
}

/// What a stream holds, by a reader that has all of it (RFC 6455 §5.2).
#[derive(Default)]
struct Expected {
    events: Vec<FrameEvent>,
    in_message: bool,
    closed: Option<u16>,
    at_boundary: bool,
    lost: bool,
}

impl Expected {
    fn of(mut bytes: &[u8], sender: Side) -> Self {
        let mut found = Self::default();
        let (mut opcode, mut size) = (0, 0_u64);
        while let Some(frame) = Frame::read(bytes) {
            if let Some(fault) = frame.fault() {
                found.events.push(FrameEvent::Lost(fault));
                found.lost = true;
                return found;
            }
            if frame.mask.is_some() != (sender == Side::Client) {
                found.events.push(FrameEvent::MaskWrong);
            }
            if !frame.is_control() {
                if !found.in_message {
                    (found.in_message, opcode, size) = (true, frame.opcode, 0);
                }
                size = size.saturating_add(frame.length);
                found.events.push(FrameEvent::Data { opcode, size });
            }
            let rest = &bytes[frame.header..];
            let Some(payload) = usize::try_from(frame.length).ok().and_then(|length| rest.get(..length)) else {
                return found;
            };
            bytes = &rest[payload.len()..];
            match frame.opcode {
                8 => {
                    let key = frame.mask.unwrap_or_default();
                    let code = payload.first_chunk::<2>().map(|[a, b]| u16::from_be_bytes([a ^ key[0], b ^ key[1]]));
                    let code = code.unwrap_or(1005);
                    found.closed.get_or_insert(code);
                    found.events.push(FrameEvent::Close(code));
                }
                9 => found.events.push(FrameEvent::Ping),
                10 => found.events.push(FrameEvent::Pong),
                0..8 if frame.fin => {
                    found.events.push(FrameEvent::MessageEnded { opcode, size });
                    found.in_message = false;
                }
                _ => {}
            }
        }
        found.at_boundary = bytes.is_empty();
        found
    }

    fn is_met_by(&self, cursor: &Cursor, events: &[FrameEvent]) {
        assert_eq!(self.events, events);
        let told = (cursor.in_message(), cursor.closed(), cursor.at_boundary(), cursor.is_lost());
        assert_eq!((self.in_message, self.closed, self.at_boundary, self.lost), told);
    }
}

/// A frame's header.
struct Frame {
    fin: bool,
    opcode: u8,
    mask: Option<[u8; 4]>,
    length: u64,
    header: usize,
}

impl Frame {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (first, second) = (*bytes.first()?, *bytes.get(1)?);
        let (length, at) = match second & 127 {
            126 => (u64::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*bytes.get(2..)?.first_chunk()?), 10),
            length => (u64::from(length), 2),
        };
        let mask = if second < 128 { None } else { Some(*bytes.get(at..)?.first_chunk()?) };
        let header = at + mask.map_or(0, |_| 4);
        Some(Self { fin: first >= 128, opcode: first & 15, mask, length, header })
    }

    fn is_control(&self) -> bool {
        self.opcode >= 8
    }

    fn fault(&self) -> Option<Fault> {
        match self {
            _ if self.is_control() && self.length > 125 => Some(Fault::ControlTooLong),
            _ if self.is_control() && !self.fin => Some(Fault::ControlFragmented),
            _ if self.length >= 1 << 63 => Some(Fault::LengthTooLong),
            _ => None,
        }
    }
}
