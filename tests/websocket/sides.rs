//! Handshakes that workers carry out and handshakes that Pingora reads: clients and backends see no difference.

use tokio::io::AsyncWriteExt;

use crate::support::{Backend, Gateway};
use crate::wire::{From, Manual, Wire, all_ended, configuration, field, gateway, has, switching, text, upgrade};

/// A request for a worker, and the same in a form that is left to Pingora.
fn both_sides() -> [String; 2] {
    [upgrade(""), upgrade("").replace("GET / ", "GET http://test/ ")]
}

#[tokio::test]
async fn what_was_glued_to_either_head_is_passed_on() {
    for request in both_sides() {
        let mut backend = Manual::start().await;
        let gateway = gateway(&[backend.address()], "").await;
        let mut client = Wire::connect(gateway.address()).await;
        client.send([request.as_bytes(), &text(From::Client, "eager")].concat()).await;
        let mut server = backend.next().await;
        let head = server.head().await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        server.send([switching("").as_bytes(), &text(From::Backend, "welcome")].concat()).await;
        assert_eq!(server.frame().await.payload, b"eager");
        assert!(client.head().await.starts_with("HTTP/1.1 101 Switching Protocols\r\n"));
        assert_eq!(client.frame().await.payload, b"welcome");
        drop(client);
        server.rest().await;
        drop(server);
        let end = all_ended(&gateway, backend.address(), 1).await;
        has(&end, &["messages_from_client=1", "messages_from_backend=1", "reason=client_gone"]);
    }
}

#[tokio::test]
async fn an_interim_answer_and_an_answer_in_pieces_are_waited_through() {
    for request in both_sides() {
        let mut backend = Manual::start().await;
        let gateway = gateway(&[backend.address()], "").await;
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&request).await;
        let mut server = backend.next().await;
        server.head().await;
        server.send("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 10").await;
        server.stream.flush().await.unwrap();
        server.send(&switching("")["HTTP/1.1 10".len()..]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    }
}

#[tokio::test]
async fn a_backend_that_refuses_or_answers_wrongly_has_the_same_said_of_it() {
    for request in both_sides() {
        let mut backend = Manual::start().await;
        let backends = [Backend::refusing(), backend.address()];
        let gateway = gateway(&backends, "    balance_factor: 1.25\n").await;
        for _ in 0..4 {
            let mut client = Wire::connect(gateway.address()).await;
            client.send(&request).await;
            let mut server = backend.next().await;
            server.head().await;
            server.send(switching("").replace("Accept: s3", "Accept: t4")).await;
            let answer = client.answer().await;
            assert_eq!(answer.status(), 502);
            assert!(answer.body.contains("the backend failed to answer"), "{answer:?}");
        }
        gateway.log.find(&["connect to backend u/", "failed: ConnectRefused"]).await;
        gateway.log.find(&["handshake to backend u/", "failed: Sec-WebSocket-Accept does not match the key"]).await;
        gateway.access.find(&[" request ", " status=502 "]).await;
    }
}

#[tokio::test]
async fn a_request_in_pieces_is_as_good_as_one_in_a_piece() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    let request = upgrade("");
    client.send(&request[..30]).await;
    // The worker has read that much once another client has been accepted and served.
    let mut other = Wire::connect(gateway.address()).await;
    other.send(upgrade("")).await;
    backend.next().await.head().await;
    client.send(&request[30..]).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn backends_are_connected_to_from_the_addresses_that_are_configured() {
    let mut backend = Manual::start().await;
    let yaml = configuration(&[backend.address()], "") + "client_bind_to_ipv4: [127.0.0.77]\n";
    let gateway = Gateway::start(&yaml).await;
    for request in both_sides() {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&request).await;
        let mut server = backend.next().await;
        assert_eq!(server.stream.peer_addr().unwrap().ip().to_string(), "127.0.0.77");
        assert_eq!(field(&server.head().await, "x-forwarded-for"), Some("127.0.0.1"));
        server.send(switching("")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    }
}
