//! The cursor against streams cut at random, a naive reader of whole streams, and garbage.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::ws::frame;

/// One frame to be written.
#[derive(Clone, Debug)]
pub(in crate::ws) struct Frame {
    pub(in crate::ws) fin: bool,
    pub(in crate::ws) reserved: u8,
    pub(in crate::ws) opcode: u8,
    pub(in crate::ws) mask: Option<[u8; 4]>,
    pub(in crate::ws) payload: Vec<u8>,
    /// The length is written in eight bytes, whatever it is.
    pub(in crate::ws) wide: bool,
}

impl Frame {
    pub(in crate::ws) fn new(opcode: u8, payload: &[u8]) -> Self {
        Self { fin: true, reserved: 0, opcode, mask: None, payload: payload.to_vec(), wide: false }
    }

    pub(in crate::ws) fn fragment(opcode: u8, payload: &[u8]) -> Self {
        Self { fin: false, ..Self::new(opcode, payload) }
    }

    pub(in crate::ws) fn masked(self) -> Self {
        Self { mask: Some([0x11, 0x22, 0x33, 0x44]), ..self }
    }

    pub(in crate::ws) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.reserved << 4 | self.opcode];
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        match self.payload.len() {
            length @ 0..126 if !self.wide => bytes.push(masked | length as u8),
            length @ 0..65_536 if !self.wide => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            length => {
                bytes.push(masked | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        let key = self.mask.unwrap_or_default();
        bytes.extend(self.mask.iter().flatten());
        bytes.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        bytes
    }
}

pub(in crate::ws) fn stream(frames: &[Frame]) -> Vec<u8> {
    frames.iter().flat_map(Frame::bytes).collect()
}

/// Events that a reader with all frames before it would report, and the offsets of the boundaries.
fn naive(sender: Side, frames: &[Frame]) -> (Vec<FrameEvent>, Vec<usize>) {
    let (mut events, mut boundaries, mut at) = (Vec::new(), vec![0], 0);
    let mut message: Option<(u8, u64)> = None;
    for frame in frames {
        at += frame.bytes().len();
        boundaries.push(at);
        if frame.mask.is_some() != matches!(sender, Side::Client) {
            events.push(FrameEvent::MaskWrong);
        }
        match frame.opcode {
            0..8 => {
                let (opcode, size) = message.unwrap_or((frame.opcode, 0));
                let size = size + frame.payload.len() as u64;
                message = Some((opcode, size));
                events.push(FrameEvent::Data { opcode, size });
                if frame.fin {
                    events.push(FrameEvent::MessageEnded { opcode, size });
                    message = None;
                }
            }
            8 => events.push(FrameEvent::Close(match frame.payload[..] {
                [high, low, ..] => u16::from(high) << 8 | u16::from(low),
                _ => 1005,
            })),
            9 => events.push(FrameEvent::Ping),
            10 => events.push(FrameEvent::Pong),
            _ => {}
        }
    }
    (events, boundaries)
}

fn events(sender: Side, bytes: &[u8]) -> Vec<FrameEvent> {
    let mut seen = Vec::new();
    Cursor::new(sender).advance(bytes, &mut |event| seen.push(event));
    seen
}

/// Parts `bytes` at the places that `cuts` point to.
pub(in crate::ws) fn parted<'a>(bytes: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut parts = Vec::new();
    let mut from = 0;
    for place in places.into_iter().chain([bytes.len()]) {
        parts.push(&bytes[from..place]);
        from = place;
    }
    parts
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let control = (8..16u8, 0..=125usize).prop_map(|(opcode, size)| (true, opcode, size));
    let small = prop_oneof![Just(0usize), Just(1), Just(2), Just(125), Just(126), Just(127), 0..300usize];
    let data = (any::<bool>(), 0..8u8, small);
    let large = prop_oneof![Just(65_535usize), Just(65_536), Just(65_537), 65_538..200_000usize];
    let large = (any::<bool>(), 0..8u8, large);
    let shape = prop_oneof![8 => control, 12 => data, 1 => large];
    let rest = (any::<Option<[u8; 4]>>(), 0..8u8, any::<u8>(), prop::bool::weighted(0.1));
    (shape, rest).prop_map(|((fin, opcode, size), (mask, reserved, seed, wide))| {
        let payload = (0..size).map(|at| seed.wrapping_add(at as u8).wrapping_mul(31)).collect();
        Frame { fin, reserved, opcode, mask, payload, wide }
    })
}

fn any_sender() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Backend)]
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_gives_the_events_and_boundaries_of_a_naive_reader(
        sender in any_sender(),
        frames in vec(any_frame(), 0..12),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let bytes = stream(&frames);
        let (expected, boundaries) = naive(sender, &frames);
        prop_assert_eq!(&events(sender, &bytes), &expected);

        let (mut seen, mut cursor, mut at) = (Vec::new(), Cursor::new(sender), 0);
        for part in parted(&bytes, &cuts) {
            cursor.advance(part, &mut |event| seen.push(event));
            at += part.len();
            prop_assert_eq!(cursor.at_boundary(), boundaries.contains(&at), "at byte {}", at);
        }
        prop_assert_eq!(&seen, &expected);
    }

    #[test]
    fn a_stream_in_single_bytes_gives_the_events_of_a_naive_reader(
        sender in any_sender(),
        frames in vec(any_frame(), 0..6),
    ) {
        let (expected, _) = naive(sender, &frames);
        let (mut seen, mut cursor) = (Vec::new(), Cursor::new(sender));
        for byte in stream(&frames) {
            cursor.advance(&[byte], &mut |event| seen.push(event));
        }
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn steps_stop_at_every_boundary_and_nowhere_else_but_at_the_ends_of_chunks(
        sender in any_sender(),
        frames in vec(any_frame(), 0..12),
        cuts in vec(any::<Index>(), 0..20),
    ) {
        let bytes = stream(&frames);
        let (_, boundaries) = naive(sender, &frames);
        let (mut cursor, mut at, mut stops) = (Cursor::new(sender), 0, vec![0]);
        for mut part in parted(&bytes, &cuts) {
            while !part.is_empty() {
                let passed = cursor.next_boundary(part, &mut |_| {});
                prop_assert!(passed > 0);
                at += passed;
                part = &part[passed..];
                if cursor.at_boundary() {
                    stops.push(at);
                } else {
                    prop_assert!(part.is_empty());
                }
            }
        }
        prop_assert_eq!(stops, boundaries);
    }

    #[test]
    fn a_frame_inserted_at_a_boundary_keeps_the_stream_readable(
        sender in any_sender(),
        frames in vec(any_frame(), 1..10),
        cut in any::<Index>(),
        key in any::<[u8; 4]>(),
    ) {
        let bytes = stream(&frames);
        let cut = cut.index(bytes.len());
        let mut cursor = Cursor::new(sender);
        cursor.advance(&bytes[..cut], &mut |_| {});
        let place = cut + if cursor.at_boundary() { 0 } else { cursor.next_boundary(&bytes[cut..], &mut |_| {}) };
        prop_assert!(cursor.at_boundary());

        let ping = frame::ping(b"?", (sender == Side::Client).then_some(key));
        let with_ping = [&bytes[..place], &ping[..], &bytes[place..]].concat();
        let mut expected = events(sender, &bytes[..place]);
        expected.push(FrameEvent::Ping);
        let (all, _) = naive(sender, &frames);
        let behind = all[expected.len() - 1..].to_vec();
        expected.extend(behind);
        prop_assert_eq!(events(sender, &with_ping), expected);
    }

    #[test]
    fn garbage_never_panics_and_reads_alike_however_it_is_cut(
        sender in any_sender(),
        bytes in vec(any::<u8>(), 0..2000),
        cuts in vec(any::<Index>(), 0..40),
    ) {
        let whole = events(sender, &bytes);
        let (mut seen, mut cursor) = (Vec::new(), Cursor::new(sender));
        for part in parted(&bytes, &cuts) {
            cursor.advance(part, &mut |event| seen.push(event));
        }
        prop_assert_eq!(seen, whole);
    }
}

#[test]
fn a_cursor_is_at_most_48_bytes() {
    assert!(size_of::<Cursor>() <= 48, "{}", size_of::<Cursor>());
}

#[test]
fn a_frame_split_across_chunks_is_reported_once() {
    let (mut seen, mut cursor) = (Vec::new(), Cursor::new(Side::Backend));
    cursor.advance(&[0x81], &mut |event| seen.push(event));
    assert_eq!(seen, []);
    assert!(!cursor.at_boundary());
    cursor.advance(&[0x02, b'h', b'i'], &mut |event| seen.push(event));
    assert_eq!(seen, [FrameEvent::Data { opcode: 1, size: 2 }, FrameEvent::MessageEnded { opcode: 1, size: 2 }]);
    assert!(cursor.at_boundary());
}

#[test]
fn a_message_s_size_is_known_from_its_header() {
    let mut seen = Vec::new();
    let mut cursor = Cursor::new(Side::Backend);
    let huge = [0x82, 127, 0, 0, 1, 0, 0, 0, 0, 0];
    cursor.advance(&huge, &mut |event| seen.push(event));
    assert_eq!(seen, [FrameEvent::Data { opcode: 2, size: 1 << 40 }]);
    assert_eq!(cursor.message_size(), 1 << 40);
}

#[test]
fn fragments_add_up_and_control_frames_between_them_do_not_count() {
    let frames = [Frame::fragment(1, b"abc"), Frame::new(9, b"ping"), Frame::fragment(0, b"de"), Frame::new(0, b"f")];
    let expected = [
        FrameEvent::Data { opcode: 1, size: 3 },
        FrameEvent::Ping,
        FrameEvent::Data { opcode: 1, size: 5 },
        FrameEvent::Data { opcode: 1, size: 6 },
        FrameEvent::MessageEnded { opcode: 1, size: 6 },
    ];
    assert_eq!(events(Side::Backend, &stream(&frames)), expected);
}

#[test]
fn sizes_that_overflow_stay_at_the_largest_number() {
    let largest = [0x02, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF];
    let header = FrameHeader::parse(&largest).unwrap();
    let (mut sizes, mut cursor) = (Vec::new(), Cursor::new(Side::Backend));
    for _ in 0..3 {
        cursor.begin(&header, &mut |event| sizes.push(event));
    }
    assert_eq!(sizes[2], FrameEvent::Data { opcode: 2, size: u64::MAX });
}

#[test]
fn a_close_frame_s_code_is_read_masked_and_split() {
    let close = Frame::new(8, b"\x03\xE9bye").masked().bytes();
    let mut cursor = Cursor::new(Side::Client);
    for (at, byte) in close.iter().enumerate() {
        assert_eq!(cursor.closed(), None, "before byte {at}");
        cursor.advance(&[*byte], &mut |_| {});
    }
    assert_eq!(cursor.closed(), Some(1001));
}

#[test]
fn a_close_frame_without_a_whole_code_is_1005() {
    for payload in [&b""[..], b"\x03"] {
        let mut cursor = Cursor::new(Side::Backend);
        cursor.advance(&Frame::new(8, payload).bytes(), &mut |_| {});
        assert_eq!(cursor.closed(), Some(1005));
    }
}

#[test]
fn only_the_first_close_frame_counts() {
    let mut cursor = Cursor::new(Side::Backend);
    let both = stream(&[Frame::new(8, b"\x03\xE8"), Frame::new(8, b"\x03\xF3")]);
    cursor.advance(&both, &mut |_| {});
    assert_eq!(cursor.closed(), Some(1000));
}

#[test]
fn a_mask_that_is_wrong_for_the_sender_is_reported_and_the_frame_still_followed() {
    for (sender, frame) in [(Side::Client, Frame::new(2, b"abc")), (Side::Backend, Frame::new(2, b"abc").masked())] {
        let data = [FrameEvent::Data { opcode: 2, size: 3 }, FrameEvent::MessageEnded { opcode: 2, size: 3 }];
        let expected = [&[FrameEvent::MaskWrong], &data[..]].concat();
        assert_eq!(events(sender, &frame.bytes()), expected);
    }
}

#[test]
fn broken_framing_loses_the_cursor_for_good() {
    let broken = [
        (vec![0x88, 126, 0, 126], Fault::ControlTooLong),
        (vec![0x89, 127, 0, 0, 0, 0, 0, 0, 0, 126], Fault::ControlTooLong),
        (vec![0x09, 0], Fault::ControlFragmented),
        (vec![0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0], Fault::LengthTooLong),
    ];
    for (bytes, fault) in broken {
        let mut seen = Vec::new();
        let mut cursor = Cursor::new(Side::Backend);
        cursor.advance(&bytes, &mut |event| seen.push(event));
        let passed = cursor.next_boundary(&Frame::new(1, b"later").bytes(), &mut |event| seen.push(event));
        assert_eq!(passed, 7, "everything passes");
        assert_eq!(seen, [FrameEvent::Lost(fault)]);
        assert!(cursor.is_lost() && !cursor.at_boundary());
    }
}

#[test]
fn an_empty_chunk_changes_nothing() {
    let mut cursor = Cursor::new(Side::Client);
    assert_eq!(cursor.next_boundary(&[], &mut |_| {}), 0);
    assert!(cursor.at_boundary());
}
