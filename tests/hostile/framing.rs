//! Messages of HTTP/1.1 that two readers could take in two ways: they are made unambiguous, or refused.

use std::net::Ipv4Addr;

use crate::cast::{ask, connect};
use crate::support::{Backend, Gateway, Message, Named, one_upstream};
use crate::wire::{KEY, Wire};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

async fn before(backend: std::net::SocketAddr) -> Gateway {
    Gateway::start(&one_upstream(&[backend], "    health: off\n")).await
}

/// The status that a request gets, and the requests that reached the backend for it.
async fn sent(request: &str) -> (u16, Vec<Message>) {
    let backend = Named::start().await;
    let gateway = before(backend.address()).await;
    let status = ask(CLIENT, &gateway, request).await.status();
    (status, backend.requests())
}

fn post(framing: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: lab\r\n{framing}\r\n{body}")
}

#[tokio::test]
async fn a_body_with_both_a_length_and_chunks_has_one_meaning_or_is_refused() {
    for framing in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let (status, requests) = sent(&post(framing, "3\r\nabc\r\n0\r\n\r\n")).await;
        assert!([200, 400].contains(&status), "{framing:?}: {status}");
        for request in requests {
            assert_eq!((request.head.get("content-length"), request.text()), (None, "abc".to_owned()), "{framing:?}");
        }
    }
}

/// RFC 9110 §7.8: `Upgrade` in an HTTP/1.0 request is ignored.
#[tokio::test]
async fn an_upgrade_by_http_1_0_is_a_plain_request() {
    let request = format!(
        "GET /ws HTTP/1.0\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    let (status, requests) = sent(&request).await;
    assert_eq!((status, requests.len()), (200, 1));
    assert_eq!(requests[0].head.get("upgrade"), None);
}

/// A client that gets half of an answer has more than one that gets nothing, and can tell that it is half.
#[tokio::test]
async fn an_answer_that_the_backend_cuts_short_delivers_what_came_and_then_closes() {
    let answers = [
        ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 400\r\n\r\npart", "part"),
        ("HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n", "part"),
    ];
    for (answer, part) in answers {
        let backend = Backend::start(move |stream| async move {
            let mut wire = Wire::of(stream);
            if wire.next_head().await.is_some() {
                wire.send(answer).await;
            }
        })
        .await;
        let gateway = before(backend.address).await;
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        let mut all = Vec::new();
        // The connection may end by a reset.
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut all).await;
        let text = String::from_utf8(all).unwrap();
        assert!(text.starts_with("HTTP/1.1 401 "), "{text:?}");
        assert!(text.contains(part) && !text.ends_with("0\r\n\r\n"), "{text:?}");
    }
}
