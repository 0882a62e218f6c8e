//! Members by Kubernetes: a list and its watch, and an API server that is lost, forgets or refuses.

use std::fs;

use crate::api_server::{ApiServer, endpoint, slice};
use crate::lab::{Load, Tunnel, backends_on_one_port, config, in_folder, leads_to, longhaul, of_source};
use crate::support::{Backend, Gateway, folder};

const FAILS: &str = "the members of a stay as they are, their source (kubernetes) is of no use: ";
const AGAIN: &str = "the source of the members of a (kubernetes) answers again";
const TOKEN: &str = "{ token: secret }";
const PATH: &str =
    "/apis/discovery.k8s.io/v1/namespaces/prod/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dchat";

/// A gateway whose members are the endpoints of `chat` in `prod`.
async fn gateway(api: &ApiServer, user: &str, more: &str) -> Gateway {
    let source = "{ kubernetes: { service: chat, port: ws, kubeconfig: \"{dir}/kubeconfig\" }, settle: 0s, wait: 20s }";
    let dir = folder(&config(source, more));
    fs::write(dir.path().join("kubeconfig"), api.kubeconfig(user)).unwrap();
    Gateway::begin(dir, &[], &[]).listening().await
}

/// Slices of backends on one port: the last one has a slice of its own.
fn slices(backends: &[Backend; 3]) -> Vec<serde_json::Value> {
    let ready = |place: usize| endpoint(&format!("chat-{place}"), backends[place].address, "ready");
    let port = backends[0].address.port();
    vec![slice("one", &[ready(0), ready(1)], port), slice("two", &[ready(2)], port)]
}

#[tokio::test]
async fn slices_are_listed_in_pages_watched_and_followed_by_name_and_standing() {
    let backends = backends_on_one_port::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|place: usize| backends[place].address);
    let api = ApiServer::start(slices(&backends)).await;
    let gateway = gateway(&api, TOKEN, "    drain_window: 0s\n").await;
    leads_to(&gateway, &[a, b, c]).await;
    let (first, authorization) = api.asked(&[PATH, "limit="], 0).await;
    assert!(!first.contains("continue"), "{first}");
    assert_eq!(authorization, "Bearer secret");
    api.asked(&[PATH, "continue=1"], 0).await;
    let from = format!("resourceVersion={}", api.version());
    api.asked(&[PATH, "watch=1", "allowWatchBookmarks=true", &from], 0).await;
    let (_, status) = longhaul(&gateway, &["status"]).await;
    assert!(status.contains("3 members by kubernetes") && status.contains("chat-2"), "{status}");

    let load = Load::on(gateway.address());
    let mut tunnels = Vec::new();
    for key in 0..12 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    let (mut at_c, mut others): (Vec<_>, Vec<_>) = tunnels.into_iter().partition(|tunnel| tunnel.backend == c);
    // The pod is about to end.
    api.put(slice("two", &[endpoint("chat-2", c, "terminating")], c.port()));
    for tunnel in &mut at_c {
        assert_eq!(tunnel.closed().await, 1012);
    }
    leads_to(&gateway, &[a, b]).await;
    api.remove("two");
    gateway.log.find(&["- backend chat-2"]).await;
    // It starts again, and is ready only later.
    api.put(slice("three", &[endpoint("chat-2", c, "starting")], c.port()));
    leads_to(&gateway, &[a, b]).await;
    api.put(slice("three", &[endpoint("chat-2", c, "ready")], c.port()));
    leads_to(&gateway, &[a, b, c]).await;
    for tunnel in &mut others {
        tunnel.echo("still here").await;
    }
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.metric(&of_source("members", "kubernetes")).await, 3.0);
    assert_eq!(api.count("limit="), 2, "one list, of two pages");
}

#[tokio::test]
async fn a_watch_that_is_cut_off_goes_on_from_the_last_version_and_a_bookmark_is_one() {
    let backends = backends_on_one_port::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|place: usize| backends[place].address);
    let api = ApiServer::start(slices(&backends)).await;
    let gateway = gateway(&api, TOKEN, "").await;
    leads_to(&gateway, &[a, b, c]).await;
    api.asked(&["watch=1"], 0).await;
    api.bookmark();
    let bookmark = api.version();
    // Cut off until the bookmark has arrived: a watch that begins after it names its version.
    let mut skip = 1;
    while api.count(&format!("resourceVersion={bookmark}")) == 0 {
        api.cut();
        api.asked(&["watch=1"], skip).await;
        skip += 1;
    }
    // A change while nobody watches.
    api.cut();
    api.remove("two");
    leads_to(&gateway, &[a, b]).await;
    assert_eq!(api.count("limit="), 2, "listed once, in two pages");
}

#[tokio::test]
async fn a_server_that_has_forgotten_the_version_is_asked_for_a_list() {
    let backends = backends_on_one_port::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|place: usize| backends[place].address);
    let api = ApiServer::start(slices(&backends)).await;
    let gateway = gateway(&api, TOKEN, "").await;
    leads_to(&gateway, &[a, b, c]).await;
    api.asked(&["watch=1"], 0).await;
    let load = Load::on(gateway.address());
    api.compact();
    api.asked(&["continue=1"], 1).await;
    // Slices that left meanwhile are gone by the list.
    api.asked(&["watch=1"], 2).await;
    api.remove("two");
    leads_to(&gateway, &[a, b]).await;
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.metric(&of_source("errors_total", "kubernetes")).await, 0.0);
}

#[tokio::test]
async fn a_server_that_refuses_or_has_other_ports_changes_nothing_and_is_asked_again() {
    let backends = backends_on_one_port::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|place: usize| backends[place].address);
    let ready = |place: usize| endpoint(&format!("chat-{place}"), backends[place].address, "ready");
    let all = slice("one", &[ready(0), ready(1), ready(2)], a.port());
    let api = ApiServer::start(vec![all.clone()]).await;
    let gateway = gateway(&api, TOKEN, "").await;
    leads_to(&gateway, &[a, b, c]).await;
    let load = Load::on(gateway.address());
    let mut tunnel = Tunnel::open(gateway.address(), "k").await;
    api.break_with(Some(403));
    gateway.log.find(&["stay as they are", "kubernetes", "403: this is 403"]).await;
    leads_to(&gateway, &[a, b, c]).await;
    // The token is read anew.
    fs::write(in_folder(&gateway, "kubeconfig"), api.kubeconfig("{ token: renewed }")).unwrap();
    api.asked(&["limit=", "Bearer renewed"], 0).await;
    api.break_with(None);
    gateway.log.find(&["answers again"]).await;

    let mut other = all;
    other["ports"][0]["name"] = "http".into();
    api.put(other);
    gateway.log.find(&["stay as they are", "no port `ws`; its ports: http"]).await;
    leads_to(&gateway, &[a, b, c]).await;
    tunnel.echo("still here").await;
    load.goes_on(20).await;
    assert_eq!(load.failures().await, [""; 0]);
}

#[tokio::test]
async fn a_server_that_is_away_and_comes_back_costs_no_request_and_no_tunnel() {
    let backends = backends_on_one_port::<3>().await;
    let [a, b, c] = [0, 1, 2].map(|place: usize| backends[place].address);
    let mut api = ApiServer::start(slices(&backends)).await;
    let gateway = gateway(&api, TOKEN, "    on_change: keep\n").await;
    leads_to(&gateway, &[a, b, c]).await;
    let load = Load::on(gateway.address());
    let mut tunnels = Vec::new();
    for key in 0..12 {
        tunnels.push(Tunnel::open(gateway.address(), &key.to_string()).await);
    }
    for _ in 0..2 {
        // There may be several failures in a row, each told of in words of its own.
        let [failures, answers] = [FAILS, AGAIN].map(|line| gateway.log.count(&[line]));
        api.stop().await;
        gateway.log.find_nth(&[FAILS, &api.url()], failures).await;
        load.goes_on(50).await;
        api.start_again().await;
        gateway.log.find_nth(&[AGAIN], answers).await;
    }
    // What changes while it is away is known afterwards.
    api.stop().await;
    api.remove("two");
    api.start_again().await;
    leads_to(&gateway, &[a, b]).await;
    load.goes_on(20).await;
    for tunnel in &mut tunnels {
        tunnel.echo("still here").await;
    }
    assert_eq!(load.failures().await, [""; 0]);
    assert_eq!(gateway.access.count(&["tunnel_end"]), 0);
}

#[tokio::test]
async fn credentials_that_cannot_be_used_are_named() {
    let backends = backends_on_one_port::<3>().await;
    let api = ApiServer::start(slices(&backends)).await;
    for (user, part) in [
        ("{ exec: { command: aws } }", "user `gateway` runs a program for its credentials"),
        ("{ tokenFile: missing }", "missing: No such file"),
        ("{ client-certificate-data: QQ== }", "has a client certificate or a key, and not both"),
        ("{ client-certificate-data: '!', client-key-data: QQ== }", "data that is no base64"),
        ("{ client-certificate-data: QQ==, client-key-data: QQ== }", "the client certificate cannot be used"),
    ] {
        let source = "{ kubernetes: { service: chat, kubeconfig: \"{dir}/kubeconfig\" }, wait: 0s }";
        let dir = folder(&config(source, ""));
        fs::write(dir.path().join("kubeconfig"), api.kubeconfig(user)).unwrap();
        let gateway = Gateway::begin(dir, &[], &[]).listening().await;
        gateway.log.find(&["kubernetes", part]).await;
    }
    // Neither a file nor a pod.
    let gateway = Gateway::start(&config("{ kubernetes: { service: prod/chat }, wait: 0s }", "")).await;
    gateway.log.find(&["the gateway does not run in a pod", "no `kubeconfig` is named"]).await;
    assert_eq!(api.count(""), 0);
}
