//! `limits` of a listener and of a route: what each of them may have at once.

use std::net::Ipv4Addr;

use crate::guest::Guest;
use crate::lab::{LISTENERS, Lab, Listener, Setup, assert_refused, moment, stranger};
use crate::support::within;

/// The company has five on each listener, so that five are left.
const LISTENER: Setup<'_> =
    Setup { limits: "", listeners: "    limits: { connections: 10 }\n", routes: "", narrow: "", top: "threads: 2\n" };
/// The company has six tunnels of `/`.
const ROUTE: Setup<'_> = Setup {
    limits: "",
    listeners: "",
    routes: "    limits: { tunnels: 8, requests: 3 }\n",
    narrow: "",
    top: "threads: 2\n",
};
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 6, 6);

/// The other listener.
fn other(listener: Listener) -> Listener {
    if listener == Listener::Plain { Listener::Tls } else { Listener::Plain }
}

/// Requests that their backend never answers, once it has all of them.
async fn under_way(lab: &Lab, count: usize) -> Vec<Guest> {
    let (before, mut guests) = (lab.cast.asked("/never"), Vec::new());
    for number in 0..count {
        let mut guest = lab.connect(stranger(number), LISTENERS[number % 2]).await.unwrap();
        guest.send("GET /never HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        guests.push(guest);
    }
    let asked = async {
        while lab.cast.asked("/never") < before + count {
            moment().await;
        }
    };
    within("requests at the backend", asked).await;
    guests
}

#[tokio::test]
async fn a_listener_that_is_full_refuses_and_the_other_one_serves() {
    for full in LISTENERS {
        let lab = Lab::set_up(&LISTENER).await;
        let mut company = lab.company().await;
        let mut crowd = Vec::new();
        for number in 0..4 {
            crowd.push(lab.stays(stranger(number), full).await);
        }
        let mut tunnel = lab.open(stranger(4), full, "/hooked").await;
        for number in 0..3 {
            let answer = lab.get(stranger(100 + number), full).await;
            assert_refused(&answer, 503);
            assert_eq!(answer.field("connection"), Some("close"));
            assert_refused(&lab.shake(stranger(200 + number), full, "/").await, 503);
            assert_eq!(lab.get(stranger(100 + number), other(full)).await.status(), 200);
            company.is_served().await;
        }
        tunnel.echoes().await;
        lab.refused_becomes("listener_connections", 6.0).await;
        let client = format!(" client={} ", stranger(202));
        let line = lab.gateway.access.find(&[" request ", &client, " status=503 "]).await;
        assert!(line.contains(" error=listener_connections"), "{line}");
        drop(crowd);
        lab.opened(stranger(300), full).await;
        company.is_served().await;
    }
}

#[tokio::test]
async fn a_route_with_as_many_tunnels_as_it_may_have_refuses_one_more_by_either_driver() {
    let lab = Lab::set_up(&ROUTE).await;
    let mut company = lab.company().await;
    let mut tunnels = Vec::new();
    for (target, count) in [("/", 2), ("/hooked", 8)] {
        for number in 0..count {
            tunnels.push(lab.open(CLIENT, LISTENERS[number % 2], target).await);
        }
    }
    for listener in LISTENERS {
        for target in ["/", "/hooked"] {
            assert_refused(&lab.shake(CLIENT, listener, target).await, 503);
        }
        lab.open(CLIENT, listener, "/inspected").await.echoes().await;
        assert_eq!(lab.get(CLIENT, listener).await.status(), 200, "requests are not tunnels");
        company.is_served().await;
    }
    lab.refused_becomes("route_tunnels", 4.0).await;
    for route in [" route=\"* /\"", " route=\"* /hooked\""] {
        let line = lab.gateway.access.find(&[" request ", " status=503 ", route]).await;
        assert!(line.contains(" error=route_tunnels"), "{line}");
    }
    assert_eq!(lab.cast.asked("/hooked"), 8, "no backend is asked for one that is refused");
    tunnels.remove(0);
    lab.opened(CLIENT, Listener::Plain).await;
    for tunnel in &mut tunnels {
        tunnel.echoes().await;
    }
    company.is_served().await;
}

#[tokio::test]
async fn a_route_with_as_many_requests_as_it_may_have_refuses_one_more_and_keeps_the_connection() {
    let mut lab = Lab::start("").await;
    let mut company = lab.company().await;
    // Before the limit, so that requests whose answers have just been sent do not take their places.
    let waiting = under_way(&lab, 3).await;
    lab.reload(&ROUTE).await;
    for listener in LISTENERS {
        let mut guest = lab.connect(CLIENT, listener).await.unwrap();
        for _ in 0..3 {
            let answer = guest.get("").await.expect("an answer");
            assert_refused(&answer, 503);
            assert_ne!(answer.field("connection"), Some("close"), "another route may have room");
        }
        lab.open(CLIENT, listener, "/").await.echoes().await;
        company.talks().await;
    }
    lab.refused_becomes("route_requests", 6.0).await;
    let line = lab.gateway.access.find(&[" request ", " status=503 ", " route=\"* /\""]).await;
    assert!(line.contains(" error=route_requests"), "{line}");
    drop(waiting);
    lab.served(CLIENT, Listener::Plain).await;
    lab.reload(&Setup::default()).await;
    company.is_served_anew(&lab).await;
}

#[tokio::test]
async fn a_reload_and_an_upgrade_keep_the_counts_and_put_other_limits_in_force() {
    let mut lab = Lab::start("").await;
    let mut tunnels = Vec::new();
    for number in 0..6 {
        tunnels.push(lab.open(CLIENT, LISTENERS[number % 2], ["/", "/", "/hooked"][number % 3]).await);
    }
    let routes = Setup { routes: "    limits: { tunnels: 2 }\n", ..Setup::default() };
    let listeners = Setup { listeners: "    limits: { connections: 3 }\n", ..Setup::default() };
    for is_after_an_upgrade in [false, true] {
        lab.reload(&routes).await;
        for (listener, target) in [(Listener::Plain, "/"), (Listener::Tls, "/"), (Listener::Plain, "/hooked")] {
            assert_refused(&lab.shake(CLIENT, listener, target).await, 503);
        }
        lab.reload(&listeners).await;
        for listener in LISTENERS {
            assert_refused(&lab.get(CLIENT, listener).await, 503);
        }
        for tunnel in &mut tunnels {
            tunnel.echoes().await;
        }
        if !is_after_an_upgrade {
            lab.upgrade().await;
        }
    }
    // One of `/` is left, on the plain listener.
    tunnels.truncate(1);
    for listener in LISTENERS {
        lab.opened(CLIENT, listener).await;
    }
    lab.reload(&routes).await;
    lab.opened(CLIENT, Listener::Tls).await;
    tunnels[0].echoes().await;
}
