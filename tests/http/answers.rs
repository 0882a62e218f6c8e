//! Answers that the gateway gives itself.

use std::net::SocketAddr;

use crate::support::{Backend, Gateway, Message, Named, Wire, one_upstream, within};

#[tokio::test]
async fn a_request_that_no_route_matches_is_a_404() {
    let config = one_upstream(&[Backend::refusing()], "").replace("- upstream", "- path: /known\n    upstream");
    let gateway = Gateway::start(&config).await;
    let answer = in_both_forms(&gateway, "/other", 404, "no route matches this host and path").await;
    assert_eq!(answer.head.get("retry-after"), None);
    gateway.metric_becomes("longhaul_unrouted_requests_total{code=\"4xx\"}", 4.0).await;
}

#[tokio::test]
async fn a_request_that_every_backend_refused_is_a_502() {
    let backends = [Backend::refusing(), Backend::refusing()];
    let gateway = Gateway::start(&one_upstream(&backends, "    health: off\n")).await;
    in_both_forms(&gateway, "/", 502, "the backend failed to answer").await;
    let line = gateway.access.find(&[" status=502 "]).await;
    assert!(line.contains(" tries=2 ") && !line.contains(" backend="), "{line}");
    gateway.metric_becomes("longhaul_requests_total{code=\"5xx\",upstream=\"u\"}", 4.0).await;
}

#[tokio::test]
async fn a_request_for_which_nobody_is_healthy_is_a_503_with_the_time_to_come_again() {
    let gateway = Gateway::start(&one_upstream(&[Backend::refusing()], "    health: { interval: 90s }\n")).await;
    let answer = in_both_forms(&gateway, "/", 503, "no backend is available").await;
    assert_eq!(answer.head.get("retry-after").unwrap(), "90");
    let line = gateway.access.find(&[" status=503 "]).await;
    assert!(line.contains(" tries=0 "), "{line}");
}

#[tokio::test]
async fn a_request_that_took_a_backend_too_long_is_a_504() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {}
    })
    .await;
    let more = "    timeouts: { read: 100ms }\n";
    let gateway = Gateway::start(&one_upstream(&[backend.address], more)).await;
    in_both_forms(&gateway, "/", 504, "the backend took too long to answer").await;
}

#[tokio::test]
async fn a_client_that_stalls_within_its_upload_is_not_waited_for() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {}
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "    timeouts: { read: 300ms }\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 10\r\n\r\nhalf").await;
    let status = client.answer().await.status();
    assert_eq!(status, 408, "the backend, which has as long to answer, is not blamed");
}

#[tokio::test]
async fn with_fail_open_backends_that_are_down_are_asked_all_the_same() {
    let backend = Named::start().await;
    let health = "    health: { check: http, expect: 204, interval: 1h }\n";
    let closed = Gateway::start(&one_upstream(&[backend.address()], health)).await;
    assert_eq!(Wire::connect(closed.address()).await.get("/", "").await.status(), 503);
    let open = Gateway::start(&one_upstream(&[backend.address()], &format!("{health}    fail_open: true\n"))).await;
    assert_eq!(Wire::connect(open.address()).await.get("/", "").await.address(), backend.address());

    let nobody = Backend::refusing();
    let open = Gateway::start(&one_upstream(&[nobody], &format!("{health}    fail_open: true\n"))).await;
    assert_eq!(Wire::connect(open.address()).await.get("/", "").await.status(), 502);
}

#[tokio::test]
async fn a_failed_request_is_the_last_of_its_connection_and_says_so() {
    let gateway = Gateway::start(&one_upstream(&[Backend::refusing()], "    health: off\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    let answer = client.get("/", "").await;
    assert_eq!((answer.status(), answer.head.all("connection")), (502, vec!["close"]));
    assert_eq!(client.rest().await, b"");
}

/// Asks for text and for JSON, with GET and with HEAD, and checks everything that an answer of our own must have.
async fn in_both_forms(gateway: &Gateway, path: &str, status: u16, message: &str) -> Message {
    let ask = async |accept: &str, id: &str| {
        let mut client = Wire::connect(gateway.address()).await;
        let answer = client.get(path, &format!("Accept: {accept}\r\nX-Request-Id: {id}\r\n")).await;
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(answer.head.all("x-request-id"), [id]);
        assert_eq!(answer.head.get("cache-control").unwrap(), "no-store");
        assert_eq!(answer.head.all("content-length"), [answer.body.len().to_string()]);
        tells_nothing_of_the_inside(&answer, gateway.address());
        answer
    };
    let text = ask("text/html, */*", "id-1").await;
    assert_eq!(text.head.get("content-type").unwrap(), "text/plain; charset=utf-8");
    assert_eq!(text.text(), format!("{status} {message}\nrequest id: id-1\n"));

    let json = ask("application/json", "id-2").await;
    assert_eq!(json.head.get("content-type").unwrap(), "application/json");
    let value: serde_json::Value = serde_json::from_slice(&json.body).unwrap();
    assert_eq!(value, serde_json::json!({ "status": status, "error": message, "request_id": "id-2" }));

    for accept in ["*/*", "application/json"] {
        let mut client = Wire::connect(gateway.address()).await;
        client
            .send(format!("HEAD {path} HTTP/1.1\r\nHost: lab\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"))
            .await;
        let head = within("an answer to HEAD", client.head()).await.unwrap().unwrap();
        assert_eq!(head.status(), status);
        assert_eq!(client.rest().await, b"", "HEAD has no body");
    }
    text
}

fn tells_nothing_of_the_inside(answer: &Message, gateway: SocketAddr) {
    let all = format!("{:?} {}", answer.head, answer.text()).to_ascii_lowercase().replace("\"connection\"", "");
    for secret in ["127.", &gateway.port().to_string(), "refused", "os error", "pingora", "connect", "upstream"] {
        assert!(!all.contains(secret), "{secret:?} is in {all}");
    }
}

#[tokio::test]
async fn a_client_with_a_long_upload_gets_to_see_its_answer() {
    let config =
        one_upstream(&[Backend::refusing()], "    health: off\n").replace("- upstream", "- path: /u\n    upstream");
    let gateway = Gateway::start(&config).await;
    for (path, status) in [("/u", 502), ("/other", 404)] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(format!("POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: 8388608\r\n\r\n")).await;
        // Sends the whole request before it reads, as many clients do.
        client.send(vec![b'x'; 8 << 20]).await;
        assert_eq!(client.answer().await.status(), status);
    }
}
