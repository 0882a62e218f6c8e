//! `allow` and `deny` of listeners: closed before TLS costs anything.

use crate::guest::Guest;
use crate::lab::{LISTENERS, Lab, Setup, stranger};

fn setup(listeners: &str) -> Setup<'_> {
    Setup { limits: "{}", listeners, ..Setup::default() }
}

#[tokio::test]
async fn who_may_not_connect_is_closed_before_tls_counted_and_logged_a_little() {
    let lab = Lab::set_up(&setup("    deny: [127.66.0.0/16]\n    allow: [127.0.0.0/8]\n")).await;
    let mut company = lab.company().await;
    let shaken = lab.gateway.metric("longhaul_tls_handshakes_total{kind=\"full\",protocol=\"TLSv1.3\"}").await;
    for number in 0..200 {
        let stream = lab.silent(stranger(number), LISTENERS[number % 2]).await;
        assert_eq!(Guest::over(stream, None).await.unwrap().rest().await, b"", "not a byte, of TLS neither");
    }
    company.is_served().await;
    lab.refused_becomes("address", 200.0).await;
    let after = lab.gateway.metric("longhaul_tls_handshakes_total{kind=\"full\",protocol=\"TLSv1.3\"}").await;
    let failures = lab.gateway.scrape().await;
    let failures = failures.lines().filter(|line| line.starts_with("longhaul_tls_handshake_failures_total{"));
    assert_eq!((after - shaken, failures.filter(|line| !line.ends_with(" 0")).count()), (0.0, 0));
    let first = lab.gateway.log.find(&["is closed (address): this address may not connect (client 127.66."]).await;
    assert!(first.contains(" WARN "), "{first}");
    let lines = lab.gateway.log.count(&["is closed (address): this address may not connect"]);
    assert!(lines < 100, "{lines} lines of 200 connections");
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn the_most_specific_network_decides_and_others_may_not_where_some_are_allowed() {
    let mut lab = Lab::set_up(&setup("    allow: [127.66.0.0/16]\n    deny: [127.66.1.0/24]\n")).await;
    for listener in LISTENERS {
        assert_eq!(lab.get(stranger(1), listener).await.status(), 200);
        for refused in [stranger(256), std::net::Ipv4Addr::new(127, 20, 0, 1)] {
            let stream = lab.silent(refused, listener).await;
            assert_eq!(Guest::over(stream, None).await.unwrap().rest().await, b"", "{refused}");
        }
    }
    let mut tunnel = lab.open(stranger(1), LISTENERS[1], "/").await;
    // What is open stays.
    lab.reload(&setup("    deny: [127.66.0.0/16]\n")).await;
    let stream = lab.silent(stranger(1), LISTENERS[0]).await;
    assert_eq!(Guest::over(stream, None).await.unwrap().rest().await, b"");
    assert_eq!(lab.get(std::net::Ipv4Addr::new(127, 20, 0, 1), LISTENERS[1]).await.status(), 200);
    tunnel.echoes().await;
}

#[tokio::test]
async fn a_network_of_mapped_addresses_is_the_ipv4_network() {
    let mut lab = Lab::set_up(&setup("    deny: ['::ffff:127.66.0.1', '::ffff:127.66.1.0/120']\n")).await;
    for denied in [stranger(1), stranger(256)] {
        let stream = lab.silent(denied, LISTENERS[1]).await;
        assert_eq!(Guest::over(stream, None).await.unwrap().rest().await, b"", "{denied}");
    }
    assert_eq!(lab.get(stranger(2), LISTENERS[1]).await.status(), 200);
    lab.reload(&setup("    allow: ['::ffff:127.66.0.0/112', '::ffff:127.0.0.1']\n")).await;
    assert_eq!(lab.get(stranger(1), LISTENERS[1]).await.status(), 200);
    let stream = lab.silent(std::net::Ipv4Addr::new(127, 20, 0, 1), LISTENERS[1]).await;
    assert_eq!(Guest::over(stream, None).await.unwrap().rest().await, b"");
}
