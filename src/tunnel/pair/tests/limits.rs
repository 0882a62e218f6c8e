//! Limits of time and size: when they end a tunnel, and what both sides are told.

use super::{Frame, Rig, answer, binary, close, frame_from, none, seconds};
use crate::config::TunnelLimits;
use crate::tunnel::reason::Reason;
use crate::ws::Side::{self, Backend, Client};

fn idle(limit: u64) -> Rig {
    Rig::new(TunnelLimits { idle: Some(seconds(limit)), ..none() })
}

fn max_message(bytes: u64) -> Rig {
    Rig::new(TunnelLimits { max_message: Some(bytes), ..none() })
}

#[test]
fn a_tunnel_without_limits_is_never_looked_at() {
    let mut rig = Rig::new(none());
    assert_eq!(rig.pair.due(), None);
    rig.send(Client, &binary(Client, b"x"));
    assert_eq!(rig.pair.due(), None);
}

#[test]
fn an_idle_tunnel_gets_close_1001_both_ways() {
    let mut rig = idle(60);
    rig.pass(seconds(59));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1001, "idle")]);
        assert!(!rig.end(side).shut, "the answer is awaited first");
    }
    answer(&mut rig, 1001);
    assert_eq!(rig.outcome(), ("idle", 1001));
    assert!(rig.end(Client).shut && rig.end(Backend).shut);
    assert_eq!(rig.taken(Backend), b"", "the answers to our own Close frames are ours");
}

#[test]
fn a_byte_either_way_puts_idleness_off() {
    let mut rig = idle(60);
    for side in [Client, Backend, Client] {
        rig.pass(seconds(59));
        rig.send(side, &binary(side, b"x"));
    }
    rig.pass(seconds(59));
    assert_eq!(rig.pair.due(), Some(rig.now + seconds(1)));
    assert!(!rig.ended);
}

#[test]
fn sides_that_do_not_answer_a_close_are_cut_off_at_a_deadline() {
    let mut rig = idle(60);
    rig.pass(seconds(60));
    rig.send(Client, &close(Client, 1001));
    assert!(!rig.ended, "the backend has not answered yet");
    rig.pass(seconds(5));
    assert_eq!(rig.outcome(), ("idle", 1001));
}

#[test]
fn inside_a_frame_the_close_waits_for_the_frames_end() {
    let mut rig = idle(60);
    let [first, second] = [binary(Client, b"begun and ended"), binary(Client, b"never seen")];
    rig.send(Client, &first[..9]);
    rig.pass(seconds(60));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "idle")], "this way stood at a boundary");
    assert_eq!(rig.taken(Backend), first[..9]);
    rig.send(Client, &[&first[9..], &second].concat());
    let sent = rig.taken(Backend);
    assert_eq!(sent[..first.len() - 9], first[9..]);
    assert_eq!(super::frames(&sent[first.len() - 9..]), [Frame::close_to(Backend, 1001, "idle")]);
    answer(&mut rig, 1001);
    assert_eq!(rig.outcome(), ("idle", 1001));
    assert_eq!(rig.pair.passed(Client), (first.len() as u64, 1), "what came behind the cut was not passed on");
}

#[test]
fn a_frame_that_never_ends_is_cut_off_at_a_deadline_without_a_close() {
    let mut rig = idle(60);
    let frame = binary(Client, b"begun");
    rig.send(Client, &frame[..8]);
    rig.pass(seconds(65));
    assert_eq!(rig.outcome(), ("idle", 1001));
    assert_eq!(rig.taken(Backend), frame[..8]);
}

#[test]
fn a_close_stands_behind_everything_that_was_taken_before() {
    let mut rig = idle(60);
    rig.room(Backend, 0);
    let message = binary(Client, &[7; 500]);
    rig.send(Client, &message);
    rig.pass(seconds(60));
    rig.room(Backend, usize::MAX);
    let sent = rig.frames(Backend);
    assert_eq!(sent[0].payload, [7; 500]);
    assert_eq!(sent[1..], [Frame::close_to(Backend, 1001, "idle")]);
}

#[test]
fn no_close_follows_a_sides_own_close() {
    let mut rig = idle(60);
    rig.send(Client, &close(Client, 1000));
    assert_eq!(rig.frames(Backend).len(), 1);
    rig.pass(seconds(60));
    assert_eq!(rig.frames(Backend), []);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "idle")]);
    rig.send(Backend, &close(Backend, 1000));
    assert_eq!(rig.outcome(), ("client_close", 1000), "the client was first");
}

#[test]
fn max_age_ends_even_a_busy_tunnel() {
    let mut rig = Rig::new(TunnelLimits { max_age: Some(seconds(100)), idle: Some(seconds(60)), ..none() });
    for _ in 0..9 {
        rig.pass(seconds(11));
        rig.send(Client, &binary(Client, b"busy"));
    }
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "max_age")]);
    answer(&mut rig, 1001);
    assert_eq!(rig.outcome(), ("max_age", 1001));
}

#[test]
fn jitter_shortens_max_age_by_a_tenth_at_most() {
    let mut rig = Rig::with(TunnelLimits { max_age: Some(seconds(100)), ..none() }, 0.1, 1024);
    rig.pass(seconds(89));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "max_age")]);
}

#[test]
fn a_message_above_the_limit_is_refused_with_1009_before_a_byte_of_it_passes() {
    for side in Side::ALL {
        let mut rig = max_message(100);
        let fits = binary(side, &[1; 100]);
        rig.send(side, &fits);
        rig.send(side, &[binary(side, &[2; 100]), binary(side, &[3; 101])].concat());
        let frames = rig.frames(side.other());
        assert_eq!(frames.iter().map(|frame| frame.payload.len()).collect::<Vec<_>>(), [100, 100, 17]);
        assert_eq!(frames[2], Frame::close_to(side.other(), 1009, "message_too_big"));
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1009, "message_too_big")]);
        answer(&mut rig, 1009);
        assert_eq!(rig.outcome(), ("message_too_big", 1009));
        assert_eq!(rig.pair.passed(side), (2 * fits.len() as u64, 2));
    }
}

#[test]
fn a_message_is_measured_over_all_its_fragments() {
    let mut rig = max_message(100);
    rig.send(Client, &frame_from(Client, 0x02, &[1; 60]));
    rig.send(Client, &frame_from(Client, 0x89, &[9; 60]));
    rig.send(Client, &frame_from(Client, 0x00, &[2; 40]));
    assert_eq!(rig.frames(Backend).len(), 3, "a Ping between fragments does not count");
    rig.send(Client, &frame_from(Client, 0x80, &[3; 1]));
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 1009, "message_too_big")]);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1009, "message_too_big")]);
}

#[test]
fn a_header_split_over_chunks_is_measured_when_it_is_whole() {
    let mut rig = max_message(100);
    let frame = binary(Client, &[1; 101]);
    rig.send(Client, &frame[..1]);
    rig.send(Client, &frame[1..]);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1009, "message_too_big")], "the sender is told");
    assert_eq!(rig.taken(Backend), frame[..1], "the header has begun, no frame can follow");
    rig.send(Client, &close(Client, 1009));
    rig.send(Backend, &close(Backend, 1000));
    assert_eq!(rig.outcome(), ("message_too_big", 1009));
}

#[test]
fn a_message_too_big_behind_a_close_is_not_answered_with_another_close() {
    let mut rig = max_message(100);
    rig.send(Backend, &[close(Backend, 1000), binary(Backend, &[1; 101])].concat());
    assert_eq!(rig.taken(Client), close(Backend, 1000));
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 1009, "message_too_big")]);
}

#[test]
fn what_a_sender_still_sends_after_1009_is_read_and_dropped() {
    let mut rig = max_message(100);
    rig.send(Client, &binary(Client, &[1; 5000]));
    rig.send(Client, &binary(Client, &[2; 5000]));
    rig.send(Client, &close(Client, 1009));
    assert_eq!(rig.frames(Backend).len(), 1);
    rig.send(Backend, &close(Backend, 1009));
    assert_eq!(rig.outcome(), ("message_too_big", 1009));
    assert_eq!(rig.pair.passed(Client), (0, 0));
}

#[test]
fn the_earliest_of_several_planned_ends_counts() {
    let mut rig = Rig::new(none());
    rig.pair.plan_end(rig.now + seconds(20), Reason::BackendDown);
    rig.pair.plan_end(rig.now + seconds(10), Reason::Shutdown { code: 1001 });
    rig.pair.plan_end(rig.now + seconds(30), Reason::BackendDown);
    rig.pass(seconds(10));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "shutdown")]);
}

#[test]
fn a_backend_that_went_down_ends_the_tunnel_with_1012() {
    let mut rig = Rig::new(none());
    rig.pair.plan_end(rig.now + seconds(3), Reason::BackendDown);
    rig.pass(seconds(3));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1012, "backend_down")]);
    }
    answer(&mut rig, 1012);
    assert_eq!(rig.outcome(), ("backend_down", 1012));
}

#[test]
fn a_planned_end_that_is_called_off_never_comes() {
    let mut rig = Rig::new(none());
    rig.pair.plan_end(rig.now + seconds(10), Reason::BackendDrained);
    rig.pair.spare(Reason::BackendDown);
    assert_eq!(rig.pair.due(), Some(rig.now + seconds(10)));
    rig.pair.spare(Reason::BackendDrained);
    assert_eq!(rig.pair.due(), None);
    rig.pass(seconds(20));
    assert_eq!(rig.frames(Client), []);
}

#[test]
fn an_end_that_has_begun_is_not_called_off() {
    let mut rig = Rig::new(none());
    rig.pair.plan_end(rig.now + seconds(1), Reason::BackendDrained);
    rig.pass(seconds(1));
    rig.pair.spare(Reason::BackendDrained);
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1012, "backend_drained")]);
    answer(&mut rig, 1012);
    assert_eq!(rig.outcome(), ("backend_drained", 1012));
}

#[test]
fn a_side_that_takes_nothing_of_what_waits_for_it_has_stalled_after_the_limit() {
    let mut rig = Rig::new(TunnelLimits { stall: Some(seconds(60)), ..none() });
    rig.room(Backend, 4);
    rig.send(Client, &binary(Client, b"waits"));
    rig.pass(seconds(59));
    assert!(!rig.pair.is_ending());
    rig.pass(seconds(1));
    assert!(rig.pair.is_ending());
    assert_eq!(rig.pair.reason(), Reason::Stalled { side: Backend });
    rig.pass(seconds(5));
    assert_eq!(rig.outcome(), ("stalled", 1001));
}

#[test]
fn a_side_that_takes_a_byte_now_and_then_has_not_stalled() {
    let mut rig = Rig::new(TunnelLimits { stall: Some(seconds(60)), ..none() });
    rig.room(Backend, 0);
    rig.send(Client, &binary(Client, &[7; 10]));
    for _ in 0..10 {
        rig.pass(seconds(59));
        rig.room(Backend, 1);
        assert!(!rig.pair.is_ending());
    }
    rig.room(Backend, usize::MAX);
    rig.pass(seconds(600));
    assert!(!rig.pair.is_ending(), "nothing waits for it any more");
}
