//! Bytes that come in one piece with a handshake belong to the tunnel and are delivered.

use crate::wire::{From, Manual, Wire, all_ended, close, frame, gateway, has, switching, text, upgrade};

/// Sends request and early frames at once, answers in the same way, and compares what arrives.
async fn delivered(from_client: &[u8], from_backend: &[u8]) {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send([upgrade("").as_bytes(), from_client].concat()).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send([switching("").as_bytes(), from_backend].concat()).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert!(server.exactly(from_client.len()).await == from_client);
    assert!(client.exactly(from_backend.len()).await == from_backend);
    for late in 0..3 {
        let late = format!("later {late}");
        client.send(text(From::Client, &late)).await;
        assert_eq!(server.frame().await.payload, late.as_bytes());
        server.send(text(From::Backend, &late)).await;
        assert_eq!(client.frame().await.payload, late.as_bytes());
    }
    client.send(close(From::Client, 1000)).await;
    server.send(close(From::Backend, 1000)).await;
    client.finish().await;
    server.gone().await;
    let end = all_ended(&gateway, backend.address(), 1).await;
    let count = |early: &[u8]| if early.is_empty() { 3 } else { 4 };
    has(
        &end,
        &[
            &format!("bytes_from_client={}", from_client.len() + 3 * (6 + 7) + 8),
            &format!("bytes_from_backend={}", from_backend.len() + 3 * (2 + 7) + 4),
            &format!("messages_from_client={}", count(from_client)),
            &format!("messages_from_backend={}", count(from_backend)),
        ],
    );
}

#[tokio::test]
async fn a_frame_glued_to_the_request_reaches_the_backend() {
    delivered(&text(From::Client, "eager"), b"").await;
}

#[tokio::test]
async fn a_frame_glued_to_the_101_reaches_the_client() {
    delivered(b"", &text(From::Backend, "welcome")).await;
}

#[tokio::test]
async fn frames_glued_to_both_arrive() {
    delivered(&text(From::Client, "eager"), &text(From::Backend, "welcome")).await;
}

#[tokio::test]
async fn large_glued_pieces_arrive_whole() {
    let payload: Vec<u8> = (0..60_000_u32).map(|number| (number % 251) as u8).collect();
    delivered(&frame(From::Client, 0x82, &payload), &frame(From::Backend, 0x82, &payload)).await;
}

#[tokio::test]
async fn pieces_larger_than_any_buffer_arrive_whole() {
    let payload: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
    delivered(&frame(From::Client, 0x82, &payload), &frame(From::Backend, 0x82, &payload)).await;
}

#[tokio::test]
async fn frames_sent_before_the_101_in_segments_of_their_own_reach_the_backend() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    // The gateway has read the request and waits for the backend: these come alone.
    client.send(text(From::Client, "one")).await;
    client.send(text(From::Client, "two")).await;
    server.send(switching("")).await;
    assert_eq!(server.frame().await.payload, b"one");
    assert_eq!(server.frame().await.payload, b"two");
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn a_request_that_comes_byte_by_byte_becomes_a_tunnel() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    for byte in [upgrade("").as_bytes(), &text(From::Client, "slowly")].concat() {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    let mut server = backend.next().await;
    server.head().await;
    for byte in [switching("").as_bytes(), &text(From::Backend, "as slowly")].concat() {
        server.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(client.frame().await.payload, b"as slowly");
    assert_eq!(server.frame().await.payload, b"slowly");
}

#[tokio::test]
async fn a_backend_that_answers_says_goodbye_and_closes_at_once_is_heard() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    let words = [text(From::Backend, "full"), close(From::Backend, 1013)].concat();
    server.send([switching("").as_bytes(), &words].concat()).await;
    server.finish().await;
    client.head().await;
    assert_eq!(client.rest().await, words);
    drop(client);
    let end = all_ended(&gateway, backend.address(), 1).await;
    has(&end, &["close_code=1013", "by=backend", "reason=backend_close", "messages_from_backend=1"]);
}
