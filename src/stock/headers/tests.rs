//! Requests and answers under `headers`.

use http::HeaderMap;
use proptest::prelude::*;

use crate::hook::testing::{Harness, TestRequest};

use super::*;

fn harness(with: &str) -> Harness {
    Harness::new::<Headers>(with).unwrap()
}

fn all<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[tokio::test]
async fn headers_of_requests_are_removed_then_set_then_added() {
    let with = "request: { remove: [X-Debug, x-b], set: { X-A: new, X-B: b }, add: { X-A: more, X-C: c } }";
    let request = TestRequest::get("/").header("x-a", "1").header("x-a", "2").header("x-debug", "1").header("x-c", "0");
    for exchange in [harness(with).request(request.clone()).await, harness(with).upgrade(request).await] {
        assert!(exchange.continues());
        assert_eq!(all(exchange.headers(), "x-a"), ["new", "more"]);
        assert_eq!(all(exchange.headers(), "x-b"), ["b"]);
        assert_eq!(all(exchange.headers(), "x-c"), ["0", "c"]);
        assert_eq!(exchange.header("x-debug"), None);
    }
}

#[tokio::test]
async fn headers_of_answers_are_too_a_101_s_as_well() {
    let with = "response: { remove: [server], set: { X-Frame-Options: DENY }, add: { Set-Cookie: a=1 } }";
    for status in [200, 101, 404] {
        let mut exchange = harness(with).upgrade(TestRequest::get("/")).await;
        exchange.pick(([127, 0, 0, 1], 9001)).await.unwrap();
        let headers = [("server", "x"), ("x-frame-options", "ALLOW"), ("set-cookie", "b=2")];
        let response = exchange.response(status, &headers).await.unwrap();
        assert_eq!(all(response.headers(), "server"), [""; 0]);
        assert_eq!(all(response.headers(), "x-frame-options"), ["DENY"]);
        assert_eq!(all(response.headers(), "set-cookie"), ["b=2", "a=1"]);
    }
}

#[tokio::test]
async fn variables_are_those_of_the_request_on_both_ways() {
    let value =
        "${client_ip} ${host} ${path} ${route} ${upstream} ${cookie:id} ${query:q} ${header:X-In} $${host} $5 $$";
    let filled = "192.0.2.1 example.com /a%20b * / upstream c%201 1%0a2 in ${host} $5 $$";
    let with = format!("request: {{ set: {{ X-All: '{value}' }} }}\nresponse: {{ add: {{ X-All: '{value}' }} }}");
    let request = TestRequest::get("/a%20b?qq=0&q=1%0a2").cookie("id", "c%201").header("x-in", "in");
    let mut exchange = harness(&with).request(request).await;
    assert_eq!(exchange.header("x-all"), Some(filled));
    exchange.pick(([127, 0, 0, 1], 9001)).await.unwrap();
    let response = exchange.response(200, &[]).await.unwrap();
    assert_eq!(all(response.headers(), "x-all"), [filled]);
}

#[tokio::test]
async fn the_request_s_id_can_be_passed_on() {
    let exchange = harness("request: { set: { X-Trace: '${request_id}' } }").request(TestRequest::get("/")).await;
    assert!(exchange.header("x-trace").is_some_and(|id| id.len() == 32));
}

#[tokio::test]
async fn a_header_without_a_value_is_none_and_a_client_s_own_does_not_stand_in() {
    let with = "request: { set: { X-User: '${cookie:user}' }, add: { X-Room: '${query:room}' } }";
    let exchange = harness(with).request(TestRequest::get("/").header("x-user", "root")).await;
    assert!(exchange.continues());
    assert_eq!((exchange.header("x-user"), exchange.header("x-room")), (None, None));
}

#[tokio::test]
async fn values_are_those_of_the_request_as_it_came() {
    let with = "request: { remove: [X-Old], set: { X-New: '${header:x-old}', X-Swap: '${header:x-new}' } }";
    let request = TestRequest::get("/").header("x-old", "old").header("x-new", "new");
    let exchange = harness(with).request(request).await;
    let seen = ["x-old", "x-new", "x-swap"].map(|name| exchange.header(name));
    assert_eq!(seen, [None, Some("old"), Some("new")]);
}

#[tokio::test]
async fn the_host_can_be_set() {
    let exchange = harness("request: { set: { Host: inner.test } }").request(TestRequest::get("/")).await;
    assert_eq!(all(exchange.headers(), "host"), ["inner.test"]);
}

#[test]
fn what_cannot_be_changed_or_is_no_header_is_told_with_its_place() {
    for (with, complaint) in [
        (
            "request: { set: { Connection: close } }",
            "request.set.connection: `connection` cannot be changed: it belongs",
        ),
        ("request: { add: { content-length: 5 } }", "it is where the body ends"),
        ("response: { remove: [Via, Transfer-Encoding] }", "1:27: response.remove[1]: `transfer-encoding` cannot"),
        ("response: { set: { Sec-WebSocket-Protocol: x } }", "it is part of the WebSocket handshake"),
        ("request: { remove: [Keep-Alive] }", "it belongs to one connection"),
        ("request: { add: { Host: a } }", "a request has one host; it can be set"),
        ("request: { set: { X-Request-Id: a } }", "the gateway writes the request's id there"),
        ("request: { set: { X-Forwarded-Proto: https } }", "`trusted_proxies`"),
        ("request: { set: { 'X A': a } }", "1:19: request.set.`X A`: `X A` is not the name of a header"),
        ("request: { set: { X-A: a, x-a: b } }", "`x-a` is there twice"),
        ("request: { remove: ['a b'] }", "1:21: request.remove[0]: `a b` is not the name of a header"),
        ("request: { set: { X-A: '${user}' } }", "1:24: request.set.X-A: there is no variable `user`"),
        ("request: { set: { X-A: '${cookie:}' } }", "there is no variable `cookie:`"),
        ("request: { set: { X-A: '${host' } }", "a `${` has no `}`"),
        ("request: { set: { X-A: \"a\\nb\" } }", "a header has no control characters"),
        ("request: { set: [X-A] }", "request.set"),
        ("requests: {}", "did you mean `request`?"),
    ] {
        let said = Harness::new::<Headers>(with).unwrap_err().to_string();
        assert!(said.contains(complaint), "{with}\n{said}");
    }
}

proptest! {
    #[test]
    fn whatever_a_client_sends_the_request_goes_on(cookie in "[ -~]{0,20}", query in "[!-\"$-~é]{0,20}") {
        let target = format!("/{query}?b={query}");
        prop_assume!(target.parse::<http::Uri>().is_ok());
        let with = "request: { set: { X-A: '${cookie:a}', X-B: '${query:b}', X-C: '${header:cookie} ${path}' } }";
        let request = TestRequest::get(&target).header("cookie", &cookie);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let exchange = runtime.block_on(harness(with).request(request));
        prop_assert!(exchange.continues(), "{:?}", exchange.failure());
    }
}
