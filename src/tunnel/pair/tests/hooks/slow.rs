//! Hooks that take their time: what waits for them, and what does not.

use super::*;

fn slow(messages: Messages) -> Script {
    Script::pass(messages.awaited())
}

fn ping_from(side: Side) -> Vec<u8> {
    frame_from(side, 0x89, b"p")
}

fn ping_to(side: Side) -> Frame {
    Frame { first: 0x89, masked: side == Backend, payload: b"p".to_vec() }
}

#[test]
fn messages_wait_for_their_hook_in_order() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(slow(Messages::BOTH));
        rig.send(from, &[text(from, "a"), text(from, "b"), text(from, "c")].concat());
        for word in ["a", "b", "c"] {
            assert_eq!(rig.frames(to), []);
            rig.let_go();
            assert_eq!(rig.frames(to), [text_to(to, word)]);
        }
        assert_eq!(rig.pair.inspector().unwrap().weight(), 0, "nothing is kept between messages");
    }
}

#[test]
fn a_hook_that_answers_at_once_costs_no_wait() {
    let script = slow(Messages::BOTH);
    script.gate.add_permits(2);
    let mut rig = HookedRig::new(script);
    rig.send(Client, &[text(Client, "a"), text(Client, "b")].concat());
    assert_eq!(rig.frames(Backend), [text_to(Backend, "a"), text_to(Backend, "b")]);
    assert!(rig.heard.try_recv().is_err(), "nothing was reported from elsewhere");
}

#[test]
fn a_sender_is_not_read_any_further_meanwhile() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(slow(Messages::BOTH));
        for n in 0..100_u32 {
            rig.send(from, &text(from, &format!("{n:0100}")));
        }
        assert!(rig.pair.inspector().unwrap().weight() <= 1024, "one read's worth at the most");
        for _ in 0..100 {
            rig.let_go();
        }
        let words: Vec<u32> =
            rig.frames(to).iter().map(|frame| str::from_utf8(&frame.payload).unwrap().parse().unwrap()).collect();
        assert_eq!(words, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn pings_of_the_other_side_pass_and_its_messages_wait() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(slow(Messages::BOTH));
        rig.send(from, &text(from, "asked about"));
        rig.send(to, &[ping_from(to), text(to, "behind"), ping_from(to)].concat());
        rig.send(to, &ping_from(to));
        assert_eq!(rig.frames(from), [ping_to(from)], "what stands behind a message comes behind it");
        rig.let_go();
        assert_eq!(rig.frames(to), [text_to(to, "asked about")]);
        assert_eq!(rig.frames(from), []);
        rig.let_go();
        assert_eq!(rig.frames(from), [text_to(from, "behind"), ping_to(from), ping_to(from)]);
    }
}

#[test]
fn a_direction_that_no_hook_sees_does_not_wait() {
    let mut rig = HookedRig::new(slow(Messages::TO_BACKEND));
    rig.send(Client, &text(Client, "asked about"));
    rig.send(Backend, &text(Backend, "free"));
    assert_eq!(rig.frames(Client), [text_to(Client, "free")]);
    rig.let_go();
    assert_eq!(rig.frames(Backend), [text_to(Backend, "asked about")]);
}

#[test]
fn everything_waits_until_hooks_know_that_the_tunnel_is_open() {
    for messages in [Messages::NONE, Messages::BOTH] {
        let mut rig = HookedRig::new(Script { opens_at_once: false, ..Script::pass(messages) });
        for (from, to) in WAYS {
            rig.send(from, &text(from, "early"));
            assert_eq!(rig.frames(to), []);
        }
        rig.let_go();
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [text_to(side, "early")]);
        }
    }
}

#[test]
fn a_hook_that_fails_to_open_ends_the_tunnel_before_anything_passed() {
    for opens_at_once in [true, false] {
        let script = Script { opens_at_once, fails_to_open: true, ..Script::pass(Messages::BOTH) };
        let mut rig = HookedRig::new(script);
        rig.send(Client, &text(Client, "early"));
        if !opens_at_once {
            rig.let_go();
        }
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [Frame::close_to(side, 1011, "hook_failed")]);
            rig.send(side, &close(side, 1011));
        }
        assert_eq!(rig.outcome(), ("hook_failed", 1011));
        rig.part();
        assert_eq!(rig.script.log()[1..], ["hook close hook_failed 1011"]);
    }
}

#[test]
fn verdicts_that_come_late_are_carried_out_all_the_same() {
    let mut rig = HookedRig::new(Script::new(Messages::BOTH.awaited(), |_, message| {
        Ok(match message.as_text() {
            Some("reply") => Verdict::Reply(Message::text("r")),
            Some("replace") => Verdict::Replace(Message::text("other")),
            Some("drop") => Verdict::Drop,
            _ => Verdict::close(4000, "late"),
        })
    }));
    rig.send(Client, &["reply", "replace", "drop", "close"].map(|word| text(Client, word)).concat());
    rig.let_go();
    assert_eq!(rig.frames(Client), [text_to(Client, "r")]);
    rig.let_go();
    assert_eq!(rig.frames(Backend), [text_to(Backend, "other")]);
    rig.let_go();
    assert_eq!((rig.frames(Client), rig.frames(Backend)), (vec![], vec![]));
    rig.let_go();
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 4000, "late")]);
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 4000, "late")]);
}

#[test]
fn a_tunnel_that_ends_meanwhile_gives_the_call_up_and_tells_its_hooks_then() {
    let mut rig = HookedRig::new(slow(Messages::BOTH));
    rig.send(Client, &text(Client, "never answered"));
    rig.reset(Backend);
    rig.pass(Duration::from_secs(5));
    assert!(rig.ended);
    assert_eq!(rig.part(), [("seen", String::new())]);
    assert_eq!(rig.script.log()[1..], ["hook close backend_gone 1006"]);
}

#[test]
fn a_close_that_the_gateway_sends_meanwhile_can_be_answered() {
    let limits = TunnelLimits { idle: Some(Duration::from_secs(60)), ..TunnelLimits::default() };
    let mut rig = HookedRig::with(slow(Messages::BOTH), limits, None, &["hook"]);
    rig.send(Client, &text(Client, "asked about"));
    rig.send(Client, &text(Client, "behind"));
    rig.send(Backend, &text(Backend, "waits"));
    rig.pass(Duration::from_secs(60));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1001, "idle")]);
        rig.send(side, &close(side, 1001));
    }
    assert_eq!(rig.outcome(), ("idle", 1001));
}

#[test]
fn a_verdict_for_a_tunnel_that_is_ending_changes_nothing() {
    let limits = TunnelLimits { idle: Some(Duration::from_secs(60)), ..TunnelLimits::default() };
    let mut rig = HookedRig::with(slow(Messages::BOTH), limits, None, &["hook"]);
    rig.send(Client, &text(Client, "asked about"));
    rig.pass(Duration::from_secs(60));
    rig.taken(Backend);
    rig.let_go();
    assert_eq!(rig.taken(Backend), b"", "nothing follows a Close frame");
}

#[test]
fn nobody_is_taken_for_silent_whom_we_do_not_read() {
    let limits = TunnelLimits { ping: Some(Duration::from_secs(30)), ..TunnelLimits::default() };
    let mut rig = HookedRig::with(slow(Messages::TO_BACKEND), limits, None, &["hook"]);
    rig.pass(Duration::from_secs(30));
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)]);
    // The answer to the Ping stands behind the second message, where it cannot be seen.
    rig.send(Client, &[text(Client, "a"), text(Client, "b"), frame_from(Client, 0x8A, b"longhaul")].concat());
    for _ in 0..10 {
        rig.pass(Duration::from_secs(20));
        rig.send(Backend, &frame_from(Backend, 0x8A, b""));
    }
    assert!(!rig.ended && rig.frames(Client).iter().all(|frame| frame.first == 0x8A));
    rig.let_go();
    rig.let_go();
    rig.pass(Duration::from_secs(29));
    assert!(rig.frames(Client).is_empty(), "its time begins anew");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)]);
}
