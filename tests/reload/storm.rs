//! A thousand reloads under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::client::Client;
use crate::subject::{Subject, named, upstreams};
use crate::support::Echo;

const RELOADS: usize = 1_000;
const TUNNELS: usize = 20;

/// Anonymous memory in KiB, and the number of threads.
fn size(pid: u32) -> (usize, usize) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (field("RssAnon:"), field("Threads:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_reloads_under_load_cost_no_request_no_tunnel_and_no_memory() {
    let (echo, http, guest) = (Echo::start().await, named().await, named().await);
    // The one upstream's ring changes each time, another comes and goes, and the tunnels' own changes in its policies.
    let files = [false, true].map(|grown| {
        let guests = if grown { format!(", {}", guest.address) } else { String::new() };
        let comes = format!("backends: [{}]", guest.address);
        let http = format!("backends: [{}{guests}], affinity: [client_ip], balance_factor: 1.5", http.address);
        let limit = if grown { "1MiB" } else { "off" };
        let ws = format!("backends: [{}], tunnel: {{ max_message: {limit} }}", echo.address());
        let mut all = vec![("http", http.as_str()), ("ws", ws.as_str())];
        all.extend(grown.then_some(("guest", comes.as_str())));
        upstreams(&all)
    });
    let mut subject = Subject::start(&files[0]).await;
    let pid = subject.gateway.pid();
    let over = Arc::new(AtomicBool::new(false));
    let (requests, echoes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));

    let mut load = Vec::new();
    for number in 0..TUNNELS {
        let (over, count) = (Arc::clone(&over), Arc::clone(&echoes));
        let mut client = Client::open(subject.gateway.address(), "/ws", &number.to_string()).await;
        load.push(tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                client.echo(&format!("message {}", count.fetch_add(1, Ordering::Relaxed))).await;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }));
    }
    for _ in 0..4 {
        let (over, count) = (Arc::clone(&over), Arc::clone(&requests));
        let url = format!("http://{}/http", subject.gateway.address());
        load.push(tokio::spawn(async move {
            let client = reqwest::Client::new();
            while !over.load(Ordering::Relaxed) {
                let answer = client.get(&url).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                answer.text().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }));
    }

    let mut early = (0, 0);
    for round in 1..=RELOADS {
        subject.reload(&files[round % 2]).await;
        if round == RELOADS / 5 {
            early = size(pid);
        }
    }
    let late = size(pid);
    over.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let (requests, echoes) = (requests.load(Ordering::Relaxed), echoes.load(Ordering::Relaxed));
    println!("{RELOADS} reloads, {requests} requests, {echoes} messages: KiB and threads from {early:?} to {late:?}");
    assert_eq!(subject.gateway.metric("longhaul_config_generation").await, 1.0 + RELOADS as f64);
    assert_eq!(subject.gateway.access.count(&["tunnel_end", "reason=config_changed"]), 0);
    assert_eq!(subject.gateway.access.count(&["tunnel_open"]), TUNNELS);
    assert!(requests > RELOADS && echoes > RELOADS, "{requests} requests and {echoes} messages are no load");
    // A reload that left anything behind would have done so eight hundred times since.
    assert!(late.0 < early.0 + 4 * 1024, "anonymous memory went from {} to {} KiB", early.0, late.0);
    assert!(late.1 <= early.1 + 2, "threads went from {} to {}", early.1, late.1);
}
