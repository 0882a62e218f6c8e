//! Handovers: a tunnel that goes on in another process goes on where it stood, and its limits count from where they
//! began.

use std::time::Duration;

use super::{Frame, Rig, binary, close, frame_from, frames, none, seconds};
use crate::config::TunnelLimits;
use crate::tunnel::reason::Reason;
use crate::ws::Side::{self, Backend, Client};
use crate::ws::Sides;

/// Crosses at once.
fn cross(rig: &mut Rig) {
    rig.cross(Duration::ZERO);
}

#[test]
fn idleness_counts_from_the_last_byte() {
    let mut rig = Rig::new(TunnelLimits { idle: Some(seconds(60)), ..none() });
    rig.pass(seconds(30));
    rig.send(Client, &binary(Client, b"last"));
    for _ in 0..5 {
        rig.pass(seconds(10));
        cross(&mut rig);
    }
    rig.pass(seconds(9));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "idle")]);
}

#[test]
fn max_age_counts_from_the_opening_with_its_first_jitter() {
    let mut rig = Rig::with(TunnelLimits { max_age: Some(seconds(100)), ..none() }, 0.1, 1024);
    for _ in 0..8 {
        rig.pass(seconds(10));
        cross(&mut rig);
    }
    rig.pass(seconds(9));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "max_age")]);
}

#[test]
fn a_ping_is_awaited_from_when_it_was_sent_and_not_sent_again() {
    let mut rig = Rig::new(TunnelLimits { ping: Some(seconds(30)), ..none() });
    rig.pass(seconds(30));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::ping_to(side)]);
    }
    rig.pass(seconds(10));
    cross(&mut rig);
    rig.send(Client, &frame_from(Client, 0x8A, b"longhaul"));
    assert_eq!(rig.frames(Backend)[0].first, 0x8A);
    rig.pass(seconds(19));
    assert_eq!((rig.frames(Client), rig.frames(Backend)), (vec![], vec![]));
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "ping_timeout")], "the backend did not answer");
}

#[test]
fn a_ping_that_was_not_legal_is_tried_again_in_time() {
    let mut rig = Rig::new(TunnelLimits { ping: Some(seconds(30)), ..none() });
    let frame = binary(Backend, b"long in coming");
    rig.send(Backend, &frame[..5]);
    rig.pass(seconds(30));
    cross(&mut rig);
    rig.send(Backend, &frame[5..]);
    assert_eq!(rig.taken(Client), frame);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)]);
}

#[test]
fn a_planned_end_comes_when_it_was_planned() {
    let mut rig = Rig::new(none());
    rig.pair.plan_end(rig.now + seconds(20), Reason::BackendDown);
    rig.pass(seconds(12));
    cross(&mut rig);
    rig.pass(seconds(7));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1012, "backend_down")]);
    }
}

#[test]
fn a_close_that_is_due_comes_at_the_boundary_and_the_deadline_stays() {
    let mut rig = Rig::new(TunnelLimits { idle: Some(seconds(60)), ..none() });
    let frame = binary(Client, b"begun and ended");
    rig.send(Client, &frame[..9]);
    rig.pass(seconds(60));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "idle")]);
    rig.pass(seconds(3));
    cross(&mut rig);
    rig.send(Client, &[&frame[9..], &binary(Client, b"never seen")].concat());
    let sent = rig.taken(Backend);
    assert_eq!(sent[..frame.len()], frame);
    assert_eq!(frames(&sent[frame.len()..]), [Frame::close_to(Backend, 1001, "idle")]);
    rig.send(Client, &close(Client, 1001));
    cross(&mut rig);
    rig.pass(seconds(1));
    assert!(!rig.ended, "the backend's answer is awaited");
    rig.pass(seconds(1));
    assert_eq!(rig.outcome(), ("idle", 1001), "five seconds after the limit");
}

#[test]
fn what_both_receivers_would_not_take_is_written_first() {
    let mut rig = Rig::new(none());
    let messages = Sides::from_fn(|side| binary(side, &[side as u8; 900]));
    for side in Side::ALL {
        rig.room(side, 0);
    }
    for side in Side::ALL {
        rig.send(side, &messages[side]);
        assert_eq!(rig.kept_for(side.other()), messages[side].len());
    }
    rig.end(Client).room_now(400);
    cross(&mut rig);
    for side in Side::ALL {
        rig.send(side, &binary(side, b"later"));
        rig.room(side, usize::MAX);
    }
    for side in Side::ALL {
        let sent = rig.frames(side.other());
        assert_eq!(sent.iter().map(|frame| frame.payload.len()).collect::<Vec<_>>(), [900, 5]);
    }
}

#[test]
fn a_half_closed_tunnel_stays_so_and_its_other_way_goes_on() {
    for side in Side::ALL {
        let mut rig = Rig::new(TunnelLimits::default());
        rig.send(side, &close(side, 1000));
        rig.fin(side);
        assert!(rig.end(side.other()).shut);
        rig.taken(side.other());
        cross(&mut rig);
        rig.send(side.other(), &binary(side.other(), b"the rest"));
        assert_eq!(rig.frames(side)[0].payload, b"the rest");
        cross(&mut rig);
        assert!(!rig.ended);
        rig.send(side.other(), &close(side.other(), 1000));
        assert_eq!(rig.outcome().1, 1000);
    }
}

#[test]
fn a_half_closed_tunnel_is_idle_soon_wherever_it_is() {
    let mut rig = Rig::new(none());
    rig.fin(Client);
    rig.pass(seconds(30));
    cross(&mut rig);
    rig.pass(seconds(29));
    assert_eq!(rig.frames(Client), []);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1001, "idle")]);
}

#[test]
fn who_ended_it_first_is_not_forgotten() {
    let mut rig = Rig::new(none());
    rig.send(Backend, &close(Backend, 4321));
    cross(&mut rig);
    rig.send(Client, &close(Client, 1000));
    rig.fin(Client);
    assert_eq!(rig.outcome(), ("backend_close", 4321));
}

#[test]
fn an_end_that_comes_on_the_way_is_met_on_the_other_side() {
    let mut rig = Rig::new(none());
    rig.end(Client).hang_up();
    cross(&mut rig);
    assert!(rig.end(Backend).shut, "a poller that is asked anew says so");
}

#[test]
fn a_message_is_measured_over_fragments_on_both_sides_of_it() {
    let mut rig = Rig::new(TunnelLimits { max_message: Some(100), ..none() });
    rig.send(Client, &frame_from(Client, 0x02, &[1; 60]));
    cross(&mut rig);
    rig.send(Client, &frame_from(Client, 0x00, &[2; 40]));
    cross(&mut rig);
    assert_eq!(rig.frames(Backend).len(), 2);
    rig.send(Client, &frame_from(Client, 0x80, &[3; 1]));
    assert_eq!(rig.frames(Backend), [Frame::close_to(Backend, 1009, "message_too_big")]);
}
