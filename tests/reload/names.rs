//! Named backends: another address is the same backend, for operators, clients and metrics.

use std::process::Command;

use crate::client::Client;
use crate::subject::{Subject, named, upstreams};
use crate::support::{Backend, Echo};

#[tokio::test]
async fn a_named_backend_that_moves_keeps_its_clients_and_its_drain_and_is_shown_by_name_and_address() {
    let (old, new, other) = (named().await, named().await, named().await);
    let with = |backend: &Backend| {
        let keys = "affinity: [{ query: k }], health: { interval: 1h }";
        let shard = |n: u8, address| format!("{{ name: shard-{n}, address: {address} }}");
        upstreams(&[("a", &format!("backends: [{}, {}], {keys}", shard(0, backend.address), shard(1, other.address)))])
    };
    let mut subject = Subject::start(&with(&old)).await;
    let mut at_home = Vec::new();
    for key in 0..20 {
        let path = format!("/a?k={key}");
        let backend = subject.backend_of(&path).await;
        at_home.push((path, backend == old.address));
    }
    assert!(at_home.iter().any(|(_, home)| *home) && at_home.iter().any(|(_, home)| !home));

    subject.reload(&with(&new)).await;
    for (path, home) in &at_home {
        let expected = if *home { new.address } else { other.address };
        assert_eq!(subject.backend_of(path).await, expected, "{path}");
    }
    subject.gateway.access.find(&[&format!("backend={}", new.address), "backend_name=shard-0"]).await;
    let label = |metric: &str| format!("{metric}{{backend=\"shard-0\",upstream=\"a\"}}");
    assert_eq!(subject.gateway.metric(&label("longhaul_backend_up")).await, 1.0);

    longhaul(&subject, &["drain", "backend", "a/shard-0", "--no-wait"]);
    subject.gateway.metric_becomes(&label("longhaul_backend_draining"), 1.0).await;
    subject.reload(&with(&old)).await;
    for (path, _) in &at_home {
        assert_eq!(subject.backend_of(path).await, other.address, "the drain is the name's");
    }
    let status = longhaul(&subject, &["status"]);
    let line = status.lines().find(|line| line.contains("shard-0")).unwrap();
    assert!(line.contains(&old.address.to_string()) && line.contains("draining"), "{status}");
    longhaul(&subject, &["drain", "backend", &format!("a/{}", old.address), "--undo"]);
    subject.gateway.metric_becomes(&label("longhaul_backend_draining"), 0.0).await;
}

#[tokio::test]
async fn tunnels_to_the_old_address_of_a_named_backend_are_closed_and_those_of_others_stay() {
    let (old, new, other) = (Echo::start().await, Echo::start().await, Echo::start().await);
    let with = |echo: &Echo| {
        let backends = format!("{{ name: shard-0, address: {} }}, {}", echo.address(), other.address());
        upstreams(&[("a", &format!("backends: [{backends}], affinity: [{{ header: x-room }}], drain_window: 0s"))])
    };
    let mut subject = Subject::start(&with(&old)).await;
    let mut clients = Vec::new();
    for key in 0..8 {
        clients.push(Client::open(subject.gateway.address(), "/a", &key.to_string()).await);
    }
    let label = "longhaul_backend_tunnels{backend=\"shard-0\",upstream=\"a\"}";
    let carried = subject.gateway.metric(label).await as usize;
    assert!(0 < carried && carried < 8, "{carried}");
    let line = subject.reload(&with(&new)).await;
    assert!(line.contains("1 backend moved") && line.contains(&format!("{carried} tunnel")), "{line}");
    subject.gateway.metric_becomes(label, 0.0).await;
    subject.gateway.access.find_nth(&["tunnel_end", "reason=config_changed"], carried - 1).await;
    assert_eq!(subject.gateway.access.count(&["tunnel_end", "reason=config_changed"]), carried);
    subject.gateway.metric_becomes("longhaul_tunnels_open{tls=\"none\"}", (8 - carried) as f64).await;
}

/// Output of a command that is asked of the gateway.
fn longhaul(subject: &Subject, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_longhaul")).args(arguments).arg("-c").arg(subject.file()).output();
    let output = output.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
