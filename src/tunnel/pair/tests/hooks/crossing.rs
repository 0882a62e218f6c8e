//! Handovers: what hooks keep of a tunnel, and where they stood in its messages, goes on in the other process.

use super::*;
use crate::tunnel::inspect::{self, Travels};
use crate::tunnel::pair::{Pair, PairState};

impl HookedRig {
    /// The tunnel goes on in another process whose route has these hooks, if it can.
    fn cross(&mut self, names: &[&'static str]) -> Travels {
        let travels = self.rig.pair.pack(1000);
        if travels != Travels::Now {
            return travels;
        }
        let state = (self.rig.pair.state(self.rig.now), self.rig.pair.inspector().unwrap().state());
        let written = serde_json::to_string(&state).unwrap();
        let (pair, hooks): (PairState, inspect::InspectorState) = serde_json::from_str(&written).unwrap();
        let [client, backend] = Side::ALL.map(|side| std::mem::take(self.rig.end(side)));
        self.rig.pair = Pair::resume(client, backend, pair, Duration::ZERO, self.rig.now);
        let tunnel = Tunnel { id: hooks.id, ..tunnel() };
        let (chain, caller) = (self.chain(names), Arc::clone(&self.caller));
        self.rig.pair.watch_on(hooks, chain, tunnel, caller, self.rig.now);
        self.rig.tell_anew();
        travels
    }
}

#[test]
fn contexts_go_on_and_nobody_is_told_of_an_opening_or_an_end() {
    let mut rig = HookedRig::with(Script::pass(Messages::BOTH), TunnelLimits::default(), None, &["a", "b"]);
    rig.send(Client, &text(Client, "x"));
    let id = rig.pair.inspector().unwrap().tunnel().id;
    // `b` stands first there, and `c` is new.
    assert_eq!(rig.cross(&["b", "c"]), Travels::Now);
    assert_eq!(rig.pair.inspector().unwrap().tunnel().id, id);
    assert_eq!(rig.script.log().len(), 4);
    rig.send(Client, &text(Client, "y"));
    rig.send(Client, &close(Client, 1000));
    rig.send(Backend, &close(Backend, 1000));
    rig.fin(Client);
    assert_eq!(rig.part(), [("seen", "xy".to_owned()), ("seen", "y".to_owned())]);
}

#[test]
fn a_message_goes_on_where_it_stood_at_any_byte() {
    for (from, to) in WAYS {
        let parts = [frame_from(from, 0x01, b"Hel"), frame_from(from, 0x89, b"p"), frame_from(from, 0x80, b"lo")];
        let bytes = [parts.concat(), text(from, "next")].concat();
        for at in 0..=bytes.len() {
            let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
            rig.send(from, &bytes[..at]);
            assert_eq!(rig.cross(&["hook"]), Travels::Now);
            rig.send(from, &bytes[at..]);
            let got: Vec<_> = rig.frames(to).into_iter().map(|frame| frame.payload).collect();
            assert_eq!(got, [&b"p"[..], b"Hello", b"next"], "{at}");
            assert_eq!(rig.pair.passed(from).1, 2);
        }
    }
}

#[test]
fn a_message_goes_on_where_nobody_wants_to_see_it_any_more() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    let message = text(Client, "begun there");
    rig.send(Client, &message[..9]);
    rig.cross(&[]);
    rig.send(Client, &message[9..]);
    assert_eq!(rig.frames(Backend), [text_to(Backend, "begun there")]);
    assert_eq!(rig.script.log().len(), 1);
}

#[test]
fn what_waited_for_its_place_goes_on_waiting() {
    let mut rig = HookedRig::new(Script::pass(Messages::NONE));
    let message = text(Backend, "under way");
    rig.send(Backend, &message[..5]);
    rig.inject(&Item::Message(Direction::ToClient, Message::text("news")));
    rig.cross(&["hook"]);
    rig.send(Backend, &message[5..]);
    assert_eq!(rig.frames(Client), [text_to(Client, "under way"), text_to(Client, "news")]);
}

#[test]
fn a_tunnel_that_hooks_are_busy_with_travels_later() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH.awaited()));
    rig.send(Client, &[text(Client, "a"), text(Client, "b")].concat());
    for _ in 0..2 {
        assert_eq!(rig.cross(&["hook"]), Travels::Later);
        rig.let_go();
    }
    assert_eq!(rig.cross(&["hook"]), Travels::Now);
    assert_eq!(rig.frames(Backend), [text_to(Backend, "a"), text_to(Backend, "b")]);
}

#[test]
fn a_tunnel_whose_hook_cannot_pack_never_travels_and_goes_on() {
    let mut rig = HookedRig::new(Script { packs: false, ..Script::pass(Messages::BOTH) });
    assert!(!rig.pair.inspector().unwrap().stays());
    assert_eq!(rig.cross(&["hook"]), Travels::Never);
    assert!(rig.pair.inspector().unwrap().stays());
    rig.send(Client, &text(Client, "here"));
    assert_eq!(rig.frames(Backend), [text_to(Backend, "here")]);
}

#[test]
fn a_message_that_is_too_long_to_travel_keeps_its_tunnel() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Client, &binary(Client, &[0; 3000])[..2000]);
    assert_eq!(rig.cross(&["hook"]), Travels::Never);
}

#[test]
fn a_hook_that_cannot_unpack_ends_the_tunnel() {
    let mut rig = HookedRig::new(Script::pass(Messages::BOTH));
    rig.send(Client, &["b", "a", "d"].map(|word| text(Client, word)).concat());
    rig.taken(Backend);
    assert_eq!(rig.cross(&["hook"]), Travels::Now);
    for side in Side::ALL {
        assert_eq!(rig.frames(side), [Frame::close_to(side, 1011, "hook_failed")], "{side:?}");
    }
}

#[test]
fn the_words_of_a_close_that_is_due_come_along() {
    let mut rig = HookedRig::new(Script::pass(Messages::NONE));
    let message = text(Backend, "under way");
    rig.send(Backend, &message[..5]);
    rig.inject(&Item::Close { code: 4000, reason: "go".into() });
    rig.cross(&["hook"]);
    rig.send(Backend, &message[5..]);
    assert_eq!(rig.frames(Client), [text_to(Client, "under way"), Frame::close_to(Client, 4000, "go")]);
}
