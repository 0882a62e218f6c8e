//! The assembler of messages against a sender that may send anything: what comes of a stream does not depend on its
//! cuts, is within the limit, is the same when it is written and read again, and agrees with the frame cursor.
//!
//! Flags: 0 the sender is the backend, 1 permessage-deflate was agreed, 2 messages have at most 300 bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longhaul::ws::deflate::Codec;
use longhaul::ws::frame::close_code;
use longhaul::ws::message::into_text;
use longhaul::ws::{Assembled, Assembler, Control, Cursor, FrameEvent, MessageKind, Side, Violation, WholeItem, frame};
use longhaul_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let sender = if input.flag(0) { Side::Backend } else { Side::Client };
    let limit = if input.flag(2) { 300 } else { u64::MAX };
    let assembler = || Assembler::new(sender, input.flag(1), limit);

    let mut at_once = assembler();
    let whole = read(&mut at_once, &[input.bytes], limit);
    assert_eq!(read(&mut assembler(), &input.pieces(), limit), whole);
    assert_eq!(read_in_two_processes(assembler(), &input.pieces(), limit), whole);
    agrees_with_the_cursor(&at_once, &whole, sender, input.bytes);

    let mut codec = Codec::new();
    for item in whole.iter().flatten() {
        survives(item, sender, input.flag(1), &mut assembler());
        if let WholeItem::Message(Assembled { payload, compressed: true, .. }) = item
            && let Ok(restored) = codec.inflate(payload, 64 * 1024)
        {
            assert!(restored.len() <= 64 * 1024);
        }
    }
});

/// Everything that comes of the pieces of a stream.
fn read(assembler: &mut Assembler, pieces: &[&[u8]], limit: u64) -> Vec<Result<WholeItem, Violation>> {
    let mut items = Vec::new();
    let mut came = assembler.held();
    for mut piece in pieces.iter().copied() {
        came += piece.len();
        while let Some(item) = assembler.next(&mut piece) {
            items.push(item);
        }
        assert!(piece.is_empty(), "a piece is used up");
        assert!(assembler.held() <= came && assembler.held() as u64 <= limit.saturating_add(125));
        assert!(!assembler.is_at_end() || assembler.held() == 0, "memory is given back");
    }
    check(&items, limit);
    items
}

/// The same, where the assembler moves to another process before each piece.
fn read_in_two_processes(mut assembler: Assembler, pieces: &[&[u8]], limit: u64) -> Vec<Result<WholeItem, Violation>> {
    let mut items = Vec::new();
    for (number, piece) in pieces.iter().enumerate() {
        if number < MOVES {
            let moved = serde_json::to_string(&assembler).expect("an assembler is numbers and bytes");
            assembler = serde_json::from_str(&moved).expect("what an assembler wrote is one");
        }
        items.extend(read(&mut assembler, &[piece], u64::MAX));
    }
    check(&items, limit);
    items
}

/// Most changes of processes of one stream: each costs more than all the rest.
const MOVES: usize = 20;

fn check(items: &[Result<WholeItem, Violation>], limit: u64) {
    for (index, item) in items.iter().enumerate() {
        let is_last = index + 1 == items.len();
        match item {
            Ok(WholeItem::Message(message)) => assert!(message.payload.len() as u64 <= limit),
            Ok(WholeItem::Control { opcode, payload }) => {
                assert!(payload.len() <= 125 && (is_last || *opcode != Control::Close));
            }
            Err(violation) => assert!(is_last && [1002, 1007, 1009].contains(&violation.code())),
        }
    }
}

/// An item is the same after it was written and read again.
fn survives(item: &WholeItem, sender: Side, compressed_allowed: bool, assembler: &mut Assembler) {
    let mask = (sender == Side::Client).then_some([7, 0, 255, 9]);
    let mut written = Vec::new();
    match item {
        WholeItem::Message(Assembled { kind, payload, compressed }) => {
            assert!(!compressed || compressed_allowed);
            if *kind == MessageKind::Text
                && !compressed
                && let Ok(text) = into_text(payload.clone())
            {
                assert_eq!(text.as_bytes(), payload);
            }
            frame::message(&mut written, *kind, payload, *compressed, mask);
        }
        WholeItem::Control { opcode, payload } => {
            frame::control(&mut written, *opcode, payload, mask);
            if *opcode == Control::Close {
                assert!((1000..5000).contains(&close_code(payload)));
            }
        }
    }
    assert_eq!(read(assembler, &[&written], u64::MAX), [Ok(item.clone())]);
}

/// The cursor counts what the assembler puts together, as long as the sender keeps the rules.
fn agrees_with_the_cursor(assembler: &Assembler, items: &[Result<WholeItem, Violation>], sender: Side, bytes: &[u8]) {
    if assembler.is_at_end() {
        return;
    }
    let mut cursor = Cursor::new(sender);
    let mut ended = 0;
    cursor.advance(bytes, &mut |event| ended += usize::from(matches!(event, FrameEvent::MessageEnded { .. })));
    let messages = items.iter().filter(|item| matches!(item, Ok(WholeItem::Message(_)))).count();
    assert_eq!((ended, cursor.in_message()), (messages, assembler.in_message()));
}
