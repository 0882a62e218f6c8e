//! Any stream of messages, cut anyhow, arrives with equal messages behind a hook that passes everything.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::ws::{Assembler, Control, MessageKind, Sides, WholeItem as Came};

/// Traffic of one side: messages in fragments with control frames between them.
#[derive(Clone, Debug)]
struct Sent {
    text: bool,
    fragments: Vec<Vec<u8>>,
    controls: Vec<bool>,
}

fn sent() -> impl Strategy<Value = Sent> {
    let byte = 0x20_u8..0x7F;
    let fragment = prop_oneof![9 => vec(byte.clone(), 0..200), 1 => vec(byte, 0..5000)];
    (any::<bool>(), vec(fragment, 1..4), vec(any::<bool>(), 4)).prop_map(|(text, fragments, controls)| Sent {
        text,
        fragments,
        controls,
    })
}

impl Sent {
    fn bytes(&self, from: Side) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, fragment) in self.fragments.iter().enumerate() {
            let opcode = if index > 0 {
                0
            } else if self.text {
                1
            } else {
                2
            };
            let fin = if index + 1 == self.fragments.len() { 0x80 } else { 0 };
            bytes.extend(frame_from(from, fin | opcode, fragment));
            if self.controls[index] {
                bytes.extend(frame_from(from, 0x89, &[u8::try_from(index).unwrap()]));
            }
        }
        bytes
    }
}

/// Messages, each with whether it is text.
type Received = Vec<(bool, Vec<u8>)>;

/// The messages and Pings of a stream; each kind in its order.
fn received(from: Side, bytes: &[u8]) -> (Received, Vec<Vec<u8>>) {
    let mut assembler = Assembler::new(from, false, u64::MAX);
    let (mut messages, mut pings, mut rest) = (Vec::new(), Vec::new(), bytes);
    while let Some(came) = assembler.next(&mut rest) {
        match came.unwrap() {
            Came::Message(message) => messages.push((message.kind == MessageKind::Text, message.payload)),
            Came::Control { opcode: Control::Ping, payload } => pings.push(payload),
            other => panic!("{other:?}"),
        }
    }
    (messages, pings)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn messages_arrive_equal_and_in_order_and_control_frames_too(
        streams in [vec(sent(), 0..8), vec(sent(), 0..8)],
        cuts in vec((any::<bool>(), 1_usize..400, 0_usize..600), 0..80),
        waits in any::<bool>(),
        one_way in any::<bool>(),
    ) {
        let seen = if one_way { Messages::TO_CLIENT } else { Messages::BOTH };
        let script = Script::pass(if waits { seen.awaited() } else { seen });
        let mut rig = HookedRig::new(script);
        let streams = Sides::from(streams);
        let bytes = Sides::from_fn(|side| streams[side].iter().flat_map(|sent| sent.bytes(side)).collect::<Vec<u8>>());
        let mut at = Sides::new(0, 0);
        for (client, length, room) in cuts {
            let side = if client { Client } else { Backend };
            let (from, to) = (at[side], (at[side] + length).min(bytes[side].len()));
            at[side] = to;
            rig.room(side.other(), room);
            rig.send(side, &bytes[side][from..to]);
        }
        for side in Side::ALL {
            rig.room(side, usize::MAX);
            rig.send(side, &bytes[side][at[side]..]);
        }
        let seen = streams[Backend].len() + if one_way { 0 } else { streams[Client].len() };
        if waits {
            (0..seen).for_each(|_| rig.let_go());
        }
        for side in Side::ALL {
            let got = rig.taken(side.other());
            prop_assert_eq!(received(side, &got), received(side, &bytes[side]));
            prop_assert_eq!(rig.pair.passed(side).1, streams[side].len() as u64);
        }
        prop_assert_eq!(rig.script.log().len(), 1 + seen);
        prop_assert_eq!(rig.pair.inspector().unwrap().weight(), 0);
    }
}
