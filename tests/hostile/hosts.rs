//! Hosts that name none: refused by the gateway itself, logged and counted, whoever is to read the head next.

use std::net::{Ipv4Addr, SocketAddr};

use crate::cast::{both, connect};
use crate::support::{Gateway, Named};
use crate::wire::{Wire, field};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 1);

/// Values of `Host` that name no host. Pingora refuses those with `@` itself.
const NO_HOSTS: [&str; 11] = [
    "a@b",
    "user:pw@open.example.com",
    "open.example.com@",
    "@open.example.com",
    "@",
    "admin.example.com/",
    "admin.example.com, x",
    "admin.example.com..",
    "admin.example.com:x",
    "[::1",
    "caf\u{e9}.example.com",
];

/// Absolute targets whose authority is no host. Pingora refuses each, even beside a `Host` with the same text.
const NO_TARGETS: [&str; 9] = [
    "http://user@open.example.com/",
    "http://open.example.com@/",
    "http://user%40open.example.com/",
    "http://open.example.com%2f/",
    "http://open.example.com:443:80/",
    "http://[::1/",
    "http://open.example.com\\x/",
    "http:/open.example.com/",
    "ht_tp://open.example.com/",
];

/// A gateway whose second listener sends everybody to `https`.
async fn start() -> (Named, Gateway) {
    let backend = Named::start().await;
    let gateway = Gateway::start(&format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\n  - {{ address: 127.0.0.1:0, redirect: https:8443 }}\n\
         metrics:\n  address: 127.0.0.1:0\nroutes:\n  - upstream: u\n\
         upstreams:\n  u: {{ backends: [{}], health: off }}\n",
        backend.address()
    ))
    .await;
    (backend, gateway)
}

fn refused(listener: SocketAddr, reason: &str) -> String {
    format!("longhaul_refused_total{{listener=\"{listener}\",reason=\"{reason}\"}}")
}

/// Reads to the end of the connection. The bytes are one refusal of the gateway's own; returns its request id.
async fn own_refusal(client: &mut Wire, sentence: &str, request: &str) -> String {
    client.finish().await;
    let bytes = String::from_utf8(client.rest().await).unwrap();
    let (head, _) = bytes.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {bytes:?}"));
    let of = |name| field(head, name).unwrap_or_else(|| panic!("{request:?} has no {name}: {bytes:?}"));
    let (date, id) = (of("date"), of("x-request-id"));
    let body = format!("400 {sentence}\nrequest id: {id}\n");
    let expected = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Cache-Control: no-store\r\nDate: {date}\r\nConnection: close\r\nx-request-id: {id}\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(bytes, expected, "{request:?}");
    id.to_owned()
}

/// Sends each request on a connection of its own and behind a good one, to both listeners.
async fn each_is_refused(requests: &[String], reason: &str, sentence: &str) {
    let (backend, gateway) = start().await;
    let mut answered = 0;
    for (listener, status) in gateway.addresses.iter().copied().zip([200, 308]) {
        for request in requests {
            for before in ["", "GET /before HTTP/1.1\r\nHost: open.example.com\r\n\r\n"] {
                let mut client = connect(CLIENT, listener).await;
                client.send(format!("{before}{request}")).await;
                if !before.is_empty() {
                    assert_eq!(client.answer().await.status(), status, "before {request:?}");
                    answered += usize::from(status == 200);
                }
                let id = own_refusal(&mut client, sentence, request).await;
                let error = format!(" error={reason}");
                gateway.access.find(&[" request ", &format!("request_id={id} "), " status=400 ", &error]).await;
            }
        }
        gateway.metric_becomes(&refused(listener, reason), (requests.len() * 2) as f64).await;
    }
    let seen = backend.requests();
    assert!(seen.iter().all(|request| request.head.target() == "/before"), "{seen:?}");
    assert_eq!(seen.len(), answered);
}

#[tokio::test]
async fn a_host_that_names_none_is_refused_logged_and_counted_on_every_path() {
    let requests: Vec<_> = NO_HOSTS.iter().flat_map(|host| both("/one", host)).collect();
    each_is_refused(&requests, "host", "the Host header does not name a host").await;
}

/// RFC 9112 §3.2: a `Host` that does not count has to be one all the same.
#[tokio::test]
async fn a_host_that_names_none_is_refused_beside_an_absolute_target_and_by_http_1_0() {
    let mut requests = both("http://open.example.com/", "user@open.example.com").to_vec();
    requests.push("GET / HTTP/1.0\r\nHost: user@open.example.com\r\n\r\n".to_owned());
    each_is_refused(&requests, "host", "the Host header does not name a host").await;
}

#[tokio::test]
async fn an_absolute_target_whose_authority_is_no_host_is_refused_logged_and_counted_on_every_path() {
    let requests: Vec<_> = NO_TARGETS.iter().flat_map(|target| both(target, "open.example.com")).collect();
    each_is_refused(&requests, "target_malformed", "the request target is malformed").await;
}

/// An `@` has a meaning in an authority alone.
#[tokio::test]
async fn an_at_sign_elsewhere_reaches_the_backend() {
    let (backend, gateway) = start().await;
    for target in ["/@scope/name", "//user@other.example.com/x", "/?to=a@b", "/x?next=http://user@other.example.com/"] {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: open.example.com\r\n\r\n")).await;
        assert_eq!(client.answer().await.status(), 200, "{target}");
        assert_eq!(backend.last().head.target(), target);
    }
}
