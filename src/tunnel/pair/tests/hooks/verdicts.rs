//! Verdicts: the fate of messages, both ways.

use super::*;

fn on(word: &'static str, verdict: Verdict) -> Script {
    Script::new(Messages::BOTH, move |_, message| {
        Ok(if message.as_text() == Some(word) { verdict.clone() } else { Verdict::Pass })
    })
}

#[test]
fn messages_that_pass_arrive_as_they_were_sent_and_are_counted() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
        rig.send(from, &[text(from, "one"), binary(from, &[7; 70_000]), text(from, "")].concat());
        let sent = rig.taken(to);
        let got = frames(&sent);
        assert_eq!(got[0], text_to(to, "one"));
        assert_eq!((got[1].first, &got[1].payload), (0x82, &vec![7; 70_000]));
        assert_eq!((got[2].payload.len(), got.len()), (0, 3));
        assert_eq!(rig.pair.passed(from), (sent.len() as u64, 3));
        assert_eq!(rig.kept_for(to), 0);
        assert_eq!(rig.pair.inspector().unwrap().weight(), 0, "nothing is kept between messages");
    }
}

#[test]
fn frames_towards_the_backend_have_a_mask_of_our_own_and_others_none() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Client, &text(Client, "a"));
    rig.send(Backend, &text(Backend, "b"));
    let sent = rig.taken(Backend);
    assert_eq!(sent[..2], [0x81, 0x81]);
    assert_ne!(sent[2..6], [1, 2, 3, 4], "the client's own mask is not used again");
    assert_eq!(rig.taken(Client), [0x81, 1, b'b']);
}

#[test]
fn a_replaced_message_goes_on_in_the_others_place() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(on("bad", Verdict::Replace(Message::binary(&b"good"[..]))));
        rig.send(from, &[text(from, "a"), text(from, "bad"), text(from, "b")].concat());
        let replaced = Frame { first: 0x82, masked: to == Backend, payload: b"good".to_vec() };
        assert_eq!(rig.frames(to), [text_to(to, "a"), replaced, text_to(to, "b")]);
        assert!(rig.metric(r#"longhaul_hook_verdicts_total{hook="hook",phase="message",verdict="replace"} 1"#));
    }
}

#[test]
fn a_dropped_message_is_gone_and_not_counted() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(on("bad", Verdict::Drop));
        rig.send(from, &[text(from, "a"), text(from, "bad"), text(from, "b")].concat());
        assert_eq!(rig.frames(to), [text_to(to, "a"), text_to(to, "b")]);
        assert_eq!(rig.frames(from), []);
        assert_eq!(rig.pair.passed(from).1, 2);
    }
}

#[test]
fn a_reply_goes_back_to_the_sender_and_the_message_nowhere() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(on("who?", Verdict::Reply(Message::text("me"))));
        rig.send(from, &[text(from, "who?"), text(from, "b")].concat());
        assert_eq!(rig.frames(to), [text_to(to, "b")]);
        assert_eq!(rig.frames(from), [text_to(from, "me")]);
    }
}

#[test]
fn hooks_are_asked_in_order_about_what_the_client_sends_and_in_reverse_about_the_rest() {
    let mut rig = HookedRig::with(
        Script::new(Messages::BOTH, |_, message| {
            let longer = format!("{}+", message.as_text().unwrap());
            Ok(Verdict::Replace(Message::text(longer)))
        }),
        TunnelLimits::default(),
        None,
        &["first", "second"],
    );
    rig.send(Client, &text(Client, "c"));
    rig.send(Backend, &text(Backend, "b"));
    assert_eq!(rig.frames(Backend), [text_to(Backend, "c++")]);
    assert_eq!(rig.frames(Client), [text_to(Client, "b++")]);
    assert_eq!(
        rig.script.log()[2..],
        ["first to_backend \"c\"", "second to_backend \"c+\"", "second to_client \"b\"", "first to_client \"b+\""]
    );
}

#[test]
fn who_drops_or_replies_keeps_the_message_from_the_hooks_behind() {
    for verdict in [Verdict::Drop, Verdict::Reply(Message::text("no"))] {
        let mut rig = HookedRig::with(on("x", verdict), TunnelLimits::default(), None, &["first", "second"]);
        rig.send(Client, &text(Client, "x"));
        assert_eq!(rig.script.log()[2..], ["first to_backend \"x\""]);
    }
}

#[test]
fn fragments_come_as_one_message_and_control_frames_between_them_pass_at_once() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
        rig.send(from, &frame_from(from, 0x01, b"Hel"));
        rig.send(from, &frame_from(from, 0x89, b"ping"));
        assert_eq!(rig.frames(to), [Frame { first: 0x89, masked: to == Backend, payload: b"ping".to_vec() }]);
        rig.send(from, &frame_from(from, 0x00, b"lo"));
        rig.send(from, &frame_from(from, 0x8A, b""));
        rig.send(from, &frame_from(from, 0x80, b"!"));
        let pong = Frame { first: 0x8A, masked: to == Backend, payload: vec![] };
        assert_eq!(rig.frames(to), [pong, text_to(to, "Hello!")]);
    }
}

#[test]
fn a_direction_that_no_hook_sees_passes_byte_by_byte() {
    let mut rig = HookedRig::new(Script::pass(Messages::TO_BACKEND));
    let fragment = frame_from(Backend, 0x41, b"whatever it means");
    rig.send(Backend, &fragment[..5]);
    assert_eq!(rig.taken(Client), fragment[..5], "no message is waited for");
    rig.send(Backend, &fragment[5..]);
    assert_eq!(rig.taken(Client), fragment[5..]);
    rig.send(Client, &text(Client, "seen"));
    assert_eq!(rig.frames(Backend), [text_to(Backend, "seen")]);
    assert_eq!(rig.script.log()[1..], ["hook to_backend \"seen\""]);
}

#[test]
fn who_does_not_take_replies_is_not_read_any_further() {
    for (from, _) in WAYS {
        let mut rig =
            HookedRig::new(Script::new(Messages::BOTH, |_, _| Ok(Verdict::Reply(Message::binary(vec![1; 1000])))));
        rig.room(from, 0);
        for _ in 0..1000 {
            rig.send(from, &text(from, "more"));
        }
        let asked = rig.script.log().len() - 1;
        assert!((60..=66).contains(&asked), "{asked} were asked about: 64 KiB of replies");
        assert!(rig.kept_for(from) < 66 * 1024, "{}", rig.kept_for(from));
        rig.room(from, usize::MAX);
        assert_eq!(rig.frames(from).len(), 1000, "once it reads, all is answered");
    }
}

#[test]
fn a_receiver_that_does_not_read_holds_up_its_own_direction_only() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
        rig.room(to, 0);
        for _ in 0..100 {
            rig.send(from, &binary(from, &[1; 3000]));
            rig.send(to, &binary(to, &[2; 3000]));
        }
        assert_eq!(rig.frames(from).len(), 100);
        assert!(rig.kept_for(to) < 5000, "{}", rig.kept_for(to));
        rig.room(to, usize::MAX);
        assert_eq!(rig.frames(to).len(), 100);
    }
}

#[test]
fn a_large_message_for_a_slow_receiver_does_not_stop_what_it_sends_itself() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.room(Client, 10);
    rig.send(Backend, &binary(Backend, &[1; 200_000]));
    assert!(rig.kept_for(Client) > 100_000);
    rig.send(Client, &text(Client, "I read when I have said this"));
    assert_eq!(rig.frames(Backend).len(), 1);
}
