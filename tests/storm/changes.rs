//! Changes under a queue: a backend dies, the file is read anew, the process ends or is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use crate::lab::{BY_SESSION, BY_WORKER, Door, admitted, ask, echoes, opens, refusals, refused, waiting};
use crate::support::Gateway;
use crate::wire::{Wire, configuration};

const BY_ROOM: &str = "    affinity: [ header: x-room ]\n";

/// Clients of many rooms, which the ring spreads over the backends.
async fn storm(gateway: &Gateway, target: &str, count: usize) -> Vec<Wire> {
    let mut clients = Vec::new();
    for number in 0..count {
        clients.push(ask(gateway, target, number, &format!("X-Room: {number}\r\n")).await);
    }
    clients
}

#[tokio::test]
async fn a_backend_that_dies_in_a_storm_costs_nobody_a_502_and_the_others_no_more_than_their_rate() {
    for target in [BY_WORKER, BY_SESSION] {
        let (dies, stays) = (Door::start().await, Door::start().await);
        let health = "    health: { interval: 1s, timeout: 1s, fall: 1 }\n";
        let more = format!("{BY_ROOM}{health}    admission: {{ handshakes: 20/s, burst: 2, wait: 60s }}\n");
        let gateway = Gateway::start(&configuration(&[dies.address(), stays.address()], &more)).await;
        let start = Instant::now();
        let mut talker = None;
        for number in 1000.. {
            let mut client = ask(&gateway, target, number, &format!("X-Room: {number}\r\n")).await;
            opens(&mut client).await;
            if stays.seen().iter().any(|seen| seen.number == number) {
                talker = Some(client);
                break;
            }
        }
        let mut talker = talker.unwrap();
        let (echoed, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let talking = tokio::spawn({
            let (echoed, done) = (Arc::clone(&echoed), Arc::clone(&done));
            async move {
                while !done.load(Ordering::SeqCst) {
                    echoes(&mut talker).await;
                    echoed.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        let mut clients = storm(&gateway, target, 30).await;
        dies.backend.stop().await;
        for client in &mut clients {
            opens(client).await;
        }
        stays.kept_to(20.0, 2.0, start);
        done.store(true, Ordering::SeqCst);
        talking.await.unwrap();
        assert!(echoed.load(Ordering::SeqCst) > 0);
        assert_eq!(gateway.access.count(&["status=502"]) + gateway.access.count(&["status=503"]), 0);
    }
}

#[tokio::test]
async fn another_rate_is_in_force_at_once_for_those_who_wait() {
    let door = Door::start().await;
    let yaml = configuration(&[door.address()], "    admission: { handshakes: 0.01/s, burst: 1, wait: 1h }\n");
    let gateway = Gateway::start(&yaml).await;
    let mut clients = storm(&gateway, BY_WORKER, 6).await;
    waiting(&gateway, 5).await;
    gateway.reload(&yaml.replace("0.01/s", "200/s"));
    for client in &mut clients {
        opens(client).await;
    }
    gateway.reload(&yaml);
    gateway.log.find(&["reloaded: generation 3"]).await;
    let mut more = storm(&gateway, BY_WORKER, 3).await;
    waiting(&gateway, 2).await;
    // Without admission nobody waits.
    gateway.reload(yaml.split("    admission").next().unwrap());
    for client in &mut more {
        opens(client).await;
    }
    assert_eq!(door.seen().len(), 9);
}

#[tokio::test]
async fn those_who_wait_for_a_backend_that_is_taken_away_go_to_the_others() {
    for target in [BY_WORKER, BY_SESSION] {
        let (leaves, stays) = (Door::start().await, Door::start().await);
        let more = format!("{BY_ROOM}    admission: {{ handshakes: 0.01/s, burst: 1, wait: 1h }}\n");
        let yaml = configuration(&[leaves.address(), stays.address()], &more);
        let gateway = Gateway::start(&yaml).await;
        let mut clients = storm(&gateway, target, 20).await;
        waiting(&gateway, 18).await;
        let without = yaml.replace(&format!("{}, ", leaves.address()), "").replace("0.01/s", "500/s");
        assert_ne!(without.len(), yaml.len());
        gateway.reload(&without);
        for client in &mut clients {
            opens(client).await;
        }
        assert_eq!((leaves.seen().len(), stays.seen().len()), (1, 19));
    }
}

#[tokio::test]
async fn a_process_that_ends_answers_those_who_wait() {
    for target in [BY_WORKER, BY_SESSION] {
        let door = Door::start().await;
        let yaml = configuration(&[door.address()], "    admission: { handshakes: 0.01/s, burst: 1, wait: 1h }\n");
        let mut gateway = Gateway::start(&yaml.replacen("version: 1", "version: 1\ndrain: { window: 0s }", 1)).await;
        let mut clients = storm(&gateway, target, 5).await;
        waiting(&gateway, 4).await;
        assert_eq!(admitted(&gateway).await, 1.0);
        // One whose handshake is under way may be refused yet.
        gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"u\"}", 1.0).await;
        let mut left = Vec::new();
        for client in clients.drain(..) {
            left.push(client);
        }
        gateway.signal("TERM");
        let mut answers = Vec::new();
        for client in &mut left {
            let head = client.head().await;
            answers.push(head.split(' ').nth(1).unwrap().to_owned());
        }
        answers.sort_unstable();
        assert_eq!(answers, ["101", "503", "503", "503", "503"], "{target}");
        assert_eq!(gateway.ended().await, Some(0));
    }
}

#[tokio::test]
async fn tunnels_that_moved_to_another_process_count_there() {
    let door = Door::start().await;
    let more = "    affinity: [ header: x-room ]\n    limits: { tunnels: 2, per_key: 1 }\n";
    let mut gateway = Gateway::start(&configuration(&[door.address()], more)).await;
    let mut moved = ask(&gateway, BY_WORKER, 0, "X-Room: a\r\n").await;
    opens(&mut moved).await;
    echoes(&mut moved).await;
    let mut successor = gateway.successor().await;
    // Connections reach the successor alone once its predecessor has ended, and the tunnel with them.
    assert_eq!(gateway.ended().await, Some(0));
    successor.addresses.clone_from(&gateway.addresses);
    echoes(&mut moved).await;
    refused(&mut ask(&successor, BY_WORKER, 1, "X-Room: a\r\n").await, 429, 15).await;
    let mut other = ask(&successor, BY_WORKER, 2, "X-Room: b\r\n").await;
    opens(&mut other).await;
    refused(&mut ask(&successor, BY_WORKER, 3, "X-Room: c\r\n").await, 503, 15).await;
    refusals(&successor, "per_key", 1).await;
    refusals(&successor, "full", 1).await;
    drop(moved);
    successor.access.find(&[" tunnel_end "]).await;
    let load = format!("longhaul_backend_load{{backend=\"{}\",upstream=\"u\"}}", door.address());
    successor.metric_becomes(&load, 1.0).await;
    opens(&mut ask(&successor, BY_WORKER, 4, "X-Room: a\r\n").await).await;
}
