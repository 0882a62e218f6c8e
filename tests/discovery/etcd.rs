//! Members in a real etcd: what comes and goes, and an etcd that is away, forgetful, hung, locked or full of garbage.

use serde_json::json;

use crate::etcd_server::{Cable, EtcdServer, HOST, PREFIX};
use crate::lab::{Load, Tunnel, backend, config, get, in_folder, leads_to, longhaul, of_source};
use crate::support::certificates::Authority;
use crate::support::{Backend, Gateway, folder, within};

pub(crate) const OF_NO_USE: &str = "the members of a stay as they are, their source (etcd) is of no use: ";
pub(crate) const AGAIN: &str = "the source of the members of a (etcd) answers again";

/// `discover` by the keys of servers at these URLs.
fn by_keys(urls: &[String], more: &str) -> String {
    let urls = json!(urls);
    format!("{{ etcd: {{ endpoints: {urls}, prefix: {PREFIX}{more} }}, settle: 0s, wait: 10s }}")
}

/// A gateway with the members of these servers.
pub(crate) async fn started(urls: &[String], more: &str) -> Gateway {
    Gateway::start(&config(&by_keys(urls, more), "    drain_window: 0s\n")).await
}

pub(crate) async fn tunnels(gateway: &Gateway, count: usize) -> Vec<Tunnel> {
    let mut tunnels = Vec::new();
    for key in 0..count {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    tunnels
}

/// Number of lines so far that tell of a failure, and of its end.
fn told(gateway: &Gateway) -> [usize; 2] {
    [OF_NO_USE, AGAIN].map(|line| gateway.log.count(&[line]))
}

async fn status(gateway: &Gateway) -> String {
    longhaul(gateway, &["status"]).await.1
}

pub(crate) async fn backends<const N: usize>() -> [Backend; N] {
    let mut made = Vec::new();
    for _ in 0..N {
        made.push(backend().await);
    }
    made.try_into().unwrap_or_else(|_| unreachable!("as many were made"))
}

#[tokio::test]
async fn members_come_move_leave_and_go_by_their_keys_while_clients_go_on() {
    let [one, two, three] = backends().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.register("eu/y", two.address).await;
    let gateway = started(&[etcd.url()], "").await;
    leads_to(&gateway, &[one.address, two.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 12).await;
    etcd.register("x", three.address).await;
    leads_to(&gateway, &[three.address, two.address]).await;
    etcd.put("eu/y", &json!({ "address": two.address, "leaving": true }).to_string()).await;
    leads_to(&gateway, &[three.address]).await;
    for tunnel in &mut open {
        assert_eq!(tunnel.closed().await, 1012);
    }
    etcd.put("eu/y", &json!({ "address": two.address, "weight": 7 }).to_string()).await;
    leads_to(&gateway, &[three.address, two.address]).await;
    let shown = status(&gateway).await;
    assert!(shown.contains("2 members by etcd, answered ") && shown.contains("weight 7"), "{shown}");
    let mut stayed = tunnels(&gateway, 12).await;
    etcd.remove("x").await;
    leads_to(&gateway, &[two.address]).await;
    for tunnel in &mut stayed {
        if tunnel.backend == two.address {
            tunnel.echo("still here").await;
        } else {
            assert_eq!(tunnel.closed().await, 1012);
        }
    }
    load.goes_on(50).await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.metric(&of_source("members", "etcd")).await, 1.0);
    assert_eq!(gateway.metric(&of_source("errors_total", "etcd")).await, 0.0);
}

#[tokio::test]
async fn a_backend_whose_lease_ends_is_no_member_any_more() {
    let [one, two] = backends().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    let gateway = started(&[etcd.url()], "").await;
    etcd.register_for("y", two.address, 3_600).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    // From here on its owner is to be heard of within a second.
    etcd.register_for("y", two.address, 1).await;
    leads_to(&gateway, &[one.address]).await;
    assert_eq!(etcd.keys().await, [format!("{PREFIX}x")]);
}

#[tokio::test]
async fn an_etcd_that_crashes_and_comes_back_costs_no_request_and_no_tunnel() {
    let [one, two] = backends().await;
    let mut etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    let gateway = started(&[etcd.url()], "").await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 8).await;
    for _ in 0..2 {
        // There may be several of each: a server that starts may fail in more than one way.
        let [failed, mended] = told(&gateway);
        etcd.kill();
        gateway.log.find_nth(&[OF_NO_USE], failed).await;
        let shown = status(&gateway).await;
        assert!(shown.contains("1 member by etcd, answered ") && shown.contains(&etcd.url()), "{shown}");
        load.goes_on(50).await;
        etcd.start_again().await;
        gateway.log.find_nth(&[AGAIN], mended).await;
    }
    etcd.register("y", two.address).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    load.nobody_noticed(&gateway, &mut open).await;
    assert!(gateway.metric(&of_source("errors_total", "etcd")).await >= 2.0);
}

#[tokio::test]
async fn what_changed_while_the_way_to_etcd_was_cut_is_known_afterwards_compacted_or_not() {
    let [one, two, three] = backends().await;
    let etcd = EtcdServer::start().await;
    let mut cable = Cable::to(etcd.address).await;
    etcd.register("x", one.address).await;
    let gateway = started(&[format!("http://{}", cable.address)], "").await;
    leads_to(&gateway, &[one.address]).await;
    let load = Load::on(gateway.address());
    let mut open = tunnels(&gateway, 4).await;
    for compacts in [false, true] {
        let [failed, mended] = told(&gateway);
        cable.cut().await;
        gateway.log.find_nth(&[OF_NO_USE], failed).await;
        // More than one change: all but the last are forgotten.
        for address in [three.address, two.address] {
            etcd.register("y", address).await;
        }
        etcd.register("z", three.address).await;
        etcd.remove("z").await;
        if compacts {
            etcd.remove("y").await;
            etcd.compact().await;
        }
        cable.mend().await;
        gateway.log.find_nth(&[AGAIN], mended).await;
        if compacts {
            leads_to(&gateway, &[one.address]).await;
        } else {
            leads_to(&gateway, &[one.address, two.address]).await;
        }
    }
    etcd.register("z", three.address).await;
    leads_to(&gateway, &[one.address, three.address]).await;
    load.nobody_noticed(&gateway, &mut open).await;
}

#[tokio::test]
async fn another_store_at_the_same_address_is_listed_anew() {
    let [one, two] = backends().await;
    let (first, second) = (
        EtcdServer::start().await,
        EtcdServer::start_with("http", &["--initial-cluster-token", "other"], reqwest::Client::new()).await,
    );
    for name in ["a", "b", "c", "x"] {
        first.register(name, one.address).await;
        first.remove(name).await;
    }
    first.register("x", one.address).await;
    second.register("x", two.address).await;
    let mut cable = Cable::to(first.address).await;
    let gateway = started(&[format!("http://{}", cable.address)], "").await;
    leads_to(&gateway, &[one.address]).await;
    cable.cut().await;
    gateway.log.find(&[OF_NO_USE]).await;
    cable.lead_to(second.address).await;
    leads_to(&gateway, &[two.address]).await;
}

#[tokio::test]
async fn an_etcd_that_hangs_is_noticed_and_the_next_one_is_asked() {
    let [one, two] = backends().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    let other_way = Cable::to(etcd.address).await;
    let gateway = started(&[etcd.url()], "").await;
    leads_to(&gateway, &[one.address]).await;
    etcd.signal("STOP");
    gateway.log.find(&[OF_NO_USE, "in time"]).await;
    assert_eq!(get(gateway.address(), "/").await.0, 200);
    etcd.signal("CONT");
    gateway.log.find(&[AGAIN]).await;

    // The first of two is dead, and then the second one, with the first one back.
    drop(gateway);
    let mut first = Cable::to(etcd.address).await;
    first.cut().await;
    let mut second = other_way;
    let urls = [&first, &second].map(|cable| format!("http://{}", cable.address));
    let gateway = started(&urls, "").await;
    leads_to(&gateway, &[one.address]).await;
    first.mend().await;
    second.cut().await;
    etcd.register("y", two.address).await;
    leads_to(&gateway, &[one.address, two.address]).await;
}

#[tokio::test]
async fn a_password_is_asked_for_read_anew_and_never_shown() {
    let one = backend().await;
    let mut etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.demand_passwords("right-secret").await;
    let dir = folder(&config(&by_keys(&[etcd.url()], ", user: longhaul, password_file: \"{dir}/password\""), ""));
    let file = dir.path().join("password");
    std::fs::write(&file, "wrong-secret\n").unwrap();
    let yaml = std::fs::read_to_string(dir.path().join("longhaul.yaml")).unwrap().replace("wait: 10s", "wait: 0s");
    std::fs::write(dir.path().join("longhaul.yaml"), yaml).unwrap();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    let said = gateway.log.find(&[OF_NO_USE, "authentication failed, invalid user ID or password"]).await;
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(get(gateway.address(), "/").await.0, 503);
    std::fs::write(&file, "right-secret\n").unwrap();
    gateway.log.find(&[AGAIN]).await;
    leads_to(&gateway, &[one.address]).await;
    assert!(gateway.log.all().iter().all(|line| !line.contains("right-secret")));
    drop(gateway);

    // A user who may not read the keys, and none at all.
    etcd.ask("auth/user/revoke", json!({ "name": "longhaul", "role": "longhaul" })).await;
    let denied = by_keys(&[etcd.url()], ", user: longhaul, password: right-secret");
    let gateway = Gateway::start(&config(&denied, "").replace("wait: 10s", "wait: 0s")).await;
    gateway.log.find(&[OF_NO_USE, "permission denied"]).await;
    let gateway = Gateway::start(&config(&by_keys(&[etcd.url()], ""), "").replace("wait: 10s", "wait: 0s")).await;
    gateway.log.find(&[OF_NO_USE, "user name is empty"]).await;
}

#[tokio::test]
async fn etcd_is_spoken_to_by_tls_and_both_show_who_they_are() {
    let one = backend().await;
    let (authority, stranger) = (Authority::new("etcd"), Authority::new("stranger"));
    let dir = tempfile::tempdir().unwrap();
    let server = authority.issue(&[HOST]).write(dir.path(), "server");
    let (cert, key) = authority.issue(&["gateway"]).write(dir.path(), "gateway");
    for (authority, name) in [(&authority, "ca"), (&stranger, "stranger")] {
        std::fs::write(dir.path().join(name).with_extension("pem"), &authority.pem).unwrap();
    }
    let at = |name: &str| dir.path().join(name).display().to_string();
    let flags = [
        "--client-cert-auth",
        "--trusted-ca-file",
        &at("ca.pem"),
        "--cert-file",
        &server.0.display().to_string(),
        "--key-file",
        &server.1.display().to_string(),
    ];
    let pem = [std::fs::read(&cert).unwrap(), std::fs::read(&key).unwrap()].concat();
    let http = reqwest::Client::builder().identity(reqwest::Identity::from_pem(&pem).unwrap());
    let http = http.tls_certs_only([reqwest::Certificate::from_pem(authority.pem.as_bytes()).unwrap()]);
    let etcd = EtcdServer::start_with("https", &flags, http.build().unwrap()).await;
    etcd.register("x", one.address).await;
    let who = format!(", certificate: {}, key: {}", cert.display(), key.display());
    let gateway = started(&[etcd.url()], &format!(", ca: {}{who}", at("ca.pem"))).await;
    leads_to(&gateway, &[one.address]).await;
    for (keys, part) in [
        (format!(", ca: {}{who}", at("stranger.pem")), "certificate"),
        (format!(", ca: {}", at("ca.pem")), "ertificate"),
    ] {
        let discover = by_keys(&[etcd.url()], &keys).replace("wait: 10s", "wait: 0s");
        let gateway = Gateway::start(&config(&discover, "")).await;
        gateway.log.find(&[OF_NO_USE, part]).await;
    }
}

#[tokio::test]
async fn values_that_are_none_are_named_once_with_their_keys_and_cost_the_others_nothing() {
    let [one, two] = backends().await;
    let etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    etcd.put("y", "chat.internal:9001").await;
    let gateway = started(&[etcd.url()], "").await;
    let passed_over = "some members of a are passed over, they cannot be read from etcd: ";
    gateway.log.find(&[passed_over, "`/services/a/y`: expected value at line 1 column 1"]).await;
    leads_to(&gateway, &[one.address]).await;
    etcd.put("z", r#"{"address":"127.0.0.1:0"}"#).await;
    gateway.log.find(&[passed_over, "`/services/a/z`: 127.0.0.1:0: port 0 cannot be connected to"]).await;
    // Other changes say nothing new.
    etcd.register("w", two.address).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    assert_eq!(gateway.log.count(&[passed_over]), 2);
    assert_eq!(gateway.metric(&of_source("errors_total", "etcd")).await, 2.0);
    assert!(status(&gateway).await.contains("`/services/a/y`: expected value"));
    // A value of a member that is none any more takes it away, in every gateway alike; one that is mended brings it.
    etcd.put("w", "\u{1b}[2J").await;
    leads_to(&gateway, &[one.address]).await;
    etcd.remove("y").await;
    etcd.remove("z").await;
    etcd.register("w", two.address).await;
    gateway.log.find(&[AGAIN]).await;
    leads_to(&gateway, &[one.address, two.address]).await;
    assert!(gateway.log.all().iter().all(|line| !line.contains('\u{1b}')));
}

#[tokio::test]
async fn more_keys_than_one_answer_holds_are_all_members_and_none_takes_nobody_away() {
    let etcd = EtcdServer::start().await;
    let one = backend().await;
    etcd.register("x", one.address).await;
    for hundred in 0..12 {
        let put = |number: u32| {
            let name = format!("m-{}", hundred * 100 + number);
            let address = format!("127.0.{}.{}:9", hundred + 1, number + 1);
            json!({ "request_put": EtcdServer::pair(&name, &json!({ "address": address }).to_string()) })
        };
        etcd.ask("kv/txn", json!({ "success": (0..100).map(put).collect::<Vec<_>>() })).await;
    }
    let gateway = started(&[etcd.url()], "").await;
    gateway.metric_becomes(&of_source("members", "etcd"), 1_201.0).await;
    etcd.remove_all().await;
    gateway.log.find(&["the source of the members of a names none: they are kept for 5m"]).await;
    assert_eq!(gateway.metric(&of_source("members", "etcd")).await, 1_201.0);
}

#[tokio::test]
async fn a_start_without_etcd_has_the_members_of_before() {
    let one = backend().await;
    let mut etcd = EtcdServer::start().await;
    etcd.register("x", one.address).await;
    let discover = by_keys(&[etcd.url()], "").replace("wait: 10s", "wait: 1s");
    let gateway = Gateway::start(&config(&discover, "")).await;
    leads_to(&gateway, &[one.address]).await;
    assert!(in_folder(&gateway, "state/members-a.json").exists());
    let dir = gateway.dir.clone();
    drop(gateway);
    etcd.kill();
    let gateway = Gateway::begin(dir, &[], &[]).listening().await;
    gateway.log.find(&["has not answered within 1s: it keeps the 1 member that it had before"]).await;
    leads_to(&gateway, &[one.address]).await;
    let age = of_source("age_seconds", "etcd");
    assert!(!gateway.scrape().await.contains(&age), "there was no answer yet");
    etcd.start_again().await;
    gateway.log.find(&[AGAIN]).await;
    within("an age", gateway.metric_counts(&age)).await;
}
