//! Messages and closes from outside: where they are put in, and when they are not.

use super::*;

fn push(side: Side, words: &str) -> Item {
    let direction = if side == Client { Direction::ToClient } else { Direction::ToBackend };
    Item::Message(direction, Message::text(words))
}

#[test]
fn a_message_is_put_in_for_either_side() {
    for messages in [Messages::NONE, Messages::BOTH] {
        for side in Side::ALL {
            let mut rig = HookedRig::new(Script::pass(messages));
            assert!(rig.inject(&push(side, "news")));
            assert_eq!(rig.frames(side), [text_to(side, "news")]);
            assert_eq!(rig.script.log().len(), 1, "no hook sees it");
            assert_eq!(rig.pair.passed(side.other()), (0, 0), "it is not the other side's");
        }
    }
}

#[test]
fn it_waits_for_the_end_of_a_frame() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::NONE));
        let message = text(from, "under way");
        rig.send(from, &message[..5]);
        assert!(rig.inject(&push(to, "news")) && rig.inject(&push(to, "more")));
        assert_eq!(rig.taken(to), message[..5]);
        rig.send(from, &[&message[5..], &text(from, "next")].concat());
        let sent = rig.taken(to);
        assert_eq!(sent[..message.len() - 5], message[5..]);
        let words = ["news", "more", "next"].map(|word| text_to(to, word));
        assert_eq!(frames(&sent[message.len() - 5..]), words);
    }
}

#[test]
fn it_is_not_put_between_the_fragments_of_a_message() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::NONE));
        rig.send(from, &frame_from(from, 0x01, b"first"));
        assert!(rig.inject(&push(to, "news")));
        rig.send(from, &frame_from(from, 0x89, b"ping"));
        assert_eq!(rig.frames(to).len(), 2, "the fragment and the Ping");
        rig.send(
            from,
            &[frame_from(from, 0x00, b"second"), frame_from(from, 0x80, b"last"), text(from, "next")].concat(),
        );
        let firsts: Vec<_> = rig.frames(to).into_iter().map(|frame| (frame.first, frame.payload)).collect();
        let expected: [(u8, &[u8]); 4] = [(0x00, b"second"), (0x80, b"last"), (0x81, b"news"), (0x81, b"next")];
        assert_eq!(firsts, expected.map(|(first, payload)| (first, payload.to_vec())));
    }
}

#[test]
fn messages_that_are_put_together_never_hold_it_up() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Client, &frame_from(Client, 0x01, b"first")[..8]);
    assert!(rig.inject(&push(Backend, "news")));
    assert_eq!(rig.frames(Backend), [text_to(Backend, "news")]);
}

#[test]
fn it_comes_before_everything_while_hooks_are_told_of_the_opening() {
    let mut rig = HookedRig::new(Script { opens_at_once: false, ..Script::pass(Messages::BOTH) });
    rig.send(Backend, &text(Backend, "second"));
    assert!(rig.inject(&push(Client, "first")));
    rig.let_go();
    assert_eq!(rig.frames(Client), [text_to(Client, "first"), text_to(Client, "second")]);
}

#[test]
fn a_receiver_that_leaves_64_kib_unread_gets_no_more() {
    for messages in [Messages::NONE, Messages::BOTH] {
        let mut rig = HookedRig::new(Script::pass(messages));
        rig.room(Client, 0);
        let done = (0..100).filter(|_| rig.inject(&push(Client, &"x".repeat(1000)))).count();
        assert_eq!(done, 66, "65,536 by 1,004");
        rig.room(Client, usize::MAX);
        assert_eq!(rig.frames(Client).len(), 66);
        assert!(rig.inject(&push(Client, "again")));
    }
}

#[test]
fn a_side_that_a_close_was_sent_to_gets_no_more() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Backend, &close(Backend, 1000));
    assert!(!rig.inject(&push(Client, "too late")));
    assert!(rig.inject(&push(Backend, "in time")));
    assert_eq!(rig.frames(Client).len(), 1);
}

#[test]
fn what_waits_for_its_place_in_vain_is_dropped() {
    let mut rig = HookedRig::new(Script::pass(Messages::NONE));
    rig.send(Backend, &text(Backend, "begun")[..3]);
    assert!(rig.inject(&push(Client, "never")));
    rig.fin(Backend);
    assert_eq!(rig.taken(Client), text(Backend, "begun")[..3]);
    assert!(!rig.inject(&push(Client, "never")));
}

#[test]
fn a_close_from_outside_goes_both_ways_once() {
    for messages in [Messages::NONE, Messages::BOTH] {
        let mut rig = HookedRig::new(Script::pass(messages));
        let kick = Item::Close { code: 4003, reason: "kicked".into() };
        assert!(rig.inject(&kick));
        assert!(!rig.inject(&kick), "it is ending already");
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [Frame::close_to(side, 4003, "kicked")]);
            rig.send(side, &close(side, 4003));
        }
        assert_eq!(rig.outcome(), ("hook_closed", 4003));
    }
}

#[test]
fn a_close_from_outside_waits_for_the_end_of_a_frame_and_keeps_its_words() {
    let mut rig = HookedRig::new(Script::pass(Messages::NONE));
    let message = text(Client, "under way");
    rig.send(Client, &message[..8]);
    assert!(rig.inject(&Item::Close { code: 1006, reason: "kicked".into() }));
    assert_eq!(rig.taken(Backend), message[..8]);
    rig.send(Client, &message[8..]);
    let sent = rig.taken(Backend);
    assert_eq!(frames(&sent[message.len() - 8..]), [Frame::close_to(Backend, 1011, "kicked")]);
}
