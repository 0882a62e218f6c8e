//! Whatever happens to a tunnel, in whatever order: it ends, and nobody is sent a broken frame or one out of place.

use std::time::Duration;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::{Frame, Rig, begun_frames, frame_from, frames};
use crate::config::TunnelLimits;
use crate::tunnel::reason::Reason;
use crate::ws::Side::{self, Backend, Client};
use crate::ws::Sides;

/// One thing that happens to a tunnel.
#[derive(Clone, Debug)]
enum Step {
    /// A side sends so many bytes of its stream.
    Send(Side, usize),
    /// A side has room for so many bytes.
    Room(Side, usize),
    /// Seconds pass.
    Pass(u64),
    /// A side ends its stream.
    Fin(Side),
    /// A side is gone.
    Reset(Side),
    /// Its backend went down, and so the tunnel ends in so many seconds.
    Down(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let side = || prop_oneof![Just(Client), Just(Backend)];
    let size = || prop_oneof![0..4_usize, 0..200_usize, 0..3000_usize];
    prop_oneof![
        8 => (side(), size()).prop_map(|(side, size)| Step::Send(side, size)),
        4 => (side(), size()).prop_map(|(side, size)| Step::Room(side, size)),
        4 => (0..40_u64).prop_map(Step::Pass),
        1 => side().prop_map(Step::Fin),
        1 => side().prop_map(Step::Reset),
        1 => (0..30_u64).prop_map(Step::Down),
    ]
}

fn limits() -> impl Strategy<Value = TunnelLimits> {
    let seconds = |range: std::ops::Range<u64>| option::of(range.prop_map(Duration::from_secs));
    (seconds(1..100), seconds(1..300), seconds(1..30), option::of(1..3000_u64)).prop_map(
        |(idle, max_age, ping, max_message)| TunnelLimits {
            idle,
            max_age,
            ping,
            max_message,
            tcp_user_timeout: None,
            stall: None,
        },
    )
}

/// Frames of a side's, with a Close among them now and then.
fn stream(side: Side) -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        3 => Just(0x82_u8), 1 => Just(0x01), 1 => Just(0x80), 1 => Just(0x89), 1 => Just(0x8A), 1 => Just(0x88)
    ];
    vec((first, 0..2000_usize), 0..20).prop_map(move |frames| {
        let length = |first, length| if first & 0x08 != 0 { length % 120 } else { length };
        frames.into_iter().flat_map(|(first, size)| frame_from(side, first, &vec![7; length(first, size)])).collect()
    })
}

/// Carries out the steps; then nobody sends or says anything any more, and time passes.
fn run(limits: TunnelLimits, jitter: f64, streams: &Sides<Vec<u8>>, steps: &[Step]) -> Rig {
    let mut rig = Rig::with(limits, jitter, 512);
    let mut sent = Sides::new(0, 0);
    for step in steps {
        match *step {
            Step::Room(side, bytes) => rig.room(side, bytes),
            Step::Send(side, count) => {
                let rest = &streams[side][sent[side]..];
                let count = count.min(rest.len());
                sent[side] += count;
                rig.send(side, &rest[..count]);
            }
            Step::Pass(seconds) => rig.pass(Duration::from_secs(seconds)),
            Step::Fin(side) => rig.fin(side),
            Step::Reset(side) => rig.reset(side),
            Step::Down(seconds) if !rig.ended => {
                rig.pair.plan_end(rig.now + Duration::from_secs(seconds), Reason::BackendDown);
            }
            Step::Down(_) => {}
        }
        for side in Side::ALL {
            assert!(rig.kept_for(side) <= 512 + 64 * 1024, "more is kept than the bound");
        }
    }
    for side in Side::ALL {
        rig.fin(side);
        // With no idle limit, sides that read nothing are the kernel's to give up (`tcp_user_timeout`).
        if limits.idle.is_none() {
            rig.room(side, usize::MAX);
        }
    }
    rig.pass(Duration::from_secs(600));
    rig
}

/// Tells whether a frame is one that the gateway makes: its Ping, or a Close with one of its words.
fn is_ours(frame: &Frame) -> bool {
    let words = ["idle", "max_age", "ping_timeout", "message_too_big", "backend_down", "backend_gone"];
    frame.first == 0x89 && frame.payload == b"longhaul"
        || frame.first == 0x88 && words.iter().any(|word| frame.payload.ends_with(word.as_bytes()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_tunnel_ends_once_its_sides_have_and_neither_saw_a_frame_out_of_place(
        limits in limits(),
        jitter in 0.0..0.1,
        streams in [stream(Client), stream(Backend)],
        steps in vec(step(), 0..60),
    ) {
        let streams = Sides::from(streams);
        let mut rig = run(limits, jitter, &streams, &steps);
        prop_assert!(rig.ended, "a tunnel with two ended streams is still open");
        rig.outcome();
        for side in Side::ALL {
            let taken = rig.taken(side);
            let (got, begun) = begun_frames(&taken);
            let theirs: Vec<_> = got.iter().filter(|frame| !is_ours(frame)).collect();
            let sent = frames(&streams[side.other()]);
            prop_assert!(theirs.len() <= sent.len() && theirs.iter().zip(&sent).all(|(got, sent)| **got == *sent));
            // The last frame may have been cut short: the sender's next one, or a Close or Ping of ours.
            let next = sent.get(theirs.len()).map(|next| frame_from(side.other(), next.first, &next.payload));
            let is_theirs = next.is_some_and(|next| next.starts_with(begun));
            prop_assert!(is_theirs || matches!(begun, [] | [0x88 | 0x89, ..]), "half a frame of nobody's");
            let masked = side == Backend;
            prop_assert!(got.iter().all(|frame| frame.masked == masked), "only frames to a backend are masked");
            let closed = got.iter().position(|frame| frame.first == 0x88);
            prop_assert!(closed.is_none_or(|at| !got[at + 1..].iter().any(is_ours)), "we said something after a Close");
        }
    }
}
