//! Hooks of tunnels that change their backend: what they repeat, add and refuse (`replay`, `Hook::on_reattach`).

use crate::rig::{Ends, Rig, configuration, goodbye};
use crate::support::Gateway;
use crate::wire::{Frame, From, Manual, Wire, close, frame, text};

async fn rig(hooks: &str) -> Rig {
    let backends = [Manual::start().await, Manual::start().await];
    let yaml = configuration(&backends, &format!("{{}}, hooks: [{hooks}]"), "");
    Rig { gateway: Gateway::start_hooked(&yaml).await, backends }
}

impl Ends {
    async fn says(&mut self, word: &str) {
        self.client.send(text(From::Client, word)).await;
        assert_eq!(self.server.frame().await.payload, word.as_bytes());
    }

    async fn hears(&mut self, word: &str) {
        self.server.send(text(From::Backend, word)).await;
        assert_eq!(self.client.frame().await.payload, word.as_bytes());
    }

    /// The next messages for the backend.
    async fn gets(&mut self, words: &[&str]) {
        for word in words {
            assert_eq!(String::from_utf8(self.server.frame().await.payload).unwrap(), *word);
        }
    }
}

#[tokio::test]
async fn what_replay_keeps_goes_first_and_is_answered_to_the_client_once() {
    let mut rig = rig("{ hook: replay, with: { first: 2, first_answers: 1 } }").await;
    let mut ends = rig.open("").await;
    ends.says("login ada").await;
    ends.hears("welcome").await;
    ends.says("room 7").await;
    ends.says("hello").await;
    for round in ["one", "two", "three"] {
        rig.leave(&mut ends).await;
        ends.client.send(text(From::Client, "waits")).await;
        ends.gets(&["login ada", "room 7"]).await;
        ends.server.send(text(From::Backend, "welcome again")).await;
        ends.gets(&["waits"]).await;
        ends.both_ways(round).await;
    }
    ends.lose(&rig, drop).await;
    drop(rig.taken_over(&mut ends).await);
    ends.gets(&["login ada", "room 7"]).await;
    ends.server.send(text(From::Backend, "welcome again")).await;
    ends.both_ways("after a crash").await;
    rig.becomes("leaving", "attached", 3.0).await;
    rig.becomes("crash", "attached", 1.0).await;
    ends.end().await;
}

#[tokio::test]
async fn what_is_held_goes_to_the_next_backend_once_and_behind_what_is_repeated() {
    let mut rig = rig("{ hook: replay, with: { protocol: graphql-ws } }").await;
    let mut ends = rig.open("").await;
    let (init, first) = (r#"{"type":"connection_init"}"#, r#"{"id":"1","type":"subscribe"}"#);
    let (second, ended) = (r#"{"id":"2","type":"subscribe"}"#, r#"{"id":"1","type":"complete"}"#);
    ends.says(init).await;
    ends.says(first).await;

    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    for held in [second, ended] {
        ends.client.send(text(From::Client, held)).await;
    }
    ends.client.send(frame(From::Client, 0x89, b"are they held?")).await;
    assert_eq!(ends.client.frame().await.payload, b"are they held?");
    ends.server.send(close(From::Backend, 1012)).await;
    let from = ends.at;
    drop(rig.taken_over(&mut ends).await);
    rig.undo(from).await;
    let ack = text(From::Backend, r#"{"type":"connection_ack"}"#);
    ends.gets(&[init]).await;
    ends.server.send(&ack).await;
    assert_eq!(ends.client.frame().await.payload, br#"{"type":"connection_ack"}"#, "the client's first");
    ends.gets(&[second, ended]).await;

    rig.leave(&mut ends).await;
    ends.gets(&[init]).await;
    // The next backend goes before it has answered: what waits goes to the one after it.
    let waits = r#"{"type":"pong"}"#;
    ends.client.send(text(From::Client, waits)).await;
    ends.client.send(frame(From::Client, 0x89, b"does it wait?")).await;
    assert_eq!(ends.client.frame().await.payload, b"does it wait?");
    rig.leave(&mut ends).await;
    ends.gets(&[init]).await;
    ends.lose(&rig, drop).await;
    drop(rig.taken_over(&mut ends).await);
    ends.gets(&[init]).await;
    ends.server.send(&ack).await;
    ends.gets(&[second, waits]).await;
    ends.both_ways(r#"{"type":"ping"}"#).await;
    ends.end().await;
}

#[tokio::test]
async fn a_backend_that_does_not_answer_a_greeting_in_time_loses_the_client() {
    let backends = [Manual::start().await, Manual::start().await];
    let hooks = "{ within: 5s }, hooks: [{ hook: replay, with: { protocol: stomp } }]";
    let gateway = Gateway::start(&configuration(&backends, hooks, "")).await;
    let mut rig = Rig { gateway, backends };
    let mut ends = rig.open("").await;
    ends.says("CONNECT\n\n\0").await;
    ends.hears("CONNECTED\n\n\0").await;
    ends.lose(&rig, drop).await;
    drop(rig.taken_over(&mut ends).await);
    ends.gets(&["CONNECT\n\n\0"]).await;
    ends.client.send(text(From::Client, "SEND\n\n\0")).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    assert_eq!(ends.server.frame().await, Frame::close_to_backend(1012, "not_reattached"), "what waited is not sent");
    rig.gateway.log.find(&["its next backend has not answered what hooks sent it"]).await;
}

#[tokio::test]
async fn a_tunnel_of_which_too_much_would_be_kept_is_not_re_attached() {
    let mut rig = rig("{ hook: replay, with: { first: 9, max_messages: 1 } }").await;
    let mut ends = rig.open("").await;
    ends.says("one").await;
    ends.says("two").await;
    ends.lose(&rig, Wire::reset).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    rig.becomes("crash", "refused_by_hook", 1.0).await;
    ends.client.send(close(From::Client, 1012)).await;
    assert_eq!(ends.client.rest().await, b"");
    rig.gateway.access.find(&["tunnel_end", "replay_off=\"what is to be kept exceeds the bound\""]).await;
}

#[tokio::test]
async fn a_hook_sets_headers_of_the_next_request_and_sends_messages_first() {
    let mut rig = rig("bookmarking").await;
    let mut ends = rig.open("User-Agent: the client's\r\nX-Bookmark: forged\r\n").await;
    ends.says("one").await;
    for (word, held) in [("1 of 1, leaving", None), ("2 of 3, leaving", Some("three"))] {
        rig.drain(ends.at).await;
        assert_eq!(ends.server.frame().await, goodbye());
        if let Some(held) = held {
            ends.client.send(text(From::Client, held)).await;
            ends.client.send(frame(From::Client, 0x89, b"")).await;
            assert_eq!(ends.client.frame().await.first, 0x8a);
        }
        ends.server.send(close(From::Backend, 1012)).await;
        let from = ends.at;
        drop(rig.taken_over(&mut ends).await);
        rig.undo(from).await;
        assert_eq!((ends.field("x-bookmark"), ends.field("user-agent")), (Some(word), Some("bookmark")));
        assert_eq!(ends.asked.to_ascii_lowercase().matches("user-agent:").count(), 1, "{}", ends.asked);
        ends.gets(&[word]).await;
        ends.gets(held.as_slice()).await;
        assert_eq!(ends.client.frame().await.payload, b"one moment");
        ends.both_ways("and on").await;
    }
    ends.lose(&rig, drop).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    rig.gateway.log.find(&["not re-attached", "twice is enough"]).await;
    rig.becomes("crash", "refused_by_hook", 1.0).await;
}

#[tokio::test]
async fn a_hook_that_fails_ends_the_tunnel() {
    let mut rig = rig("bookmarking").await;
    let mut ends = rig.open("").await;
    for number in 0..10 {
        ends.says(&number.to_string()).await;
    }
    for word in ["10 of 10, leaving", "10 of 10, leaving"] {
        rig.leave(&mut ends).await;
        ends.gets(&[word]).await;
        assert_eq!(ends.client.frame().await.payload, b"one moment");
    }
    ends.lose(&rig, drop).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1011, "hook_failed"));
    rig.gateway.log.find(&["hook bookmarking", "reattach", "upgrade is not a hook's to change"]).await;
}
