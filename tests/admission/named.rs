//! Clients that a trusted proxy names: by `X-Forwarded-For`, and by a PROXY header.

use std::net::{Ipv4Addr, SocketAddr};

use longhaul::proxy_protocol::{ProxyVersion, write};
use tokio::io::AsyncWriteExt;

use crate::guest::Guest;
use crate::lab::{LISTENERS, Lab, Listener, Setup, assert_refused, moment};
use crate::support::within;

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 30, 0, 1);
const FOR_ONE: &str = "X-Forwarded-For: 203.0.113.1\r\n";
const FOR_ANOTHER: &str = "X-Forwarded-For: 203.0.113.2\r\n";

fn setup<'s>(limits: &'s str, listeners: &'s str) -> Setup<'s> {
    Setup { limits, listeners, top: "trusted_proxies: [127.30.0.0/16]\n", ..Setup::default() }
}

#[tokio::test]
async fn requests_through_a_trusted_proxy_count_for_the_client_that_it_names() {
    let lab = Lab::set_up(&setup("{ per_client: { connections: 6 } }", "")).await;
    let mut company = lab.company().await;
    // More connections than one client may have: they are the proxy's.
    let mut idle = Vec::new();
    for number in 0..6 {
        idle.push(lab.connect(PROXY, LISTENERS[number % 2]).await.unwrap());
    }
    let mut waiting = Vec::new();
    for listener in LISTENERS.into_iter().cycle().take(6) {
        let mut guest = lab.connect(PROXY, listener).await.unwrap();
        guest.send(format!("GET /never HTTP/1.1\r\nHost: a.test\r\n{FOR_ONE}\r\n")).await;
        waiting.push(guest);
    }
    let asked = async {
        while lab.cast.asked("/never") < 6 {
            moment().await;
        }
    };
    within("requests at the backend", asked).await;
    for guest in &mut idle {
        let answer = guest.get(FOR_ONE).await.expect("an answer");
        assert_refused(&answer, 429);
        assert_ne!(answer.field("connection"), Some("close"), "the connection is not this client's alone");
        assert_eq!(guest.get(FOR_ANOTHER).await.expect("an answer").status(), 200);
        assert_eq!(guest.get("").await.expect("an answer").status(), 200, "a request of the proxy's own");
    }
    assert_refused(&idle[0].shake("/", FOR_ONE).await.expect("an answer"), 429);
    assert_refused(&idle[1].shake("/hooked", FOR_ONE).await.expect("an answer"), 429);
    lab.refused_becomes("client_connections", 8.0).await;
    lab.gateway.access.find(&[" client=203.0.113.1 ", " status=429 ", " error=client_connections"]).await;
    company.is_served_anew(&lab).await;
    drop(waiting);
    let again = async {
        while idle[2].get(FOR_ONE).await.expect("an answer").status() == 429 {
            moment().await;
        }
    };
    within("room for another", again).await;
}

#[tokio::test]
async fn tunnels_through_a_trusted_proxy_count_for_the_client_that_it_names() {
    let lab = Lab::set_up(&setup("{ per_client: { tunnels: 2 } }", "")).await;
    let mut tunnels = Vec::new();
    for (listener, target) in [(Listener::Plain, "/"), (Listener::Tls, "/hooked")] {
        let mut guest = lab.connect(PROXY, listener).await.unwrap();
        guest.open(target, FOR_ONE).await;
        tunnels.push(guest);
    }
    for target in ["/", "/hooked"] {
        let mut guest = lab.connect(PROXY, Listener::Plain).await.unwrap();
        assert_refused(&guest.shake(target, FOR_ONE).await.expect("an answer"), 429);
        let mut guest = lab.connect(PROXY, Listener::Plain).await.unwrap();
        guest.open(target, FOR_ANOTHER).await;
        tunnels.push(guest);
    }
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
}

/// A connection whose PROXY header names a client.
async fn named(lab: &Lab, client: &str, listener: Listener) -> std::io::Result<Guest> {
    let mut header = Vec::new();
    let client: SocketAddr = format!("{client}:4711").parse().unwrap();
    write(ProxyVersion::V2, client, "192.0.2.1:443".parse().unwrap(), &mut header);
    let mut stream = lab.silent(PROXY, listener).await;
    stream.write_all(&header).await.unwrap();
    Guest::over(stream, lab.tls(listener)).await
}

#[tokio::test]
async fn a_connection_counts_for_the_client_that_its_proxy_header_names() {
    let listeners = "    proxy_protocol: optional\n    deny: [203.0.113.66]\n";
    let lab = Lab::set_up(&setup("{ per_client: { connections: 6 } }", listeners)).await;
    let mut company = lab.company().await;
    for listener in LISTENERS {
        let mut held = Vec::new();
        for _ in 0..6 {
            let mut guest = named(&lab, "203.0.113.1", listener).await.unwrap();
            assert_eq!(guest.get("").await.expect("an answer").status(), 200);
            held.push(guest);
        }
        let mut seventh = named(&lab, "203.0.113.1", listener).await.unwrap();
        assert_refused(&seventh.get("").await.expect("an answer"), 429);
        let mut another = named(&lab, "203.0.113.2", listener).await.unwrap();
        assert_eq!(another.get("").await.expect("an answer").status(), 200);
        company.is_served_anew(&lab).await;
        drop(held);
        let again = async {
            loop {
                let mut guest = named(&lab, "203.0.113.1", listener).await.unwrap();
                match guest.get("").await {
                    Some(answer) if answer.status() == 200 => return,
                    _ => moment().await,
                }
            }
        };
        within("room for another", again).await;
    }
    // Closed before TLS.
    let denied = named(&lab, "203.0.113.66", Listener::Tls).await;
    assert!(denied.is_err());
    let mut denied = named(&lab, "203.0.113.66", Listener::Plain).await.unwrap();
    assert!(denied.get("").await.is_none());
    // An IPv4 client beside an IPv6 destination comes as a mapped address.
    let mut header = Vec::new();
    let (client, destination) = ("203.0.113.66:4711".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap());
    write(ProxyVersion::V2, client, destination, &mut header);
    let mut stream = lab.silent(PROXY, Listener::Plain).await;
    stream.write_all(&header).await.unwrap();
    assert!(Guest::over(stream, None).await.unwrap().get("").await.is_none());
    lab.refused_becomes("address", 3.0).await;
}
