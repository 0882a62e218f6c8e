//! A backend that hangs: its port takes connections, and nothing answers on them.

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::{StreamExt, stream};
use socket2::{Domain, Socket, Type};

use crate::cast::{Cast, User, addresses, config};
use crate::support::{Backend, Gateway};
use crate::wire::Wire;

const CLIENTS: usize = 100;

/// A process that was stopped (SIGSTOP): the kernel completes handshakes up to the backlog, and nobody accepts.
fn stopped() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1024).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A hundred clients come at once, each with a key of its own, and every one gets a tunnel to a backend that lives.
async fn everybody_is_served(gateway: &Gateway, living: &[SocketAddr]) {
    let open = |number: usize| async move {
        let source = Ipv4Addr::new(127, 9, 0, 1 + number as u8);
        User::open(source, gateway, number).await
    };
    let users: Vec<User> = stream::iter(0..CLIENTS).map(open).buffer_unordered(CLIENTS).collect().await;
    assert!(users.iter().all(|user| living.contains(&user.home)));
    assert_eq!(users.len(), CLIENTS);
}

#[tokio::test]
async fn beside_a_stopped_backend_every_client_gets_a_tunnel_elsewhere() {
    let cast = Cast::several(2).await;
    let (_stopped, address) = stopped();
    let all = [addresses(&cast), vec![address]].concat();
    let gateway = Gateway::start(&config(&all, "    health: { check: tcp, interval: 1s, timeout: 500ms }\n")).await;
    for _ in 0..2 {
        everybody_is_served(&gateway, &addresses(&cast)).await;
    }
}

#[tokio::test]
async fn beside_a_backend_that_reads_and_says_nothing_every_client_gets_a_tunnel_elsewhere() {
    let cast = Cast::several(2).await;
    let mute = Backend::start(|stream| async move { Wire::of(stream).gone().await }).await;
    let all = [addresses(&cast), vec![mute.address]].concat();
    let gateway = Gateway::start(&config(&all, "    health: { check: tcp, interval: 1s, timeout: 500ms }\n")).await;
    everybody_is_served(&gateway, &addresses(&cast)).await;
}
