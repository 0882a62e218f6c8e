//! Members in a file: both forms, every way to replace a file, and every way in which it can be wrong.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::lab::{Load, Tunnel, backend, config, get, in_folder, leads_to, longhaul, of_source};
use crate::support::{Gateway, folder, within};

const FILE: &str = "{ file: \"{dir}/members.yaml\", settle: 0s, wait: 30s }";
/// The same, for starts without the file.
const HARDLY_AWAITED: &str = "{ file: \"{dir}/members.yaml\", settle: 0s, wait: 100ms }";

/// A list in our own form.
fn listed(members: &[(&str, SocketAddr)]) -> String {
    let lines = members.iter().map(|(name, address)| format!("- {{ name: {name}, address: {address} }}\n"));
    if members.is_empty() { "[]\n".to_owned() } else { lines.collect() }
}

/// Puts a file in place in one step.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// A gateway that starts with these members in its file.
async fn started(discover: &str, text: &str, more: &str) -> Gateway {
    let dir = folder(&config(discover, more));
    fs::write(dir.path().join("members.yaml"), text).unwrap();
    Gateway::begin(dir, &[], &[]).listening().await
}

#[tokio::test]
async fn members_come_go_and_move_while_clients_go_on() {
    let (one, two, three) = (backend().await, backend().await, backend().await);
    let gateway = started(FILE, &listed(&[("x", one.address), ("y", two.address)]), "    drain_window: 0s\n").await;
    let file = in_folder(&gateway, "members.yaml");
    leads_to(&gateway, &[one.address, two.address]).await;
    let load = Load::on(gateway.address());
    let mut tunnels = Vec::new();
    for key in 0..8 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    assert!(tunnels.iter().any(|tunnel| tunnel.backend == one.address));

    // `x` has another address: its keys stay its own, and tunnels to the old one are closed.
    load.goes_on(50).await;
    replace(&file, &listed(&[("x", three.address), ("y", two.address)]));
    leads_to(&gateway, &[three.address, two.address]).await;
    let mut stayed = Vec::new();
    for (key, mut tunnel) in tunnels.into_iter().enumerate() {
        let (_, now) = get(gateway.address(), &format!("/?k={key}")).await;
        if tunnel.backend == one.address {
            assert_eq!((tunnel.closed().await, now), (1012, three.address.to_string()));
        } else {
            assert_eq!(now, two.address.to_string());
            stayed.push(tunnel);
        }
    }
    let line = gateway.log.find(&["members changed; a: ~ backend x: address from"]).await;
    assert!(line.contains("to be closed"), "{line}");

    replace(&file, &listed(&[("y", two.address)]));
    leads_to(&gateway, &[two.address]).await;
    replace(&file, &listed(&[("y", two.address), ("z", one.address)]));
    leads_to(&gateway, &[two.address, one.address]).await;
    load.goes_on(50).await;
    for tunnel in &mut stayed {
        tunnel.echo("still here").await;
    }
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.metric(&of_source("members", "file")).await, 2.0);
    assert_eq!(gateway.metric(&of_source("updates_total", "file")).await, 4.0);
    assert_eq!(gateway.metric(&of_source("errors_total", "file")).await, 0.0);
    assert_eq!(gateway.metric("longhaul_config_generation").await, 1.0);
}

#[tokio::test]
async fn a_member_that_leaves_gets_nothing_new_and_its_tunnels_are_closed() {
    let (one, two) = (backend().await, backend().await);
    let gateway = started(
        FILE,
        &listed(&[("x", one.address), ("y", two.address)]),
        "    on_change: keep\n    drain_window: 0s\n",
    )
    .await;
    leads_to(&gateway, &[one.address, two.address]).await;
    let mut tunnels = Vec::new();
    for key in 0..8 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    let leaving = format!(
        "- {{ name: x, address: {}, leaving: true }}\n- {{ name: y, address: {} }}\n",
        one.address, two.address
    );
    replace(&in_folder(&gateway, "members.yaml"), &leaving);
    leads_to(&gateway, &[two.address]).await;
    for tunnel in tunnels.iter_mut().filter(|tunnel| tunnel.backend == one.address) {
        assert_eq!(tunnel.closed().await, 1012);
    }
    gateway.access.find(&["tunnel_end", "backend_name=x", "reason=backend_drained"]).await;
    for tunnel in tunnels.iter_mut().filter(|tunnel| tunnel.backend == two.address) {
        tunnel.echo("still here").await;
    }
    let (_, status) = longhaul(&gateway, &["status"]).await;
    assert!(status.contains("upstream a, 2 members by file, answered ") && status.contains(", leaving"), "{status}");
}

#[tokio::test]
async fn groups_of_prometheus_and_the_links_of_a_config_map_are_read() {
    let (one, two) = (backend().await, backend().await);
    let dir = folder(&config("{ file: \"{dir}/map/members.json\", settle: 0s }", ""));
    // Kubernetes: members.json -> ..data/members.json, ..data -> a folder that is new with each change.
    let map = dir.path().join("map");
    let version = |number: u8, address: SocketAddr| {
        let inner = map.join(format!("..{number}"));
        fs::create_dir_all(&inner).unwrap();
        fs::write(
            inner.join("members.json"),
            format!("[{{\"targets\":[\"{address}\"],\"labels\":{{\"job\":\"a\"}}}}]"),
        )
        .unwrap();
        symlink(format!("..{number}"), map.join("..data_tmp")).unwrap();
        fs::rename(map.join("..data_tmp"), map.join("..data")).unwrap();
    };
    version(1, one.address);
    symlink("..data/members.json", map.join("members.json")).unwrap();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    leads_to(&gateway, &[one.address]).await;
    version(2, two.address);
    leads_to(&gateway, &[two.address]).await;
}

#[tokio::test]
async fn a_file_that_is_wrong_half_written_or_away_changes_nothing_and_is_told_of_once() {
    let (one, two) = (backend().await, backend().await);
    let good = listed(&[("x", one.address)]);
    let gateway = started(FILE, &good, "    on_change: keep\n").await;
    let load = Load::on(gateway.address());
    let mut tunnel = Tunnel::open(gateway.address(), "k").await;
    let file = in_folder(&gateway, "members.yaml");
    let errors = of_source("errors_total", "file");
    let place = format!("{}:1:", file.display());
    for (number, (text, part)) in [
        ("- { name: x, addr", format!("{}:", file.display())),
        ("- { name: x, addres: 127.0.0.1:1 }\n", format!("{place}3: [0].address: missing")),
        ("", format!("{place}1: the file is empty")),
    ]
    .into_iter()
    .enumerate()
    {
        replace(&file, text);
        gateway.log.find(&["the members of a stay as they are, their source (file) is of no use", &part]).await;
        gateway.metric_becomes(&errors, number as f64 + 1.0).await;
    }
    fs::remove_file(&file).unwrap();
    gateway.log.find(&["the members of a stay as they are", "cannot be read"]).await;
    leads_to(&gateway, &[one.address]).await;
    let (_, status) = longhaul(&gateway, &["status"]).await;
    assert!(status.contains("1 member by file") && status.contains("cannot be read"), "{status}");
    replace(&file, &listed(&[("x", two.address)]));
    leads_to(&gateway, &[two.address]).await;
    gateway.log.find(&["the source of the members of a (file) answers again"]).await;
    assert_eq!(gateway.log.count(&["the members of a stay as they are"]), 4);
    tunnel.echo("still here").await;
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.access.count(&["tunnel_end"]), 0);
}

#[tokio::test]
async fn a_file_without_members_takes_nobody_away_before_its_time() {
    let one = backend().await;
    let good = listed(&[("x", one.address)]);
    let kept = started("{ file: \"{dir}/members.yaml\", settle: 0s, keep_empty: 1d }", &good, "").await;
    let gone = started("{ file: \"{dir}/members.yaml\", settle: 0s, keep_empty: 0s }", &good, "").await;
    for gateway in [&kept, &gone] {
        leads_to(gateway, &[one.address]).await;
        replace(&in_folder(gateway, "members.yaml"), "[]");
        gateway.log.find(&["the source of the members of a names none: they are kept for"]).await;
    }
    gone.log.find(&["members changed; a: - backend x"]).await;
    assert_eq!(get(gone.address(), "/").await.0, 503);
    assert_eq!(get(kept.address(), "/").await.0, 200);
}

#[tokio::test]
async fn without_its_file_a_gateway_starts_with_the_members_that_it_knew_last() {
    let one = backend().await;
    let gateway = started(HARDLY_AWAITED, &listed(&[("x", one.address)]), "").await;
    leads_to(&gateway, &[one.address]).await;
    let dir = gateway.dir.clone();
    drop(gateway);
    fs::remove_file(dir.path().join("members.yaml")).unwrap();
    let gateway = Gateway::begin(dir.clone(), &[], &[]).listening().await;
    gateway.log.find(&["has not answered within 100ms: it keeps the 1 member that it had before"]).await;
    leads_to(&gateway, &[one.address]).await;

    drop(gateway);
    fs::remove_dir_all(dir.path().join("state")).unwrap();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    gateway.log.find(&["has not answered within 100ms, and none are known"]).await;
    assert_eq!(get(gateway.address(), "/").await.0, 503);
}

#[tokio::test]
async fn a_reload_begins_and_ends_with_a_source_and_a_plan_knows_its_members() {
    let (one, two) = (backend().await, backend().await);
    let gateway = started(FILE, &listed(&[("x", one.address), ("y", two.address)]), "").await;
    leads_to(&gateway, &[one.address, two.address]).await;
    let path = in_folder(&gateway, "longhaul.yaml");
    let discovered = fs::read_to_string(&path).unwrap();
    let discover = discovered.lines().find(|line| line.contains("discover:")).unwrap();
    let backends = format!("    backends: [{{ name: x, address: {} }}]", one.address);
    let new = in_folder(&gateway, "new.yaml");
    fs::write(&new, discovered.replace(discover, &backends)).unwrap();
    let (_, plan) = longhaul(&gateway, &["plan", "--running", new.to_str().unwrap()]).await;
    assert!(plan.contains("~ discover") && plan.contains("keys of a that move to another backend: "), "{plan}");

    fs::copy(&new, &path).unwrap();
    assert_eq!(longhaul(&gateway, &["reload"]).await.0, Some(0));
    leads_to(&gateway, &[one.address]).await;
    assert!(!gateway.scrape().await.contains("longhaul_discovery_members{"));
    fs::write(&path, discovered).unwrap();
    assert_eq!(longhaul(&gateway, &["reload"]).await.0, Some(0));
    leads_to(&gateway, &[one.address, two.address]).await;
    assert_eq!(gateway.metric(&of_source("members", "file")).await, 2.0);
}

#[tokio::test]
async fn a_successor_begins_with_the_members_that_its_predecessor_knows() {
    let one = backend().await;
    let gateway = started(HARDLY_AWAITED, &listed(&[("x", one.address)]), "").await;
    leads_to(&gateway, &[one.address]).await;
    let mut tunnel = Tunnel::open(gateway.address(), "k").await;
    fs::remove_file(in_folder(&gateway, "members.yaml")).unwrap();
    fs::remove_dir_all(in_folder(&gateway, "state")).unwrap();
    let successor = gateway.successor().await;
    successor.log.find(&["took over 1 tunnel "]).await;
    leads_to(&successor, &[one.address]).await;
    tunnel.echo("moved").await;
    // The one to alert on is there while the source is away.
    assert!(successor.metric(&of_source("age_seconds", "file")).await > 0.0);
}

#[tokio::test]
async fn a_pipe_in_the_place_of_the_file_is_refused_and_the_next_file_is_read() {
    let (one, two) = (backend().await, backend().await);
    let gateway = started(FILE, &listed(&[("x", one.address)]), "").await;
    leads_to(&gateway, &[one.address]).await;
    let file = in_folder(&gateway, "members.yaml");
    fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    gateway.log.find(&["the members of a stay as they are", "members.yaml: cannot be read: not a regular file"]).await;
    leads_to(&gateway, &[one.address]).await;
    replace(&file, &listed(&[("x", two.address)]));
    leads_to(&gateway, &[two.address]).await;
}

#[tokio::test]
async fn clients_that_wait_in_the_old_process_of_an_upgrade_go_on_by_members_that_change() {
    let (one, two) = (backend().await, backend().await);
    let admission = "    admission: { handshakes: 0.01/s, burst: 1, wait: 1h }\n";
    let gateway = started(FILE, &listed(&[("x", one.address), ("y", two.address)]), admission).await;
    let first = Tunnel::open(gateway.address(), "k").await;
    let (home, other) =
        if first.backend == one.address { ("x", ("y", two.address)) } else { ("y", ("x", one.address)) };
    let address = gateway.address();
    let waits = tokio::spawn(async move { Tunnel::open(address, "k").await });
    gateway.metric_becomes(&format!("longhaul_backend_waiting{{backend=\"{home}\",upstream=\"a\"}}"), 1.0).await;
    let successor = gateway.successor().await;
    successor.log.find(&["took over 1 tunnel "]).await;
    replace(&in_folder(&gateway, "members.yaml"), &listed(&[other]));
    gateway.log.find(&["members changed; a: "]).await;
    let mut tunnel = within("the client that waited", waits).await.unwrap();
    assert_eq!(tunnel.backend, other.1);
    tunnel.echo("here").await;
}
