//! Violations of RFC 6455 where hooks see messages: the tunnel ends with the code that the RFC has for it.

use super::*;

/// A frame with any second byte, and a mask where the side is to have one.
fn raw(side: Side, first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame_from(if masked { Client } else { Backend }, first, payload);
    assert_eq!(frame[1] & 0x80 != 0, masked, "{side:?}");
    frame.truncate(frame.len());
    frame
}

fn violations(from: Side) -> Vec<(&'static str, Vec<u8>, u16, &'static str)> {
    let masked = from == Client;
    let frame = |first, payload: &[u8]| frame_from(from, first, payload);
    vec![
        ("wrong mask", raw(from, 0x81, !masked, b"x"), 1002, "protocol_error"),
        ("rsv1 without an agreement", frame(0xC1, b"x"), 1002, "protocol_error"),
        ("rsv2", frame(0xA1, b"x"), 1002, "protocol_error"),
        ("rsv3 on a control frame", frame(0x99, b"x"), 1002, "protocol_error"),
        ("opcode 3", frame(0x83, b"x"), 1002, "protocol_error"),
        ("opcode 11", frame(0x8B, b"x"), 1002, "protocol_error"),
        ("continuation of nothing", frame(0x80, b"x"), 1002, "protocol_error"),
        ("message in a message", [frame(0x01, b"x"), frame(0x81, b"y")].concat(), 1002, "protocol_error"),
        ("fragmented ping", frame(0x09, b"x"), 1002, "protocol_error"),
        ("ping of 126 bytes", frame(0x89, &[0; 126]), 1002, "protocol_error"),
        ("close of one byte", frame(0x88, b"\x03"), 1002, "protocol_error"),
        ("close code 1005", frame(0x88, &1005_u16.to_be_bytes()), 1002, "protocol_error"),
        ("close reason not UTF-8", frame(0x88, b"\x03\xe8\xff"), 1007, "invalid_payload"),
        ("text not UTF-8", frame(0x81, b"a\xff"), 1007, "invalid_payload"),
        ("too long", frame(0x82, &[0; 1001]), 1009, "message_too_big"),
        ("too long in fragments", [frame(0x02, &[0; 600]), frame(0x80, &[0; 600])].concat(), 1009, "message_too_big"),
    ]
}

#[test]
fn each_ends_the_tunnel_with_its_code_and_is_never_seen_by_hook_or_receiver() {
    for (from, to) in WAYS {
        for (what, bytes, code, reason) in violations(from) {
            let limits = TunnelLimits { max_message: Some(1000), ..TunnelLimits::default() };
            let mut rig = HookedRig::with(Script::pass(Messages::BOTH), limits, None, &["hook"]);
            rig.send(from, &[text(from, "fine"), bytes, text(from, "too late")].concat());
            assert_eq!(rig.frames(to), [text_to(to, "fine"), Frame::close_to(to, code, reason)], "{what}");
            assert_eq!(rig.frames(from), [Frame::close_to(from, code, reason)], "{what}");
            assert_eq!(rig.script.log().len(), 2, "{what}");
            rig.send(to, &close(to, code));
            rig.send(from, &close(from, code));
            rig.fin(from);
            assert_eq!(rig.outcome(), (reason, code), "{what}");
        }
    }
}

#[test]
fn whoever_broke_the_rules_is_not_waited_for_to_say_goodbye() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Client, &frame_from(Client, 0x83, b""));
    assert!(rig.end(Client).shut, "nothing follows the Close frame");
    assert!(!rig.end(Backend).shut, "the other side has its time to answer");
    rig.send(Backend, &close(Backend, 1002));
    assert!(
        rig.end(Backend).shut && !rig.ended,
        "what the client still sends is read: a reset could overtake the Close frame"
    );
    rig.fin(Client);
    assert_eq!(rig.outcome(), ("protocol_error", 1002));
}

#[test]
fn an_overlong_message_is_refused_by_its_header() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    let frame = frame_from(Client, 0x82, &vec![0; 1024 * 1024 + 1]);
    rig.send(Client, &frame[..14]);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1009, "message_too_big")], "1 MiB where no limit is set");
}

#[test]
fn a_direction_that_no_hook_sees_is_not_judged() {
    let mut rig = HookedRig::new(Script::pass(Messages::TO_CLIENT));
    let odd = frame_from(Client, 0xB3, b"an extension of theirs");
    rig.send(Client, &odd);
    assert_eq!(rig.taken(Backend), odd);
    assert!(!rig.ended);
}
