//! A successor counts the tunnels that it takes over, and refuses none of them.

use std::net::Ipv4Addr;

use crate::lab::{LISTENERS, Lab, Listener, Setup, assert_refused, stranger};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 6, 6);

#[tokio::test]
async fn tunnels_that_move_stay_counted_for_their_client_and_for_the_process() {
    let mut lab = Lab::start("{ connections: 9, per_client: { tunnels: 4 } }").await;
    let mut tunnels = Vec::new();
    for (listener, target) in LISTENERS.into_iter().flat_map(|listener| [(listener, "/"), (listener, "/hooked")]) {
        tunnels.push(lab.open(CLIENT, listener, target).await);
    }
    lab.upgrade().await;
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
    for listener in LISTENERS {
        assert_refused(&lab.shake(CLIENT, listener, "/").await, 429);
    }
    // Four tunnels and five that are silent.
    let mut silent = Vec::new();
    for number in 0..5 {
        silent.push(lab.silent(stranger(number), LISTENERS[number % 2]).await);
    }
    lab.answers(stranger(9), Listener::Plain, 503).await;
    drop(silent);
    tunnels.pop();
    lab.opened(CLIENT, Listener::Plain).await;
    lab.open(stranger(9), Listener::Tls, "/").await.echoes().await;
}

#[tokio::test]
async fn a_successor_with_lower_limits_takes_every_tunnel() {
    let mut lab = Lab::start("{}").await;
    let mut tunnels = Vec::new();
    for number in 0..6 {
        tunnels.push(lab.open(CLIENT, LISTENERS[number % 2], "/").await);
    }
    lab.write(&Setup { limits: "{ connections: 3, per_client: { tunnels: 2 } }", ..Setup::default() });
    lab.upgrade().await;
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
    assert_refused(&lab.get(stranger(1), Listener::Plain).await, 503);
    tunnels.truncate(1);
    lab.served(stranger(1), Listener::Plain).await;
    lab.open(CLIENT, Listener::Tls, "/").await.echoes().await;
}
