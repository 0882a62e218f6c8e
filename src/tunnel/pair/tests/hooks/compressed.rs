//! Messages that are compressed on the wire, with what the gateway itself agreed on.

use http::HeaderValue;

use super::*;

fn agreement(offered: &'static str, answered: &'static str) -> Agreement {
    let offer = deflate::offer([&HeaderValue::from_static(offered)]).unwrap();
    offer.agree([&HeaderValue::from_static(answered)]).unwrap().unwrap()
}

fn full() -> Agreement {
    agreement("permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover")
}

fn narrow() -> Agreement {
    agreement(
        "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover; \
         server_max_window_bits=10; client_max_window_bits=10",
    )
}

fn hooked(script: Script, agreement: Agreement) -> HookedRig {
    let limits = TunnelLimits { max_message: Some(10_000), ..TunnelLimits::default() };
    HookedRig::with(script, limits, Some(agreement), &["hook"])
}

fn compress(words: &str) -> Vec<u8> {
    Codec::new().deflate(words.as_bytes())
}

#[test]
fn hooks_see_it_inflated_and_what_passes_stays_as_it_was() {
    for (from, to) in WAYS {
        let mut rig = hooked(Script::pass(Messages::BOTH), full());
        let payload = compress("hello hello hello");
        rig.send(from, &[frame_from(from, 0xC1, &payload), text(from, "plain")].concat());
        let got = rig.frames(to);
        assert_eq!(got, [Frame { first: 0xC1, masked: to == Backend, payload }, text_to(to, "plain")]);
        assert!(rig.script.log()[1].ends_with("\"hello hello hello\""));
    }
}

#[test]
fn a_compressed_message_in_fragments_is_inflated_as_a_whole() {
    let mut rig = hooked(Script::pass(Messages::BOTH), full());
    let payload = compress("hello hello hello");
    let (head, tail) = payload.split_at(4);
    let ping = frame_from(Client, 0x89, b"");
    rig.send(Client, &[frame_from(Client, 0x41, head), ping, frame_from(Client, 0x80, tail)].concat());
    assert_eq!(rig.frames(Backend)[1], Frame { first: 0xC1, masked: true, payload });
}

#[test]
fn what_is_changed_is_compressed_again() {
    for (from, to) in WAYS {
        let script = Script::new(Messages::BOTH, |_, _| Ok(Verdict::Replace(Message::text("changed"))));
        let mut rig = hooked(script, full());
        rig.send(from, &[frame_from(from, 0xC1, &compress("x")), text(from, "plain")].concat());
        let got = rig.frames(to);
        assert_eq!(got[0].first, 0xC1);
        assert_eq!(Codec::new().inflate(&got[0].payload, 100).unwrap(), b"changed");
        assert_eq!(got[1], text_to(to, "changed"), "and what was not, is not");
    }
}

#[test]
fn what_is_changed_is_left_plain_for_a_receiver_with_a_small_window() {
    for (from, to) in WAYS {
        let script = Script::new(Messages::BOTH, |_, _| Ok(Verdict::Replace(Message::text("changed"))));
        let mut rig = hooked(script, narrow());
        rig.send(from, &frame_from(from, 0xC1, &compress("x")));
        assert_eq!(rig.frames(to), [text_to(to, "changed")]);
    }
}

#[test]
fn replies_and_messages_from_outside_are_not_compressed() {
    let script = Script::new(Messages::BOTH, |_, _| Ok(Verdict::Reply(Message::text("reply"))));
    let mut rig = hooked(script, full());
    rig.send(Client, &frame_from(Client, 0xC1, &compress("x")));
    assert!(rig.inject(&Item::Message(Direction::ToClient, Message::text("news"))));
    assert_eq!(rig.frames(Client), [text_to(Client, "reply"), text_to(Client, "news")]);
}

#[test]
fn a_bomb_is_refused_without_being_inflated() {
    let mut rig = hooked(Script::pass(Messages::BOTH), full());
    let bomb = Codec::new().deflate(&vec![0; 1_000_000]);
    assert!(bomb.len() < 10_000, "it is short enough on the wire");
    rig.send(Client, &frame_from(Client, 0xC2, &bomb));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1009, "message_too_big")]);
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 1009, "message_too_big")]);
}

#[test]
fn what_cannot_be_inflated_or_is_no_text_then_is_refused_with_1007() {
    for payload in [b"\xff\xff\xff\xff".to_vec(), Codec::new().deflate(b"\xff\xfe")] {
        let mut rig = hooked(Script::pass(Messages::BOTH), full());
        rig.send(Client, &frame_from(Client, 0xC1, &payload));
        assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1007, "invalid_payload")]);
        for side in Side::ALL {
            rig.send(side, &close(side, 1007));
        }
        assert_eq!(rig.outcome(), ("invalid_payload", 1007));
    }
}

#[test]
fn a_slow_hook_sees_it_inflated_too() {
    let mut rig = hooked(Script::pass(Messages::BOTH.awaited()), full());
    let payload = compress("slowly");
    rig.send(Client, &frame_from(Client, 0xC1, &payload));
    rig.let_go();
    assert_eq!(rig.frames(Backend), [Frame { first: 0xC1, masked: true, payload }]);
    assert!(rig.script.log()[1].ends_with("\"slowly\""));
}

#[test]
fn a_long_message_is_restored_over_many_turns_and_others_have_theirs_in_between() {
    let limits = TunnelLimits { max_message: Some(4 << 20), ..TunnelLimits::default() };
    let mut rig = HookedRig::with(Script::pass(Messages::BOTH), limits, Some(full()), &["hook"]);
    let payload = Codec::new().deflate(&vec![b'a'; 4 << 20]);
    let before = rig.turns;
    rig.send(Client, &frame_from(Client, 0xC2, &payload));
    let turns = rig.turns - before;
    assert!(turns >= (4 << 20) / (256 * 1024), "{turns} turns");
    assert_eq!(rig.frames(Backend), [Frame { first: 0xC2, masked: true, payload }]);
    assert_eq!(rig.script.log().len(), 2);
}

#[test]
fn a_message_of_the_other_side_is_asked_about_while_a_long_one_is_restored() {
    let limits = TunnelLimits { max_message: Some(4 << 20), ..TunnelLimits::default() };
    let mut rig = HookedRig::with(Script::pass(Messages::BOTH.awaited()), limits, Some(full()), &["hook"]);
    let payload = Codec::new().deflate(&vec![b'a'; 4 << 20]);
    rig.end(Backend).arrived_too(&text(Backend, "short"));
    rig.send(Client, &frame_from(Client, 0xC2, &payload));
    rig.tell_anew();
    rig.let_go();
    rig.let_go();
    assert_eq!(rig.frames(Backend), [Frame { first: 0xC2, masked: true, payload }]);
    assert_eq!(rig.frames(Client), [text_to(Client, "short")]);
}
