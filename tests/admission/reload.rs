//! A reload changes every limit for what comes from then on; what is open stays, and stays counted.

use std::net::Ipv4Addr;

use crate::lab::{LISTENERS, Lab, Listener, Setup, assert_refused, stranger};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 6, 6);

fn limits(limits: &str) -> Setup<'_> {
    Setup { limits, ..Setup::default() }
}

#[tokio::test]
async fn a_lower_limit_counts_what_is_open_and_ends_nothing() {
    let mut lab = Lab::start("{ per_client: { connections: off } }").await;
    let mut company = lab.company().await;
    let mut tunnels = Vec::new();
    for number in 0..4 {
        tunnels.push(lab.open(CLIENT, LISTENERS[number % 2], "/").await);
    }
    let silent = [lab.stays(CLIENT, Listener::Plain).await, lab.stays(CLIENT, Listener::Tls).await];
    lab.reload(&limits("{ per_client: { tunnels: 3 } }")).await;
    assert_refused(&lab.shake(CLIENT, Listener::Tls, "/").await, 429);
    tunnels.pop();
    lab.gateway.access.find(&[" tunnel_end "]).await;
    assert_refused(&lab.shake(CLIENT, Listener::Plain, "/hooked").await, 429);
    tunnels.pop();
    lab.opened(CLIENT, Listener::Plain).await;
    lab.reload(&limits("{ per_client: { connections: 2 } }")).await;
    assert_refused(&lab.get(CLIENT, Listener::Plain).await, 429);
    // The ten of the company, two tunnels, two that are silent.
    lab.reload(&limits("{ connections: 14 }")).await;
    assert_refused(&lab.get(stranger(1), Listener::Tls).await, 503);
    company.is_served().await;
    lab.reload(&limits("{ connections: 1000, per_client: { handshakes: 1/m } }")).await;
    assert_eq!(lab.shake(CLIENT, Listener::Plain, "/").await.status(), 101);
    assert_refused(&lab.shake(CLIENT, Listener::Plain, "/").await, 429);
    lab.reload(&limits("{}")).await;
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
    for listener in LISTENERS {
        lab.open(CLIENT, listener, "/").await.echoes().await;
    }
    company.is_served_anew(&lab).await;
    drop(silent);
}
