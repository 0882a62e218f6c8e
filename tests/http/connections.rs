//! Client connections serve request after request, and end when their clients do.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::{Backend, Echo, Gateway, Named, Wire, one_upstream, within};

#[tokio::test]
async fn one_connection_serves_many_requests_and_so_does_the_backends() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "    health: off\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..10 {
        assert_eq!(client.get("/", "").await.address(), backend.address());
    }
    assert_eq!(backend.backend.accepted(), 1);
    let last = client.get("/", "Connection: close\r\n").await;
    assert_eq!(last.head.all("connection"), ["close"]);
    assert_eq!(client.rest().await, b"");
}

#[tokio::test]
async fn a_connection_that_a_backend_is_not_asked_on_is_closed_by_the_gateway() {
    let (tell, mut ended) = mpsc::unbounded_channel();
    let backend = Backend::start(move |stream| {
        let tell = tell.clone();
        async move {
            let mut wire = Wire::new(stream);
            while wire.request().await.is_some() {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
            // The test may have ended.
            let _ = tell.send(());
        }
    })
    .await;
    let upstream = "    health: off\n    timeouts: { idle: 1s }\n";
    let gateway = Gateway::start(&one_upstream(&[backend.address], upstream)).await;
    let mut client = Wire::connect(gateway.address()).await;
    for connections in 1..=2 {
        for _ in 0..3 {
            assert_eq!(client.get("/", "").await.status(), 200);
        }
        assert_eq!(backend.accepted(), connections);
        within("the end of the backend's connection", ended.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn each_thread_keeps_connections_of_its_own_to_backends() {
    let backend = Named::start().await;
    let yaml = format!("threads: 3\n{}", one_upstream(&[backend.address()], "    health: off\n"));
    let gateway = Gateway::start(&yaml).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Wire::connect(gateway.address()).await);
    }
    for _ in 0..5 {
        for client in &mut clients {
            assert_eq!(client.get("/", "").await.status(), 200);
        }
    }
    assert_eq!(backend.backend.accepted(), 3);
}

#[tokio::test]
async fn requests_sent_without_waiting_are_answered_in_their_order() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.request().await {
            let body = format!("{} {}", request.head.target(), request.text());
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    let requests: String = (0..20)
        .map(|n| match n % 2 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: lab\r\n\r\n"),
            _ => format!("POST /{n} HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\n\r\nbody{}", n % 10),
        })
        .collect();
    client.send(requests).await;
    for n in 0..20 {
        let body = if n % 2 == 0 { String::new() } else { format!("body{}", n % 10) };
        assert_eq!(client.answer().await.text(), format!("/{n} {body}"));
    }
}

#[tokio::test]
async fn requests_behind_one_without_a_route_are_answered_too() {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], "").replace("- upstream", "- path: /known\n    upstream");
    let gateway = Gateway::start(&config).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET /other HTTP/1.1\r\nHost: lab\r\n\r\nGET /known HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 404);
    assert_eq!(client.answer().await.address(), backend.address());
}

#[tokio::test]
async fn a_body_that_nobody_wants_does_not_become_the_next_request() {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], "").replace("- upstream", "- path: /known\n    upstream");
    let gateway = Gateway::start(&config).await;
    let mut client = Wire::connect(gateway.address()).await;
    let smuggled = "GET /known HTTP/1.1\r\nHost: lab\r\n\r\n";
    client
        .send(format!("POST /other HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n{smuggled}", smuggled.len()))
        .await;
    assert_eq!(client.answer().await.status(), 404);
    client.send("GET /known/2 HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    // Answered, or closed; in neither case was the body taken for a request.
    let _ = client.try_answer().await;
    assert!(backend.requests().iter().all(|request| request.head.target() == "/known/2"));
}

/// A client that leaves is not an error of the gateway's: one line of status 499, nothing in the diagnostics.
async fn leaves(request: &str, wait_for_backend: bool) {
    let (seen, mut arrived) = mpsc::channel(1);
    let backend = Backend::start(move |stream| {
        let seen = seen.clone();
        async move {
            let mut wire = Wire::new(stream);
            if let Ok(Some(_)) = wire.head().await {
                seen.send(()).await.unwrap();
                // Reads until the gateway closes.
                wire.rest().await;
            }
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "    health: off\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request).await;
    if wait_for_backend {
        within("the backend to get the request", arrived.recv()).await;
    }
    client.stream.shutdown().await.unwrap();
    drop(client);
    let line = gateway.access.find(&[" request "]).await;
    assert!(line.contains(" status=499 "), "{line}");
    assert_eq!(gateway.log.count(&["WARN"]) + gateway.log.count(&["ERROR"]), 0, "{:?}", gateway.log.all());
    gateway.metric_becomes("longhaul_requests_total{code=\"4xx\",upstream=\"u\"}", 1.0).await;
    let name = format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", backend.address);
    gateway.metric_becomes(&name, 0.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_while_the_backend_works_is_logged_as_499() {
    leaves("GET / HTTP/1.1\r\nHost: lab\r\n\r\n", true).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_upload_is_logged_as_499() {
    leaves("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 1000\r\n\r\nhalf", true).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_a_chunk_is_logged_as_499() {
    leaves("POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhalf", true).await;
}

#[tokio::test]
async fn an_upgrade_and_its_first_frame_may_be_sent_behind_a_request() {
    let echo = Echo::start().await;
    let other = Named::start().await;
    let config =
        one_upstream(&[echo.address()], "").replace("routes:\n", "routes:\n  - { path: /plain, upstream: p }\n");
    let gateway = Gateway::start(&format!("{config}  p:\n    backends: [{}]\n", other.address())).await;
    let mut client = Wire::connect(gateway.address()).await;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let frame = [0x81, 0x82, 0, 0, 0, 0, b'h', b'i'];
    client.send([b"GET /plain HTTP/1.1\r\nHost: lab\r\n\r\n", upgrade.as_bytes(), &frame].concat()).await;
    assert_eq!(client.answer().await.address(), other.address());
    assert_eq!(client.answer().await.status(), 101);
    let name = echo.address().to_string();
    let expected = [&[0x81, name.len() as u8], name.as_bytes(), &[0x81, 2, b'h', b'i']].concat();
    let mut came = vec![0; expected.len()];
    within("the echo", client.stream.read_exact(&mut came)).await.unwrap();
    assert_eq!(came, expected);
}
