//! Backends that cannot take a handshake: the next one gets it, and the client learns no internal detail.

use std::net::SocketAddr;

use crate::support::{Backend, Gateway, within};
use crate::wire::{Manual, Wire, gateway, switching, upgrade};

const BY_ROOM: &str = "    affinity: [ header: x-room ]\n";

/// Asserts that a client of this room gets a tunnel, to the good backend.
async fn served(gateway: &Gateway, good: &mut Manual, room: usize) {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade(&format!("X-Room: {room}\r\n"))).await;
    let mut server = good.next().await;
    server.head().await;
    server.send(switching("")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}

/// Asserts that the good backend serves all of 20 rooms, some of which the ring gives to `bad`.
async fn costs_the_client_nothing(bad: SocketAddr, kind: &str) {
    let mut good = Manual::start().await;
    let gateway = gateway(&[bad, good.address()], BY_ROOM).await;
    for room in 0..20 {
        served(&gateway, &mut good, room).await;
    }
    let failovers = gateway.metric("longhaul_failovers_total{upstream=\"u\"}").await;
    let failures = gateway.metric(&format!("longhaul_backend_failures_total{{kind=\"{kind}\",upstream=\"u\"}}")).await;
    assert!(failovers > 0.0 && failovers < 20.0, "{failovers} of 20");
    assert_eq!(failures, failovers, "each was counted against the backend");
    let load = format!("longhaul_backend_load{{backend=\"{bad}\",upstream=\"u\"}}");
    gateway.metric_becomes(&load, 0.0).await;
}

#[tokio::test]
async fn a_backend_that_refuses_the_connection_costs_the_client_nothing() {
    costs_the_client_nothing(Backend::refusing(), "connect").await;
}

#[tokio::test]
async fn a_backend_that_closes_before_it_answers_costs_the_client_nothing() {
    let bad = Backend::start(|stream| async move {
        Wire::of(stream).head().await;
    })
    .await;
    costs_the_client_nothing(bad.address, "handshake").await;
}

#[tokio::test]
async fn a_backend_that_resets_before_it_answers_costs_the_client_nothing() {
    let bad = Backend::start(|stream| async move {
        let mut server = Wire::of(stream);
        server.head().await;
        server.send("HTTP/1.1 101 Swit").await;
        server.reset();
    })
    .await;
    costs_the_client_nothing(bad.address, "handshake").await;
}

#[tokio::test]
async fn a_backend_that_sends_garbage_costs_the_client_nothing() {
    for garbage in ["SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\r\n\r\n", "HTTP/1.1 abc\r\n\r\n"] {
        let bad = Backend::start(move |stream| async move {
            let mut server = Wire::of(stream);
            server.head().await;
            server.send(garbage).await;
            server.gone().await;
        })
        .await;
        costs_the_client_nothing(bad.address, "handshake").await;
    }
}

#[tokio::test]
async fn a_lone_backend_that_refuses_is_answered_502() {
    let gateway = gateway(&[Backend::refusing()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    assert_eq!(client.answer().await.status(), 502);
    assert_eq!(gateway.metric("longhaul_backend_failures_total{kind=\"connect\",upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn when_every_backend_sends_garbage_the_client_gets_502() {
    let mut backend = Manual::start().await;
    let gateway = gateway(&[backend.address()], "").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send("garbage\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 502);
    assert!(!answer.body.contains(&backend.address().to_string()), "no internal detail: {answer:?}");
    client.send(upgrade("")).await;
    let mut server = backend.next().await;
    server.head().await;
    server.send(switching("")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "), "the client's connection was kept");
}

#[tokio::test]
async fn a_backend_that_stays_silent_is_answered_504_once_the_handshake_has_lasted_too_long() {
    let [mut silent, other] = [Manual::start().await, Manual::start().await];
    let limits = format!("    timeouts: {{ handshake: 1s }}\n{BY_ROOM}");
    let gateway = gateway(&[silent.address(), other.address()], &limits).await;
    let mut room = 0;
    // The other one never answers either, but only a room of the first shows that nobody else is asked.
    loop {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade(&format!("X-Room: {room}\r\n"))).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 504);
        assert!(answer.body.starts_with("504 the backend took too long to answer\n"));
        let asked = async {
            while silent.backend.accepted() + other.backend.accepted() <= room {
                tokio::task::yield_now().await;
            }
        };
        within("the connection to a backend", asked).await;
        if silent.backend.accepted() > 0 {
            break;
        }
        room += 1;
    }
    assert_eq!(other.backend.accepted(), room, "one try each: the limit holds for all tries together");
    let mut server = silent.next().await;
    server.head().await;
    assert_eq!(server.rest().await, b"", "the backend is let go");
    gateway.log.find(&["no answer to the handshake within 1s"]).await;
    let load = format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", silent.address());
    gateway.metric_becomes(&load, 0.0).await;
}

#[tokio::test]
async fn a_backend_silent_for_the_read_timeout_is_given_up_for_the_next() {
    let silent = Manual::start().await;
    let mut good = Manual::start().await;
    let limits = format!("    timeouts: {{ read: 3s, try: 60s, handshake: 60s }}\n{BY_ROOM}");
    let gateway = gateway(&[silent.address(), good.address()], &limits).await;
    let mut rooms = 0..100;
    while silent.backend.accepted() == 0 {
        served(&gateway, &mut good, rooms.next().unwrap()).await;
    }
}

#[tokio::test]
async fn a_backend_that_accepts_no_connection_is_answered_504_after_the_connect_timeout() {
    // A listener whose queue is full drops further SYNs.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _fill = [std::net::TcpStream::connect(address).unwrap()];
    let gateway = gateway(&[address], "    timeouts: { connect: 100ms }\n").await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade("")).await;
    assert_eq!(client.answer().await.status(), 504);
    assert_eq!(gateway.metric("longhaul_backend_failures_total{kind=\"connect\",upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn backends_that_all_refuse_are_answered_502_and_503_with_retry_after_once_they_are_known_to_be_down() {
    let backends = [Manual::start().await, Manual::start().await];
    let addresses = [backends[0].address(), backends[1].address()];
    let health = "    health: { check: tcp, interval: 90s, timeout: 10s, fall: 2 }\n";
    let gateway = gateway(&addresses, health).await;
    drop(backends);
    let mut client = Wire::connect(gateway.address()).await;
    for status in [502, 502, 503] {
        client.send(upgrade("")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.field("retry-after"), (status == 503).then_some("90"));
    }
    gateway.log.find(&["is down: connect of real traffic failed", "ConnectRefused"]).await;
    // Whoever is answered 503 at once has a reason in the log, in whichever way it asked.
    let asked = " tries=0 ";
    let line = gateway.access.find(&[" request ", " status=503 ", asked]).await;
    assert!(line.contains(" error=\"no backend is available\""), "{line}");
    client.send("GET /plain HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 503);
    let line = gateway.access.find(&[" request ", " path=/plain ", " status=503 ", asked]).await;
    assert!(line.contains(" error=\"no backend is available\""), "{line}");
}
