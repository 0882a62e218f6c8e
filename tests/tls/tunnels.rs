//! Tunnels by wss: in both versions, as the first request of a connection and as a later one.

use crate::client::{Client, VERSIONS, config};
use crate::lab::Lab;
use crate::support::{Echo, Named};

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_back_in_both_versions() {
    let echo = Echo::start().await;
    let lab = Lab::start(&[echo.address()]).await;
    for version in VERSIONS {
        let mut client =
            Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &[version], None)).unwrap();
        assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "));
        assert_eq!(client.hear(), echo.address().to_string());
        for number in 0..100 {
            client.say(&format!("message {number}"));
            assert_eq!(client.hear(), format!("message {number}"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_may_follow_other_requests_of_its_connection() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let yaml = crate::lab::yaml(&[echo.address()], "", "")
        .replace("routes:\n", "routes:\n  - { path: /page, upstream: page }\n")
        + &format!("  page:\n    backends: [{}]\n", named.address());
    let lab = Lab::start_yaml(&yaml).await;
    for version in VERSIONS {
        let mut client =
            Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &[version], None)).unwrap();
        for _ in 0..2 {
            assert_eq!(client.get("/page", "").1, named.address().to_string());
        }
        assert!(client.upgrade("/").starts_with("HTTP/1.1 101 "));
        assert_eq!(client.hear(), echo.address().to_string());
        client.say("hello");
        assert_eq!(client.hear(), "hello");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_refused_leaves_the_connection_usable() {
    let named = Named::start().await;
    let lab = Lab::start(&[named.address()]).await;
    let mut client = Client::connect(lab.address(), "a.test", &config(&lab.authority.pem, &VERSIONS, None)).unwrap();
    let head = client.upgrade("/");
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    client.exactly(named.address().to_string().len());
    assert_eq!(client.get("/", "").1, named.address().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_101_says_strict_transport_security_however_its_request_came() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let yaml = crate::lab::yaml(&[echo.address()], "    hsts: 365d\n", "")
        .replace("routes:\n", "routes:\n  - { path: /page, upstream: page }\n")
        + &format!("  page:\n    backends: [{}]\n", named.address());
    let lab = Lab::start_yaml(&yaml).await;
    for requests_before in [0, 1] {
        let config = config(&lab.authority.pem, &VERSIONS, None);
        let mut client = Client::connect(lab.address(), "a.test", &config).unwrap();
        for _ in 0..requests_before {
            client.get("/page", "");
        }
        let head = client.upgrade("/").to_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert_eq!(head.matches("\r\nstrict-transport-security: max-age=31536000\r\n").count(), 1, "{head}");
        assert_eq!(client.hear(), echo.address().to_string());
    }
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut plain = crate::support::Wire::connect(lab.gateway.addresses[1]).await;
    plain.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{upgrade}\r\n")).await;
    let head = plain.head().await.unwrap().unwrap();
    assert!(head.start.contains(" 101 ") && head.get("strict-transport-security").is_none(), "{}", head.start);
}
