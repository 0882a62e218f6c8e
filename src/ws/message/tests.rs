//! The assembler against what RFC 6455 forbids, streams cut at random, and another reader of the protocol.

use std::io::{self, Read, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::*;
use crate::ws::cursor::tests::{Frame, parted, stream};
use crate::ws::frame::{self, close_code};

fn message(kind: MessageKind, payload: &[u8]) -> WholeItem {
    WholeItem::Message(Assembled { kind, payload: payload.to_vec(), compressed: false })
}

fn control(opcode: Control, payload: &[u8]) -> WholeItem {
    WholeItem::Control { opcode, payload: payload.to_vec() }
}

/// Everything that comes of the parts of a stream.
fn read(assembler: &mut Assembler, parts: &[&[u8]]) -> Vec<Result<WholeItem, Violation>> {
    let mut items = Vec::new();
    for mut part in parts.iter().copied() {
        while let Some(item) = assembler.next(&mut part) {
            items.push(item);
        }
        assert!(part.is_empty(), "a chunk is used up");
    }
    items
}

/// Everything that comes of a backend's frames, with permessage-deflate agreed and at most 1,000 bytes a message.
fn from_backend(frames: &[Frame]) -> Vec<Result<WholeItem, Violation>> {
    read(&mut Assembler::new(Side::Backend, true, 1000), &[&stream(frames)])
}

/// The one violation in a backend's frames, which nothing comes before.
fn violation(frames: &[Frame]) -> Violation {
    match from_backend(frames)[..] {
        [Err(violation)] => violation,
        ref other => panic!("{frames:?} gave {other:?}"),
    }
}

fn reserved(bits: u8, frame: Frame) -> Frame {
    Frame { reserved: bits, ..frame }
}

#[test]
fn a_message_in_one_frame_comes_unmasked_in_a_buffer_of_its_size() {
    let mut assembler = Assembler::new(Side::Client, false, 5);
    let bytes = Frame::new(1, b"hello").masked().bytes();
    let mut chunk = &bytes[..];
    let Some(Ok(WholeItem::Message(came))) = assembler.next(&mut chunk) else { panic!("no message") };
    assert_eq!(came, Assembled { kind: MessageKind::Text, payload: b"hello".to_vec(), compressed: false });
    assert_eq!(came.payload.capacity(), 5);
    assert_eq!((assembler.next(&mut chunk), chunk), (None, &[][..]));
    assert_eq!(assembler.payload.capacity(), 0);
}

#[test]
fn fragments_come_joined_and_the_control_frames_between_them_first() {
    let frames = [Frame::fragment(1, b"he"), Frame::new(9, b"?"), Frame::fragment(0, b""), Frame::new(0, b"llo")];
    let expected = [Ok(control(Control::Ping, b"?")), Ok(message(MessageKind::Text, b"hello"))];
    assert_eq!(from_backend(&frames), expected);
}

#[test]
fn empty_messages_and_control_frames_come_without_further_bytes() {
    let frames = [Frame::new(2, b""), Frame::new(10, b""), Frame::new(8, b"")];
    let expected =
        [Ok(message(MessageKind::Binary, b"")), Ok(control(Control::Pong, b"")), Ok(control(Control::Close, b""))];
    assert_eq!(from_backend(&frames), expected);
}

#[test]
fn rsv1_of_the_first_frame_tells_a_compressed_message() {
    let frames = [reserved(4, Frame::fragment(1, b"a")), Frame::new(0, b"b")];
    let came = Assembled { kind: MessageKind::Text, payload: b"ab".to_vec(), compressed: true };
    assert_eq!(from_backend(&frames), [Ok(WholeItem::Message(came))]);
}

#[test]
fn reserved_bits_without_a_meaning_are_refused() {
    let data = Frame::new(1, b"a");
    for bits in [1, 2, 3, 5, 6, 7] {
        assert_eq!(violation(&[reserved(bits, data.clone())]), Violation::ReservedBit);
    }
    assert_eq!(violation(&[reserved(4, Frame::new(9, b""))]), Violation::ReservedBit);
    let later = [reserved(4, Frame::fragment(1, b"a")), reserved(4, Frame::new(0, b"b"))];
    assert_eq!(violation(&later), Violation::ReservedBit);
    let mut without_compression = Assembler::new(Side::Backend, false, 10);
    let refused = read(&mut without_compression, &[&reserved(4, data).bytes()]);
    assert_eq!(refused, [Err(Violation::ReservedBit)]);
}

#[test]
fn opcodes_without_a_meaning_are_refused() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        assert_eq!(violation(&[Frame::new(opcode, b"")]), Violation::UnknownOpcode(opcode));
    }
}

#[test]
fn a_mask_that_is_wrong_for_the_sender_is_refused() {
    assert_eq!(violation(&[Frame::new(1, b"a").masked()]), Violation::Masked);
    let mut from_client = Assembler::new(Side::Client, false, 10);
    assert_eq!(read(&mut from_client, &[&Frame::new(1, b"a").bytes()]), [Err(Violation::NotMasked)]);
}

#[test]
fn control_frames_in_fragments_or_beyond_125_bytes_are_refused() {
    for opcode in [8, 9, 10] {
        assert_eq!(violation(&[Frame::fragment(opcode, b"")]), Fault::ControlFragmented.into());
        assert_eq!(violation(&[Frame::new(opcode, &[b'a'; 126])]), Fault::ControlTooLong.into());
    }
    let longest = Frame::new(9, &[b'a'; 125]);
    assert_eq!(from_backend(&[longest]), [Ok(control(Control::Ping, &[b'a'; 125]))]);
}

#[test]
fn lengths_that_are_not_in_the_shortest_form_or_beyond_63_bits_are_refused() {
    let lengths = [
        (&[126, 0, 125][..], Violation::LengthNotShortest),
        (&[127, 0, 0, 0, 0, 0, 0, 0, 9], Violation::LengthNotShortest),
        (&[127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF], Violation::LengthNotShortest),
        (&[127, 0x80, 0, 0, 0, 0, 0, 0, 0], Fault::LengthTooLong.into()),
    ];
    for (length, violation) in lengths {
        let bytes = [&[0x82], length].concat();
        let mut assembler = Assembler::new(Side::Backend, false, u64::MAX);
        assert_eq!(read(&mut assembler, &[&bytes]), [Err(violation)]);
    }
}

#[test]
fn fragments_out_of_order_are_refused() {
    assert_eq!(violation(&[Frame::new(0, b"a")]), Violation::NothingToContinue);
    assert_eq!(violation(&[Frame::fragment(0, b"a")]), Violation::NothingToContinue);
    let after = from_backend(&[Frame::fragment(1, b"a"), Frame::new(0, b"b"), Frame::new(0, b"c")]);
    assert_eq!(after, [Ok(message(MessageKind::Text, b"ab")), Err(Violation::NothingToContinue)]);
    for begins in [Frame::new(1, b"b"), Frame::fragment(2, b"b")] {
        assert_eq!(violation(&[Frame::fragment(1, b"a"), begins]), Violation::MessageInMessage);
    }
}

#[test]
fn a_close_frame_needs_a_whole_code_that_may_be_sent_and_a_reason_in_utf_8() {
    let close = |code: u16, reason: &[u8]| Frame::new(8, &[&code.to_be_bytes(), reason].concat());
    for code in (1000..=1003).chain(1007..=1014).chain([3000, 3999, 4000, 4999]) {
        let came = from_backend(&[close(code, "ä".as_bytes())]);
        let [Ok(WholeItem::Control { opcode: Control::Close, payload })] = &came[..] else {
            panic!("{code}: {came:?}")
        };
        assert_eq!(close_code(payload), code);
    }
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        assert_eq!(violation(&[close(code, b"")]), Violation::CloseCode(code));
    }
    assert_eq!(violation(&[Frame::new(8, b"\x03")]), Violation::CloseTooShort);
    let bad = violation(&[close(1000, b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited")]);
    assert_eq!((bad, bad.code()), (Violation::ReasonNotUtf8, 1007));
    assert_eq!(close_code(b""), 1005);
}

#[test]
fn nothing_counts_after_a_close_frame_or_a_violation() {
    let late = [Frame::new(1, b"late"), Frame::new(9, b""), Frame::new(3, b"")];
    for end in [Frame::new(8, b""), Frame::new(3, b"")] {
        let mut assembler = Assembler::new(Side::Backend, false, 100);
        let bytes = stream(&[&[Frame::fragment(1, b"begun"), end][..], &late].concat());
        assert_eq!(read(&mut assembler, &[&bytes, &stream(&late)]).len(), 1);
        assert!(assembler.is_at_end() && !assembler.in_message());
        assert_eq!(assembler.payload.capacity(), 0);
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused_from_its_header() {
    let announced = [0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0];
    let mut assembler = Assembler::new(Side::Backend, false, 1 << 30);
    assert_eq!(read(&mut assembler, &[&announced]), [Err(Violation::TooLong)]);
    assert_eq!(Violation::TooLong.code(), 1009);

    assert_eq!(from_backend(&[Frame::new(2, &[0; 1000])]), [Ok(message(MessageKind::Binary, &[0; 1000]))]);
    assert_eq!(violation(&[Frame::fragment(2, &[0; 1000]), Frame::new(0, b"a")]), Violation::TooLong);
    let unlimited = [0x02, 1, 0, 0x80, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    assert_eq!(read(&mut Assembler::new(Side::Backend, false, u64::MAX), &[&unlimited]), []);
}

#[test]
fn a_buffer_grows_with_what_came_and_not_with_what_was_announced() {
    let mut assembler = Assembler::new(Side::Backend, false, u64::MAX);
    let announced = [0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0];
    assert_eq!(read(&mut assembler, &[&announced]), []);
    assert_eq!(assembler.payload.capacity(), 0);
    for came in 1..=2000 {
        assert_eq!(read(&mut assembler, &[b"a"]), []);
        assert!(assembler.payload.capacity() <= 2 * came);
    }
}

#[test]
fn a_buffer_is_not_reallocated_for_every_small_fragment() {
    let mut assembler = Assembler::new(Side::Backend, false, u64::MAX);
    read(&mut assembler, &[&Frame::fragment(2, b"a").bytes()]);
    let mut capacities = vec![assembler.payload.capacity()];
    for _ in 0..2000 {
        read(&mut assembler, &[&Frame::fragment(0, b"a").bytes()]);
        capacities.push(assembler.payload.capacity());
    }
    capacities.dedup();
    assert!(capacities.len() <= 12, "{capacities:?}");
}

#[test]
fn text_is_utf_8_or_refused_with_1007() {
    for good in ["", "κόσμε", "\u{10FFFF}", "\0"] {
        assert_eq!(into_text(good.as_bytes().to_vec()), Ok(good.to_owned()));
    }
    let bad = [&b"\xC0\xAF"[..], b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xE2\x82", b"\xFF"];
    for bad in bad {
        assert_eq!(into_text(bad.to_vec()), Err(Violation::TextNotUtf8));
    }
    assert_eq!(Violation::TextNotUtf8.code(), 1007);
}

#[test]
fn an_assembler_is_at_most_112_bytes() {
    assert!(size_of::<Assembler>() <= 112, "{}", size_of::<Assembler>());
}

/// A frame of the sender's, with its mask mostly right, that is now and then not allowed where it stands.
fn any_frame(sender: Side) -> impl Strategy<Value = Frame> {
    let close = prop_oneof![
        Just(Vec::new()),
        Just(b"\x03".to_vec()),
        Just(b"\x03\xE8".to_vec()),
        Just(b"\x0F\xA0why".to_vec()),
        Just(b"\x03\xE8\xFF".to_vec()),
    ];
    // Tungstenite lets its reader judge a Close frame's code, so there are none with codes of chance.
    let opcode = prop_oneof![0..8u8, 9..16u8];
    let odd = (any::<bool>(), opcode, vec(b' '..b'~', 0..130));
    let large = (65_500..66_000usize, b' '..b'~').prop_map(|(length, byte)| vec![byte; length]);
    let shape = prop_oneof![
        30 => (any::<bool>(), 0..3u8, vec(b' '..b'~', 0..300)),
        1 => (any::<bool>(), 0..3u8, large),
        10 => (Just(true), 9..11u8, vec(any::<u8>(), 0..=125)),
        1 => (Just(true), Just(8), close),
        1 => odd,
    ];
    let reserved = prop_oneof![60 => Just(0u8), 1 => 1..8u8];
    (shape, reserved, any::<[u8; 4]>(), prop::bool::weighted(0.99)).prop_map(
        move |((fin, opcode, payload), reserved, key, mask_is_right)| {
            let mask = (mask_is_right == (sender == Side::Client)).then_some(key);
            Frame { fin, reserved, opcode, mask, payload, wide: false }
        },
    )
}

/// Frames that make messages more often than chance would: what must be a continuation mostly is one.
fn any_frames() -> impl Strategy<Value = (Side, Vec<Frame>)> {
    let sender = prop_oneof![Just(Side::Client), Just(Side::Backend)];
    sender.prop_flat_map(|sender| {
        let frames = vec((any_frame(sender), prop::bool::weighted(0.97)), 0..30);
        frames.prop_map(move |frames| {
            let mut open = false;
            let put_right = |(mut frame, right): (Frame, bool)| {
                if frame.opcode < 3 {
                    if right {
                        frame.opcode = if open { 0 } else { frame.opcode.max(1) };
                    }
                    open = !frame.fin;
                }
                frame
            };
            (sender, frames.into_iter().map(put_right).collect())
        })
    })
}

/// A stream for tungstenite: what it reads is given, what it writes is dropped.
struct Given<'b>(&'b [u8]);

impl Read for Given<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Given<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Items that tungstenite reads, up to a Close frame, the first error or the end; `Err` for an error before the end.
fn by_tungstenite(sender: Side, bytes: &[u8]) -> Vec<Result<WholeItem, ()>> {
    let role = if sender == Side::Client { Role::Server } else { Role::Client };
    let mut socket = WebSocket::from_raw_socket(Given(bytes), role, Some(WebSocketConfig::default()));
    let mut items = Vec::new();
    loop {
        let item = match socket.read() {
            Ok(Message::Text(text)) => message(MessageKind::Text, text.as_bytes()),
            Ok(Message::Binary(payload)) => message(MessageKind::Binary, &payload),
            Ok(Message::Ping(payload)) => control(Control::Ping, &payload),
            Ok(Message::Pong(payload)) => control(Control::Pong, &payload),
            Ok(Message::Close(_)) => control(Control::Close, b""),
            Ok(Message::Frame(_)) => panic!("a frame is not read as such"),
            Err(error) => {
                if !socket.get_ref().0.is_empty() || !error.to_string().contains("without closing handshake") {
                    items.push(Err(()));
                }
                return items;
            }
        };
        let closed = matches!(item, WholeItem::Control { opcode: Control::Close, .. });
        items.push(Ok(item));
        if closed {
            return items;
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_reads_as_tungstenite_reads_it((sender, frames) in any_frames()) {
        let bytes = stream(&frames);
        let ours = read(&mut Assembler::new(sender, false, u64::MAX), &[&bytes]);
        // Tungstenite gives a Close frame's code and reason apart, so its payload is left out.
        let without_reason = |item| match item {
            WholeItem::Control { opcode: Control::Close, .. } => control(Control::Close, b""),
            other => other,
        };
        let ours: Vec<_> = ours.into_iter().map(|item| item.map(without_reason).map_err(|_violation| ())).collect();
        prop_assert_eq!(ours, by_tungstenite(sender, &bytes));
    }

    #[test]
    fn a_stream_cut_anywhere_and_an_assembler_written_down_there_give_the_same_items(
        (sender, frames) in any_frames(),
        compressed_allowed in any::<bool>(),
        max_message in prop_oneof![Just(u64::MAX), 0..1000u64],
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let bytes = stream(&frames);
        let whole = read(&mut Assembler::new(sender, compressed_allowed, max_message), &[&bytes]);
        let mut assembler = Assembler::new(sender, compressed_allowed, max_message);
        let mut items = Vec::new();
        for part in parted(&bytes, &cuts) {
            items.extend(read(&mut assembler, &[part]));
            let written = serde_json::to_string(&assembler).unwrap();
            assembler = serde_json::from_str(&written).unwrap();
        }
        prop_assert_eq!(items, whole);
    }

    #[test]
    fn garbage_never_panics_and_reads_alike_in_single_bytes(
        masked in any::<bool>(),
        bytes in vec(any::<u8>(), 0..600),
    ) {
        let sender = if masked { Side::Client } else { Side::Backend };
        let whole = read(&mut Assembler::new(sender, true, 1 << 16), &[&bytes]);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(read(&mut Assembler::new(sender, true, 1 << 16), &single), whole);
    }

    #[test]
    fn what_is_written_as_a_message_is_read_as_it_was(
        text in any::<bool>(),
        payload in prop_oneof![20 => vec(any::<u8>(), 0..400), 1 => vec(any::<u8>(), 65_500..65_600)],
        compressed in any::<bool>(),
        mask in any::<Option<[u8; 4]>>(),
    ) {
        let kind = if text { MessageKind::Text } else { MessageKind::Binary };
        let mut bytes = Vec::new();
        frame::message(&mut bytes, kind, &payload, compressed, mask);
        let sender = if mask.is_some() { Side::Client } else { Side::Backend };
        let items = read(&mut Assembler::new(sender, true, payload.len() as u64), &[&bytes]);
        prop_assert_eq!(items, [Ok(WholeItem::Message(Assembled { kind, payload, compressed }))]);
    }
}
