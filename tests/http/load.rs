//! Bounded loads: no backend carries more than its share times the factor, and clients return when there is room.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::sync::{mpsc, watch};

use crate::support::{Backend, Gateway, Wire, located, one_upstream, order, within};

const BACKENDS: usize = 4;
const FACTOR: f64 = 1.25;

/// A backend that names itself at each request's arrival, and answers when it is let.
async fn holding(arrived: mpsc::UnboundedSender<SocketAddr>, released: watch::Receiver<bool>) -> Backend {
    Backend::start(move |stream| {
        let (arrived, mut released) = (arrived.clone(), released.clone());
        async move {
            let name = stream.local_addr().unwrap();
            let mut wire = Wire::new(stream);
            while wire.request().await.is_some() {
                arrived.send(name).unwrap();
                if released.wait_for(|released| *released).await.is_err() {
                    return;
                }
                let body = name.to_string();
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn no_backend_ever_runs_more_requests_than_its_bound() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let (release, released) = watch::channel(false);
    let mut backends = Vec::new();
    for _ in 0..BACKENDS {
        backends.push(holding(arrived.clone(), released.clone()).await);
    }
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let more = format!("    affinity: [query: room]\n    balance_factor: {FACTOR}\n");
    let gateway = Gateway::start(&one_upstream(&addresses, &more)).await;
    let order = order(&located(&gateway, &["--ip", "127.0.0.1", "--path", "/?room=full"]));

    let mut running: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut clients = Vec::new();
    for number in 1..=24 {
        // Every key leads to the same backend.
        let mut client = Wire::connect(gateway.address()).await;
        client.send("GET /?room=full HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        clients.push(client);
        let by = within("the request at a backend", arrivals.recv()).await.unwrap();
        *running.entry(by).or_default() += 1;
        let bound = (FACTOR * f64::from(number) / BACKENDS as f64).ceil() as usize;
        assert!(running.values().all(|count| *count <= bound), "{running:?} with {number} running, bound {bound}");
        let first_with_room = order.iter().find(|address| running.get(address).copied().unwrap_or(0) < bound);
        assert!(running[&order[0]] == bound || first_with_room == Some(&order[0]), "{running:?} {order:?}");
    }
    // The home is full to its bound of 8, and the others follow in the ring's order.
    assert_eq!(order.iter().map(|address| running[address]).collect::<Vec<_>>(), [8, 8, 7, 1], "{running:?}");

    release.send(true).unwrap();
    for client in &mut clients {
        assert_eq!(client.answer().await.status(), 200);
    }
    for address in &addresses {
        gateway.metric_becomes(&format!("longhaul_backend_load{{backend=\"{address}\",upstream=\"u\"}}"), 0.0).await;
    }
    assert_eq!(clients[0].get("/?room=full", "").await.address(), order[0], "home again");
}
