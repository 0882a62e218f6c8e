//! Effects of a reload: settings that it puts in force, files that it refuses, and state that outlives it.

use std::sync::Arc;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::sync::{Notify, Semaphore};

use crate::client::Client;
use crate::subject::{Subject, named, read_head, upstreams, whole};
use crate::support::{Backend, Echo, within};

#[tokio::test]
async fn routes_and_backends_come_and_go() {
    let (one, two) = (named().await, named().await);
    let mut subject = Subject::start(&upstreams(&[("a", &format!("backends: [{}]", one.address))])).await;
    assert_eq!(subject.backend_of("/a").await, one.address);
    assert_eq!(subject.get("/b").await.0, 404);

    let both =
        upstreams(&[("a", &format!("backends: [{}]", two.address)), ("b", &format!("backends: [{}]", one.address))]);
    let line = subject.reload(&both).await;
    assert!(
        line.contains(
            "generation 2, 1 route added, 1 upstream added, 1 upstream changed, 1 backend added, 1 backend removed"
        ),
        "{line}"
    );
    assert_eq!(subject.backend_of("/a").await, two.address);
    assert_eq!(subject.backend_of("/b").await, one.address);

    subject.reload(&upstreams(&[("b", &format!("backends: [{}]", one.address))])).await;
    assert_eq!(subject.get("/a").await.0, 404);
    assert_eq!(subject.backend_of("/b").await, one.address);
    assert_eq!(subject.gateway.metric("longhaul_config_generation").await, 3.0);
    subject.gateway.metric_becomes("longhaul_reloads_total{outcome=\"done\"}", 2.0).await;
    assert!(subject.gateway.metric("longhaul_last_reload_timestamp_seconds").await > 1.7e9);
}

#[tokio::test]
async fn a_weight_of_0_takes_a_backend_out_and_a_weight_brings_it_back() {
    let (one, two) = (named().await, named().await);
    let weights = |first: u16, second: u16| {
        let backend = |backend: &Backend, weight| format!("{{ address: {}, weight: {weight} }}", backend.address);
        upstreams(&[("a", &format!("backends: [{}, {}]", backend(&one, first), backend(&two, second)))])
    };
    let mut subject = Subject::start(&weights(1, 0)).await;
    for (first, second, expected) in [(0, 1, two.address), (1, 0, one.address)] {
        subject.reload(&weights(first, second)).await;
        for _ in 0..10 {
            assert_eq!(subject.backend_of("/a").await, expected);
        }
    }
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_the_log_names_line_and_column() {
    let backend = named().await;
    let good = upstreams(&[("a", &format!("backends: [{}]", backend.address))]);
    let mut subject = Subject::start(&good).await;

    subject.refuse(&whole(&good.replace("backends", "bakends"))).await;
    // The lines before the routes are eight.
    let file = subject.file();
    let at = format!("{}:13:8: upstreams.a.bakends: unknown key", file.display());
    subject.gateway.log.find(&[&at]).await;
    subject.refuse("").await;
    subject.refuse("listeners: [").await;
    std::fs::remove_file(&file).unwrap();
    subject.gateway.signal("HUP");
    subject.gateway.log.find(&["the reload is refused", "cannot be read"]).await;

    assert_eq!(subject.backend_of("/a").await, backend.address);
    assert_eq!(subject.gateway.metric("longhaul_config_generation").await, 1.0);
    subject.gateway.metric_becomes("longhaul_reloads_total{outcome=\"failed\"}", 4.0).await;
    assert_eq!(subject.gateway.metric("longhaul_last_reload_succeeded").await, 0.0);
    subject.reload(&good).await;
    subject.gateway.metric_becomes("longhaul_last_reload_succeeded", 1.0).await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_by_the_backend_it_began_with() {
    let (arrived, may_answer) = (Arc::new(Notify::new()), Arc::new(Semaphore::new(0)));
    let (told, wait) = (Arc::clone(&arrived), Arc::clone(&may_answer));
    let slow = Backend::start(move |stream| {
        let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
        async move {
            let mut stream = BufReader::new(stream);
            let Some(_) = read_head(&mut stream).await else { return };
            let part = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst";
            stream.get_mut().write_all(part).await.unwrap();
            told.notify_one();
            wait.acquire().await.unwrap().forget();
            stream.get_mut().write_all(b",last").await.unwrap();
        }
    })
    .await;
    let other = named().await;
    let mut subject = Subject::start(&upstreams(&[("a", &format!("backends: [{}], health: off", slow.address))])).await;
    let url = format!("http://{}/a", subject.gateway.address());
    let request = tokio::spawn(async move { reqwest::get(url).await.unwrap().text().await.unwrap() });
    within("the request at its backend", arrived.notified()).await;

    subject.reload(&upstreams(&[("b", &format!("backends: [{}]", other.address))])).await;
    assert_eq!(subject.get("/a").await.0, 404);
    may_answer.add_permits(1);
    assert_eq!(within("the answer", request).await.unwrap(), "first,last");
}

#[tokio::test]
async fn what_cannot_change_in_place_is_named_and_the_rest_is_in_force() {
    let (one, two) = (named().await, named().await);
    let mut subject = Subject::start(&upstreams(&[("a", &format!("backends: [{}]", one.address))])).await;
    let changed = whole(&upstreams(&[("a", &format!("backends: [{}]", two.address))]))
        .replace("listeners:\n", "listeners:\n  - address: 127.0.0.1:1\n")
        .replace("threads: 2", "threads: 3\nversion: 7")
        .replace("/control.sock", "/other.sock")
        .replace("to: stdout", "to: stdout, format: json");
    for _ in 0..2 {
        subject.write_at(&subject.file(), &changed);
        subject.gateway.signal("HUP");
        let line = subject.reloaded().await;
        let note = "kept as they were until an upgrade: listeners, access_log, control_sock, threads";
        assert!(line.ends_with(note), "{line}");
    }
    assert_eq!(subject.backend_of("/a").await, two.address);
    subject.gateway.metric_becomes("longhaul_reloads_total{outcome=\"partly\"}", 2.0).await;
}

#[tokio::test]
async fn health_and_open_tunnels_outlive_a_reload_and_a_new_backend_is_checked_at_once() {
    let (echo, dead, new) = (Echo::start().await, Backend::refusing(), Backend::refusing());
    let config = |more: &str| {
        let backends = format!("{{ address: {}, weight: 2 }}, {dead}{more}", echo.address());
        upstreams(&[("a", &format!("backends: [{backends}], health: {{ interval: 1h }}"))])
    };
    let mut subject = Subject::start(&config("")).await;
    let label = |name: &str, address| format!("{name}{{backend=\"{address}\",upstream=\"a\"}}");
    let up = |address| label("longhaul_backend_up", address);
    let tunnels = label("longhaul_backend_tunnels", echo.address());
    let mut client = Client::open(subject.gateway.address(), "/a", "k").await;
    subject.gateway.metric_becomes(&tunnels, 1.0).await;
    assert_eq!(subject.gateway.metric(&up(dead)).await, 0.0);

    subject.reload(&config(&format!(", {new}"))).await;
    assert_eq!(subject.gateway.metric(&up(dead)).await, 0.0, "no check can have come since");
    assert_eq!(subject.gateway.metric(&tunnels).await, 1.0);
    subject.gateway.log.find(&[&format!("backend a/{new} is down")]).await;
    assert_eq!(subject.gateway.log.count(&[&format!("backend a/{dead} is down")]), 1);
    client.echo("still here").await;
}

#[tokio::test]
async fn what_means_the_same_touches_nothing() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let short = format!(
        "routes:\n  - upstream: a\n    path: /a\n  - {{ path: /b, upstream: b }}\nupstreams:\n  a:\n    \
         backends: [{0}, {1}]\n  b: {{ backends: [{1}] }}\n",
        one.address(),
        two.address()
    );
    let long = format!(
        "# The same.\nupstreams:\n  b: {{ backends: [{{ weight: 1, address: {1} }}] }}\n  a:\n    backends:\n      \
         - {1}  # listed first\n      - {{ address: {0}, weight: 1 }}\n    affinity: []\n    on_change: close\n    \
         drain_window: 30s\n    rehome: off\n    \
         health: {{ check: tcp, interval: 2000ms, timeout: 1s, rise: 2, fall: 3, on_down: keep }}\n    \
         timeouts: {{ connect: 3s }}\n    tunnel: {{ idle: 24h }}\nroutes:\n  - path: /b/\n    upstream: b\n  \
         - {{ upstream: a, path: \"/a\" }}\nwatch: false\ndrain: {{ grace: 0s, window: 30s, code: 1001 }}\n\
         trusted_proxies: []\n",
        one.address(),
        two.address()
    );
    let mut subject = Subject::start(&short).await;
    let mut clients = Vec::new();
    for (number, path) in ["/a", "/a", "/a", "/b"].into_iter().enumerate() {
        clients.push(Client::open(subject.gateway.address(), path, &number.to_string()).await);
    }
    for file in [&long, &short, &long] {
        let line = subject.reload(file).await;
        assert!(line.ends_with(", nothing to change"), "{line}");
    }
    for client in &mut clients {
        client.echo("untouched").await;
    }
    assert_eq!(subject.gateway.access.count(&["tunnel_end"]), 0);
}

#[tokio::test]
async fn a_reload_asked_for_while_somebody_knocks_at_the_upgrade_socket_is_not_lost() {
    let backend = named().await;
    let file = upstreams(&[("a", &format!("backends: [{}]", backend.address))]);
    let mut subject = Subject::start(&file).await;
    let door = subject.gateway.dir.path().join("upgrade.sock");
    for _ in 0..20 {
        let visitor = tokio::net::UnixStream::connect(&door).await.unwrap();
        subject.gateway.signal("HUP");
        drop(visitor);
        subject.reloaded().await;
    }
}
