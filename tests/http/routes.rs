//! Requests reach the upstream that their host and path lead to.

use crate::support::{Gateway, Named, Wire};

#[tokio::test]
async fn host_and_path_decide_which_upstream_gets_a_request() {
    let backends = Named::several(4).await;
    let gateway = Gateway::start(&configuration(&backends)).await;
    let mut client = Wire::connect(gateway.address()).await;
    for (host, target, expected) in [
        ("chat.example.com", "/", 0),
        ("CHAT.Example.com:8443", "/ws/room?x=1", 1),
        ("chat.example.com", "/wsx", 0),
        ("a.example.com", "/ws", 2),
        ("a.b.example.com", "/", 2),
        ("example.com", "/", 3),
        ("other.test", "/ws", 3),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.address(), backends[expected].address(), "{host}{target}");
        let request = backends[expected].last();
        assert_eq!((request.head.target(), request.head.get("host").unwrap().as_str()), (target, host));
    }
}

#[tokio::test]
async fn the_host_of_an_absolute_request_target_counts() {
    let backends = Named::several(4).await;
    let gateway = Gateway::start(&configuration(&backends)).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET http://chat.example.com/ws/a?b=c HTTP/1.1\r\nHost: chat.example.com\r\n\r\n").await;
    assert_eq!(client.answer().await.address(), backends[1].address());
    let request = backends[1].last();
    assert_eq!(request.head.all("host"), ["chat.example.com"]);
    assert_eq!(request.head.get("x-forwarded-host").unwrap(), "chat.example.com");
    // RFC 9112 §3.2.1: an origin server is asked for the path and query alone.
    assert_eq!(request.head.target(), "/ws/a?b=c");
}

#[tokio::test]
async fn a_request_that_names_two_hosts_is_refused() {
    let backends = Named::several(4).await;
    let gateway = Gateway::start(&configuration(&backends)).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: chat.example.com\r\nHost: other.test\r\n\r\n",
        "GET http://chat.example.com/ws HTTP/1.1\r\nHost: chat.example.com\r\nHost: chat.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
    ] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(request).await;
        assert_eq!(client.answer().await.status(), 400, "{request:?}");
    }
    assert!(backends.iter().all(|backend| backend.requests().is_empty()));
}

#[tokio::test]
async fn paths_are_passed_on_as_they_were_written() {
    let backends = Named::several(4).await;
    let gateway = Gateway::start(&configuration(&backends)).await;
    let mut client = Wire::connect(gateway.address()).await;
    for target in ["/a%2Fb/../c;d=1", "//ws", "/%77s", "/a?b=%20&&c?d/e"] {
        assert_eq!(client.get(target, "").await.address(), backends[3].address(), "{target}");
        assert_eq!(backends[3].last().head.target(), target);
    }
}

fn configuration(backends: &[Named]) -> String {
    let upstreams: String =
        (0..).zip(backends).map(|(n, backend)| format!("  u{n}:\n    backends: [{}]\n", backend.address())).collect();
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nroutes:
  - {{ host: chat.example.com, upstream: u0 }}
  - {{ host: chat.example.com, path: /ws, upstream: u1 }}
  - {{ host: \"*.example.com\", upstream: u2 }}
  - {{ upstream: u3 }}
upstreams:\n{upstreams}"
    )
}
