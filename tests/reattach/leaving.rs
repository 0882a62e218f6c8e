//! Planned leaving: nothing is lost, doubled or reordered.

use crate::rig::{Rig, goodbye};
use crate::wire::{Frame, From, close, frame, text};

#[tokio::test]
async fn a_drained_backend_says_its_last_words_and_the_next_one_goes_on() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("Longhaul-Session: mine\r\nlonghaul-reattach: 7\r\n").await;
    let session = ends.field("longhaul-session").unwrap().to_owned();
    assert!(session.len() == 32 && session.bytes().all(|byte| byte.is_ascii_hexdigit()), "{session}");
    assert_eq!(ends.field("longhaul-reattach"), None);
    assert_eq!(ends.asked.to_lowercase().matches("longhaul-").count(), 1, "a client's own are dropped");
    ends.both_ways("before").await;

    let from = ends.at;
    rig.drain(from).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.client.send(text(From::Client, "held")).await;
    ends.server.send(text(From::Backend, "last words")).await;
    assert_eq!(ends.client.frame().await.payload, b"last words");
    ends.server.send(close(From::Backend, 1012)).await;
    let mut old = rig.taken_over(&mut ends).await;
    assert_eq!(old.rest().await, b"", "the old backend is told nothing more");
    assert_ne!(ends.at, from);
    assert_eq!(ends.field("longhaul-session"), Some(&*session));
    assert_eq!(ends.field("longhaul-reattach"), Some("1; reason=leaving"));
    assert_eq!(ends.server.frame().await.payload, b"held");
    ends.both_ways("after").await;

    let line =
        rig.gateway.access.find(&["tunnel_reattach", "reattached=1", "reason=leaving", "outcome=attached"]).await;
    assert!(line.contains(&format!("backend={}", rig.backends[ends.at].address())), "{line}");
    rig.becomes("leaving", "attached", 1.0).await;
    ends.client.send(close(From::Client, 1000)).await;
    assert_eq!(ends.server.frame().await.payload, 1000_u16.to_be_bytes());
    ends.server.send(close(From::Backend, 1000)).await;
    assert_eq!(ends.client.frame().await.payload, 1000_u16.to_be_bytes());
    drop(ends);
    rig.gateway.access.find(&["tunnel_end", "reason=client_close", "reattached=1"]).await;
    assert_eq!(rig.gateway.access.count(&["tunnel_open"]), 1);
}

#[tokio::test]
async fn ten_re_attachments_in_a_row_keep_session_and_counts() {
    let mut rig = Rig::start("{ on: [leaving] }", "").await;
    let mut ends = rig.open("").await;
    let session = ends.field("longhaul-session").unwrap().to_owned();
    for number in 1..=10 {
        ends.both_ways(&format!("before {number}")).await;
        rig.leave(&mut ends).await;
        assert_eq!(ends.field("longhaul-session"), Some(&*session));
        assert_eq!(ends.field("longhaul-reattach"), Some(&*format!("{number}; reason=leaving")));
        assert_eq!(ends.asked.matches("longhaul-reattach").count(), 1);
    }
    ends.both_ways("at last").await;
    rig.becomes("leaving", "attached", 10.0).await;
    ends.end().await;
    rig.gateway
        .access
        .find(&["tunnel_end", "messages_from_client=11", "messages_from_backend=11", "reattached=10"])
        .await;
}

#[tokio::test]
async fn a_message_under_way_ends_at_the_old_backend_wherever_it_is_cut() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let fragments =
        [frame(From::Client, 0x01, b"one "), frame(From::Client, 0x89, b"!"), frame(From::Client, 0x80, b"two")]
            .concat();
    for cut in 1..fragments.len() {
        let from = ends.at;
        ends.client.send(&fragments[..cut]).await;
        assert_eq!(ends.server.exactly(cut).await, fragments[..cut], "cut at {cut}");
        rig.drain(from).await;
        rig.parts().await;
        ends.client.send([&fragments[cut..], &text(From::Client, "next")].concat()).await;
        assert_eq!(ends.server.exactly(fragments.len() - cut).await, fragments[cut..], "cut at {cut}");
        assert_eq!(ends.server.frame().await, goodbye());
        ends.server.send(close(From::Backend, 1012)).await;
        drop(rig.taken_over(&mut ends).await);
        assert_eq!(ends.server.frame().await.payload, b"next");
        rig.undo(from).await;
    }
}

#[tokio::test]
async fn the_backends_last_words_and_its_close_frame_may_be_cut_anywhere() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let words = [frame(From::Backend, 0x02, b"half"), frame(From::Backend, 0x80, b"whole")].concat();
    let said = [&words[..], &frame(From::Backend, 0x88, b"\x03\xf4restart")].concat();
    for cut in 0..=said.len() {
        let from = ends.at;
        rig.drain(from).await;
        assert_eq!(ends.server.frame().await, goodbye());
        ends.server.send(&said[..cut]).await;
        let passed = cut.min(words.len());
        assert_eq!(ends.client.exactly(passed).await, words[..passed]);
        ends.server.send(&said[cut..]).await;
        assert_eq!(ends.client.exactly(words.len() - passed).await, words[passed..], "cut at {cut}");
        drop(rig.taken_over(&mut ends).await);
        ends.both_ways("on").await;
        rig.undo(from).await;
    }
}

#[tokio::test]
async fn pings_of_a_held_client_are_answered_by_the_gateway() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.client.send(frame(From::Client, 0x89, b"parting")).await;
    assert_eq!(ends.client.frame().await, Frame { first: 0x8a, masked: false, payload: b"parting".to_vec() });
    ends.server.send(close(From::Backend, 1012)).await;
    let (mut next, at) = rig.next().await;
    ends.client.send(frame(From::Client, 0x89, b"held")).await;
    assert_eq!(ends.client.frame().await.payload, b"held");
    ends.asked = next.head().await;
    next.send(crate::wire::switching("")).await;
    (ends.server, ends.at) = (next, at);
    ends.both_ways("on").await;
}

#[tokio::test]
async fn a_client_that_fills_its_buffer_is_not_read_and_loses_nothing() {
    let mut rig = Rig::start("{ buffer: 1KiB }", "").await;
    let mut ends = rig.open("").await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    let message = frame(From::Client, 0x82, &[7; 60_000]);
    let sent = message.repeat(200);
    let (mut reader, all) = (ends.client, sent.clone());
    let sending = tokio::spawn(async move {
        reader.send(&all).await;
        reader
    });
    ends.server.send(close(From::Backend, 1012)).await;
    let (mut next, _) = rig.next().await;
    next.head().await;
    // Far less than the client has to send is kept.
    let kept = rig.gateway.metric("longhaul_kept_bytes").await;
    assert!(kept < 1_000_000.0, "{kept}");
    next.send(crate::wire::switching("")).await;
    assert!(next.exactly(sent.len()).await == sent, "every byte in order");
    drop(sending.await.unwrap());
}

#[tokio::test]
async fn a_client_that_is_slow_to_read_is_waited_for() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    let words = frame(From::Backend, 0x82, &[5; 60_000]).repeat(200);
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    let said = [&words[..], &close(From::Backend, 1012)].concat();
    let placeholder = crate::wire::Wire::connect(rig.gateway.address()).await;
    let mut server = std::mem::replace(&mut ends.server, placeholder);
    let saying = tokio::spawn(async move {
        server.send(&said).await;
        server
    });
    assert!(ends.client.exactly(words.len()).await == words, "every byte in order");
    drop(rig.taken_over(&mut ends).await);
    drop(saying.await.unwrap());
    ends.both_ways("on").await;
}

#[tokio::test]
async fn a_client_that_says_goodbye_while_it_is_held_says_it_to_the_next_backend() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.client.send([text(From::Client, "last"), close(From::Client, 1000)].concat()).await;
    ends.client.finish().await;
    ends.server.send(close(From::Backend, 1012)).await;
    drop(rig.taken_over(&mut ends).await);
    assert_eq!(ends.server.frame().await.payload, b"last");
    assert_eq!(ends.server.frame().await.payload, 1000_u16.to_be_bytes());
    ends.server.send(close(From::Backend, 1000)).await;
    assert_eq!(ends.client.frame().await.payload, 1000_u16.to_be_bytes());
    drop(ends);
    rig.gateway.access.find(&["tunnel_end", "reattached=1"]).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_it_is_held_ends_its_tunnel_and_nobody_is_asked() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    drop(ends.client);
    ends.server.send(close(From::Backend, 1012)).await;
    rig.gateway.access.find(&["tunnel_end", "reason=client_gone", "reattached=0"]).await;
    rig.becomes("leaving", "ended", 1.0).await;
    let asked = rig.backends.each_ref().map(|backend| backend.backend.accepted());
    assert_eq!(asked.iter().sum::<usize>(), 1);
}
