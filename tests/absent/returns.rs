//! Backends that return: at their address or another one, found by a check or named by their source.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::ground::{Ground, answer, back_at, of_outcome};
use crate::lab::{Tunnel, backend, get, longhaul};
use crate::support::{Backend, Wire};

const LONG: &str = "{ hold: 1h }";

#[tokio::test]
async fn handshakes_and_requests_wait_on_every_path_and_other_clients_do_not() {
    let mut ground = Ground::new(LONG, "").await;
    let address = ground.stop_x().await;
    let key = ground.to_x.clone();
    let (handshake, request) = (ground.opens(&key), ground.asks(&key));
    // A worker leaves this target, and what comes behind a first request, to Pingora.
    let by_session = ground.opens(&format!("{key}&["));
    let mut second = Wire::connect(ground.gateway.address()).await;
    assert_eq!(second.get(&format!("/?k={}", ground.to_y), "").await.status(), 200);
    let body = "POST /?k=KEY HTTP/1.1\r\nHost: lab\r\nContent-Length: 5\r\n\r\n".replace("KEY", &key);
    second.send(body).await;
    ground.held(4).await;
    let (status, met) = get(ground.gateway.address(), &format!("/?k={}", ground.to_y)).await;
    assert_eq!((status, met), (200, ground.y.address.to_string()));
    assert_eq!(Tunnel::open(ground.gateway.address(), &ground.to_y).await.backend, ground.y.address);

    ground.x = back_at(address).await;
    for tunnel in [handshake, by_session] {
        let mut tunnel = answer(tunnel).await;
        assert_eq!(tunnel.backend, address);
        tunnel.echo("hello").await;
    }
    assert_eq!(answer(request).await, (200, address.to_string()));
    second.send("hello").await;
    assert_eq!(second.answer().await.address(), address);
    ground.held(0).await;
    assert_eq!(ground.ended("returned").await, 4.0);
    assert_eq!(ground.gateway.metric("longhaul_failovers_total{upstream=\"a\"}").await, 0.0);
    assert_eq!(ground.gateway.metric("longhaul_hold_wait_seconds_count{upstream=\"a\"}").await, 4.0);
}

#[tokio::test]
async fn those_who_waited_stand_in_line_in_order_of_arrival() {
    // One worker, so that those who have their turns together reach the backend in the order of their turns.
    let config = crate::ground::holding("push", LONG, "    admission: { handshakes: 2/s, burst: 1 }\n");
    let mut ground = Ground::of(&config.replace("threads: 2", "threads: 1")).await;
    let address = ground.stop_x().await;
    let mut clients = Vec::new();
    for number in 0..6 {
        clients.push(ground.opens(&format!("{}&n={number}", ground.to_x)));
        ground.held(number + 1).await;
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (places, records) = (AtomicUsize::new(0), Arc::clone(&seen));
    ground.x = Backend::start_at(address, move |stream| {
        // Called in the order of accepting, and the request is read at any time after.
        let place = places.fetch_add(1, Ordering::SeqCst);
        note_number(stream, place, Arc::clone(&records))
    })
    .await;
    for client in clients {
        assert_eq!(answer(client).await.backend, address);
    }
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    let mut numbers: Vec<usize> = seen.into_iter().map(|(_, number)| number).collect();
    // All are woken together, the oldest first, and whichever thread is quickest has the first turn. The others stand
    // in line by the time at which they came.
    let first = numbers.remove(0);
    assert_eq!(numbers, (0..6).filter(|&number| number != first).collect::<Vec<_>>());
}

/// Takes a handshake, and notes the number `n` of its query beside the place of its connection.
async fn note_number(stream: TcpStream, place: usize, records: Arc<Mutex<Vec<(usize, usize)>>>) {
    let address = stream.local_addr().unwrap();
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let note = |request: &Request, response: Response| {
        let number = request.uri().query().unwrap().rsplit('=').next().unwrap().parse().unwrap();
        records.lock().unwrap().push((place, number));
        Ok(response)
    };
    // A health check says nothing.
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, note).await else { return };
    if socket.send(address.to_string().into()).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

#[tokio::test]
async fn a_member_that_is_gone_is_waited_for_and_met_at_another_address() {
    let ground = Ground::new(LONG, "").await;
    let gateway = &ground.gateway;
    let (code, said) = longhaul(gateway, &["members", "a", "remove", "x"]).await;
    assert!(code == Some(0) && said.contains("- backend x"), "{said}");
    let (handshake, request) = (ground.opens(&ground.to_x), ground.asks(&ground.to_x));
    ground.held(2).await;
    let (_, status) = longhaul(gateway, &["status"]).await;
    assert!(status.contains("absent") && status.contains("2 clients waiting for it"), "{status}");
    assert!(status.contains("1 member by push"), "{status}");
    let key = format!("/?k={}", ground.to_x);
    let (code, way) = longhaul(gateway, &["where", "--running", "--ip", "127.0.0.1", "--path", &key]).await;
    assert!(code == Some(0) && way.contains("waits     for x"), "{way}");

    let elsewhere = backend().await;
    let add = format!("x={}", elsewhere.address);
    assert_eq!(longhaul(gateway, &["members", "a", "add", &add]).await.0, Some(0));
    assert_eq!(answer(handshake).await.backend, elsewhere.address);
    assert_eq!(answer(request).await, (200, elsewhere.address.to_string()));
    assert_eq!(ground.ended("returned").await, 2.0);
}

#[tokio::test]
async fn a_leaving_member_is_waited_for_until_it_is_back() {
    let ground = Ground::new(LONG, "    drain_window: 0s\n").await;
    let mut before = Tunnel::open(ground.gateway.address(), &ground.to_x).await;
    let tell = async |arguments: &[&str]| {
        let (code, said) = longhaul(&ground.gateway, &[&["members", "a"], arguments].concat()).await;
        assert_eq!(code, Some(0), "{said}");
    };
    tell(&["leave", "x"]).await;
    assert_eq!(before.closed().await, 1012);
    let again = ground.opens(&ground.to_x);
    ground.held(1).await;
    tell(&["remove", "x"]).await;
    let late = ground.asks(&ground.to_x);
    ground.held(2).await;
    let elsewhere = backend().await;
    tell(&["add", &format!("x={}", elsewhere.address)]).await;
    assert_eq!(answer(again).await.backend, elsewhere.address);
    assert_eq!(answer(late).await.0, 200);
}

#[tokio::test]
async fn a_connect_that_is_refused_is_waited_out_before_checks_know_of_it() {
    let config = crate::ground::holding("push", LONG, "").replace("interval: 500ms", "interval: 2s");
    let mut ground = Ground::of(&config.replace("fall: 2", "fall: 100")).await;
    let address = ground.x.address;
    let stopped = std::mem::replace(&mut ground.x, backend().await);
    stopped.stop().await;
    let (request, handshake) = (ground.asks(&ground.to_x), ground.opens(&ground.to_x));
    ground.held(2).await;
    assert_eq!(ground.gateway.metric(&crate::ground::of_backend("up", "x")).await, 1.0);
    ground.x = back_at(address).await;
    assert_eq!(answer(request).await, (200, address.to_string()));
    assert_eq!(answer(handshake).await.backend, address);
    assert_eq!(ground.gateway.metric("longhaul_failovers_total{upstream=\"a\"}").await, 0.0);
    ground.gateway.metric_becomes(&of_outcome("returned"), 2.0).await;
}

#[tokio::test]
async fn clients_without_a_key_wait_where_no_backend_is_left() {
    let mut ground = Ground::new(LONG, "").await;
    let gateway = ground.gateway.address();
    let y = ground.y.address;
    assert_eq!(
        longhaul(&ground.gateway, &["members", "a", "set", &format!("x={}", ground.x.address)]).await.0,
        Some(0)
    );
    let address = ground.stop_x().await;
    // `y` is gone and named: it is waited for as well, and went before `x`.
    let client = tokio::spawn(async move { get(gateway, "/").await });
    ground.held(1).await;
    ground.x = back_at(address).await;
    assert_eq!(answer(client).await, (200, address.to_string()));
    assert_ne!(y, address);
}
