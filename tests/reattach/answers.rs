//! The next backend's word: what it must answer for the conversation to go on.

use crate::rig::{Ends, Rig, goodbye};
use crate::wire::{Frame, From, Wire, close, switching, text};

/// Drains the tunnel's backend, and answers the next one's handshake with `answer`.
async fn answered(rig: &mut Rig, ends: &mut Ends, answer: &str) {
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.server.send(close(From::Backend, 1012)).await;
    let (mut next, at) = rig.next().await;
    next.head().await;
    next.send(answer).await;
    rig.undo(ends.at).await;
    (ends.server, ends.at) = (next, at);
}

#[tokio::test]
async fn a_refusal_is_final_and_closes_the_client() {
    let mut rig = Rig::start("{}", "").await;
    for (number, status) in [(0, "401 Unauthorized"), (1, "403 Forbidden"), (2, "500 Oops"), (3, "503 Later")] {
        let mut ends = rig.open("").await;
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        answered(&mut rig, &mut ends, &answer).await;
        assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
        ends.client.send(close(From::Client, 1012)).await;
        assert_eq!(ends.client.rest().await, b"");
        let code = format!("status={}", &status[..3]);
        let line = rig.gateway.access.find_nth(&["tunnel_reattach", "outcome=refused"], number).await;
        assert!(line.contains(&code), "{line}");
    }
    rig.becomes("leaving", "refused", 4.0).await;
    rig.gateway.access.find_nth(&["tunnel_end", "close_code=1012", "reason=not_reattached"], 3).await;
}

#[tokio::test]
async fn another_subprotocol_or_compression_is_refused() {
    let offer = "Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let agreed = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n";
    let first = format!("Sec-WebSocket-Protocol: chat\r\n{agreed}");
    let cases = [
        (format!("Sec-WebSocket-Protocol: mqtt\r\n{agreed}"), "protocol"),
        (agreed.to_owned(), "protocol"),
        ("Sec-WebSocket-Protocol: chat\r\n".to_owned(), "compression"),
    ];
    let mut rig = Rig::start("{}", "").await;
    for (other, outcome) in cases {
        let mut client = Wire::connect(rig.gateway.address()).await;
        client.send(crate::wire::upgrade(offer)).await;
        let (mut server, at) = rig.next().await;
        let asked = server.head().await;
        assert!(
            asked.contains("permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"),
            "{asked}"
        );
        server.send(switching(&first)).await;
        let head = client.head().await;
        assert!(
            head.contains("permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n"),
            "every message stands alone, whatever the backend said of the client's: {head}"
        );
        let mut ends = Ends { client, server, at, asked };
        answered(&mut rig, &mut ends, &switching(&other)).await;
        assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
        rig.gateway.access.find(&["tunnel_reattach", &format!("outcome={outcome}")]).await;
    }
}

#[tokio::test]
async fn strip_takes_compression_out_of_the_offer() {
    let mut rig = Rig::start("{}, compression: strip", "").await;
    let ends = rig.open("Sec-WebSocket-Extensions: permessage-deflate\r\n").await;
    assert_eq!(ends.field("sec-websocket-extensions"), None);
}

#[tokio::test]
async fn a_client_is_held_until_a_backend_comes_back() {
    let mut rig = Rig::start("{}", "").await;
    let mut ends = rig.open("").await;
    rig.drain(1 - ends.at).await;
    let at = ends.at;
    ends.lose(&rig, drop).await;
    // The only backend left takes the connection and ends it without an answer.
    for _ in 0..2 {
        let (mut wire, there) = rig.next().await;
        assert_eq!(there, at);
        wire.head().await;
        wire.reset();
    }
    ends.client.send(text(From::Client, "still here")).await;
    drop(rig.taken_over(&mut ends).await);
    assert_eq!(ends.server.frame().await.payload, b"still here");
    assert_eq!(ends.field("longhaul-reattach"), Some("1; reason=crash"), "one re-attachment, however many asked");
    ends.both_ways("on").await;
}

#[tokio::test]
async fn nobody_within_the_time_closes_the_client() {
    // The backend's answer to the goodbye is in time on a busy machine, too.
    let mut rig = Rig::start("{ within: 5s, code: 1013 }", "").await;
    let mut ends = rig.open("").await;
    rig.drain(1 - ends.at).await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.server.send(close(From::Backend, 1012)).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1013, "not_reattached"));
    rig.becomes("leaving", "nobody", 1.0).await;
}

#[tokio::test]
async fn a_backend_that_is_asked_and_never_answers_costs_no_more_than_the_time() {
    let mut rig = Rig::start("{ within: 5s }", "").await;
    let mut ends = rig.open("").await;
    rig.drain(ends.at).await;
    assert_eq!(ends.server.frame().await, goodbye());
    ends.server.send(close(From::Backend, 1012)).await;
    let (mut next, _) = rig.next().await;
    next.head().await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "not_reattached"));
    assert_eq!(next.rest().await, b"");
}

#[tokio::test]
async fn a_tunnel_whose_route_has_no_reattach_ends_as_ever() {
    let mut rig = Rig::start("off", "").await;
    let mut ends = rig.open("Sec-WebSocket-Extensions: x-any; a\r\nLonghaul-Session: mine\r\n").await;
    assert_eq!(ends.field("sec-websocket-extensions"), Some("x-any; a"));
    assert_eq!(ends.field("longhaul-session"), None);
    rig.drain(ends.at).await;
    assert_eq!(ends.client.frame().await, Frame::close_to_client(1012, "backend_drained"));
    assert_eq!(ends.server.frame().await, goodbye());
}
