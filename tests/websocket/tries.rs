//! Tries: the number of backends that a handshake is sent to, the time that each has, and the party that is charged.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Backend, Gateway};
use crate::wire::{ACCEPT, Manual, Wire, configuration, gateway, switching, upgrade};

const BY_ROOM: &str = "    affinity: [ header: x-room ]\n";
const FAILURES: &str = "longhaul_backend_failures_total{kind=\"handshake\",upstream=\"u\"}";

/// Backends that close the connection of every handshake once they have read it, and the number of handshakes they
/// read.
async fn closing(count: usize) -> (Vec<Backend>, Arc<AtomicUsize>) {
    let seen = Arc::new(AtomicUsize::new(0));
    let mut backends = Vec::new();
    for _ in 0..count {
        let seen = Arc::clone(&seen);
        let close = move |stream| {
            let seen = Arc::clone(&seen);
            async move {
                Wire::of(stream).head().await;
                seen.fetch_add(1, SeqCst);
            }
        };
        backends.push(Backend::start(close).await);
    }
    (backends, seen)
}

fn addresses(backends: &[Backend]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| backend.address).collect()
}

/// The status of the answer to an upgrade with further header lines.
async fn status(gateway: &Gateway, more: &str) -> u16 {
    let mut client = Wire::connect(gateway.address()).await;
    client.send(upgrade(more)).await;
    client.head().await.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_handshake_is_sent_to_as_many_backends_as_tries_says_and_charges_one() {
    for (tries, sent) in [("", 2), ("    tries: 1\n", 1), ("    tries: 3\n", 3), ("    tries: 100\n", 4)] {
        let (backends, seen) = closing(4).await;
        let gateway = gateway(&addresses(&backends), tries).await;
        assert_eq!(status(&gateway, "").await, 502);
        assert_eq!(seen.load(SeqCst), sent, "{tries}");
        assert_eq!(gateway.metric(FAILURES).await, 1.0, "{tries}");
    }
}

#[tokio::test]
async fn connects_that_fail_are_no_tries() {
    let mut good = Manual::start().await;
    let backends = [Backend::refusing(), Backend::refusing(), Backend::refusing(), good.address()];
    let gateway = gateway(&backends, &format!("    tries: 1\n{BY_ROOM}")).await;
    for room in 0..10 {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade(&format!("X-Room: {room}\r\n"))).await;
        let mut server = good.next().await;
        server.head().await;
        server.send(switching("")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "), "room {room}");
    }
}

#[tokio::test]
async fn a_backend_that_hangs_beside_healthy_ones_costs_nobody_an_answer() {
    // The kernel accepts connections for it, and nobody reads.
    let hung = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let answer = |stream| async move {
        let mut server = Wire::of(stream);
        server.head().await;
        server.send(switching("")).await;
        server.gone().await;
    };
    let good = [Backend::start(answer).await, Backend::start(answer).await];
    let backends = [hung.local_addr().unwrap(), good[0].address, good[1].address];
    let gateway = gateway(&backends, &format!("    timeouts: {{ try: 3s, handshake: 30s }}\n{BY_ROOM}")).await;
    let clients = (0..30).map(|room| {
        let gateway = &gateway;
        async move { status(gateway, &format!("X-Room: {room}\r\n")).await }
    });
    assert_eq!(futures::future::join_all(clients).await, [101; 30]);
    assert!(gateway.metric("longhaul_failovers_total{upstream=\"u\"}").await > 0.0, "some rooms are the hung one's");
}

#[tokio::test]
async fn the_last_backend_has_the_rest_of_the_handshakes_time() {
    let slow = |stream| async move {
        let mut server = Wire::of(stream);
        server.head().await;
        // As slow as that: no wait for anything.
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.send(switching("")).await;
        server.gone().await;
    };
    let backends = [Backend::start(slow).await, Backend::start(slow).await];
    for (count, tries) in [(1, 2), (2, 2), (2, 1)] {
        let limits = format!("    tries: {tries}\n    timeouts: {{ try: 50ms }}\n");
        let gateway = gateway(&addresses(&backends)[..count], &limits).await;
        assert_eq!(status(&gateway, "").await, 101, "{count} backends, {tries} tries");
    }
}

#[tokio::test]
async fn a_subprotocol_or_extension_that_was_not_offered_is_a_502_and_held_against_nobody() {
    for field in ["Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Extensions: x-zip\r\n"] {
        let answer = move |stream| async move {
            let mut server = Wire::of(stream);
            server.head().await;
            server
                .send(format!(
                    "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {ACCEPT}\r\n{field}\r\n"
                ))
                .await;
            server.gone().await;
        };
        let backends = [Backend::start(answer).await, Backend::start(answer).await];
        let health = "    health: { check: tcp, interval: 1h, timeout: 10s, fall: 1 }\n";
        let gateway = gateway(&addresses(&backends), health).await;
        for _ in 0..5 {
            assert_eq!(status(&gateway, "").await, 502);
        }
        assert_eq!(status(&gateway, field).await, 101, "whoever offers it is served");
        gateway.log.find(&["handshake to backend u/", "was not offered"]).await;
        for backend in addresses(&backends) {
            let up = format!("longhaul_backend_up{{backend=\"{backend}\",upstream=\"u\"}}");
            assert_eq!(gateway.metric(&up).await, 1.0);
        }
    }
}

/// An upgrade that its worker reads, and one that Pingora reads because its head comes in two pieces.
fn both_ways() -> [Vec<String>; 2] {
    let request = upgrade("");
    [vec![request.clone()], vec![request[..30].to_owned(), request[30..].to_owned()]]
}

#[tokio::test]
async fn a_source_address_without_ports_is_the_gateways_own_failure() {
    let backends = [Manual::start().await, Manual::start().await];
    let addresses: Vec<_> = backends.iter().map(Manual::address).collect();
    // Nobody here has the address that documentation has (RFC 5737): binding to it fails as with every port taken.
    let yaml = configuration(&addresses, "") + "client_bind_to_ipv4: [198.51.100.1]\n";
    let gateway = Gateway::start(&yaml).await;
    for pieces in both_ways().into_iter().chain([vec!["GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned()]]) {
        let mut client = Wire::connect(gateway.address()).await;
        for piece in &pieces {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{pieces:?}");
    }
    let local = gateway.metric("longhaul_local_failures_total{kind=\"eaddrnotavail\"}").await;
    assert_eq!(local, 6.0, "both backends, three times");
    assert!(!gateway.scrape().await.contains("longhaul_backend_failures_total{"));
}

#[tokio::test]
async fn a_gateway_without_descriptors_answers_503_and_holds_it_against_nobody() {
    let mut backend = Manual::start().await;
    let health = "    health: { check: tcp, interval: 1h, timeout: 10s, fall: 1 }\n";
    let gateway = gateway(&[backend.address()], health).await;
    backend.next().await;
    // Tunnels and metrics have been used once, so that nothing of theirs is opened later.
    gateway.scrape().await;
    let pid = Pid::from_raw(gateway.pid().try_into().unwrap()).unwrap();
    let mut clients = Vec::new();
    for request in [upgrade(""), "GET / HTTP/1.1\r\nHost: test\r\n\r\n".to_owned()] {
        let mut client = Wire::connect(gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        let mut server = backend.next().await;
        server.head().await;
        server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 204);
        server.gone().await;
        clients.push((client, request));
    }

    let open = std::fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let highest = open.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<u64>().unwrap()).max().unwrap();
    let none_left = Rlimit { current: Some(0), ..getrlimit(Resource::Nofile) };
    let before = prlimit(Some(pid), Resource::Nofile, none_left).unwrap();
    assert!(before.current.is_none_or(|limit| limit > highest));
    for (client, request) in &mut clients {
        client.send(&*request).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")), "{request}");
        assert_eq!(client.rest().await, b"", "a connection that is kept keeps a descriptor");
    }
    prlimit(Some(pid), Resource::Nofile, before).unwrap();

    assert_eq!(gateway.metric("longhaul_local_failures_total{kind=\"emfile\"}").await, 2.0);
    let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", backend.address());
    assert_eq!(gateway.metric(&up).await, 1.0);
    assert!(!gateway.scrape().await.contains("longhaul_backend_failures_total{"));
}
