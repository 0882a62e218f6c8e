//! Held frames of a client, cut at every byte.

use super::*;
use crate::ws::{Control, MessageKind, Side};

const KEY: Option<[u8; 4]> = Some([7, 1, 9, 3]);

/// A message in two fragments with a Ping between them, a Pong, a whole message, a Close frame.
fn sent() -> (Vec<u8>, Vec<u8>) {
    let (mut sent, mut wanted) = (Vec::new(), Vec::new());
    let mut add = |bytes: &[u8], is_wanted: bool| {
        sent.extend_from_slice(bytes);
        if is_wanted {
            wanted.extend_from_slice(bytes);
        }
    };
    add(&[0x01, 0x82, 0, 0, 0, 0, b'a', b'b'], true);
    add(&frame::ping(b"there?", KEY), false);
    add(&[0x80, 0x81, 0, 0, 0, 0, b'c'], true);
    let mut pong = Vec::new();
    frame::control(&mut pong, Control::Pong, b"unasked", KEY);
    add(&pong, false);
    let mut whole = Vec::new();
    frame::message(&mut whole, MessageKind::Binary, &[5; 300], false, KEY);
    add(&whole, true);
    add(&frame::close(1000, "done", KEY), true);
    (sent, wanted)
}

#[test]
fn frames_are_held_in_order_and_pings_are_taken_out_wherever_they_are_cut() {
    let (sent, wanted) = sent();
    for cut in 0..=sent.len() {
        let mut holding = Holding::new(Cursor::new(Side::Client), Some(Vec::new()));
        let (one, other) = sent.split_at(cut);
        let pinged = [one, other].into_iter().filter_map(|part| holding.take(part)).collect::<Vec<_>>();
        assert_eq!(pinged, [b"there?"], "cut at {cut}");
        assert_eq!(holding.cursor().closed(), Some(1000));
        assert_eq!(holding.into_bytes(), wanted, "cut at {cut}");
    }
}

#[test]
fn the_rest_of_a_message_follows_what_was_kept_of_it_and_is_dropped_where_nothing_was() {
    let (sent, wanted) = sent();
    for cut in 1..8 {
        let (one, other) = sent.split_at(cut);
        let mut cursor = Cursor::new(Side::Client);
        cursor.advance(one, &mut |_| {});
        let mut kept = Holding::new(cursor.clone(), Some(one.to_vec()));
        kept.take(other);
        assert_eq!(kept.into_bytes(), wanted, "cut at {cut}");
        let mut lost = Holding::new(cursor, None);
        assert!(lost.skips());
        assert_eq!(lost.take(other).as_deref(), Some(&b"there?"[..]));
        assert!(!lost.skips());
        assert_eq!(lost.into_bytes(), wanted[15..], "cut at {cut}");
    }
}
