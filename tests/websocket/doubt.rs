//! Requests that fail after they were sent: doubt about a backend, which leads to checks, to an ejection and to a
//! trial.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpSocket;

use crate::support::{Backend, Gateway, within};
use crate::wire::{Wire, field, gateway, upgrade};

/// A backend that answers upgrades with 426 and its address while it is well, and by closing while it is not.
/// Connections to it always succeed.
struct Moody {
    backend: Backend,
    well: Arc<AtomicBool>,
}

impl Moody {
    async fn start(well: bool) -> Self {
        let well = Arc::new(AtomicBool::new(well));
        let mood = Arc::clone(&well);
        let backend = Backend::start(move |stream| {
            let mood = Arc::clone(&mood);
            async move {
                let address = stream.local_addr().unwrap();
                let mut server = Wire::of(stream);
                if server.next_head().await.is_some() && mood.load(Ordering::SeqCst) {
                    let head = format!("HTTP/1.1 426 No\r\nX-Backend: {address}\r\nContent-Length: 0\r\n\r\n");
                    server.send(head).await;
                }
            }
        })
        .await;
        Self { backend, well }
    }

    fn address(&self) -> SocketAddr {
        self.backend.address
    }
}

/// Asks for an upgrade from the network 127.0.`network`.0/24; the backend that answered, if one did.
async fn ask(gateway: &Gateway, network: u8, room: usize) -> Option<SocketAddr> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::new(127, 0, network, 1), 0).into()).unwrap();
    let mut client = Wire::of(socket.connect(gateway.address()).await.unwrap());
    client.send(upgrade(&format!("X-Room: {room}\r\n"))).await;
    field(&client.answer().await.head, "x-backend").map(|backend| backend.parse().unwrap())
}

/// A room that belongs to a backend while all are well.
async fn room_of(gateway: &Gateway, backend: SocketAddr) -> usize {
    for room in 0..1_000 {
        if ask(gateway, 9, room).await == Some(backend) {
            return room;
        }
    }
    panic!("no room of a thousand belongs to {backend}");
}

async fn is_ejected(gateway: &Gateway, backend: SocketAddr) -> f64 {
    gateway.metric(&format!("longhaul_backend_ejected{{backend=\"{backend}\",upstream=\"u\"}}")).await
}

const SELDOM_CHECKED: &str = "    affinity: [ header: x-room ]\n    \
                              health: { check: tcp, interval: 90s, timeout: 10s, fall: 3 }\n";

#[tokio::test]
async fn three_networks_eject_a_backend_that_is_up_and_one_request_on_trial_brings_it_back() {
    let moody = [Moody::start(true).await, Moody::start(true).await, Moody::start(true).await];
    let addresses = moody.each_ref().map(Moody::address);
    let gateway = gateway(&addresses, SELDOM_CHECKED).await;
    let room = room_of(&gateway, addresses[0]).await;
    moody[0].well.store(false, Ordering::SeqCst);
    for network in [1, 1, 2, 2] {
        ask(&gateway, network, room).await;
    }
    assert_eq!(is_ejected(&gateway, addresses[0]).await, 0.0, "two networks are no evidence");
    ask(&gateway, 3, room).await;
    gateway.log.find(&[&format!("backend u/{} is ejected for 5s", addresses[0])]).await;
    let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", addresses[0]);
    assert_eq!((is_ejected(&gateway, addresses[0]).await, gateway.metric(&up).await), (1.0, 1.0));

    // It stays out while it is ejected, and is back with the first request that it answers.
    moody[0].well.store(true, Ordering::SeqCst);
    let back = async {
        while ask(&gateway, 4, room).await != Some(addresses[0]) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("a request on trial", back).await;
    gateway.log.find(&[&format!("backend u/{} is no longer ejected", addresses[0])]).await;
    let ejected = format!("longhaul_backend_ejected{{backend=\"{}\",upstream=\"u\"}}", addresses[0]);
    gateway.metric_becomes(&ejected, 0.0).await;
    assert_eq!(gateway.metric("longhaul_ejections_total{upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn one_client_ejects_nobody_and_a_success_of_another_forgets_what_it_did() {
    let moody = [Moody::start(true).await, Moody::start(true).await];
    let addresses = moody.each_ref().map(Moody::address);
    let gateway = gateway(&addresses, SELDOM_CHECKED).await;
    let room = room_of(&gateway, addresses[0]).await;
    for _ in 0..5 {
        moody[0].well.store(false, Ordering::SeqCst);
        for network in [1, 1, 1, 1, 2] {
            ask(&gateway, network, room).await;
        }
        moody[0].well.store(true, Ordering::SeqCst);
        assert_eq!(ask(&gateway, 3, room).await, Some(addresses[0]));
    }
    assert_eq!(gateway.log.count(&["is ejected"]) + gateway.log.count(&["is down"]), 0);
}

#[tokio::test]
async fn doubt_has_the_backend_checked_at_once() {
    let moody = [Moody::start(true).await];
    let health = "    health: { check: http, expect: 426, interval: 1h, timeout: 10s, fall: 1, traffic: full }\n";
    let gateway = gateway(&[moody[0].address()], health).await;
    moody[0].well.store(false, Ordering::SeqCst);
    assert_eq!(ask(&gateway, 1, 0).await, None);
    gateway.log.find(&[&format!("backend u/{} is down: check failed", moody[0].address())]).await;
}
