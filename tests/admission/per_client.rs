//! `limits.per_client`: what one network of clients may take.

use std::net::Ipv4Addr;

use crate::lab::{LISTENERS, Lab, Listener, Setup, assert_refused, moment, stranger};
use crate::support::within;

const GREEDY: Ipv4Addr = Ipv4Addr::new(127, 66, 6, 6);

#[tokio::test]
async fn a_client_with_too_many_connections_is_refused_and_nobody_else() {
    let lab = Lab::start("{ per_client: { connections: 5 } }").await;
    let mut company = lab.company().await;
    let mut held = Vec::new();
    for number in 0..5 {
        held.push(lab.stays(GREEDY, LISTENERS[number % 2]).await);
    }
    for listener in LISTENERS {
        let answer = lab.get(GREEDY, listener).await;
        assert_refused(&answer, 429);
        assert_eq!(answer.field("connection"), Some("close"));
        assert_refused(&lab.shake(GREEDY, listener, "/").await, 429);
        assert_refused(&lab.shake(GREEDY, listener, "/hooked").await, 429);
        company.is_served_anew(&lab).await;
    }
    lab.refused_becomes("client_connections", 6.0).await;
    let client = format!(" client={GREEDY} ");
    let line = lab.gateway.access.find(&[" request ", &client, " status=429 "]).await;
    assert!(line.contains(" error=client_connections"), "{line}");
    drop(held);
    lab.served(GREEDY, Listener::Plain).await;
    assert_eq!(lab.get(GREEDY, Listener::Tls).await.status(), 200);
}

#[tokio::test]
async fn a_connection_that_became_a_tunnel_makes_room_for_another() {
    let lab = Lab::start("{ per_client: { connections: 1 } }").await;
    let mut tunnels = Vec::new();
    for number in 0..20 {
        tunnels.push(lab.open(GREEDY, LISTENERS[number % 2], "/").await);
    }
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
    assert_eq!(lab.refused("client_connections").await, 0.0);
    assert_eq!(lab.gateway.metric("longhaul_client_networks").await, 1.0, "all are of one network");
    drop(tunnels);
    lab.gateway.metric_becomes("longhaul_client_networks", 0.0).await;
}

#[tokio::test]
async fn a_client_with_too_many_tunnels_is_refused_the_next_handshake_by_either_driver() {
    let lab = Lab::start("{ per_client: { tunnels: 4 } }").await;
    let mut company = lab.company().await;
    let mut tunnels = Vec::new();
    for (listener, target) in LISTENERS.into_iter().flat_map(|listener| [(listener, "/"), (listener, "/hooked")]) {
        tunnels.push(lab.open(GREEDY, listener, target).await);
    }
    for listener in LISTENERS {
        for target in ["/", "/hooked"] {
            assert_refused(&lab.shake(GREEDY, listener, target).await, 429);
        }
        assert_eq!(lab.get(GREEDY, listener).await.status(), 200, "requests are not tunnels");
    }
    company.is_served_anew(&lab).await;
    lab.refused_becomes("client_tunnels", 4.0).await;
    let client = format!(" client={GREEDY} ");
    for route in [" route=\"* /\"", " route=\"* /hooked\""] {
        let line = lab.gateway.access.find(&[" request ", &client, " status=429 ", route]).await;
        assert!(line.contains(" error=client_tunnels"), "{line}");
    }
    assert_eq!(lab.cast.asked("/hooked"), 2, "no backend is asked for one that is refused");
    tunnels.pop();
    lab.opened(GREEDY, Listener::Plain).await;
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
}

/// All at the same moment: none of them is open when the last one asks.
#[tokio::test]
async fn handshakes_that_come_together_open_no_more_tunnels_than_allowed() {
    let lab = Lab::start("{ per_client: { tunnels: 3 } }").await;
    let mut guests = Vec::new();
    for number in 0..12 {
        let mut guest = lab.connect(GREEDY, LISTENERS[number % 2]).await.unwrap();
        guest.send(crate::cast::upgrade_to("/never")).await;
        guests.push(guest);
    }
    // The backend of this path never answers.
    lab.refused_becomes("client_tunnels", 9.0).await;
    // Those that are let through are on their way to it for a moment.
    let asked = async {
        while lab.cast.asked("/never") < 3 {
            moment().await;
        }
    };
    within("requests at the backend", asked).await;
    assert_eq!(lab.cast.asked("/never"), 3);
    drop(guests);
    lab.opened(GREEDY, Listener::Plain).await;
}

#[tokio::test]
async fn a_client_that_shakes_hands_too_fast_is_refused_and_nobody_else() {
    let lab = Lab::start("{ per_client: { handshakes: 3/m } }").await;
    let mut company = lab.company().await;
    let shake = async |number: usize| lab.shake(GREEDY, LISTENERS[number % 2], "/").await;
    for number in 0..3 {
        assert_eq!(shake(number).await.status(), 101);
    }
    for number in 0..4 {
        assert_refused(&shake(number).await, 429);
        assert_eq!(lab.get(GREEDY, LISTENERS[number % 2]).await.status(), 200);
        company.is_served().await;
    }
    lab.open(Ipv4Addr::new(127, 20, 0, 1), Listener::Tls, "/").await.echoes().await;
    lab.refused_becomes("client_handshakes", 4.0).await;
    lab.gateway.access.find(&[" status=429 ", " error=client_handshakes"]).await;
}

#[tokio::test]
async fn clients_of_one_network_count_together() {
    let mut lab = Lab::start("{ per_client: { connections: 2, ipv4_prefix: 24 } }").await;
    let held = [lab.stays(stranger(1), Listener::Plain).await, lab.stays(stranger(2), Listener::Tls).await];
    assert_refused(&lab.get(stranger(3), Listener::Plain).await, 429);
    assert_eq!(lab.get(stranger(256), Listener::Plain).await.status(), 200, "another network");
    let limits = "{ per_client: { connections: 2, ipv4_prefix: 32 } }";
    lab.reload(&Setup { limits, ..Setup::default() }).await;
    assert_eq!(lab.get(stranger(3), Listener::Plain).await.status(), 200);
    drop(held);
}
