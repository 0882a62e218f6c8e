//! Open tunnels of a backend that goes down.

use crate::support::{Backend, Gateway};
use crate::wire::{Frame, From, Manual, Wire, close, gateway, has, switching, text, upgrade};

/// A gateway before two backends, with a tunnel to each: (client, server) of the first, then of the second.
async fn two_tunnels(on_down: &str) -> (Gateway, [Manual; 2], [(Wire, Wire); 2]) {
    let mut backends = [Manual::start().await, Manual::start().await];
    let addresses = [backends[0].address(), backends[1].address()];
    let upstream = format!(
        "    drain_window: 0s\n    \
         health: {{ check: tcp, interval: 1s, timeout: 1s, fall: 2, on_down: {on_down} }}\n"
    );
    let gateway = gateway(&addresses, &upstream).await;
    let mut tunnels = [None, None];
    while tunnels.iter().any(Option::is_none) {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        let (number, mut server) = upgraded(&mut backends).await;
        server.send(switching("")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        tunnels[number] = Some((client, server));
    }
    (gateway, backends, tunnels.map(Option::unwrap))
}

/// The next connection on which a request comes; those of health checks are let go.
async fn upgraded(backends: &mut [Manual; 2]) -> (usize, Wire) {
    let [first, second] = backends;
    loop {
        let (number, server) = tokio::select! {
            server = first.next() => (0, server),
            server = second.next() => (1, server),
        };
        let mut byte = [0];
        if server.stream.peek(&mut byte).await.is_ok_and(|count| count > 0) {
            let mut server = server;
            server.head().await;
            return (number, server);
        }
    }
}

async fn works((client, server): &mut (Wire, Wire)) {
    client.send(text(From::Client, "there?")).await;
    assert_eq!(server.frame().await.payload, b"there?");
    server.send(text(From::Backend, "here")).await;
    assert_eq!(client.frame().await.payload, b"here");
}

#[tokio::test]
async fn close_ends_the_tunnels_of_the_backend_that_went_down_and_no_others() {
    let (gateway, [down, _up], [mut lost, mut kept]) = two_tunnels("close").await;
    let address = down.address();
    drop(down);
    gateway.log.find(&[&format!("backend u/{address} is down: check failed")]).await;
    assert_eq!(lost.0.frame().await, Frame::close_to_client(1012, "backend_down"));
    assert_eq!(lost.1.frame().await, Frame::close_to_backend(1012, "backend_down"));
    lost.0.send(close(From::Client, 1012)).await;
    lost.1.send(close(From::Backend, 1012)).await;
    assert_eq!(lost.0.rest().await, b"");
    let end = gateway.access.find(&[" tunnel_end ", &format!("backend={address} ")]).await;
    has(&end, &["close_code=1012", "by=gateway", "reason=backend_down"]);
    works(&mut kept).await;
}

#[tokio::test]
async fn keep_leaves_them_alone() {
    let (gateway, [down, _up], [mut first, mut second]) = two_tunnels("keep").await;
    let address = down.address();
    drop(down);
    gateway.log.find(&[&format!("backend u/{address} is down: check failed")]).await;
    gateway.metric_becomes(&format!("longhaul_backend_up{{backend=\"{address}\",upstream=\"u\"}}"), 0.0).await;
    works(&mut first).await;
    works(&mut second).await;
}

/// A backend that comes back keeps the tunnels whose turn to be closed has not come.
#[tokio::test]
async fn a_backend_that_comes_back_calls_off_what_has_not_been_closed_yet() {
    let mut backend = Manual::start().await;
    let address = backend.address();
    // One tunnel a second.
    let upstream = "    drain_window: 6s\n    \
                    health: { check: tcp, interval: 1s, timeout: 1s, rise: 1, fall: 1, on_down: close }\n";
    let gateway = gateway(&[address], upstream).await;
    let mut tunnels = Vec::new();
    while tunnels.len() < 6 {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(upgrade("")).await;
        let mut server = loop {
            let server = backend.next().await;
            let mut byte = [0];
            if server.stream.peek(&mut byte).await.is_ok_and(|count| count > 0) {
                break server;
            }
        };
        server.head().await;
        server.send(switching("")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        tunnels.push((client, server));
    }
    backend.backend.stop().await;
    gateway.log.find(&[&format!("backend u/{address} is down: check failed")]).await;
    let _back = Backend::start_at(address, |_| async {}).await;
    gateway.log.find(&[&format!("backend u/{address} is up")]).await;

    let mut kept = Vec::new();
    for (mut client, mut server) in tunnels {
        server.send(text(From::Backend, "here")).await;
        if client.frame().await.payload == b"here" {
            kept.push((client, server));
        }
    }
    assert!(!kept.is_empty(), "the backend was away for less than the window");
    // Long enough for two more to be closed, were they not spared.
    tokio::time::sleep(std::time::Duration::from_millis(2_500)).await;
    for tunnel in &mut kept {
        works(tunnel).await;
    }
}
