//! A backend's answers other than 101: relayed whole, on a connection that lives on.

use crate::wire::{Manual, Wire, gateway, switching, upgrade};

/// A case: the backend's answer, whether it then closes, and the status, a header and the body that the client must
/// see.
struct Case {
    answer: &'static str,
    closes: bool,
    status: u16,
    header: (&'static str, Option<&'static str>),
    body: &'static str,
}

const CASES: [Case; 10] = [
    Case {
        answer: "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 12\r\n\r\n\
                 who are you?",
        closes: false,
        status: 401,
        header: ("www-authenticate", Some("Basic realm=\"x\"")),
        body: "who are you?",
    },
    Case {
        answer: "HTTP/1.1 302 Found\r\nLocation: https://example.com/login\r\nContent-Length: 0\r\n\r\n",
        closes: false,
        status: 302,
        header: ("location", Some("https://example.com/login")),
        body: "",
    },
    Case {
        answer: "HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nno su\r\n6;ext=1\r\nch roo\r\n1\r\n\
                 m\r\n0\r\nX-Trailer: 1\r\n\r\n",
        closes: false,
        status: 404,
        header: ("content-length", None),
        body: "no such room",
    },
    Case {
        answer: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1\r\n\r\nok",
        closes: false,
        status: 200,
        header: ("set-cookie", Some("a=1")),
        body: "ok",
    },
    Case {
        answer: "HTTP/1.1 204 No Content\r\n\r\n",
        closes: false,
        status: 204,
        header: ("transfer-encoding", None),
        body: "",
    },
    Case {
        answer: "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
        closes: false,
        status: 304,
        header: ("etag", Some("\"x\"")),
        body: "",
    },
    Case {
        answer: "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\nto the end of the stream",
        closes: true,
        status: 503,
        header: ("retry-after", Some("7")),
        body: "to the end of the stream",
    },
    Case {
        answer: "HTTP/1.0 403 Forbidden\r\n\r\nold",
        closes: true,
        status: 403,
        header: ("connection", Some("keep-alive")),
        body: "old",
    },
    Case {
        answer: "HTTP/1.1 400 Bad Request\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nboth\r\n0\r\n\
                 \r\n",
        closes: false,
        status: 400,
        header: ("content-length", None),
        body: "both",
    },
    Case {
        answer: "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 14\r\n\
                 Content-Length: 1\r\nConnection: close\r\n\r\n!",
        closes: true,
        status: 426,
        header: ("sec-websocket-version", Some("14")),
        body: "!",
    },
];

#[tokio::test]
async fn an_answer_other_than_101_is_relayed_whole_and_the_connection_used_again() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    for case in &CASES {
        client.send(upgrade("")).await;
        let mut server = backend.next().await;
        server.head().await;
        server.send(case.answer).await;
        if case.closes {
            server.finish().await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.body.as_str()), (case.status, case.body), "{answer:?}");
        assert_eq!(answer.field(case.header.0), case.header.1, "{answer:?}");
        assert!(answer.field("x-request-id").is_some());
        server.gone().await;
    }
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "), "and after all that it can still become a tunnel");
    let address = backend.address();
    let failures = gateway.metric("longhaul_backend_failures_total{kind=\"handshake\",upstream=\"u\"}").await;
    assert_eq!(failures, 0.0, "an answer is no fault");
    gateway.metric_becomes(&format!("longhaul_backend_load{{backend=\"{address}\",upstream=\"u\"}}"), 1.0).await;
    gateway.access.find_nth(&[" request ", " method=GET "], CASES.len() - 1).await;
    gateway.access.find(&[" tunnel_open "]).await;
    assert_eq!(gateway.access.count(&[" request ", " method=GET "]), CASES.len());
}

#[tokio::test]
async fn after_a_refused_upgrade_the_connection_serves_plain_http_too() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.body, "no");
    client.send("POST /login HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\nsecret").await;
    let mut server = backend.next().await;
    assert!(server.head().await.starts_with("POST /login "));
    assert_eq!(server.exactly(6).await, b"secret");
    server.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nwelcome").await;
    assert_eq!(client.answer().await.body, "welcome");
}

#[tokio::test]
async fn a_refusals_large_body_is_relayed_whole() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    let body: String = (0..500_000).map(|number| char::from(b'a' + (number % 26) as u8)).collect();
    let writer = tokio::spawn({
        let body = body.clone();
        async move { server.send(format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await }
    });
    let answer = client.answer().await;
    assert!(answer.status() == 403 && answer.body == body);
    writer.await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_is_cut_short_is_cut_short_for_the_client_too() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    for answer in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        let mut server = backend.next().await;
        server.head().await;
        server.send(format!("HTTP/1.1 403 No\r\n{answer}")).await;
        server.finish().await;
        let all = String::from_utf8(client.rest().await).unwrap();
        assert!(!all.ends_with("0\r\n\r\n") && all.split("\r\n\r\n").nth(1).unwrap_or_default().len() < 10, "{all}");
    }
}

#[tokio::test]
async fn frames_glued_to_a_request_that_is_refused_are_never_taken_for_a_request() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("") + "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n").await;
    let mut server = backend.next().await;
    server.head().await;
    server.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await;
    assert_eq!(client.answer().await.body, "no");
    assert_eq!(client.rest().await, b"", "the connection is over: what came with the request may have been frames");
    assert_eq!(backend.backend.accepted(), 1);
}
