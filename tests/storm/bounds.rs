//! Bounds on what a backend carries, and on the tunnels of one key.

use tokio::sync::mpsc;

use crate::lab::{BY_SESSION, BY_WORKER, Door, ask, echoes, opens, refusals, refused, tunnels, waiting};
use crate::support::{Backend, Gateway};
use crate::wire::{Wire, configuration};

const BY_ROOM: &str = "    affinity: [ header: x-room ]\n";
const ROOM: &str = "X-Room: a\r\n";

#[tokio::test]
async fn a_full_backend_is_passed_over_and_where_all_are_full_the_client_is_told() {
    for target in [BY_WORKER, BY_SESSION] {
        let doors = [Door::start().await, Door::start().await];
        let more = format!("{BY_ROOM}    limits: {{ tunnels: 1 }}\n");
        let gateway = Gateway::start(&configuration(&[doors[0].address(), doors[1].address()], &more)).await;
        let mut home = ask(&gateway, target, 0, ROOM).await;
        opens(&mut home).await;
        let mut next = ask(&gateway, target, 1, ROOM).await;
        opens(&mut next).await;
        assert_eq!(doors.each_ref().map(|door| door.seen().len()), [1, 1]);
        let body = refused(&mut ask(&gateway, target, 2, ROOM).await, 503, 15).await;
        assert!(body.starts_with("503 every backend is full\n"), "{body}");
        refusals(&gateway, "full", 1).await;
        gateway.access.find(&["status=503", "error=full"]).await;
        echoes(&mut next).await;
        drop(home);
        gateway.access.find(&[" tunnel_end "]).await;
        tunnels(&gateway, 1).await;
        let mut again = ask(&gateway, target, 3, ROOM).await;
        opens(&mut again).await;
    }
}

#[tokio::test]
async fn where_all_are_full_clients_wait_in_order_for_the_first_room_at_any_of_them() {
    for target in [BY_WORKER, BY_SESSION] {
        let doors = [Door::start().await, Door::start().await];
        let more = format!("{BY_ROOM}    limits: {{ tunnels: 1 }}\n    admission: {{ wait: 1h }}\n");
        let gateway = Gateway::start(&configuration(&[doors[0].address(), doors[1].address()], &more)).await;
        let mut open = Vec::new();
        for number in 0..2 {
            open.push(ask(&gateway, target, number, ROOM).await);
            opens(open.last_mut().unwrap()).await;
        }
        let mut waits = Vec::new();
        for number in 2..4 {
            waits.push(ask(&gateway, target, number, ROOM).await);
            waiting(&gateway, number - 1).await;
        }
        // The second tunnel is the one that is not where the key leads to.
        drop(open.pop());
        opens(&mut waits[0]).await;
        waiting(&gateway, 1).await;
        drop(open.pop());
        opens(&mut waits[1]).await;
        assert_eq!(doors.each_ref().map(|door| door.seen().len()), [2, 2]);
        refusals(&gateway, "full", 0).await;
    }
}

#[tokio::test]
async fn a_key_has_so_many_tunnels_and_no_more() {
    for target in [BY_WORKER, BY_SESSION] {
        let door = Door::start().await;
        let more = format!("{BY_ROOM}    limits: {{ per_key: 2 }}\n");
        let gateway = Gateway::start(&configuration(&[door.address()], &more)).await;
        let mut open = [ask(&gateway, target, 0, ROOM).await, ask(&gateway, target, 1, ROOM).await];
        for tunnel in &mut open {
            opens(tunnel).await;
        }
        let body = refused(&mut ask(&gateway, target, 2, ROOM).await, 429, 15).await;
        assert!(body.starts_with("429 too many tunnels are open for this key\n"), "{body}");
        let mut others = [ask(&gateway, target, 3, "X-Room: b\r\n").await, ask(&gateway, target, 4, "").await];
        for other in &mut others {
            opens(other).await;
        }
        refusals(&gateway, "per_key", 1).await;
        gateway.access.find(&["status=429", "error=per_key"]).await;
        let [first, mut second] = open;
        drop(first);
        gateway.access.find(&[" tunnel_end "]).await;
        let load = format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", door.address());
        gateway.metric_becomes(&load, 3.0).await;
        opens(&mut ask(&gateway, target, 5, ROOM).await).await;
        echoes(&mut second).await;
    }
}

#[tokio::test]
async fn plain_requests_are_bounded_apart_from_tunnels() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let silent = || {
        let sender = sender.clone();
        Backend::start(move |stream| {
            let sender = sender.clone();
            async move {
                let mut server = Wire::of(stream);
                if server.next_head().await.is_some() {
                    let _ = sender.send(server);
                }
            }
        })
    };
    let backends = [silent().await, silent().await];
    let more = format!("{BY_ROOM}    limits: {{ requests: 1, tunnels: 1 }}\n");
    let gateway = Gateway::start(&configuration(&[backends[0].address, backends[1].address], &more)).await;
    let get = format!("GET / HTTP/1.1\r\nHost: test\r\n{ROOM}\r\n");
    let mut clients = Vec::new();
    let mut servers = Vec::new();
    for _ in 0..2 {
        let mut client = Wire::connect(gateway.address()).await;
        client.send(&get).await;
        clients.push(client);
        servers.push(asked.recv().await.unwrap());
    }
    let mut third = Wire::connect(gateway.address()).await;
    third.send(&get).await;
    refused(&mut third, 503, 15).await;
    let _upgrading = ask(&gateway, BY_WORKER, 0, ROOM).await;
    asked.recv().await.unwrap();
    for (client, server) in clients.iter_mut().zip(&mut servers) {
        server.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 204);
    }
}
