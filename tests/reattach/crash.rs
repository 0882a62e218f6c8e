//! Backends that end without a Close frame, and those that say themselves that they go.

use crate::rig::Rig;
use crate::wire::{Frame, From, Wire, close, frame, text};

type Loss = fn(Wire);

#[tokio::test]
async fn a_message_under_way_is_sent_whole_to_the_next_backend_wherever_it_is_cut() {
    let mut rig = Rig::start("{ on: [crash] }", "").await;
    let mut ends = rig.open("").await;
    let message =
        [frame(From::Client, 0x01, b"one "), frame(From::Client, 0x89, b"!"), frame(From::Client, 0x80, b"two")]
            .concat();
    let lose: [Loss; 2] = [drop, Wire::reset];
    for cut in 1..message.len() {
        ends.client.send([&text(From::Client, "whole"), &message[..cut]].concat()).await;
        assert_eq!(ends.server.frame().await.payload, b"whole");
        assert_eq!(ends.server.exactly(cut).await, message[..cut]);
        ends.lose(&rig, lose[cut % 2]).await;
        drop(rig.taken_over(&mut ends).await);
        assert_eq!(ends.server.exactly(cut).await, message[..cut], "cut at {cut}");
        ends.client.send([&message[cut..], &text(From::Client, "next")].concat()).await;
        let rest = [&message[cut..], &text(From::Client, "next")].concat();
        assert_eq!(ends.server.exactly(rest.len()).await, rest, "cut at {cut}");
        // A tunnel whose backends fail at once again and again is given up.
        ends.end().await;
        ends = rig.open("").await;
    }
    assert_eq!(rig.gateway.metric("longhaul_reattach_messages_dropped_total{upstream=\"u\"}").await, 0.0);
}

#[tokio::test]
async fn a_message_that_is_too_long_to_be_kept_is_dropped_and_counted() {
    let mut rig = Rig::start("{ buffer: 1KiB }", "").await;
    let mut ends = rig.open("").await;
    let long = frame(From::Client, 0x82, &[9; 5_000]);
    ends.client.send(&long[..4_000]).await;
    ends.server.exactly(4_000).await;
    ends.lose(&rig, drop).await;
    rig.parts().await;
    ends.client.send([&long[4_000..], &text(From::Client, "next")].concat()).await;
    drop(rig.taken_over(&mut ends).await);
    assert_eq!(ends.server.frame().await.payload, b"next");
    assert_eq!(ends.field("longhaul-reattach"), Some("1; reason=crash"));
    rig.gateway.metric_becomes("longhaul_reattach_messages_dropped_total{upstream=\"u\"}", 1.0).await;
}

#[tokio::test]
async fn half_a_message_of_the_backends_cannot_be_mended() {
    let mut rig = Rig::start("{ code: 4321 }", "").await;
    // Between two fragments the client can be told why, inside of one it cannot.
    let half = frame(From::Backend, 0x01, b"half");
    for (cut, told) in [(half.len(), true), (3, false)] {
        let mut ends = rig.open("").await;
        ends.server.send(&half[..cut]).await;
        assert_eq!(ends.client.exactly(cut).await, half[..cut]);
        drop(ends.server);
        let rest = ends.client.rest().await;
        let expected = frame(From::Backend, 0x88, &[&4321_u16.to_be_bytes()[..], b"not_reattached"].concat());
        assert_eq!(rest, if told { expected } else { Vec::new() });
        drop(ends.client);
    }
    rig.becomes("crash", "half_message", 2.0).await;
    rig.gateway.access.find(&["tunnel_end", "close_code=4321", "reason=not_reattached"]).await;
    let asked = rig.backends.each_ref().map(|backend| backend.backend.accepted());
    assert_eq!(asked.iter().sum::<usize>(), 2, "nobody was asked again");
}

#[tokio::test]
async fn a_backend_that_says_it_goes_is_followed_by_the_next_and_its_close_frame_goes_no_further() {
    let mut rig = Rig::start("{ on: [going_away] }", "").await;
    for code in [1001, 1012] {
        let mut ends = rig.open("").await;
        ends.server.send([text(From::Backend, "soon"), close(From::Backend, code)].concat()).await;
        assert_eq!(ends.client.frame().await.payload, b"soon");
        let mut old = rig.taken_over(&mut ends).await;
        assert_eq!(old.frame().await, Frame::close_to_backend(code, ""), "it is answered");
        assert_eq!(old.rest().await, b"");
        assert_eq!(ends.field("longhaul-reattach"), Some("1; reason=going_away"));
        ends.both_ways("on").await;
    }
    // Any other code is the end of the conversation.
    let mut ends = rig.open("").await;
    ends.server.send(close(From::Backend, 1000)).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1000, ""));
    // And so is a crash, where that is not among the occasions.
    let mut ends = rig.open("").await;
    drop(ends.server);
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1014, "backend_gone"));
}

#[tokio::test]
async fn a_client_that_said_goodbye_is_not_held_for_a_backend_that_crashes() {
    let mut rig = Rig::start("{}", "").await;
    for half_closed in [false, true] {
        let mut ends = rig.open("").await;
        if half_closed {
            ends.client.finish().await;
            assert_eq!(ends.server.rest().await, b"");
        } else {
            ends.client.send(close(From::Client, 1000)).await;
            ends.server.frame().await;
        }
        drop(ends.server);
        let _ = ends.client.rest().await;
    }
    rig.gateway.access.find_nth(&["tunnel_end", "reattached=0"], 1).await;
    let asked = rig.backends.each_ref().map(|backend| backend.backend.accepted());
    assert_eq!(asked.iter().sum::<usize>(), 2);
}

#[tokio::test]
async fn a_tunnel_whose_backends_fail_at_once_again_and_again_is_given_up() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    for _ in 0..5 {
        ends.lose(&rig, drop).await;
        drop(rig.taken_over(&mut ends).await);
    }
    drop(ends.server);
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    rig.becomes("crash", "too_often", 1.0).await;
    rig.becomes("crash", "attached", 5.0).await;
}
