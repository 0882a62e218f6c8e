//! Metrics: every family is documented, every documented family exists, and no client can make up a label.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::connect_async;

use crate::support::certificates::Authority;
use crate::support::{Backend, Echo, Gateway, Named, Wire, folder, hooked, one_upstream};

/// A family: its type and the labels its samples have.
pub(crate) type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// A scrape: its families, and the values of each label.
fn scraped(text: &str) -> (Families, BTreeMap<String, BTreeSet<String>>) {
    let mut families = Families::new();
    let mut values: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            family = name.to_owned();
            families.insert(family.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if let Some((_, rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) {
            for pair in rest.split_once('}').unwrap().0.split("\",") {
                let (label, value) = pair.split_once("=\"").unwrap();
                if label != "le" {
                    families.get_mut(&family).unwrap().1.insert(label.to_owned());
                    values.entry(label.to_owned()).or_default().insert(value.trim_end_matches('"').to_owned());
                }
            }
        }
    }
    (families, values)
}

/// The rows of the table of docs/metrics.md whose first column is `first`, each cell's names in backticks.
fn table(first: &str) -> Vec<Vec<Vec<String>>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().skip_while(|line| !line.starts_with(&format!("| {first} |"))).skip(2);
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    rows.take_while(|line| line.starts_with('|')).map(|row| row.split('|').skip(1).map(names).collect()).collect()
}

pub(crate) fn documented_families() -> Families {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let text = std::fs::read_to_string(path).unwrap();
    let kind = |name: &str| {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).unwrap();
        row.split('|').nth(2).unwrap().trim().to_owned()
    };
    let family = |row: Vec<Vec<String>>| {
        let name = row[0][0].clone();
        (name.clone(), (kind(&name), row[2].iter().cloned().collect()))
    };
    table("metric").into_iter().map(family).collect()
}

/// A gateway that has had [`drive`]'s traffic once.
pub(crate) async fn traffic() -> (Gateway, Echo, Named) {
    let (echo, backend) = (Echo::start().await, Named::start().await);
    let dead = Backend::refusing();
    let config = format!(
        "{}    balance_factor: 2\n  ws:\n    affinity: [issue_cookie: {{}}]\n    backends: [{}]\n    \
         admission: {{ handshakes: 1000/s }}\n    tunnel: {{ messages: 1/s }}\n  flaky:\n    \
         health: off\n    backends: [{dead}, {}]\n  sealed:\n    health: off\n    tls: {{ verify: false }}\n    \
         backends: [{dead}]\n  found:\n    health: off\n    discover: {{ file: '{{dir}}/members.yaml', settle: 0s }}\n",
        one_upstream(&[dead, backend.address()], "    affinity: [query: room, header: x-room]\n").replace(
            "- upstream",
            "- { path: /ws, upstream: ws }\n  - { path: /hooks, upstream: flaky, hooks: [acting] }\n  \
             - { path: /flaky, upstream: flaky }\n  - path: /known\n    upstream"
        ),
        echo.address(),
        backend.address(),
    );
    let tls =
        "  - address: 127.0.0.1:0\n    tls: { certificates: [{ cert: '{dir}/a.pem', key: '{dir}/a.key' }] }\nmetrics:";
    let dir = folder(&config.replace("metrics:", tls));
    std::fs::write(dir.path().join("members.yaml"), format!("- {dead}\n")).unwrap();
    let authority = Authority::new("Test Authority");
    authority.issue(&["a.test"]).write(dir.path(), "a");
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    let gateway = Gateway::begin_with(&hooked(), dir, &[], &[]).listening().await;
    drive(&gateway).await;
    (gateway, echo, backend)
}

/// Traffic of every kind: requests, tunnels, failures, failovers, changes of health, nonsense.
pub(crate) async fn drive(gateway: &Gateway) {
    let mut client = Wire::connect(gateway.address()).await;
    for (act, status) in [("a request answer 403 no", 403), ("a request error", 500)] {
        assert_eq!(client.get("/hooks", &format!("X-Act: {act}\r\n")).await.status(), status);
    }
    let mut refused = Wire::connect(gateway.address()).await;
    refused.send("MADE UP\r\n\r\n").await;
    assert_eq!(refused.answer().await.status(), 400);
    for n in 0..20 {
        assert_eq!(
            client.get(&format!("/known/{n}?room={n}"), &format!("X-Room: made-up-{n}\r\n")).await.status(),
            200
        );
        assert_eq!(client.get(&format!("/made-up-{n}"), "").await.status(), 404);
        assert_eq!(client.get("/flaky", "").await.status(), 200);
        client.send(format!("MADE-UP-{n} /known HTTP/1.1\r\nHost: made-up-{n}.test\r\n\r\n")).await;
        assert_eq!(client.answer().await.status(), 200);
    }
    for n in 0..5 {
        let (mut socket, _) = connect_async(format!("ws://{}/ws/{n}", gateway.address())).await.unwrap();
        socket.next().await;
        // The second of the first tunnel is held back.
        for _ in 0..if n == 0 { 2 } else { 1 } {
            socket.send("hello".into()).await.unwrap();
            socket.next().await;
        }
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
    }
}

#[tokio::test]
async fn families_types_and_labels_are_those_of_the_documentation() {
    let (gateway, ..) = traffic().await;
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"client_close\",upstream=\"ws\"}", 5.0).await;
    gateway.metric_counts("longhaul_worker_turn_seconds_count{worker=\"0\"}").await;
    let text = gateway.scrape().await;
    assert_eq!(scraped(&text).0, documented_families());
    for line in text.lines().filter(|line| line.starts_with("# HELP ")) {
        assert!(line.split(' ').count() > 4, "{line}");
    }
}

#[tokio::test]
async fn a_connection_counts_as_accepted_in_full_with_its_first_head() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "")).await;
    let accepted = format!("longhaul_connections_accepted_total{{listener=\"{}\"}}", gateway.address());
    let in_full = format!("longhaul_accept_duration_seconds_count{{listener=\"{}\"}}", gateway.address());
    let mut silent = Wire::connect(gateway.address()).await;
    gateway.metric_becomes(&accepted, 1.0).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..2 {
        assert_eq!(client.get("/", "").await.status(), 200);
    }
    gateway.metric_becomes(&accepted, 2.0).await;
    assert_eq!(gateway.metric(&in_full).await, 1.0, "a second request is no second connection");
    silent.send("GET / HTTP/1.1\r\n").await;
    assert_eq!(client.get("/", "").await.status(), 200);
    assert_eq!(gateway.metric(&in_full).await, 1.0, "half a head is none");
    silent.send("Host: lab\r\n\r\n").await;
    assert_eq!(silent.answer().await.status(), 200);
    gateway.metric_becomes(&in_full, 2.0).await;
}

#[tokio::test]
async fn no_client_makes_up_a_label() {
    let (gateway, echo, backend) = traffic().await;
    // Tunnels end a moment after the traffic.
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"client_close\",upstream=\"ws\"}", 5.0).await;
    gateway.metric_counts("longhaul_worker_turn_seconds_count{worker=\"0\"}").await;
    let (_, mut values) = scraped(&gateway.scrape().await);
    let documented: BTreeMap<String, BTreeSet<String>> =
        table("label").into_iter().map(|row| (row[0][0].clone(), row[1].iter().cloned().collect())).collect();
    let names = |first| table(first).into_iter().flat_map(|row| row[0].clone());
    let reasons = names("reason").chain(names("refusal")).chain(documented["reason"].clone());
    let reasons: BTreeSet<String> = reasons.collect();
    assert_eq!(values.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());

    let upstreams = ["flaky", "found", "sealed", "u", "ws"].map(str::to_owned);
    assert_eq!(values.remove("upstream").unwrap(), BTreeSet::from(upstreams));
    let listeners = gateway.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(values.remove("listener").unwrap(), listeners);
    let backends = values.remove("backend").unwrap();
    assert!(backends.len() == 3 && backends.contains(&echo.address().to_string()), "{backends:?}");
    assert!(backends.contains(&backend.address().to_string()));
    let workers = values.remove("worker").unwrap();
    assert!(workers.iter().all(|worker| worker.parse::<usize>().is_ok()), "{workers:?}");
    assert_eq!(values.remove("hook").unwrap(), BTreeSet::from(["acting".to_owned()]));
    assert_eq!(values.remove("version").unwrap(), BTreeSet::from([env!("CARGO_PKG_VERSION").to_owned()]));
    assert_eq!(values.remove("name").unwrap(), BTreeSet::from(["a.test".to_owned()]));
    assert!(values.remove("reason").unwrap().is_subset(&reasons));
    for (label, values) in values {
        assert!(values.is_subset(&documented[&label]), "{label}: {values:?}");
    }
}

#[tokio::test]
async fn counts_agree_with_what_happened() {
    let (gateway, echo, _) = traffic().await;
    let dead_refused = gateway.metric("longhaul_backend_failures_total{kind=\"connect\",upstream=\"flaky\"}").await;
    for (metric, value) in [
        ("longhaul_requests_total{code=\"2xx\",upstream=\"u\"}", 40.0),
        ("longhaul_requests_total{code=\"2xx\",upstream=\"flaky\"}", 20.0),
        ("longhaul_unrouted_requests_total{code=\"4xx\"}", 20.0),
        ("longhaul_request_duration_seconds_count{upstream=\"u\"}", 40.0),
        ("longhaul_picks_total{source=\"query\",upstream=\"u\"}", 20.0),
        ("longhaul_picks_total{source=\"none\",upstream=\"u\"}", 20.0),
        ("longhaul_picks_total{source=\"issue_cookie\",upstream=\"ws\"}", 5.0),
        ("longhaul_failovers_total{upstream=\"flaky\"}", dead_refused),
        ("longhaul_health_changes_total{to=\"down\",upstream=\"u\"}", 1.0),
        ("longhaul_tunnels_opened_total{upstream=\"ws\"}", 5.0),
        ("longhaul_tunnels_ended_total{reason=\"client_close\",upstream=\"ws\"}", 5.0),
        ("longhaul_handshake_duration_seconds_count{upstream=\"ws\"}", 5.0),
        ("longhaul_handshakes_admitted_total{upstream=\"ws\"}", 5.0),
        ("longhaul_handshake_wait_seconds_count{upstream=\"ws\"}", 5.0),
        ("longhaul_connect_duration_seconds_count{upstream=\"ws\"}", 5.0),
        ("longhaul_tunnel_messages_total{direction=\"to_backend\",upstream=\"ws\"}", 6.0),
        ("longhaul_tunnel_messages_total{direction=\"to_client\",upstream=\"ws\"}", 11.0),
        ("longhaul_access_log_dropped_total", 0.0),
        ("longhaul_kept_bytes", 0.0),
        ("longhaul_config_generation", 1.0),
    ] {
        gateway.metric_becomes(metric, value).await;
    }
    assert!(dead_refused > 0.0);
    gateway.metric_counts("longhaul_worker_turn_seconds_count{worker=\"0\"}").await;
    // Kept-alive connections serve many requests: connects are fewer, and there was one.
    let connects = gateway.metric("longhaul_connect_duration_seconds_count{upstream=\"u\"}").await;
    assert!((1.0..40.0).contains(&connects), "{connects}");

    let open = format!("longhaul_backend_tunnels{{backend=\"{}\",upstream=\"ws\"}}", echo.address());
    gateway.metric_becomes(&open, 0.0).await;
    let (socket, _) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
    gateway.metric_becomes(&open, 1.0).await;
    gateway.metric_becomes("longhaul_tunnels_opened_total{upstream=\"ws\"}", 6.0).await;
    drop(socket);
    gateway.metric_becomes(&open, 0.0).await;
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"client_gone\",upstream=\"ws\"}", 1.0).await;
}

#[tokio::test]
async fn the_metrics_listener_answers_get_and_head_of_its_path_alone() {
    let backend = Named::start().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], "")).await;
    let mut client = Wire::connect(gateway.metrics.unwrap()).await;
    assert_eq!(client.get("/", "").await.status(), 404);
    assert_eq!(client.get("/metrics?x=1", "").await.status(), 200);
    client.send("POST /metrics HTTP/1.1\r\nHost: lab\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 405);
    client.send("HEAD /metrics HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    assert_eq!(client.head().await.unwrap().unwrap().status(), 200);
    assert_eq!(client.get("/metrics", "").await.status(), 200, "and HEAD had no body");
}

#[test]
fn the_reasons_of_the_documentation_are_those_of_the_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tunnel/reason.rs");
    let code = std::fs::read_to_string(path).unwrap();
    let names = code.split("fn as_str").nth(1).unwrap().split("fn by").next().unwrap();
    let names: BTreeSet<String> = names.split('"').skip(1).step_by(2).map(str::to_owned).collect();
    assert_eq!(names, table("reason").into_iter().map(|row| row[0][0].clone()).collect());
}
