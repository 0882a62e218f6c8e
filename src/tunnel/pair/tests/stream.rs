//! The bytes: whatever they are, and however they come and are taken, they arrive as they were, and little is kept.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Rig, frame_from};
use crate::config::TunnelLimits;
use crate::ws::Side::{self, Backend, Client};
use crate::ws::Sides;

/// One thing that happens to a tunnel.
#[derive(Clone, Debug)]
enum Step {
    /// A side sends so many bytes of its stream.
    Send(Side, usize),
    /// A side has room for so many bytes.
    Room(Side, usize),
    /// The tunnel goes on in another process.
    Cross,
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Client), Just(Backend)]
}

fn step() -> impl Strategy<Value = Step> {
    let size = || prop_oneof![0..4_usize, 0..200_usize, 0..3000_usize];
    prop_oneof![
        4 => (side(), size()).prop_map(|(s, n)| Step::Send(s, n)),
        4 => (side(), size()).prop_map(|(s, n)| Step::Room(s, n)),
        1 => Just(Step::Cross),
    ]
}

/// A stream of frames: data of every length format, fragments, control frames.
fn frames(side: Side) -> impl Strategy<Value = (Vec<u8>, u64)> {
    let first = prop_oneof![Just(0x82_u8), Just(0x81), Just(0x02), Just(0x80), Just(0x89), Just(0x8A)];
    let frame = (first, prop_oneof![0..10_usize, 120..130_usize, 0..3000_usize, 65_500..65_600_usize], any::<u8>());
    vec(frame, 0..12).prop_map(move |frames| {
        let mut messages = 0;
        let mut bytes = Vec::new();
        for (first, length, fill) in frames {
            let control = first & 0x08 != 0;
            bytes.extend(frame_from(side, first, &vec![fill; if control { length % 126 } else { length }]));
            messages += u64::from(!control && first & 0x80 != 0);
        }
        (bytes, messages)
    })
}

/// Carries out the steps, then lets everything through. Panics where a rule is broken on the way.
fn run(streams: Sides<&[u8]>, steps: &[Step], scratch: usize) -> Rig {
    let mut rig = Rig::with(TunnelLimits::default(), 0.0, scratch);
    let mut sent = Sides::new(0, 0);
    for step in steps {
        match *step {
            Step::Room(side, bytes) => rig.room(side, bytes),
            Step::Cross => rig.cross(Duration::ZERO),
            Step::Send(side, count) => {
                let rest = &streams[side][sent[side]..];
                let count = count.min(rest.len());
                sent[side] += count;
                rig.send(side, &rest[..count]);
            }
        }
        for side in Side::ALL {
            assert!(rig.kept_for(side) <= scratch, "more is kept than was read at once");
        }
    }
    for side in Side::ALL {
        rig.room(side, usize::MAX);
        rig.send(side, &streams[side][sent[side]..]);
    }
    rig
}

#[test]
fn a_long_part_of_a_frame_may_wait_for_the_rest_and_nothing_else_does() {
    for side in Side::ALL {
        let frame = frame_from(side, 0x82, &[7; 10_000]);
        let mut rig = Rig::with(TunnelLimits::default(), 0.0, 65_536);
        for (part, may_wait) in
            [(0..1_000, false), (1_000..6_000, true), (6_000..6_100, false), (6_100..frame.len(), false)]
        {
            rig.end(side.other()).waited = false;
            rig.send(side, &frame[part.clone()]);
            assert_eq!(rig.end(side.other()).waited, may_wait, "{side:?} {part:?}");
        }
        assert_eq!(rig.taken(side.other()), frame);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn frames_arrive_byte_by_byte_as_they_were_sent_and_are_counted(
        (to_backend, from_client) in frames(Client),
        (to_client, from_backend) in frames(Backend),
        steps in vec(step(), 0..60),
        scratch in prop_oneof![Just(64_usize), Just(4096)],
    ) {
        let mut rig = run(Sides::new(&to_backend, &to_client), &steps, scratch);
        prop_assert!(rig.taken(Backend) == to_backend && rig.taken(Client) == to_client);
        prop_assert_eq!(rig.pair.passed(Client), (to_backend.len() as u64, from_client));
        prop_assert_eq!(rig.pair.passed(Backend), (to_client.len() as u64, from_backend));
        let counted = rig.counters.bytes.each_ref().map(|counter| counter.get());
        prop_assert_eq!(counted, Sides::new(to_backend.len() as u64, to_client.len() as u64));
        let counted = rig.counters.messages.each_ref().map(|counter| counter.get());
        prop_assert_eq!(counted, Sides::new(from_client, from_backend));
        rig.fin(Client);
        rig.fin(Backend);
        prop_assert!(rig.ended && rig.end(Client).shut && rig.end(Backend).shut);
    }

    #[test]
    fn bytes_that_are_no_frames_arrive_as_they_were_sent_too(
        to_backend in vec(any::<u8>(), 0..5000),
        to_client in vec(any::<u8>(), 0..5000),
        steps in vec(step(), 0..60),
    ) {
        let mut rig = run(Sides::new(&to_backend, &to_client), &steps, 256);
        prop_assert!(rig.taken(Backend) == to_backend && rig.taken(Client) == to_client);
    }
}

#[test]
fn a_side_that_never_reads_does_not_hold_up_the_other_way() {
    let mut rig = Rig::new(TunnelLimits::default());
    rig.room(Client, 0);
    for _ in 0..100 {
        rig.send(Backend, &frame_from(Backend, 0x82, &[1; 3000]));
        rig.send(Client, &frame_from(Client, 0x82, &[2; 3000]));
    }
    assert_eq!(rig.frames(Backend).len(), 100);
    assert_eq!(rig.kept_for(Client), 1024, "one read's worth is kept, the rest is left where it is");
}

#[test]
fn what_was_kept_is_given_as_soon_as_the_receiver_has_room() {
    let mut rig = Rig::new(TunnelLimits::default());
    rig.room(Client, 10);
    rig.send(Backend, &frame_from(Backend, 0x82, &[1; 500]));
    assert_ne!(rig.kept_for(Client), 0);
    rig.room(Client, usize::MAX);
    assert_eq!(rig.kept_for(Client), 0);
    assert_eq!(rig.frames(Client)[0].payload, [1; 500]);
}

#[test]
fn bytes_glued_to_the_handshake_go_first() {
    let mut rig = Rig::new(TunnelLimits::default());
    let [early, late] = [b"early", b"later"].map(|text| frame_from(Client, 0x82, text));
    rig.pair.preload(Client, &early, rig.now, &rig.counters.clone());
    rig.send(Client, &late);
    assert_eq!(rig.taken(Backend), [early, late].concat());
}

#[test]
fn a_close_frame_glued_to_the_handshake_is_seen() {
    let mut rig = Rig::new(TunnelLimits::default());
    rig.pair.preload(Backend, &frame_from(Backend, 0x88, b"\x03\xf5"), rig.now, &rig.counters.clone());
    rig.fin(Backend);
    rig.fin(Client);
    assert_eq!(rig.outcome(), ("backend_close", 1013));
}
