//! Messages of HTTP/1.1 that two readers could take in two ways: they are made unambiguous, or refused.

use std::net::Ipv4Addr;

use tokio::io::AsyncWriteExt;

use crate::cast::{ask, connect};
use crate::support::{Backend, Gateway, Message, Named, one_upstream};
use crate::wire::{ACCEPT, KEY, Wire};

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

/// RFC 9112 §6.3: equal lengths may be made one, anything else is an error.
#[tokio::test]
async fn several_content_lengths_become_one_or_are_refused() {
    for framing in ["Content-Length: 3, 3\r\n", "Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: 3,3\r\n"]
    {
        let (status, requests) = sent(&post(framing, "abc")).await;
        assert!([200, 400].contains(&status), "{framing:?}: {status}");
        for request in &requests {
            assert_eq!((request.head.all("content-length"), request.text()), (vec!["3"], "abc".into()), "{framing:?}");
        }
        assert_eq!(requests.len(), usize::from(status == 200));
    }
    let wrong =
        ["3, 4", "3\r\nContent-Length: 4", "+3", "-3", "0x3", "3 ", "3;", "", "3,", "18446744073709551616", "3.0"];
    for length in wrong.into_iter().filter(|length| *length != "3 ") {
        let (status, requests) = sent(&post(&format!("Content-Length: {length}\r\n"), "abc")).await;
        assert_eq!(status, 400, "{length:?}");
        assert!(requests.is_empty(), "{length:?}: {requests:?}");
    }
}

/// RFC 9112 §6.1: a coding that is not understood is 501; `chunked` has to be the last one, once.
#[tokio::test]
async fn transfer_codings_other_than_a_single_final_chunked_are_refused() {
    let codings = [
        "gzip, chunked",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked, gzip",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "identity",
        "identity, chunked",
        "xchunked",
        "chunked;q=1",
        "\"chunked\"",
        "gzip",
        "",
    ];
    for coding in codings {
        let (status, requests) =
            sent(&post(&format!("Transfer-Encoding: {coding}\r\n"), "3\r\nabc\r\n0\r\n\r\n")).await;
        assert!([400, 501].contains(&status), "{coding:?}: {status}");
        assert!(requests.is_empty(), "{coding:?}: {requests:?}");
    }
    for coding in ["chunked", "Chunked", "chunked ", "\tchunked"] {
        let (status, requests) =
            sent(&post(&format!("Transfer-Encoding: {coding}\r\n"), "3\r\nabc\r\n0\r\n\r\n")).await;
        assert_eq!((status, requests[0].text()), (200, "abc".to_owned()), "{coding:?}");
    }
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

#[tokio::test]
async fn a_chunk_without_a_right_size_is_refused() {
    let bodies = [
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        ";ext\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcdef\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
    ];
    for body in bodies {
        let backend = Named::start().await;
        let gateway = before(backend.address()).await;
        let status = ask(CLIENT, &gateway, &post("Transfer-Encoding: chunked\r\n", body)).await.status();
        assert_eq!(status, 400, "{body:?}");
        assert!(backend.requests().is_empty(), "{body:?} reached the backend whole");
    }
}

/// A request that asks for no upgrade gets none: its client would not know whose bytes follow.
#[tokio::test]

async fn a_101_that_nobody_asked_for_is_answered_502() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::of(stream);
        while wire.next_head().await.is_some() {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
            wire.send(format!("{head}Sec-WebSocket-Accept: {ACCEPT}\r\n\r\nHTTP/1.1 200 OK\r\n\r\n")).await;
        }
    })
    .await;
    let gateway = before(backend.address).await;
    let requests = [
        "GET / HTTP/1.1\r\nHost: lab\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: lab\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: lab\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
    ];
    for request in requests {
        assert_eq!(ask(CLIENT, &gateway, &request).await.status(), 502, "{request}");
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

/// The client says that it will send no more, and waits.
#[tokio::test]

async fn a_client_that_half_closes_after_its_request_gets_its_answer() {
    let backend = Named::start().await;
    let gateway = before(backend.address()).await;
    let mut client = connect(CLIENT, gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.answer().await.status(), 200);
}
