//! Headers of a handshake, as the backend and the client see them.

use crate::support::Gateway;
use crate::wire::{ACCEPT, KEY, Manual, Wire, configuration, field, fields, gateway, switching, upgrade};

/// The first line, and the header lines in order of their names, which are in lower case.
fn lines(head: &str) -> Vec<String> {
    let mut lines: Vec<String> = head
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| match line.split_once(':') {
            Some((name, value)) if !line.starts_with("GET ") => {
                format!("{}: {}", name.to_ascii_lowercase(), value.trim())
            }
            _ => line.to_owned(),
        })
        .collect();
    lines[1..].sort();
    lines
}

/// Head of a request as the backend sees it.
async fn seen(gateway: &Gateway, backend: &mut Manual, request: &str) -> String {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request).await;
    backend.next().await.head().await
}

#[tokio::test]
async fn the_backend_sees_the_clients_request_without_what_belongs_to_the_hop() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let request = format!(
        "GET /chat/room?a=%20b&c HTTP/1.1\r\nHost: chat.example.com:8080\r\nUser-Agent: test\r\n\
         Connection: keep-alive, Upgrade, x-secret\r\nX-Secret: of this hop\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nTE: trailers\r\nTrailer: x\r\nUpgrade: WebSocket\r\n\
         Origin: https://example.com\r\nCookie: a=1; b=2\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-For: 203.0.113.7\r\nX-Request-Id: given-42\r\nX-Twice: 1\r\nX-Twice: 2\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\
         Sec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         Sec-WebSocket-Extensions: x-other\r\n\r\n"
    );
    let head = seen(&gateway, &mut backend, &request).await;
    assert_eq!(
        lines(&head),
        [
            "GET /chat/room?a=%20b&c HTTP/1.1",
            "connection: Upgrade",
            "cookie: a=1; b=2",
            "host: chat.example.com:8080",
            "origin: https://example.com",
            "sec-websocket-extensions: permessage-deflate; client_max_window_bits",
            "sec-websocket-extensions: x-other",
            &format!("sec-websocket-key: {KEY}"),
            "sec-websocket-protocol: chat, superchat",
            "sec-websocket-version: 13",
            "upgrade: websocket",
            "user-agent: test",
            "x-forwarded-for: 203.0.113.7, 127.0.0.1",
            "x-forwarded-host: chat.example.com:8080",
            "x-forwarded-proto: http",
            "x-request-id: given-42",
            "x-twice: 1",
            "x-twice: 2",
        ]
    );
}

#[tokio::test]
async fn connection_cannot_take_away_a_header_that_says_who_asks_for_what() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let request = upgrade(
        "Cookie: a=1\r\nAuthorization: Basic x\r\nOrigin: https://example.com\r\nX-Forwarded-For: 203.0.113.7\r\n",
    )
    .replace(
        "Connection: Upgrade",
        "Connection: upgrade, host, cookie, authorization, origin, x-forwarded-for, x-forwarded-host, \
             sec-websocket-key, sec-websocket-version, x-request-id",
    );
    let head = seen(&gateway, &mut backend, &request).await;
    for (name, value) in [
        ("host", "test"),
        ("cookie", "a=1"),
        ("authorization", "Basic x"),
        ("origin", "https://example.com"),
        ("x-forwarded-for", "203.0.113.7, 127.0.0.1"),
        ("x-forwarded-host", "test"),
        ("sec-websocket-key", KEY),
        ("sec-websocket-version", "13"),
        ("connection", "Upgrade"),
    ] {
        assert_eq!(fields(&head, name).collect::<Vec<_>>(), [value], "{head}");
    }
    assert!(field(&head, "x-request-id").is_some());
}

#[tokio::test]
async fn a_trusted_proxys_word_on_how_the_client_came_is_kept() {
    let mut backend = Manual::start().await;
    let yaml = configuration(&[backend.address()], "").replace("routes:", "trusted_proxies: [127.0.0.0/8]\nroutes:");
    let gateway = Gateway::start(&yaml).await;
    let request =
        upgrade("X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com\r\n");
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request).await;
    let mut server = backend.next().await;
    let head = server.head().await;
    assert_eq!(field(&head, "x-forwarded-for"), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(field(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(field(&head, "x-forwarded-host"), Some("example.com"));
    server.send(switching("")).await;
    client.head().await;
    gateway.access.find(&[" tunnel_open ", " client=203.0.113.7 ", " peer=127.0.0.1:"]).await;
}

#[tokio::test]
async fn the_client_sees_the_backends_101_without_what_belongs_to_the_hop() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client
        .send(upgrade(
            "X-Request-Id: given-43\r\nSec-WebSocket-Protocol: chat, mqtt\r\n\
                         Sec-WebSocket-Extensions: permessage-deflate\r\n",
        ))
        .await;
    let mut server = backend.next().await;
    server.head().await;
    server
        .send(format!(
            "HTTP/1.1 101 Whatever\r\nconnection: keep-alive, upgrade, x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
             UPGRADE: WebSocket\r\nSec-WebSocket-Accept: {ACCEPT}\r\nServer: test\r\nContent-Length: 0\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nSec-WebSocket-Protocol: mqtt\r\n\
             Sec-WebSocket-Extensions: Permessage-Deflate; server_no_context_takeover\r\n\r\n"
        ))
        .await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(
        lines(&head)[1..],
        [
            "connection: Upgrade",
            &format!("sec-websocket-accept: {ACCEPT}"),
            "sec-websocket-extensions: Permessage-Deflate; server_no_context_takeover",
            "sec-websocket-protocol: mqtt",
            "server: test",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "upgrade: websocket",
            "x-request-id: given-43",
        ]
    );
}

#[tokio::test]
async fn an_issued_cookie_stands_on_the_101_beside_the_backends_own() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "    affinity: [ issue_cookie: { name: lh } ]\n").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("Set-Cookie: own=1\r\n")).await;
    let head = client.head().await;
    let cookies: Vec<_> = fields(&head, "set-cookie").collect();
    assert_eq!(cookies[0], "own=1");
    assert!(cookies[1].starts_with("lh=") && cookies.len() == 2, "{cookies:?}");
    let open = gateway.access.find(&[" tunnel_open "]).await;
    let value = cookies[1].split([';', '=']).nth(1).unwrap();
    assert!(!open.contains(value), "a cookie's value is never logged: {open}");
}
