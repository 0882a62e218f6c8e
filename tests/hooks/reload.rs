//! Reloads with hooks: which generation serves, which state is carried over, when a hook is dropped, and tunnels that
//! hooks have sent elsewhere.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite};

use crate::lab::{config, hooks};
use crate::support::{Backend, Echo, Gateway, Wire, one_upstream, within};

/// Writes the file anew, waits until the `nth` reload is in force, and returns the log line about it.
async fn reloaded(gateway: &Gateway, yaml: &str, nth: usize) -> String {
    gateway.reload(yaml);
    gateway.log.find_nth(&["reloaded: generation"], nth - 1).await
}

#[tokio::test]
async fn a_request_under_way_keeps_its_hooks_and_the_last_user_lets_go_of_them() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let signals = (Arc::clone(&arrived), Arc::clone(&go));
    let backend = Backend::start(move |stream| {
        let (arrived, go) = signals.clone();
        async move {
            let mut wire = Wire::new(stream);
            while let Some(request) = wire.request().await {
                if request.head.target() == "/slow" {
                    arrived.notify_one();
                    go.notified().await;
                }
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    let yaml = |label: &str| config(label, &[backend.address], backend.address);
    let gateway = Gateway::start_hooked(&yaml("old")).await;
    let mut slow = Wire::connect(gateway.address()).await;
    slow.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    within("the slow request", arrived.notified()).await;
    reloaded(&gateway, &yaml("new"), 1).await;

    let quick = Wire::connect(gateway.address()).await.get("/", "").await;
    assert_eq!(quick.head.get("x-label").as_deref(), Some("new"));
    assert_eq!(quick.head.get("x-count").as_deref(), Some("2"), "what the hook before had counted went over");
    assert_eq!(gateway.log.count(&["the hook labelled \"old\" is gone"]), 0, "it has a user");
    go.notify_one();
    let slow = slow.answer().await;
    assert_eq!(slow.head.get("x-label").as_deref(), Some("old"));
    assert_eq!(slow.head.get("x-count").as_deref(), Some("2"), "state that both share");
    // Two hooks: `a` and `b`.
    gateway.log.find_nth(&["the hook labelled \"old\" is gone"], 1).await;
    assert_eq!(gateway.log.count(&["the hook labelled \"new\" is gone"]), 0);
}

#[tokio::test]
async fn settings_that_a_hook_refuses_leave_the_hooks_that_are_there() {
    let echo = Echo::start().await;
    let yaml = config("old", &[echo.address()], echo.address());
    let gateway = Gateway::start_hooked(&yaml).await;
    gateway.reload(&yaml.replace("name: b", "name: 'b b'"));
    gateway.log.find(&["the reload is refused"]).await;
    gateway.log.find(&["longhaul.yaml:9:", "routes[1].hooks[1].with.name", "a name has no blanks"]).await;
    let answer = Wire::connect(gateway.address()).await.get("/", "X-Act: a request answer 418 tea\r\n").await;
    assert_eq!(answer.status(), 418);
    // The refused file had one hook that could be made; it is not kept.
    assert_eq!(gateway.metric("longhaul_config_generation").await, 1.0);
}

#[tokio::test]
async fn a_route_without_its_hooks_lets_go_of_them() {
    let echo = Echo::start().await;
    let yaml = config("old", &[echo.address()], echo.address());
    let gateway = Gateway::start_hooked(&yaml).await;
    reloaded(&gateway, &yaml.replace(&hooks("old"), "[]"), 1).await;
    gateway.log.find_nth(&["the hook labelled \"old\" is gone"], 1).await;
}

#[tokio::test]
async fn a_tunnel_that_a_hook_sent_elsewhere_stays_until_its_backend_is_gone() {
    let (near, far, other) = (Echo::start().await, Echo::start().await, Echo::start().await);
    let yaml = |route: &str, v: &Echo| three_upstreams(route, [&near, v, &other]);
    let gateway = Gateway::start_hooked(&yaml("u", &far)).await;
    let mut sent = sent_to_v(&gateway).await;
    assert_eq!(sent.next().await.unwrap().unwrap().into_text().unwrap(), far.address().to_string());
    let (mut stayed, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    stayed.next().await;

    // The route leads elsewhere, which does not touch a tunnel that a hook sent to `v`.
    let line = reloaded(&gateway, &yaml("w", &far), 1).await;
    assert!(line.contains("; 1 tunnel to be closed"), "{line}");
    assert!(matches!(stayed.next().await, Some(Ok(tungstenite::Message::Close(_)))));
    gateway.access.find(&["tunnel_end", "upstream=u ", "reason=config_changed"]).await;
    let line = reloaded(&gateway, &yaml("w", &near), 2).await;
    assert!(line.contains("; 1 tunnel to be closed"), "{line}");
    assert!(matches!(sent.next().await, Some(Ok(tungstenite::Message::Close(_)))));
    gateway.access.find(&["tunnel_end", "upstream=v ", "reason=config_changed"]).await;
    assert_eq!(gateway.access.count(&["tunnel_end"]), 2);
}

#[tokio::test]
async fn that_a_hook_sent_a_tunnel_elsewhere_is_known_in_the_next_process() {
    let (near, far, other) = (Echo::start().await, Echo::start().await, Echo::start().await);
    let mut old = Gateway::start_hooked(&three_upstreams("u", [&near, &far, &other])).await;
    let mut sent = sent_to_v(&old).await;
    sent.next().await;
    let gateway = old.successor().await;
    assert_eq!(old.ended().await, Some(0));
    let line = reloaded(&gateway, &three_upstreams("w", [&near, &far, &other]), 1).await;
    assert!(!line.contains("to be closed"), "{line}");
    sent.send("still there".into()).await.unwrap();
    assert_eq!(sent.next().await.unwrap().unwrap().into_text().unwrap(), "still there");
}

/// Upstreams `u`, `v` and `w` of one backend each, and a route with hooks.
fn three_upstreams(route: &str, [u, v, w]: [&Echo; 3]) -> String {
    let text = one_upstream(&[u.address()], "    drain_window: 0s\n");
    let text = text.replace("- upstream: u", &format!("- upstream: {route}\n    hooks: {}", hooks("x")));
    let (v, w) = (v.address(), w.address());
    format!("{text}  v:\n    drain_window: 0s\n    backends: [{v}]\n  w:\n    backends: [{w}]\n")
}

/// A tunnel that a hook has sent to `v`.
async fn sent_to_v(gateway: &Gateway) -> WebSocketStream<MaybeTlsStream<TcpStream>> {
    let mut request = format!("ws://{}/", gateway.address()).into_client_request().unwrap();
    request.headers_mut().insert("x-act", HeaderValue::from_static("a request upstream v"));
    connect_async(request).await.unwrap().0
}
