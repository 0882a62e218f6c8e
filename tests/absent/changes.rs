//! Reloads, drains and upgrades while clients wait.

use std::fs;

use crate::ground::{Ground, answer, back_at, holding, keys};
use crate::lab::{Tunnel, backend, in_folder, longhaul};
use crate::support::{Gateway, Wire, folder};

#[tokio::test]
async fn a_reload_leaves_those_who_wait_or_lets_them_go_on() {
    let mut ground = Ground::new("{ hold: 1h }", "").await;
    let address = ground.stop_x().await;
    let (stays, file) = (ground.opens(&ground.to_x), in_folder(&ground.gateway, "longhaul.yaml"));
    ground.held(1).await;
    let written = fs::read_to_string(&file).unwrap();
    fs::write(&file, written.replace("hold: 1h", "hold: 59m")).unwrap();
    assert_eq!(longhaul(&ground.gateway, &["reload"]).await.0, Some(0));
    let more = ground.asks(&ground.to_x);
    ground.held(2).await;
    ground.x = back_at(address).await;
    assert_eq!(answer(stays).await.backend, address);
    assert_eq!(answer(more).await, (200, address.to_string()));

    ground.stop_x().await;
    let goes = [ground.asks(&ground.to_x), ground.asks(&ground.to_x)];
    ground.held(2).await;
    fs::write(&file, written.replace("absent: { hold: 1h }", "absent: off")).unwrap();
    assert_eq!(longhaul(&ground.gateway, &["reload"]).await.0, Some(0));
    for client in goes {
        assert_eq!(answer(client).await, (200, ground.y.address.to_string()));
    }
    assert_eq!(ground.ended("elsewhere").await, 2.0);
}

#[tokio::test]
async fn nobody_waits_for_a_backend_that_an_operator_drains() {
    let mut ground = Ground::new("{ hold: 1h }", "").await;
    ground.stop_x().await;
    let waits = ground.opens(&ground.to_x);
    ground.held(1).await;
    assert_eq!(longhaul(&ground.gateway, &["drain", "backend", "a/x", "--no-wait"]).await.0, Some(0));
    assert_eq!(answer(waits).await.backend, ground.y.address);
    assert_eq!(answer(ground.asks(&ground.to_x)).await, (200, ground.y.address.to_string()));
}

#[tokio::test]
async fn a_process_that_ends_answers_those_who_wait() {
    let mut ground = Ground::new("{ hold: 1h }", "").await;
    ground.stop_x().await;
    let target = format!("/?k={}", ground.to_x);
    let mut clients = Vec::new();
    for upgrade in [
        "",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ] {
        let mut client = Wire::connect(ground.gateway.address()).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: lab\r\n{upgrade}\r\n")).await;
        clients.push(client);
    }
    ground.held(2).await;
    ground.gateway.signal("TERM");
    for mut client in clients {
        let refused = client.answer().await;
        assert_eq!(refused.status(), 503);
        assert!(refused.head.get("retry-after").is_some(), "{refused:?}");
    }
    assert_eq!(ground.gateway.ended().await, Some(0));
}

#[tokio::test]
async fn an_upgrade_leaves_clients_waiting_in_both_processes_and_both_meet_the_member_where_it_is() {
    let (x, y) = (backend().await, backend().await);
    let config = holding("{ file: \"{dir}/members.yaml\", settle: 0s }", "{ hold: 1h }", "");
    let dir = folder(&config);
    let file = dir.path().join("members.yaml");
    let member = |name: &str, address| format!("- {{ name: {name}, address: {address} }}\n");
    fs::write(&file, member("x", x.address) + &member("y", y.address)).unwrap();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    let [to_x, _] = keys(&gateway, [x.address, y.address]).await;
    let write = |text: String| {
        let fresh = file.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &file).unwrap();
    };
    write(member("y", y.address));
    gateway.log.find(&["- backend x"]).await;
    let (address, key) = (gateway.address(), to_x.clone());
    let in_the_old = tokio::spawn(async move { Tunnel::open(address, &key).await });
    let held = crate::ground::of_backend("held", "x");
    gateway.metric_becomes(&held, 1.0).await;

    let successor = gateway.successor().await;
    successor.log.find(&["took over 0 tunnels"]).await;
    let (address, key) = (successor.address(), to_x);
    let in_the_new = tokio::spawn(async move { Tunnel::open(address, &key).await });
    successor.metric_becomes(&held, 1.0).await;
    let elsewhere = backend().await;
    write(member("x", elsewhere.address) + &member("y", y.address));
    for client in [in_the_old, in_the_new] {
        let mut tunnel = answer(client).await;
        assert_eq!(tunnel.backend, elsewhere.address);
        tunnel.echo("hello").await;
    }
}
