//! Tunnels that hooks end, by word or by failure, and what they are told at the end.

use super::*;

fn closing(code: u16, reason: &'static str) -> Script {
    Script::new(Messages::BOTH, move |_, _| Ok(Verdict::close(code, reason)))
}

#[test]
fn a_hook_closes_with_its_own_code_and_reason_both_ways() {
    for (from, _) in WAYS {
        let mut rig = HookedRig::new(closing(4001, "token expired"));
        rig.send(from, &[text(from, "a"), text(from, "b")].concat());
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [Frame::close_to(side, 4001, "token expired")]);
        }
        assert_eq!(rig.script.log().len(), 2, "nothing is asked about what comes after");
        answer(&mut rig, 4001);
        assert_eq!(rig.outcome(), ("hook_closed", 4001));
    }
}

#[test]
fn a_close_behind_the_message_in_the_same_chunk_counts_as_the_answer() {
    let mut rig = HookedRig::new(closing(1000, ""));
    rig.send(Client, &[text(Client, "a"), binary(Client, b"b"), close(Client, 1000)].concat());
    rig.send(Backend, &close(Backend, 1000));
    assert_eq!(rig.outcome(), ("hook_closed", 1000));
}

#[test]
fn codes_that_must_not_be_sent_become_1011() {
    for code in [0, 999, 1002, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
        let mut rig = HookedRig::new(closing(code, "why"));
        rig.send(Client, &text(Client, "a"));
        assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1011, "why")], "{code}");
    }
}

#[test]
fn a_long_reason_is_cut_at_a_whole_character() {
    let reason = "ä".repeat(70);
    let mut rig = HookedRig::new(Script::new(Messages::BOTH, move |_, _| Ok(Verdict::close(3000, reason.clone()))));
    rig.send(Client, &text(Client, "a"));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 3000, &"ä".repeat(61))]);
}

#[test]
fn a_hook_that_fails_or_panics_ends_the_tunnel_with_1011() {
    for (cause, panics) in [("error", false), ("panic", true)] {
        let mut rig = HookedRig::new(Script::new(Messages::BOTH, move |_, _| {
            assert!(!panics, "as told");
            Err(hook::Error::new("as told"))
        }));
        rig.send(Client, &[text(Client, "a"), text(Client, "b")].concat());
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [Frame::close_to(side, 1011, "hook_failed")]);
        }
        let line = format!("longhaul_hook_failures_total{{cause=\"{cause}\",hook=\"hook\",phase=\"message\"}} 1");
        assert!(rig.metric(&line), "{line}");
        answer(&mut rig, 1011);
        assert_eq!(rig.outcome(), ("hook_failed", 1011));
    }
}

#[test]
fn hooks_are_told_of_the_end_once_and_add_to_the_log_line_before() {
    let mut rig = HookedRig::with(Script::pass(Messages::BOTH), TunnelLimits::default(), None, &["first", "second"]);
    rig.send(Client, &text(Client, "x"));
    rig.send(Client, &close(Client, 1000));
    rig.send(Backend, &close(Backend, 1000));
    rig.fin(Backend);
    assert_eq!(rig.part(), [("seen", "x".to_owned()), ("seen", "x".to_owned())]);
    let log = rig.script.log();
    assert_eq!(log[..2], ["first open r1", "second open r1"]);
    assert_eq!(log[4..], ["first close client_close 1000", "second close client_close 1000"]);
}

#[test]
fn close_frames_of_either_side_pass_with_code_and_reason() {
    for (from, to) in WAYS {
        let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
        let goodbye = frame_from(from, 0x88, b"\x0f\xa1bye");
        rig.send(from, &[text(from, "last"), goodbye, text(from, "too late")].concat());
        assert_eq!(rig.frames(to), [text_to(to, "last"), Frame::close_to(to, 4001, "bye")]);
        rig.send(to, &close(to, 4001));
        rig.fin(from);
        assert_eq!(rig.outcome().1, 4001);
    }
}

#[test]
fn a_backend_that_goes_in_the_middle_of_a_message_leaves_a_client_that_can_be_told() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Backend, &binary(Backend, b"begun")[..4]);
    rig.fin(Backend);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1014, "backend_gone")], "nothing of it was passed on");
}

#[test]
fn idle_ends_a_tunnel_with_hooks_in_the_middle_of_a_message() {
    let mut rig = HookedRig::with(
        Script::pass(Messages::BOTH),
        TunnelLimits { idle: Some(Duration::from_secs(60)), ..TunnelLimits::default() },
        None,
        &["hook"],
    );
    let message = binary(Client, b"begun and ended");
    rig.send(Client, &message[..9]);
    rig.pass(Duration::from_secs(60));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1001, "idle")]);
    }
    rig.send(Client, &message[9..]);
    answer(&mut rig, 1001);
    assert_eq!(rig.outcome(), ("idle", 1001));
    assert_eq!(rig.script.log().len(), 1, "no hook is asked any more");
}
