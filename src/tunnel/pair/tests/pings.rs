//! Pings: which side gets one and when, and the end of a tunnel whose side does not answer.

use super::{Frame, Rig, answer, binary, close, frame_from, none, seconds};
use crate::config::TunnelLimits;
use crate::ws::Side::{self, Backend, Client};

fn ping(limit: u64) -> Rig {
    Rig::new(TunnelLimits { ping: Some(seconds(limit)), ..none() })
}

#[test]
fn a_silent_side_gets_a_ping_and_its_pong_keeps_the_tunnel() {
    let mut rig = ping(30);
    for _ in 0..10 {
        rig.pass(seconds(30));
        for side in Side::ALL {
            assert_eq!(rig.frames(side), [Frame::ping_to(side)]);
        }
        rig.pass(seconds(10));
        for side in Side::ALL {
            rig.send(side, &frame_from(side, 0x8A, b"longhaul"));
            assert_eq!(rig.frames(side.other())[0].first, 0x8A, "a Pong is passed on (RFC 6455 §5.5.3)");
        }
    }
    assert!(!rig.ended);
}

#[test]
fn an_unanswered_ping_ends_the_tunnel() {
    let mut rig = ping(30);
    rig.pass(seconds(20));
    rig.send(Client, &binary(Client, b"alive"));
    rig.pass(seconds(10));
    assert_eq!(rig.frames(Backend)[1..], [Frame::ping_to(Backend)]);
    assert_eq!(rig.frames(Client), [], "the client was heard 10 s ago");
    rig.pass(seconds(20));
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)]);
    rig.pass(seconds(10));
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1001, "ping_timeout")]);
    }
    answer(&mut rig, 1001);
    assert_eq!(rig.outcome(), ("ping_timeout", 1001));
}

#[test]
fn no_ping_is_put_inside_a_frame() {
    let mut rig = ping(30);
    let frame = binary(Backend, b"long in coming");
    rig.send(Backend, &frame[..5]);
    rig.pass(seconds(32));
    assert_eq!(rig.taken(Client), frame[..5]);
    rig.send(Backend, &frame[5..]);
    assert_eq!(rig.taken(Client), frame[5..]);
    rig.pass(seconds(1));
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)], "and as soon as it is legal it is sent");
}

#[test]
fn a_half_closed_tunnel_gets_no_pings() {
    let mut rig = ping(30);
    rig.fin(Client);
    rig.pass(seconds(30));
    rig.send(Backend, &binary(Backend, b"still here"));
    rig.pass(seconds(29));
    rig.send(Backend, &binary(Backend, b"and here"));
    assert!(!rig.ended);
    assert_eq!(rig.taken(Backend), b"", "its stream was ended: nothing may follow");
    assert_eq!(rig.frames(Client).len(), 2, "the client ended its stream: it could not answer a Ping");
}

#[test]
fn no_ping_follows_a_close() {
    let mut rig = ping(30);
    rig.send(Client, &close(Client, 1000));
    assert_eq!(rig.frames(Backend).len(), 1);
    rig.pass(seconds(30));
    assert_eq!(rig.frames(Backend), []);
    assert_eq!(rig.frames(Client), [Frame::ping_to(Client)], "the other way is still open");
    rig.send(Client, &frame_from(Client, 0x8A, b"longhaul"));
    rig.fin(Client);
    assert_eq!(rig.pair.due(), Some(rig.now + seconds(60)), "nobody is to be pinged, and half-closed it is idle soon");
}

#[test]
fn a_side_that_is_not_read_is_not_taken_for_silent() {
    let mut rig = ping(30);
    rig.pass(seconds(30));
    rig.taken(Client);
    rig.room(Client, 0);
    rig.send(Backend, &binary(Backend, &[1; 2000]));
    for _ in 0..20 {
        rig.pass(seconds(20));
        rig.send(Client, &binary(Client, b"busy, cannot read"));
    }
    assert!(!rig.ended, "the backend may have answered: nobody looked");
    rig.room(Client, usize::MAX);
    assert_eq!(rig.frames(Client)[0].payload, [1; 2000]);
    rig.taken(Backend);
    rig.pass(seconds(30));
    assert_eq!(rig.frames(Backend), [Frame::ping_to(Backend)], "now it is looked at again");
}

#[test]
fn pings_do_not_pile_up_for_a_side_that_reads_nothing() {
    let mut rig = Rig::with(TunnelLimits { ping: Some(seconds(30)), ..none() }, 0.0, READ_BYTES);
    rig.room(Client, 0);
    while rig.kept_for(Client) == 0 {
        rig.send(Backend, &binary(Backend, &vec![1; READ_BYTES - 4]));
    }
    for _ in 0..1000 {
        rig.pass(seconds(31));
        rig.send(Client, &frame_from(Client, 0x8A, b"longhaul"));
        assert!(!rig.ended);
    }
    assert!(rig.kept_for(Client) <= 65 * 1024, "{} bytes are kept", rig.kept_for(Client));
}

/// Bytes that a worker reads at once.
const READ_BYTES: usize = 65 * 1024 - 512;
