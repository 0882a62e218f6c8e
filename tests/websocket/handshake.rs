//! The handshake: requests that are accepted or refused, and the verification of a backend's 101.

use crate::support::Backend;
use crate::wire::{ACCEPT, From, KEY, Manual, Wire, field, gateway, switching, text, tunnel, upgrade};

/// A request of these lines, the correct ones where an empty text stands.
fn request(first: &str, connection: &str, upgrade: &str, version: &str, key: &str) -> String {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let parts = [
        or(first, "GET /chat HTTP/1.1"),
        "Host: test".to_owned(),
        or(connection, "Connection: Upgrade"),
        or(upgrade, "Upgrade: websocket"),
        or(version, "Sec-WebSocket-Version: 13"),
        or(key, &format!("Sec-WebSocket-Key: {KEY}")),
    ];
    let lines: Vec<_> = parts.iter().filter(|part| *part != "-").map(|part| format!("{part}\r\n")).collect();
    lines.concat() + "\r\n"
}

#[tokio::test]
async fn lists_and_letter_case_are_read_as_the_rfc_has_them() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    for request in [
        request("", "Connection: keep-alive, UPGRADE", "upgrade: WebSocket", "", ""),
        request("", "Connection: keep-alive\r\nConnection: x-other\r\nconnection: upgrade", "", "", ""),
        request("", "Connection:\tkeep-alive ,,upgrade\t,", "UPGRADE: WEBSOCKET", "", ""),
        request("", "", "Upgrade: foo, websocket", "", ""),
        request("", "", "Upgrade: foo\r\nUpgrade: websocket", "", ""),
        request("", "", "", "sec-websocket-version:13", &format!("SEC-WEBSOCKET-KEY:   {KEY}  ")),
        request("GET http://test/chat HTTP/1.1", "", "", "", ""),
        request("GET /chat?x=%20y HTTP/1.1", "", "", "", "").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"),
    ] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&request).await;
        let mut server = backend.next().await;
        let head = server.head().await;
        assert_eq!(field(&head, "connection"), Some("Upgrade"), "{request}");
        assert_eq!(field(&head, "upgrade"), Some("websocket"), "{request}");
        server.send(switching("")).await;
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{request}{answer}");
        assert_eq!(field(&answer, "sec-websocket-accept"), Some(ACCEPT));
    }
}

#[tokio::test]
async fn a_wrong_handshake_is_answered_400_and_no_backend_hears_of_it() {
    let backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let key = format!("Sec-WebSocket-Key: {KEY}");
    let long = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQAA";
    let lines = |more: &str| upgrade(more);
    for (request, says) in [
        (request("", "-", "", "", ""), "Connection does not name upgrade"),
        (request("", "Connection: keep-alive, x-upgrade", "", "", ""), "Connection does not name upgrade"),
        (request("POST /chat HTTP/1.1", "", "", "", ""), "the method of a WebSocket handshake is GET"),
        (request("HEAD /chat HTTP/1.1", "", "", "", ""), ""),
        (request("", "", "", "", "-"), "Sec-WebSocket-Key is missing"),
        (request("", "", "", "", "Sec-WebSocket-Key:"), "is not the base64 text of 16 bytes"),
        (request("", "", "", "", "Sec-WebSocket-Key: short"), "is not the base64 text of 16 bytes"),
        (request("", "", "", "", long), "is not the base64 text of 16 bytes"),
        (request("", "", "", "", &format!("{key}\r\n{key}")), "is there more than once"),
        (lines("Content-Length: 5\r\n") + "hello", "a WebSocket handshake has no body"),
        (lines("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n", "a WebSocket handshake has no body"),
    ] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&request).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{request}{head}");
        let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
        if !request.starts_with("HEAD") {
            let body = String::from_utf8(client.exactly(length).await).unwrap();
            assert!(body.contains(says) && body.contains(field(&head, "x-request-id").unwrap()), "{request}{body}");
        }
    }
    assert_eq!(backend.backend.accepted(), 0);
    gateway.metric_becomes("longhaul_requests_total{code=\"4xx\",upstream=\"u\"}", 11.0).await;
}

/// Some devices send a fixed word for a key, or the text of fewer bytes: nginx lets them pass.
#[tokio::test]
async fn a_lenient_route_takes_any_key_and_the_answer_to_that_very_key() {
    let mut backend = Manual::start().await;
    let yaml = format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:\n  - path: /device\n    upstream: u\n    \
         handshake: lenient\n  - path: /hooked\n    upstream: u\n    handshake: lenient\n    \
         hooks: [{{ hook: headers, with: {{ response: {{ set: {{ x-seen: '1' }} }} }} }}]\n  - upstream: u\n\
         upstreams:\n  u:\n    health: off\n    backends: [{}]\n",
        backend.address()
    );
    let gateway = crate::support::Gateway::start(&yaml).await;
    let keys = ["AAAA", "x", "device-0042", "dGhlIHNhbXBsZSBub25jZQAA", "x3JJHMbDL1EzLkh9GBhXDw"];
    for path in ["/device", "/hooked"] {
        for key in keys {
            let line = format!("Sec-WebSocket-Key: {key}");
            let mut client = Wire::connect(gateway.address()).await;
            client.send(request(&format!("GET {path} HTTP/1.1"), "", "", "", &line)).await;
            let mut server = backend.next().await;
            assert_eq!(field(&server.head().await, "sec-websocket-key"), Some(key), "{path}");
            let accept = longhaul::ws::handshake::accept(key);
            server.send(switching("").replace(ACCEPT, &accept)).await;
            let answer = client.head().await;
            assert!(answer.starts_with("HTTP/1.1 101 "), "{path} {key}: {answer}");
            assert_eq!(field(&answer, "sec-websocket-accept"), Some(&*accept));
        }
        // No key, two of them, and one that is no word leave nothing to answer.
        let two = "Sec-WebSocket-Key: a\r\nSec-WebSocket-Key: b";
        for line in ["-", two, "Sec-WebSocket-Key: ", "Sec-WebSocket-Key: a b", "Sec-WebSocket-Key: \u{e9}"] {
            let mut client = Wire::connect(gateway.address()).await;
            client.send(request(&format!("GET {path} HTTP/1.1"), "", "", "", line)).await;
            assert!(client.head().await.starts_with("HTTP/1.1 400 "), "{path} {line}");
        }
    }
    for key in keys {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(request("GET /strict HTTP/1.1", "", "", "", &format!("Sec-WebSocket-Key: {key}"))).await;
        assert!(client.head().await.starts_with("HTTP/1.1 400 "), "{key}");
    }
}

#[tokio::test]
async fn another_version_is_answered_426_with_the_one_that_is_spoken() {
    let backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    for version in ["-", "Sec-WebSocket-Version: 8", "Sec-WebSocket-Version: 13, 8", "Sec-WebSocket-Version:"] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(request("", "", "", version, "")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 426, "{version}");
        assert_eq!(answer.field("sec-websocket-version"), Some("13"));
        assert_eq!(answer.field("upgrade"), Some("websocket"));
    }
    assert_eq!(backend.backend.accepted(), 0);
}

#[tokio::test]
async fn a_client_that_was_refused_may_try_again_on_the_same_connection() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request("", "", "", "Sec-WebSocket-Version: 8", "")).await;
    assert_eq!(client.answer().await.status(), 426);
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
}

#[tokio::test]
async fn another_upgrade_goes_on_as_plain_http() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    for request in [
        request("", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "-", "-"),
        request("", "", "Upgrade: foo", "", ""),
        request("", "", "Upgrade: websocket/13", "", ""),
        request("", "", "Upgrade: TLS/1.0, foo/2", "-", "-"),
        request("POST /chat HTTP/1.1", "", "Upgrade: foo\r\nContent-Length: 0", "-", "-"),
        request("GET /chat HTTP/1.0", "", "", "", ""),
    ] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&request).await;
        let mut server = backend.next().await;
        let head = server.head().await;
        assert_eq!(field(&head, "upgrade"), None, "{head}");
        assert!(!field(&head, "connection").unwrap_or_default().to_ascii_lowercase().contains("upgrade"), "{head}");
        server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nplain").await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.body.as_str()), (200, "plain"), "{request}");
    }
}

#[tokio::test]
async fn a_101_that_breaks_a_rule_is_answered_502_and_held_against_the_backend() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let right = switching("");
    let without = |name: &str| {
        let lines: Vec<_> = right.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect();
        lines.concat()
    };
    let answers = [
        (without("Upgrade"), "Upgrade is not websocket"),
        (right.replace("Upgrade: websocket", "Upgrade: h2c"), "Upgrade is not websocket"),
        (without("Connection"), "Connection does not name upgrade"),
        (without("Sec-WebSocket-Accept"), "Sec-WebSocket-Accept is missing"),
        (right.replace("s3pP", "S3pP"), "Sec-WebSocket-Accept does not match the key"),
        (switching(&format!("Sec-WebSocket-Accept: {ACCEPT}\r\n")), "Sec-WebSocket-Accept is there more than once"),
        (switching("Sec-WebSocket-Protocol: mqtt\r\n"), "subprotocol \"mqtt\" was not offered"),
        (switching("Sec-WebSocket-Protocol: chat, superchat\r\n"), "more than one subprotocol was chosen"),
        (switching("Sec-WebSocket-Extensions: x-foo; a=1\r\n"), "extension \"x-foo\" was not offered"),
    ];
    for (bad, why) in &answers {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("Sec-WebSocket-Protocol: chat, superchat\r\n")).await;
        let mut server = backend.next().await;
        server.head().await;
        server.send([bad.as_bytes(), &text(From::Backend, "too early")].concat()).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 502, "{bad}");
        assert!(answer.body.starts_with("502 the backend failed to answer\n"), "no detail for the client: {answer:?}");
        assert_eq!(answer.field("sec-websocket-accept"), None);
        gateway.log.find(&["handshake to backend u/", why]).await;
        assert_eq!(server.rest().await, b"", "the backend's connection is closed");
    }
    let failures = gateway.metric("longhaul_backend_failures_total{kind=\"handshake\",upstream=\"u\"}").await;
    // What a client did not offer is held against nobody (tries.rs).
    let unoffered = answers.iter().filter(|(_, why)| why.ends_with("was not offered")).count();
    assert_eq!((failures, unoffered), ((answers.len() - unoffered) as f64, 2));
    assert_eq!(gateway.access.count(&[" tunnel_open "]), 0);
}

#[tokio::test]
async fn the_last_backend_is_asked_however_often_its_101_was_wrong() {
    let backend = Backend::start(|stream| async move {
        let mut server = Wire::of(stream);
        // A check connects and says nothing.
        if server.next_head().await.is_some() {
            server.send(switching("").replace("s3pP", "S3pP")).await;
            server.gone().await;
        }
    })
    .await;
    let health = "    health: { check: tcp, interval: 1h, timeout: 10s, fall: 2 }\n";
    let gateway = gateway(&[backend.address], health).await;
    for _ in 0..4 {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        assert_eq!(client.answer().await.status(), 502);
    }
    let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", backend.address);
    assert_eq!(gateway.metric(&up).await, 1.0);
}

#[tokio::test]
async fn what_precedes_the_101_does_not_disturb_it() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n";
    let on = "HTTP/1.1 100 Continue\r\n\r\n";
    let all = switching("");
    let pieces: [&[&str]; 5] = [
        &[hints, &all],
        &[on, &all],
        &[hints, on, hints, &all],
        &[&(hints.to_owned() + on + &all)],
        &[&all[..20], &all[20..]],
    ];
    for parts in pieces {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        let mut server = backend.next().await;
        server.head().await;
        for part in parts {
            server.send(part).await;
            tokio::task::yield_now().await;
        }
        server.send(text(From::Backend, "hello")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(client.frame().await.payload, b"hello");
    }
}

#[tokio::test]
async fn two_tunnels_share_nothing() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let (mut client_a, mut server_a) = tunnel(&gateway, &mut backend).await;
    let (mut client_b, mut server_b) = tunnel(&gateway, &mut backend).await;
    client_a.send(text(From::Client, "a")).await;
    server_b.send(text(From::Backend, "b")).await;
    assert_eq!(server_a.frame().await.payload, b"a");
    assert_eq!(client_b.frame().await.payload, b"b");
    drop(server_a);
    assert_eq!(client_a.frame().await.first, 0x88);
    client_b.send(text(From::Client, "still here")).await;
    assert_eq!(server_b.frame().await.payload, b"still here");
}
