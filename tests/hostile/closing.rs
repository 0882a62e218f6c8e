//! Ends that tell the truth: of tunnels whose Close frame has passed, and of connections while the gateway drains.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::cast::connect;
use crate::support::{Backend, Gateway, one_upstream};
use crate::wire::{From, Manual, Wire, close, frame, gateway, tunnel};

/// Codes that RFC 6455 §7.4 forbids on the wire, and a payload of one byte: Autobahn's chapter 7.
#[tokio::test]
async fn after_the_clients_own_close_frame_the_end_of_the_backend_adds_nothing() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut frames: Vec<Vec<u8>> = [0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65535_u16]
        .map(|code| close(From::Client, code))
        .into_iter()
        .chain([frame(From::Client, 0x88, b"\x03"), frame(From::Client, 0x88, b"")])
        .collect();
    frames.extend([close(From::Client, 1000), frame(From::Client, 0x88, b"\x03\xE8\xFF")]);
    for bytes in frames {
        let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
        client.send(&bytes).await;
        assert_eq!(server.frame().await.first, 0x88);
        server.finish().await;
        drop(server);
        let rest = client.rest().await;
        assert_eq!(rest, b"", "after the client's {bytes:?} nothing is for the gateway to say");
    }
}

/// A backend that ends without a word is another matter: its client is told.
#[tokio::test]
async fn a_backend_that_ends_while_nobody_has_said_goodbye_shows_as_1014() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client, mut server) = tunnel(&gateway, &mut backend).await;
    server.finish().await;
    drop(server);
    let frame = client.frame().await;
    assert_eq!((frame.first, &frame.payload[..2]), (0x88, &1014_u16.to_be_bytes()[..]));
}

/// A client on a kept connection is told that this answer is the last one.
#[tokio::test]
async fn an_answer_given_while_the_gateway_drains_says_that_the_connection_closes() {
    let gate = Arc::new(Notify::new());
    let arrived = Arc::new(Notify::new());
    let (opened, told) = (Arc::clone(&gate), Arc::clone(&arrived));
    let backend = Backend::start(move |stream| {
        let (opened, told) = (Arc::clone(&opened), Arc::clone(&told));
        async move {
            let mut wire = Wire::of(stream);
            while let Some(head) = wire.next_head().await {
                if head.starts_with("GET /slow ") {
                    told.notify_one();
                    opened.notified().await;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "    health: off\n")).await;
    let mut client = connect(Ipv4Addr::LOCALHOST, gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 200);
    client.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    arrived.notified().await;
    gateway.signal("TERM");
    gateway.log.find(&["draining"]).await;
    gate.notify_one();
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "ok"));
    assert_eq!(answer.field("connection").map(str::to_ascii_lowercase).as_deref(), Some("close"), "{answer:?}");
}
