//! Headers by which a backend learns of the client, and which of them it may trust.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::support::{Backend, Gateway, Message, Named, Wire, one_upstream, within};

/// Headers that the backend received when a client at `source` sent `headers`; proxies at 127.8.0.0/16 are trusted.
async fn received(source: [u8; 4], headers: &str) -> (Message, Message) {
    let backend = Named::start().await;
    let gateway =
        Gateway::start(&format!("{}trusted_proxies: [127.8.0.0/16]\n", one_upstream(&[backend.address()], ""))).await;
    let mut client = Wire::connect_from(Ipv4Addr::from(source), gateway.address()).await;
    let answer = client.get("/", headers).await;
    assert_eq!(answer.status(), 200);
    let line = gateway.access.find(&[" request "]).await;
    let seen = backend.last();
    let chain = seen.head.get("x-forwarded-for").unwrap();
    assert!(chain.ends_with(&Ipv4Addr::from(source).to_string()), "{chain}");
    assert!(line.contains(&format!(" peer={}:", Ipv4Addr::from(source))), "{line}");
    let client = line.split(" client=").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    (Message { body: client.into_bytes(), ..seen }, answer)
}

#[tokio::test]
async fn a_direct_client_is_named_and_cannot_name_itself() {
    let (seen, _) = received(
        [127, 0, 9, 1],
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.test\r\n",
    )
    .await;
    assert_eq!(seen.head.get("x-forwarded-for").unwrap(), "203.0.113.7, 127.0.9.1");
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["lab"]);
    assert_eq!(seen.head.all("host"), ["lab"]);
    assert_eq!(seen.text(), "127.0.9.1", "the log's client");
}

#[tokio::test]
async fn a_request_of_http_1_0_that_names_no_host_reaches_a_backend_under_the_backends_own_address() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "")).await;
    for (host, expected) in [("", backend.address().to_string()), ("Host: lab\r\n", "lab".to_owned())] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(format!("GET / HTTP/1.0\r\n{host}\r\n")).await;
        assert_eq!(client.answer().await.status(), 200);
        let seen = backend.last();
        assert_eq!(seen.head.all("host"), [expected]);
        assert_eq!(seen.head.get("x-forwarded-host").is_none(), host.is_empty(), "nobody asked for a host");
    }
}

#[tokio::test]
async fn a_trusted_proxy_is_believed_up_to_the_right_most_address_that_is_not() {
    let (seen, _) = received(
        [127, 8, 0, 1],
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 203.0.113.7, 127.8.4.4\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: shop.test\r\n",
    )
    .await;
    assert_eq!(seen.head.all("x-forwarded-for"), ["6.6.6.6, 203.0.113.7, 127.8.4.4, 127.8.0.1"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["shop.test"]);
    assert_eq!(seen.text(), "203.0.113.7", "the log's client");
}

#[tokio::test]
async fn a_trusted_proxy_that_names_nobody_is_the_client() {
    let (seen, _) = received([127, 8, 0, 2], "").await;
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.8.0.2"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["lab"]);
    assert_eq!(seen.text(), "127.8.0.2");
}

#[tokio::test]
async fn a_request_id_is_made_passed_on_or_replaced() {
    let fresh = |id: &str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    for (headers, expected) in [
        ("", None),
        ("X-Request-Id: abc-123/+=\r\n", Some("abc-123/+=")),
        ("X-Request-Id: two words\r\n", None),
        ("X-Request-Id:\r\n", None),
    ] {
        let (seen, answer) = received([127, 0, 9, 2], headers).await;
        let id = seen.head.get("x-request-id").unwrap();
        assert_eq!(seen.head.all("x-request-id").len(), 1);
        assert_eq!(answer.head.all("x-request-id"), [&id], "the client's answer has it too");
        match expected {
            Some(expected) => assert_eq!(id, expected),
            None => assert!(fresh(&id), "{headers:?} became {id}"),
        }
    }
    let long = "x".repeat(129);
    let (seen, _) = received([127, 0, 9, 2], &format!("X-Request-Id: {long}\r\n")).await;
    assert!(fresh(&seen.head.get("x-request-id").unwrap()));
}

#[tokio::test]
async fn connection_headers_stay_on_their_connection() {
    let (seen, _) =
        received([127, 0, 9, 3], "Connection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-Kept: 1\r\n")
            .await;
    for gone in ["x-hop", "keep-alive", "upgrade"] {
        assert_eq!(seen.head.get(gone), None, "{gone}");
    }
    assert_eq!(seen.head.get("x-kept").unwrap(), "1");
}

/// A client could otherwise take the session away that its cookie names, or the word of the proxy before.
#[tokio::test]
async fn connection_takes_away_no_header_that_says_who_asks_for_what() {
    let kept = ["cookie", "authorization", "origin", "x-forwarded-for", "forwarded", "x-real-ip", "host"];
    for name in kept {
        let headers = format!(
            "Connection: keep-alive, {name}, X-Hop\r\nX-Hop: 1\r\nCookie: a=b\r\nAuthorization: c\r\nOrigin: null\r\n\
             Forwarded: for=127.8.0.9\r\nX-Real-IP: 127.8.0.9\r\n"
        );
        let (seen, _) = received([127, 8, 0, 3], &headers).await;
        for kept in kept {
            assert!(seen.head.get(kept).is_some(), "{kept} where {name} is listed: {seen:?}");
        }
        assert_eq!(seen.head.get("x-hop"), None, "{name}");
    }
}

/// Head that a backend received of a request, byte for byte.
async fn sent_on(request: &[u8]) -> Vec<u8> {
    let (tell, mut heads) = mpsc::unbounded_channel();
    let backend = Backend::start(move |mut stream| {
        let tell = tell.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {}
            let _ = tell.send(head);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "    health: off\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request).await;
    assert_eq!(client.answer().await.status(), 200);
    within("the request at the backend", heads.recv()).await.unwrap()
}

#[tokio::test]
async fn a_target_goes_on_as_it_came() {
    for target in [&b"/a%2Fb//c/../?q=%41&r"[..], b"/caf\xc3\xa9?q=\xc3\xa9", b"/?", b"//"] {
        let head = sent_on(&[b"GET ", target, b" HTTP/1.1\r\nHost: lab\r\n\r\n"].concat()).await;
        let first = [b"GET ", target, b" HTTP/1.1\r\n"].concat();
        assert!(head.starts_with(&first), "{:?}", String::from_utf8_lossy(&head));
    }
    let head = sent_on(b"GET http://lab/a?b HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert!(head.starts_with(b"GET /a?b HTTP/1.1\r\n"), "of an absolute target the path");
}

#[tokio::test]
async fn names_of_headers_go_on_in_lower_case_and_their_values_as_they_came() {
    let head = sent_on(b"GET / HTTP/1.1\r\nHOST: Lab\r\nX-Some-NAME: Some Value\r\nx-some-name: 2\r\n\r\n").await;
    let head = String::from_utf8(head).unwrap();
    let lines: Vec<_> = head.lines().filter(|line| line.starts_with("x-some-name")).collect();
    assert_eq!(lines, ["x-some-name: Some Value", "x-some-name: 2"], "{head}");
    assert!(head.contains("Host: Lab\r\n"), "{head}");
}

#[tokio::test]
async fn with_work_stealing_every_client_is_served() {
    let backend = Named::start().await;
    let yaml = format!("threads: 3\nwork_stealing: true\n{}", one_upstream(&[backend.address()], ""));
    let gateway = Gateway::start(&yaml).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(Wire::connect(gateway.address()).await);
    }
    for client in &mut clients {
        for _ in 0..3 {
            assert_eq!(client.get("/", "").await.status(), 200);
        }
    }
}

/// The requests that a backend got of a client at `source` which sent `headers`, by a gateway with `keys`, over each of
/// the ways that a request can take: plain, a worker's handshake, and both with hooks.
async fn on_every_way(keys: &str, source: [u8; 4], headers: &str) -> Vec<Message> {
    let backend = Named::start().await;
    let hooked = "  - path: /hooked\n    upstream: u\n    \
                  hooks: [{ hook: headers, with: { request: { set: { x-seen: '1' } } } }]\n";
    let yaml =
        one_upstream(&[backend.address()], "    health: off\n").replace("routes:\n", &format!("routes:\n{hooked}"));
    let gateway = Gateway::start(&format!("trusted_proxies: [127.8.0.0/16]\n{keys}{yaml}")).await;
    let mut seen = Vec::new();
    for (target, upgrade) in [("/", ""), ("/", UPGRADE), ("/hooked", ""), ("/hooked", UPGRADE)] {
        // This backend answers every handshake 200, which is relayed.
        let mut client = Wire::connect_from(Ipv4Addr::from(source), gateway.address()).await;
        assert_eq!(client.get(target, &format!("{headers}{upgrade}")).await.status(), 200);
        let request = backend.last();
        assert_eq!((request.head.target(), request.head.get("upgrade").is_some()), (target, !upgrade.is_empty()));
        assert_eq!(request.head.get("x-seen").is_some(), target == "/hooked");
        seen.push(request);
    }
    seen
}

/// Every header by which backends, frameworks and log formats take a client's word on its address.
const CLAIMS: &str = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6;proto=https\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: bank.test\r\nX-Forwarded-Port: 443\r\n\
                      X-Forwarded-Prefix: /admin\r\nX-Client-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\n\
                      X-Forwarded-For: 7.7.7.7\r\nX-Room: 7\r\n";

const UPGRADE: &str = "Connection: Upgrade, X-Real-IP\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn what_a_stranger_says_of_itself_can_be_dropped_on_every_way() {
    for seen in on_every_way("forwarding: { strangers: drop }\n", [127, 0, 9, 1], CLAIMS).await {
        assert_eq!(seen.head.all("x-forwarded-for"), ["127.0.9.1"]);
        assert_eq!(
            (seen.head.all("x-forwarded-proto"), seen.head.all("x-forwarded-host")),
            (vec!["http"], vec!["lab"])
        );
        assert_eq!(seen.head.get("x-room").as_deref(), Some("7"));
        for name in
            ["x-real-ip", "forwarded", "x-forwarded-port", "x-forwarded-prefix", "x-client-ip", "true-client-ip"]
        {
            assert_eq!(seen.head.get(name), None, "{name}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxys_word_stays_where_that_of_strangers_is_dropped() {
    for seen in on_every_way("forwarding: { strangers: drop }\n", [127, 8, 0, 1], CLAIMS).await {
        assert_eq!(seen.head.all("x-forwarded-for"), ["6.6.6.6, 7.7.7.7, 127.8.0.1"]);
        assert_eq!(seen.head.get("forwarded").as_deref(), Some("for=6.6.6.6;proto=https"));
        // A `Connection` that lists it takes nothing away.
        assert_eq!(seen.head.get("x-real-ip").as_deref(), Some("6.6.6.6"));
        assert_eq!(seen.head.get("x-forwarded-port").as_deref(), Some("443"));
    }
}

#[tokio::test]
async fn a_strangers_word_goes_on_where_nothing_else_is_said() {
    for seen in on_every_way("", [127, 0, 9, 1], CLAIMS).await {
        assert_eq!(seen.head.all("x-forwarded-for"), ["6.6.6.6, 7.7.7.7, 127.0.9.1"]);
        assert_eq!(seen.head.get("x-real-ip").as_deref(), Some("6.6.6.6"));
        assert_eq!(seen.head.get("forwarded").as_deref(), Some("for=6.6.6.6;proto=https"));
    }
}

#[tokio::test]
async fn forwarded_is_written_on_every_way() {
    let chain = "for=6.6.6.6;proto=https, for=127.0.9.1;host=lab;proto=http";
    for (keys, expected) in [
        ("forwarding: { forwarded: write }\n", chain),
        ("forwarding: { forwarded: write, strangers: drop }\n", "for=127.0.9.1;host=lab;proto=http"),
    ] {
        for seen in on_every_way(keys, [127, 0, 9, 1], CLAIMS).await {
            assert_eq!(seen.head.all("forwarded"), [expected], "{keys}");
        }
        for seen in on_every_way(keys, [127, 0, 9, 1], "").await {
            assert_eq!(seen.head.all("forwarded"), ["for=127.0.9.1;host=lab;proto=http"], "{keys}");
        }
    }
}

/// A gateway that writes `Forwarded` is understood by one behind it that reads it.
#[tokio::test]
async fn two_gateways_behind_each_other_tell_the_client_by_forwarded() {
    let backend = Named::start().await;
    let yaml = one_upstream(&[backend.address()], "    health: off\n");
    let inner = Gateway::start(&format!("trusted_proxies: [127.0.0.1]\n{yaml}")).await;
    let yaml = one_upstream(&[inner.address()], "    health: off\n");
    let outer = Gateway::start(&format!("forwarding: {{ forwarded: write, strangers: drop }}\n{yaml}")).await;
    let mut client = Wire::connect_from(Ipv4Addr::new(127, 0, 9, 1), outer.address()).await;
    assert_eq!(client.get("/", "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n").await.status(), 200);
    let line = inner.access.find(&[" request "]).await;
    assert!(line.contains(" client=127.0.9.1 "), "{line}");
}
