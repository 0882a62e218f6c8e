//! Several gateways with one source: they choose alike, and a drain that one is told of is every one's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use tokio::sync::mpsc;

use crate::etcd_server::{Cable, EtcdServer, PREFIX};
use crate::lab::{Load, Tunnel, backend, backends_on_one_port, config, leads_to, longhaul};
use crate::name_server::NameServer;
use crate::support::{Gateway, Wire, within};

const KEYS: usize = 10_000;

fn by_etcd(url: &str) -> String {
    format!("{{ etcd: {{ endpoints: [\"{url}\"], prefix: {PREFIX} }}, settle: 100ms, wait: 10s }}")
}

async fn gateways(count: usize, discover: &str) -> Vec<Gateway> {
    let yaml = config(discover, "");
    join_all((0..count).map(|_| Gateway::start(&yaml))).await
}

/// The backends that a gateway chooses for keys.
async fn choices(gateway: SocketAddr) -> Vec<String> {
    let mut wire = Wire::connect(gateway).await;
    let mut chosen = Vec::with_capacity(KEYS);
    for hundred in 0..KEYS / 100 {
        let request = |key: usize| format!("GET /?k={key} HTTP/1.1\r\nHost: a\r\n\r\n");
        wire.send((0..100).map(|key| request(hundred * 100 + key)).collect::<String>()).await;
        for _ in 0..100 {
            chosen.push(wire.answer().await.text());
        }
    }
    chosen
}

/// Checks that all gateways choose alike, and that every one of these backends is chosen.
async fn choose_alike(gateways: &[Gateway], backends: &[SocketAddr]) {
    let chosen = join_all(gateways.iter().map(|gateway| choices(gateway.address()))).await;
    for other in &chosen[1..] {
        let differ = chosen[0].iter().zip(other).filter(|(one, other)| one != other).count();
        assert_eq!(differ, 0, "of {KEYS} keys");
    }
    for backend in backends {
        assert!(chosen[0].contains(&backend.to_string()), "{backend} has no key");
    }
}

/// Waits until each gateway has put its next change in force, and prints how far apart they were.
async fn all_changed(gateways: &[Gateway], before: usize, by: &str) {
    let changed = gateways.iter().map(|gateway| async move {
        gateway.log.find_nth(&["members changed; a: "], before).await;
        Instant::now()
    });
    let moments = join_all(changed).await;
    let apart = *moments.iter().max().unwrap() - *moments.iter().min().unwrap();
    eprintln!("{} gateways by {by}: a change was in force in all within {apart:?} of each other", gateways.len());
}

async fn agree_by_etcd(count: usize) {
    let [one, two, three, four] = backends_on_one_port().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.register("y", two.address).await;
    let gateways = gateways(count, &by_etcd(&etcd.url())).await;
    etcd.register("z", three.address).await;
    all_changed(&gateways, 0, "etcd").await;
    etcd.register("x", four.address).await;
    all_changed(&gateways, 1, "etcd").await;
    etcd.put("y", &json!({ "address": two.address, "weight": 3 }).to_string()).await;
    all_changed(&gateways, 2, "etcd").await;
    choose_alike(&gateways, &[two.address, three.address, four.address]).await;
}

#[tokio::test]
async fn two_gateways_with_one_etcd_choose_alike() {
    agree_by_etcd(2).await;
}

#[tokio::test]
async fn five_gateways_with_one_etcd_choose_alike() {
    agree_by_etcd(5).await;
}

async fn agree_by_dns(count: usize) {
    let backends: [_; 4] = backends_on_one_port().await;
    let ips: Vec<IpAddr> = backends.iter().map(|backend| backend.address.ip()).collect();
    let server = NameServer::start().await;
    server.addresses("chat.internal", &ips[..2]);
    let (port, servers) = (backends[0].address.port(), server.address);
    let discover =
        format!("{{ dns: {{ name: chat.internal, port: {port}, servers: [\"{servers}\"] }}, settle: 100ms }}");
    let gateways = gateways(count, &discover).await;
    server.addresses("chat.internal", &ips);
    all_changed(&gateways, 0, "DNS").await;
    server.addresses("chat.internal", &ips[1..]);
    all_changed(&gateways, 1, "DNS").await;
    choose_alike(&gateways, &backends[1..].iter().map(|backend| backend.address).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn two_gateways_with_one_name_choose_alike() {
    agree_by_dns(2).await;
}

#[tokio::test]
async fn five_gateways_with_one_name_choose_alike() {
    agree_by_dns(5).await;
}

/// Drains a backend by one of several gateways over [`OVER`], each of which has more tunnels than the one before.
async fn drain_by_one_of(count: usize) {
    let (one, two) = (backend().await, backend().await);
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.register("y", two.address).await;
    let gateways = gateways(count, &by_etcd(&etcd.url())).await;
    let (closed, mut closes) = mpsc::unbounded_channel();
    let mut tunnels: HashMap<usize, usize> = HashMap::new();
    for (number, gateway) in gateways.iter().enumerate() {
        for key in 0..100 * (number + 1) {
            let mut tunnel = Tunnel::open(gateway.address(), &key.to_string()).await;
            if tunnel.backend == one.address {
                *tunnels.entry(number).or_insert(0) += 1;
                let closed = closed.clone();
                tokio::spawn(async move {
                    // It is open while all the others are being opened.
                    assert_eq!(tunnel.closed_at_last().await, 1012);
                    closed.send(number)
                });
            }
        }
    }
    drop(closed);
    let total: usize = tunnels.values().sum();
    let load = Load::on(gateways[0].address());
    let begun = Instant::now();
    let over = humantime::format_duration(OVER).to_string();
    let command = ["drain", "backend", "a/x", "--over", &over, "--everywhere"];
    let drain = longhaul(&gateways[0], &command);
    let gather = async {
        let mut order = Vec::new();
        while let Some(number) = within("a tunnel to be closed", closes.recv()).await {
            order.push((begun.elapsed(), number));
        }
        order
    };
    let ((code, said), order) = tokio::join!(drain, gather);
    assert!(code == Some(0) && said.contains("a/x") && said.contains("has nothing left"), "{said}");
    assert_eq!(order.len(), total);
    // Together they are never faster than one gateway with all the tunnels, beyond a slot of each worker.
    for (place, (at, _)) in order.iter().enumerate() {
        let share = total as f64 * at.as_secs_f64() / OVER.as_secs_f64();
        assert!(place as f64 <= share * 1.1 + (2 * count) as f64, "{place} of {total} were closed after {at:?}");
    }
    // And each takes its share: at no moment is one ahead of its own tunnels' part of the time. One that is late, for
    // its process stood still, has them to make up for, and is not ahead by that.
    let mut closed: HashMap<usize, usize> = HashMap::new();
    for (at, number) in &order {
        let closed = closed.entry(*number).or_insert(0);
        let share = tunnels[number] as f64 * at.as_secs_f64() / OVER.as_secs_f64();
        assert!(*closed as f64 <= share * 1.1 + 4.0, "gateway {number} had closed {closed} after {at:?}");
        *closed += 1;
    }
    let (early, late) = (order[total / 10].0, order[total * 9 / 10].0);
    let rate = 0.8 * total as f64 / (late - early).as_secs_f64();
    eprintln!(
        "{count} gateways: {total} tunnels at {rate:.1}/s together; {:.1}/s were told",
        total as f64 / OVER.as_secs_f64()
    );
    for gateway in &gateways {
        leads_to(gateway, &[two.address]).await;
    }
    assert_eq!(load.failures().await, [""; 0]);
}

const OVER: Duration = Duration::from_secs(8);

#[tokio::test]
async fn a_drain_told_to_one_of_two_gateways_is_both_ones_at_one_pace() {
    drain_by_one_of(2).await;
}

#[tokio::test]
async fn a_drain_told_to_one_of_five_gateways_is_every_ones_at_one_pace() {
    drain_by_one_of(5).await;
}

#[tokio::test]
async fn a_drain_everywhere_is_called_off_by_another_gateway_and_ends_with_its_backends_key() {
    let (one, two) = (backend().await, backend().await);
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.register("y", two.address).await;
    let gateways = gateways(2, &by_etcd(&etcd.url())).await;
    let both = [one.address, two.address];
    let mut tunnels = Vec::new();
    for key in 0..12 {
        tunnels.push(Tunnel::open(gateways[1].address(), &key.to_string()).await);
    }
    let begin = ["drain", "backend", "a/x", "--over", "1h", "--everywhere", "--no-wait"];
    let undo = ["drain", "backend", "a/x", "--undo", "--everywhere"];
    assert_eq!(longhaul(&gateways[0], &begin).await.0, Some(0));
    // One that starts now is told, too.
    let third = Gateway::start(&config(&by_etcd(&etcd.url()), "")).await;
    for gateway in gateways.iter().chain([&third]) {
        leads_to(gateway, &[two.address]).await;
        assert!(longhaul(gateway, &["status"]).await.1.contains("leaving"));
    }
    assert_eq!(etcd.keys().await.len(), 3);
    let (code, said) = longhaul(&gateways[1], &undo).await;
    assert!(code == Some(0) && said.contains("a/x takes its share again, everywhere"), "{said}");
    for gateway in gateways.iter().chain([&third]) {
        leads_to(gateway, &both).await;
    }
    for tunnel in &mut tunnels {
        tunnel.echo("spared").await;
    }
    let (code, said) = longhaul(&gateways[0], &undo).await;
    assert!(code == Some(2) && said.contains("`x` is not drained everywhere"), "{said}");

    // A backend that registers anew is another one; the drain of one with a lease ends with it.
    assert_eq!(longhaul(&gateways[0], &begin).await.0, Some(0));
    leads_to(&gateways[1], &[two.address]).await;
    etcd.remove("x").await;
    etcd.register_for("x", one.address, 3_600).await;
    for gateway in &gateways {
        leads_to(gateway, &both).await;
    }
    assert_eq!(longhaul(&gateways[0], &begin).await.0, Some(0));
    leads_to(&gateways[1], &[two.address]).await;
    etcd.revoke_lease_of("x").await;
    assert_eq!(etcd.keys().await, [format!("{PREFIX}y")]);
}

#[tokio::test]
async fn a_drain_that_cannot_be_told_everywhere_is_refused_and_drains_nothing() {
    let one = backend().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    let mut cable = Cable::to(etcd.address).await;
    let yaml = config(&by_etcd(&format!("http://{}", cable.address)), "  b: { backends: [127.0.0.1:9] }\n");
    let gateway = Gateway::start(&yaml).await;
    leads_to(&gateway, &[one.address]).await;
    let drain = async |backend: &str| longhaul(&gateway, &["drain", "backend", backend, "--everywhere"]).await;
    for (backend, part) in [
        ("b/127.0.0.1:9", "the members of `b` are not in etcd"),
        ("a/y", "upstream `a` has no backend y"),
        ("c/x", "there is no upstream `c`"),
    ] {
        let (code, said) = drain(backend).await;
        assert!(code == Some(2) && said.contains(part), "{backend}: {said}");
    }
    cable.cut().await;
    gateway.log.find(&["the members of a stay as they are, their source (etcd) is of no use"]).await;
    let (code, said) = drain("a/x").await;
    assert!(code == Some(1) && said.contains("etcd has not taken it: "), "{said}");
    leads_to(&gateway, &[one.address]).await;
    assert_eq!(etcd.keys().await, [format!("{PREFIX}x")]);
}
