//! Logs and counts of tunnels that lived in several processes.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::lab::{Lab, config, get, ready, upgrade};
use crate::support::Gateway;
use crate::ws::{BINARY, Tunnel, frame};

/// A field's value in a line of the access log.
fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let found = line.split(' ').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {line}"))
}

/// Longest pause that a process logged when it handed over.
fn longest_pause(process: &Gateway) -> Duration {
    let lines = process.log.all();
    let text = lines.iter().find_map(|line| Some(line.split_once("stayed, longest pause ")?.1)).unwrap();
    let unit = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap();
    let seconds = match &text[unit..] {
        "s" => 1.0,
        "ms" => 1e-3,
        "µs" => 1e-6,
        other => panic!("{other}"),
    };
    Duration::from_secs_f64(text[..unit].parse::<f64>().unwrap() * seconds)
}

fn backend_metric(name: &str, backend: SocketAddr) -> String {
    format!("longhaul_{name}{{backend=\"{backend}\",upstream=\"u\"}}")
}

#[tokio::test]
async fn a_tunnel_has_one_opening_and_one_end_with_the_totals_of_every_process() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("    affinity: [query: room]\n").await;
    let before = Instant::now();
    let mut tunnel = Tunnel::open(gateway.address(), "/echo?room=7").await;
    // Only a message shows that the tunnel is open: the 101 is sent before that.
    tunnel.echoes().await;
    let opened = Instant::now();
    let sizes = [10, 1_000, 70_000];
    let mut processes = Vec::new();
    for size in sizes {
        tunnel.send(&frame(BINARY, &vec![1; size], true)).await;
        assert_eq!(tunnel.receive().await.payload.len(), size);
        processes.push(upgrade(&mut gateway).await);
    }
    let closing = Instant::now();
    tunnel.close().await;
    let end = gateway.access.find(&[" tunnel_end "]).await;
    let after = Instant::now();

    let [first, later @ ..] = &processes[..] else { panic!("three processes are gone") };
    let open = first.access.find(&[" tunnel_open "]).await;
    assert!(later.iter().all(|process| process.access.count(&["tunnel_"]) == 0));
    assert_eq!((first.access.count(&["tunnel_"]), gateway.access.count(&["tunnel_"])), (1, 1));
    for name in ["request_id", "client", "peer", "route", "upstream", "backend", "key_source", "key"] {
        assert_eq!(field(&open, name), field(&end, name), "{name}");
    }
    assert_eq!(field(&open, "key_source"), "query");

    let from_client: usize =
        sizes.iter().map(|size| frame(BINARY, &vec![1; *size], true).len()).sum::<usize>() + 14 + 8;
    let from_backend: usize =
        sizes.iter().map(|size| frame(BINARY, &vec![1; *size], false).len()).sum::<usize>() + 10 + 4;
    assert_eq!(field(&end, "bytes_from_client"), from_client.to_string());
    assert_eq!(field(&end, "bytes_from_backend"), from_backend.to_string());
    assert_eq!((field(&end, "messages_from_client"), field(&end, "messages_from_backend")), ("4", "4"));
    assert_eq!((field(&end, "reason"), field(&end, "close_code")), ("client_close", "1000"));
    let lasted = Duration::from_millis(field(&end, "duration_ms").parse().unwrap());
    // Whole milliseconds are logged, and the time on the way from one process to the next counts for neither.
    let on_the_way: Duration = processes.iter().map(longest_pause).sum();
    let least = (closing - opened).saturating_sub(on_the_way + Duration::from_millis(1));
    assert!(least <= lasted && lasted <= after - before, "{lasted:?}, {on_the_way:?} on the way");
}

#[tokio::test]
async fn counters_and_gauges_follow_the_tunnels() {
    let lab = Lab::start().await;
    let mut gateway = lab.gateway("").await;
    let mut tunnels = crate::ws::open_several(gateway.address(), 40).await;
    let [open, load] = ["backend_tunnels", "backend_load"].map(|name| backend_metric(name, lab.address()));
    for _ in 0..2 {
        let successor = ready(gateway.successor().await).await;
        let mut old = std::mem::replace(&mut gateway, successor);
        gateway.metric_becomes("longhaul_tunnels_adopted_total{upstream=\"u\"}", 40.0).await;
        assert_eq!(old.ended().await, Some(0));
        assert_eq!((gateway.metric(&open).await, gateway.metric(&load).await), (40.0, 40.0));
        assert_eq!(gateway.metric("longhaul_tunnels_opened_total{upstream=\"u\"}").await, 0.0);
    }
    crate::ws::all_echo(&mut tunnels).await;
    // Each process counts what it moved.
    gateway.metric_becomes("longhaul_tunnel_bytes_total{direction=\"to_client\",upstream=\"u\"}", 400.0).await;
    for tunnel in tunnels {
        tunnel.close().await;
    }
    gateway.metric_becomes(&open, 0.0).await;
    gateway.metric_becomes(&load, 0.0).await;
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"client_close\",upstream=\"u\"}", 40.0).await;
}

#[tokio::test]
async fn a_batch_that_was_put_back_counts_once_and_not_as_handed_over() {
    let lab = Lab::start().await;
    let old = lab.gateway("").await;
    let metrics = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
    let mut tunnels = crate::ws::open_several(old.address(), 3).await;
    // Only a message shows that a tunnel is open.
    crate::ws::all_echo(&mut tunnels).await;
    let failed = crate::stand_in::StandIn::at(&old, crate::stand_in::Step::Ready).await;
    drop(failed);
    old.log.find(&["the handover failed"]).await;
    crate::ws::all_echo(&mut tunnels).await;
    let text =
        metrics.get(format!("http://{}/metrics", old.metrics.unwrap())).send().await.unwrap().text().await.unwrap();
    let count = text.lines().find(|line| line.starts_with("longhaul_tunnels_handed_over_total{upstream=\"u\"}"));
    assert_eq!(count.unwrap().rsplit(' ').next(), Some("0"), "a batch that was put back was not handed over");
    let open = backend_metric("backend_tunnels", lab.address());
    assert_eq!(old.metric(&open).await, 3.0);
}

#[tokio::test]
async fn no_backend_passes_its_bound_across_an_upgrade() {
    let mut labs = Vec::new();
    for _ in 0..4 {
        labs.push(Lab::start().await);
    }
    let addresses: Vec<SocketAddr> = labs.iter().map(Lab::address).collect();
    let more = "    affinity: [query: room]\n    balance_factor: 1.25\n";
    let mut gateway = ready(Gateway::start(&config(&addresses, more)).await).await;
    let mut tunnels = Vec::new();
    for count in 1..=24u32 {
        // Every key leads to the same backend.
        let tunnel = Tunnel::open_from(gateway.address(), "/echo?room=full", Ipv4Addr::LOCALHOST, false).await;
        tunnels.push(tunnel);
        let bound = (1.25 * f64::from(count) / 4.0).ceil();
        for address in &addresses {
            let open = gateway.metric(&backend_metric("backend_tunnels", *address)).await;
            assert!(open <= bound, "{open} of {count} tunnels lead to {address}, bound {bound}");
        }
        if count % 8 == 0 {
            upgrade(&mut gateway).await;
        }
    }
    let mut loads = Vec::new();
    for address in &addresses {
        loads.push(gateway.metric(&backend_metric("backend_tunnels", *address)).await);
    }
    loads.sort_by(f64::total_cmp);
    assert_eq!(loads.iter().sum::<f64>(), 24.0, "{loads:?}");
    assert_eq!(loads[3], 8.0, "the home is full to its bound: {loads:?}");
    assert!(addresses.contains(&get(gateway.address()).await));
    crate::ws::all_echo(&mut tunnels).await;
}
