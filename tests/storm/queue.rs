//! The queue before a backend: order, rate, deadlines, and clients that leave.

use std::process::Command;
use std::time::Instant;

use crate::lab::{BY_SESSION, BY_WORKER, Door, admitted, ask, echoes, opens, refusals, refused, sum, waiting};
use crate::support::{Gateway, within};
use crate::wire::configuration;

async fn gateway(door: &Door, admission: &str) -> Gateway {
    Gateway::start(&configuration(&[door.address()], &format!("    admission: {{ {admission} }}\n"))).await
}

#[tokio::test]
async fn turns_keep_the_order_of_arrival_and_the_rate() {
    let door = Door::start().await;
    let yaml = configuration(&[door.address()], "    admission: { handshakes: 20/s, burst: 3 }\n");
    // One worker, so that those who have their turns together reach the backend in the order of their turns.
    let gateway = Gateway::start(&yaml.replace("threads: 2", "threads: 1")).await;
    let start = Instant::now();
    let mut clients = Vec::new();
    for number in 0..30 {
        clients.push(ask(&gateway, BY_WORKER, number, "").await);
        let came = async {
            while admitted(&gateway).await + sum(&gateway, "longhaul_backend_waiting{").await < (number + 1) as f64 {
                tokio::task::yield_now().await;
            }
        };
        within("the client to arrive", came).await;
    }
    for client in &mut clients {
        opens(client).await;
        echoes(client).await;
    }
    let numbers: Vec<_> = door.seen().into_iter().map(|seen| seen.number).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    door.kept_to(20.0, 3.0, start);
    assert_eq!(gateway.metric("longhaul_handshake_wait_seconds_count{upstream=\"u\"}").await, 30.0);
}

#[tokio::test]
async fn a_client_that_leaves_is_passed_over_and_costs_no_turn() {
    for target in [BY_WORKER, BY_SESSION] {
        let door = Door::start().await;
        // Nobody has a turn until all are there, and one has left.
        let gateway = gateway(&door, "handshakes: 0.2/s, burst: 1").await;
        let mut first = ask(&gateway, target, 0, "").await;
        opens(&mut first).await;
        let leaves = ask(&gateway, target, 1, "").await;
        let leaves_too = ask(&gateway, target, 2, "").await;
        waiting(&gateway, 2).await;
        let mut stays = ask(&gateway, target, 3, "").await;
        waiting(&gateway, 3).await;
        drop(leaves);
        leaves_too.reset();
        opens(&mut stays).await;
        let numbers: Vec<_> = door.seen().into_iter().map(|seen| seen.number).collect();
        assert_eq!(numbers, [0, 3], "{target}");
        refusals(&gateway, "left", 2).await;
        assert_eq!(admitted(&gateway).await, 2.0, "{target}");
        let left = gateway.access.find(&["status=499"]).await;
        assert!(left.contains(" request "), "{left}");
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_answered_with_a_time_to_come_back() {
    for target in [BY_WORKER, BY_SESSION] {
        let door = Door::start().await;
        let gateway = gateway(&door, "handshakes: 0.01/s, burst: 1, wait: 3s").await;
        opens(&mut ask(&gateway, target, 0, "").await).await;
        let asked = Instant::now();
        let mut late = ask(&gateway, target, 1, "").await;
        let body = refused(&mut late, 503, 3).await;
        assert!(asked.elapsed().as_secs() >= 2, "not before its time");
        assert!(body.starts_with("503 the wait for the backend took too long\n"), "{body}");
        refusals(&gateway, "deadline", 1).await;
        gateway.access.find(&["status=503", "error=deadline"]).await;
        assert_eq!(door.seen().len(), 1);
    }
}

#[tokio::test]
async fn a_full_queue_is_refused_at_once() {
    for target in [BY_WORKER, BY_SESSION] {
        let door = Door::start().await;
        let gateway = gateway(&door, "handshakes: 0.01/s, burst: 1, queue: 2, wait: 1h").await;
        let mut first = ask(&gateway, target, 0, "").await;
        opens(&mut first).await;
        let _waiting = [ask(&gateway, target, 1, "").await, ask(&gateway, target, 2, "").await];
        waiting(&gateway, 2).await;
        let body = refused(&mut ask(&gateway, target, 3, "").await, 503, 3600).await;
        assert!(body.starts_with("503 too many clients wait for this backend\n"), "{body}");
        refusals(&gateway, "queue_full", 1).await;
        gateway.access.find(&["status=503", "error=queue_full"]).await;
        echoes(&mut first).await;
        // Those who wait are none.
        let none = async { while sum(&gateway, "longhaul_handshakes_in_progress").await > 0.0 {} };
        within("no handshake to be in progress", none).await;
        waiting(&gateway, 2).await;
    }
}

#[tokio::test]
async fn open_tunnels_go_on_beside_a_queue_and_the_status_shows_it() {
    let door = Door::start().await;
    let gateway = gateway(&door, "handshakes: 0.01/s, burst: 1, wait: 1h").await;
    let mut tunnel = ask(&gateway, BY_WORKER, 0, "").await;
    opens(&mut tunnel).await;
    let mut clients = Vec::new();
    for number in 1..=200 {
        clients.push(ask(&gateway, BY_WORKER, number, "").await);
        echoes(&mut tunnel).await;
    }
    waiting(&gateway, 200).await;
    echoes(&mut tunnel).await;
    let status = Command::new(env!("CARGO_BIN_EXE_longhaul"))
        .args(["status", "-c"])
        .arg(gateway.dir.path().join("longhaul.yaml"))
        .env("RUNTIME_DIRECTORY", gateway.dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8(status.stdout).unwrap();
    assert!(text.contains("1 tunnel, load 201, 200 waiting for 0.01/s"), "{text}");
    drop(clients);
    waiting(&gateway, 0).await;
    gateway.metric_becomes("longhaul_upstream_refused_total{reason=\"left\",upstream=\"u\"}", 200.0).await;
    echoes(&mut tunnel).await;
}

#[tokio::test]
async fn a_rate_that_follows_the_backend_admits_everybody() {
    let door = Door::start().await;
    let gateway = gateway(&door, "handshakes: auto, burst: 1").await;
    let mut clients = Vec::new();
    for number in 0..50 {
        clients.push(ask(&gateway, BY_WORKER, number, "").await);
    }
    for client in &mut clients {
        opens(client).await;
    }
    let rate = sum(&gateway, "longhaul_backend_handshake_rate{").await;
    assert!((10.0..=10_000.0).contains(&rate), "{rate}");
    assert_eq!(door.seen().len(), 50);
}
