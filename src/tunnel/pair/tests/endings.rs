//! Every way a tunnel ends by itself: Close frames, half-closed streams, sides that vanish.

use std::time::Duration;

use super::{Frame, Rig, binary, close, frame_from};
use crate::config::TunnelLimits;
use crate::ws::Side::{self, Backend, Client};

fn open() -> Rig {
    Rig::new(TunnelLimits::default())
}

#[test]
fn close_frames_pass_untouched_and_the_first_fin_after_both_ends_the_tunnel() {
    for first in Side::ALL {
        let mut rig = open();
        let goodbye = frame_from(first, 0x88, b"\x0b\xb8and a reason of its own");
        rig.send(first, &goodbye);
        assert_eq!(rig.taken(first.other()), goodbye);
        assert!(!rig.ended && !rig.end(first.other()).shut);
        let answer = close(first.other(), 3000);
        rig.send(first.other(), &answer);
        assert_eq!(rig.taken(first), answer);
        assert!(!rig.ended, "who closes the connection is for the two to say");
        rig.fin(Backend);
        let reason = if first == Client { "client_close" } else { "backend_close" };
        assert_eq!(rig.outcome(), (reason, 3000));
    }
}

#[test]
fn last_bytes_go_out_together_with_the_end_behind_them() {
    for side in Side::ALL {
        for (last, is_goodbye) in [(binary(side, b"last words"), false), (close(side, 1000), true)] {
            let mut rig = open();
            if is_goodbye {
                rig.send(side.other(), &close(side.other(), 1000));
            }
            rig.end(side).arrived_too(&last);
            rig.fin(side);
            assert!(rig.taken(side.other()).starts_with(&last));
            assert_eq!(rig.ended, is_goodbye);
            // A client whose backend is lost is told why, behind the last bytes.
            assert!(rig.end(side.other()).waited && (rig.ended || rig.end(side.other()).shut));
        }
    }
}

#[test]
fn bytes_with_no_end_behind_them_wait_for_none() {
    for side in Side::ALL {
        let mut rig = open();
        rig.send(side, &binary(side, b"words"));
        rig.fin(side);
        assert!(!rig.end(side.other()).waited);
    }
}

#[test]
fn after_both_close_frames_the_tunnel_does_not_wait_for_ever() {
    let mut rig = open();
    rig.send(Client, &close(Client, 1000));
    rig.send(Backend, &close(Backend, 1000));
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.outcome(), ("client_close", 1000));
}

#[test]
fn a_close_without_a_code_is_logged_as_1005() {
    let mut rig = open();
    rig.send(Client, &frame_from(Client, 0x88, b""));
    rig.send(Backend, &frame_from(Backend, 0x88, b""));
    rig.fin(Backend);
    assert_eq!(rig.outcome(), ("client_close", 1005));
}

#[test]
fn a_backend_lost_at_a_boundary_gives_the_client_1014_and_then_the_end() {
    type Loss = fn(&mut Rig, Side);
    for lose in [Rig::fin as Loss, Rig::reset] {
        let mut rig = open();
        rig.send(Backend, &binary(Backend, b"last words"));
        rig.taken(Client);
        lose(&mut rig, Backend);
        assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1014, "backend_gone")]);
        assert!(rig.end(Client).shut);
        rig.fin(Client);
        assert_eq!(rig.outcome(), ("backend_gone", 1006));
    }
}

#[test]
fn a_backend_lost_inside_a_frame_gives_the_client_the_bare_end() {
    let mut rig = open();
    let frame = binary(Backend, b"never whole");
    rig.send(Backend, &frame[..6]);
    rig.reset(Backend);
    assert_eq!(rig.taken(Client), frame[..6]);
    assert!(rig.end(Client).shut);
    rig.fin(Client);
    assert_eq!(rig.outcome(), ("backend_gone", 1006));
}

#[test]
fn the_end_of_a_stream_reaches_a_slow_receiver_behind_its_bytes() {
    let mut rig = open();
    rig.room(Client, 3);
    let message = binary(Backend, b"slowly");
    rig.send(Backend, &message);
    rig.fin(Backend);
    assert!(!rig.end(Client).shut);
    rig.room(Client, usize::MAX);
    let taken = rig.taken(Client);
    assert_eq!(taken[..message.len()], message);
    assert_eq!(super::frames(&taken[message.len()..]), [Frame::close_to(Client, 1014, "backend_gone")]);
    assert!(rig.end(Client).shut);
}

#[test]
fn a_client_that_half_closes_still_gets_everything() {
    let mut rig = open();
    rig.send(Client, &binary(Client, b"the question"));
    rig.fin(Client);
    assert_eq!(rig.frames(Backend).len(), 1);
    assert!(rig.end(Backend).shut && !rig.ended);
    for _ in 0..100 {
        rig.pass(Duration::from_secs(50));
        rig.send(Backend, &binary(Backend, b"a part of the answer"));
    }
    assert_eq!(rig.frames(Client).len(), 100);
    rig.fin(Backend);
    assert_eq!(rig.outcome(), ("client_gone", 1006));
    assert_eq!(rig.frames(Client), [Frame::close_to(Client, 1014, "backend_gone")]);
}

#[test]
fn a_backend_that_half_closes_still_gets_everything() {
    let mut rig = open();
    rig.fin(Backend);
    for _ in 0..100 {
        rig.pass(Duration::from_secs(50));
        rig.send(Client, &binary(Client, b"more"));
    }
    assert_eq!(rig.frames(Backend).len(), 100);
    rig.fin(Client);
    assert_eq!(rig.outcome(), ("backend_gone", 1006));
    assert!(rig.end(Backend).shut);
}

#[test]
fn a_tunnel_closed_one_way_is_not_given_a_day_for_the_other() {
    for side in Side::ALL {
        let mut rig = open();
        rig.fin(side);
        rig.pass(Duration::from_secs(60 + 5));
        assert!(rig.ended);
    }
}

#[test]
fn a_client_that_vanishes_gives_the_backend_the_end() {
    let mut rig = open();
    let frame = binary(Client, b"cut short");
    rig.send(Client, &frame[..8]);
    rig.reset(Client);
    assert_eq!(rig.taken(Backend), frame[..8]);
    assert!(rig.end(Backend).shut);
    rig.send(Backend, &binary(Backend, b"to nobody"));
    rig.fin(Backend);
    assert_eq!(rig.outcome(), ("client_gone", 1006));
    assert_eq!(rig.pair.passed(Backend), (0, 0), "what nobody took was not passed on");
}

#[test]
fn after_one_side_vanished_the_other_has_seconds_to_end() {
    let mut rig = open();
    rig.reset(Client);
    assert!(!rig.ended);
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.outcome(), ("client_gone", 1006));
}

#[test]
fn a_backend_that_takes_no_more_while_the_client_reads_nothing_is_the_one_that_is_gone() {
    let mut rig = open();
    rig.room(Client, 0);
    while rig.kept_for(Client) == 0 {
        rig.send(Backend, &binary(Backend, &[1; 100]));
    }
    rig.reset(Backend);
    rig.send(Client, &binary(Client, b"into the void"));
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.outcome(), ("backend_gone", 1006));
}

#[test]
fn a_last_message_of_a_side_that_takes_no_more_is_still_delivered() {
    let mut rig = open();
    let message = binary(Backend, b"read me");
    rig.room(Client, 0);
    rig.send(Backend, &message);
    rig.reset(Backend);
    rig.send(Client, &binary(Client, b"into the void"));
    rig.room(Client, usize::MAX);
    assert_eq!(rig.taken(Client)[..message.len()], message);
    assert!(rig.end(Client).shut);
}

#[test]
fn the_end_of_the_process_accounts_for_a_tunnel_as_shutdown() {
    let mut rig = open();
    rig.pair.stop();
    rig.ended = true;
    assert_eq!(rig.outcome(), ("shutdown", 1006));
}
