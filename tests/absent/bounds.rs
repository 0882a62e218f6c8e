//! Bounds of waits: their number, their time, and clients that leave.

use crate::ground::{Ground, answer, back_at, of_outcome};
use crate::lab::{Tunnel, get};
use crate::support::Wire;

#[tokio::test]
async fn one_too_many_goes_to_the_next_backend_at_once() {
    let mut ground = Ground::new("{ hold: 1h, queue: 2 }", "").await;
    let address = ground.stop_x().await;
    let waiting = [ground.asks(&ground.to_x), ground.asks(&ground.to_x)];
    ground.held(2).await;
    let gateway = ground.gateway.address();
    assert_eq!(get(gateway, &format!("/?k={}", ground.to_x)).await, (200, ground.y.address.to_string()));
    assert_eq!(Tunnel::open(gateway, &ground.to_x).await.backend, ground.y.address);
    assert_eq!(ground.ended("full").await, 2.0);
    ground.held(2).await;
    ground.x = back_at(address).await;
    for client in waiting {
        assert_eq!(answer(client).await, (200, address.to_string()));
    }
}

#[tokio::test]
async fn the_end_of_the_wait_leads_to_the_next_backend_and_later_clients_do_not_wait() {
    let mut ground = Ground::new("{ hold: 2s }", "").await;
    ground.stop_x().await;
    let (request, handshake) = (ground.asks(&ground.to_x), ground.opens(&ground.to_x));
    assert_eq!(answer(request).await, (200, ground.y.address.to_string()));
    assert_eq!(answer(handshake).await.backend, ground.y.address);
    let waited = ground.ended("over").await;
    assert_eq!(get(ground.gateway.address(), &format!("/?k={}", ground.to_x)).await.1, ground.y.address.to_string());
    assert_eq!(ground.ended("over").await, waited);
    let counted = ground.gateway.metric("longhaul_hold_wait_seconds_count{upstream=\"a\"}").await;
    assert_eq!(counted, waited, "the last one did not wait");
}

#[tokio::test]
async fn with_nobody_else_left_the_end_of_the_wait_is_503() {
    let mut ground = Ground::new("{ hold: 1s }", "").await;
    let y = ground.y;
    ground.y = crate::lab::backend().await;
    y.stop().await;
    ground.stop_x().await;
    assert_eq!(answer(ground.asks(&ground.to_x)).await.0, 503);
    assert_eq!(answer(ground.asks(&ground.to_y)).await.0, 503);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_waits_is_forgotten() {
    let mut ground = Ground::new("{ hold: 1h }", "").await;
    let address = ground.stop_x().await;
    let target = format!("/?k={}", ground.to_x);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut clients = Vec::new();
    for (target, headers) in [(target.clone(), ""), (target.clone(), upgrade), (format!("{target}&["), upgrade)] {
        let mut client = Wire::connect(ground.gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: lab\r\n{headers}\r\n")).await;
        clients.push(client);
    }
    let stays = ground.asks(&ground.to_x);
    ground.held(4).await;
    drop(clients);
    ground.gateway.metric_becomes(&of_outcome("left"), 3.0).await;
    ground.held(1).await;
    ground.x = back_at(address).await;
    assert_eq!(answer(stays).await.0, 200);
    assert_eq!(ground.ended("returned").await, 1.0);
}
