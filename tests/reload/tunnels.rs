//! Open tunnels over a reload: only those that the change touches are touched, as `on_change` says.

use std::sync::Arc;

use tokio::sync::Notify;

use crate::client::Client;
use crate::subject::{Subject, upstreams};
use crate::support::{Backend, Echo, within};

/// Routes to upstreams, by path; upstreams with their keys, backends left out.
fn config(routes: &[(&str, &str)], with: &[(&str, String)]) -> String {
    let mut text = "routes:\n".to_owned();
    for (path, upstream) in routes {
        text += &format!("  - {{ path: {path}, upstream: {upstream} }}\n");
    }
    text += "upstreams:\n";
    for (name, keys) in with {
        text += &format!("  {name}: {{ {keys} }}\n");
    }
    text
}

#[tokio::test]
async fn tunnels_whose_route_or_backend_is_taken_away_are_closed_and_no_others() {
    let echoes = [Echo::start().await, Echo::start().await, Echo::start().await, Echo::start().await];
    let [a, b, c, d] = echoes.each_ref().map(Echo::address);
    let keys = |backends: &str| format!("backends: [{backends}], drain_window: 0s");
    let before = config(
        &[("/stays", "kept"), ("/gone", "kept"), ("/moves", "kept"), ("/backend", "loses"), ("/zero", "weighs")],
        &[("kept", keys(&a.to_string())), ("loses", keys(&b.to_string())), ("weighs", keys(&c.to_string()))],
    );
    let after = config(
        &[("/stays", "kept"), ("/moves", "loses"), ("/backend", "loses"), ("/zero", "weighs")],
        &[
            ("kept", keys(&a.to_string())),
            ("loses", keys(&d.to_string())),
            ("weighs", keys(&format!("{{ address: {c}, weight: 0 }}, {d}"))),
        ],
    );
    let mut subject = Subject::start(&before).await;
    let address = subject.gateway.address();
    let mut stays = Client::open(address, "/stays", "").await;
    let mut touched = Vec::new();
    for path in ["/gone", "/moves", "/backend", "/zero"] {
        touched.push(Client::open(address, path, "").await);
    }

    let line = subject.reload(&after).await;
    assert!(line.contains("; 4 tunnels to be closed"), "{line}");
    for client in touched {
        client.must_be_closed_for("config_changed").await;
    }
    stays.echo("untouched").await;
    for path in ["/gone", "/moves", "/backend", "/zero"] {
        let route = format!("route=\"* {path}\"");
        subject
            .gateway
            .access
            .find(&["tunnel_end", &route, "close_code=1012", "by=gateway reason=config_changed"])
            .await;
    }
    let ended = "longhaul_tunnels_ended_total{reason=\"config_changed\",upstream=\"kept\"}";
    subject.gateway.metric_becomes(ended, 2.0).await;
    assert_eq!(subject.gateway.access.count(&["tunnel_end"]), 4);
    let line = subject.reload(&after).await;
    assert!(line.ends_with("nothing to change"), "{line}");
}

#[tokio::test]
async fn keep_leaves_them_even_when_their_upstream_is_long_gone() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let of = |name: &'static str, echo: &Echo, more: &str| (name, format!("backends: [{}]{more}", echo.address()));
    let both = [of("old", &one, ", on_change: keep, drain_window: 0s"), of("new", &two, "")];
    let mut subject = Subject::start(&config(&[("/a", "old"), ("/b", "new")], &both)).await;
    let mut client = Client::open(subject.gateway.address(), "/a", "").await;
    let without = config(&[("/b", "new")], &both[1..]);
    for _ in 0..3 {
        let line = subject.reload(&without).await;
        assert!(!line.contains("tunnel"), "{line}");
        client.echo("kept").await;
    }
    // The upstream is there again with another policy, and the tunnel's route is still gone.
    let back = [of("old", &one, ", on_change: close, drain_window: 0s"), of("new", &two, "")];
    let line = subject.reload(&config(&[("/b", "new")], &back)).await;
    assert!(line.contains("; 1 tunnel to be closed"), "{line}");
    client.must_be_closed_for("config_changed").await;
}

#[tokio::test]
async fn a_close_that_has_not_begun_is_called_off_when_the_backend_is_back() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let with = |backend: &Echo, window: &str| {
        upstreams(&[("a", &format!("backends: [{}], drain_window: {window}", backend.address()))])
    };
    let mut subject = Subject::start(&with(&one, "1d")).await;
    let mut client = Client::open(subject.gateway.address(), "/a", "").await;
    assert!(subject.reload(&with(&two, "1d")).await.contains("; 1 tunnel to be closed"));
    assert!(subject.reload(&with(&two, "1d")).await.contains("; 1 tunnel to be closed"), "it is still announced");
    assert!(subject.reload(&with(&one, "1d")).await.contains("; 1 tunnel called off"));
    client.echo("here after all").await;
    assert!(subject.reload(&with(&two, "1d")).await.contains("; 1 tunnel to be closed"));
    // A shorter window brings it forward.
    assert!(subject.reload(&with(&two, "0s")).await.contains("; 1 tunnel to be closed"));
    client.must_be_closed_for("config_changed").await;
}

#[tokio::test]
async fn a_tunnel_whose_handshake_a_reload_overtakes_is_touched_as_well() {
    let (asked, may_answer) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&asked), Arc::clone(&may_answer));
    let slow = Backend::start(move |stream| {
        let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
        async move {
            told.notify_one();
            wait.notified().await;
            let address = stream.local_addr().unwrap();
            let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
            futures_util::SinkExt::send(&mut socket, address.to_string().into()).await.unwrap();
            while let Some(Ok(_)) = futures_util::StreamExt::next(&mut socket).await {}
        }
    })
    .await;
    let other = Echo::start().await;
    let with = |address| upstreams(&[("a", &format!("backends: [{address}], health: off, drain_window: 0s"))]);
    let mut subject = Subject::start(&with(slow.address)).await;
    let stream = Client::ask(subject.gateway.address(), "/a", "").await;
    within("the handshake at its backend", asked.notified()).await;
    subject.reload(&with(other.address())).await;
    may_answer.notify_one();
    Client::answered(stream).await.must_be_closed_for("config_changed").await;
    Client::open(subject.gateway.address(), "/a", "").await.echo("new").await;
}
