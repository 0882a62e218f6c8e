//! Cost of idle tunnels: no wake-ups, and little memory.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::support::{Gateway, within};
use crate::wire::Wire;

use super::load::{HEAVY, mirror, quiet_gateway, source, tunnel_from};

/// Number of context switches of the gateway's tunnel workers so far.
fn switches(gateway: &Gateway) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).unwrap();
    let mut workers = 0;
    let mut switches = 0;
    for task in tasks.map(|task| task.unwrap().path()) {
        if fs::read_to_string(task.join("comm")).unwrap().starts_with("tunnels-") {
            workers += 1;
            let status = fs::read_to_string(task.join("status")).unwrap();
            let counts = status.lines().filter(|line| line.contains("_ctxt_switches:"));
            switches +=
                counts.map(|line| line.split_whitespace().next_back().unwrap().parse::<u64>().unwrap()).sum::<u64>();
        }
    }
    assert_eq!(workers, 2, "one per thread of the configuration");
    switches
}

/// Plain requests, one after the other on one connection.
async fn requests(client: &mut Wire, count: usize) {
    for _ in 0..count {
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.answer().await.status(), 200);
    }
}

/// Opens tunnels, and waits for the greeting of each.
async fn open(gateway: &Gateway, count: u32) -> Vec<Wire> {
    let at = gateway.address();
    let open = |number| async move {
        let mut client = tunnel_from(source(number), at).await.unwrap();
        client.frame().await;
        client
    };
    stream::iter(0..count).map(open).buffer_unordered(50).collect().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_tunnels_wake_nobody() {
    let _alone = HEAVY.lock().await;
    let backend = mirror().await;
    let gateway = quiet_gateway(&[backend.address], "").await;
    let tunnels = open(&gateway, 2000).await;
    // The workers come to rest after the last greeting, and after they have accepted the client of the requests. Within
    // a second they report the lengths of their last turns. From then on they sleep, however many requests there are.
    let mut client = Wire::connect(gateway.address()).await;
    let rest = async {
        loop {
            let (before, begun) = (switches(&gateway), Instant::now());
            while begun.elapsed() < Duration::from_secs(2) {
                requests(&mut client, 50).await;
            }
            if switches(&gateway) == before {
                return;
            }
        }
    };
    within("two seconds in which no worker wakes", rest).await;
    assert_eq!(tunnels.len(), 2000);
}

/// Bytes of anonymous memory that the gateway occupies.
fn anonymous(gateway: &Gateway) -> i64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<i64>().unwrap() * 1024
}

/// A measurement and no test: tests/idle_memory.sh runs it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: run tests/idle_memory.sh"]
async fn memory_of_an_idle_tunnel() {
    const TUNNELS: u32 = 5000;
    let backend = mirror().await;
    let gateway = quiet_gateway(&[backend.address], "").await;
    // Memory that the first handshakes allocate once and for all is not the tunnels'.
    drop(open(&gateway, 200).await);
    let mut client = Wire::connect(gateway.address()).await;
    requests(&mut client, 50).await;
    let before = anonymous(&gateway);
    let tunnels = open(&gateway, TUNNELS).await;
    let report = |when: &str| {
        let each = (anonymous(&gateway) - before) / i64::from(TUNNELS);
        println!("{when}: {each} bytes of anonymous memory per tunnel, for {TUNNELS} idle tunnels");
    };
    report("just opened");
    // The allocator gives freed memory back within ten seconds, as far as something is going on.
    for _ in 0..20 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        requests(&mut client, 20).await;
    }
    report("20 s later");
    assert_eq!(tunnels.len() as u32, TUNNELS);
}
