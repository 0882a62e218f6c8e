//! Logs whose readers are stuck hold nobody up, and what clients cause does not flood them.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Backend, Echo, Gateway, Named, Wire, one_upstream, within};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Tunnels go to `/ws`, requests to `/`, and `/dead` has a backend that closes every connection without a word.
fn config(echo: &Echo, named: &Named, dead: SocketAddr) -> String {
    format!(
        "{}  ws:\n    backends: [{}]\n  dead:\n    backends: [{dead}]\n    health: off\nthreads: 2\n",
        one_upstream(&[named.address()], "").replace(
            "- upstream",
            "- { path: /ws, upstream: ws }\n  - { path: /dead, upstream: dead }\n  - path: /\n    upstream"
        ),
        echo.address(),
    )
}

async fn open(gateway: &Gateway) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket
}

async fn echoes(socket: &mut Socket, text: &str) {
    socket.send(text.into()).await.unwrap();
    assert_eq!(within("an echo", socket.next()).await.unwrap().unwrap(), Message::text(text));
}

/// Sends upgrades that fail. Each causes a warning.
async fn fail(gateway: &Gateway, times: usize) {
    for _ in 0..times {
        let answer = within("an answer", async { Wire::connect(gateway.address()).await.get("/dead", UPGRADE).await });
        assert_eq!(answer.await.status(), 502);
    }
}

#[tokio::test]
async fn a_stuck_reader_of_standard_error_holds_up_no_tunnel_no_request_and_no_end() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let dead = Backend::start(|_| async {}).await;
    let config = config(&echo, &named, dead.address);
    // With every line of `trace` a few hundred requests are more than a pipe and the buffer take.
    let mut gateway = Gateway::start_with(&config, &[("RUST_LOG", "trace")]).await;
    let mut tunnels = Vec::new();
    for _ in 0..10 {
        tunnels.push(open(&gateway).await);
    }
    gateway.log.pause();
    fail(&gateway, 130).await;
    let dropped = "longhaul_diagnostics_dropped_total";
    for round in 0.. {
        assert!(round < 200, "no line was dropped: standard error is not stuck");
        if gateway.metric(dropped).await > 0.0 {
            break;
        }
        fail(&gateway, 50).await;
    }
    for (number, tunnel) in tunnels.iter_mut().enumerate() {
        echoes(tunnel, &format!("message {number}")).await;
    }
    assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.status(), 200);
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
}

#[tokio::test]
async fn lines_that_a_reader_was_too_slow_for_are_said_when_it_reads_again() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let dead = Backend::start(|_| async {}).await;
    let gateway = Gateway::start_with(&config(&echo, &named, dead.address), &[("RUST_LOG", "trace")]).await;
    gateway.log.pause();
    let dropped = "longhaul_diagnostics_dropped_total";
    while gateway.metric(dropped).await == 0.0 {
        fail(&gateway, 50).await;
    }
    gateway.log.resume();
    gateway.log.find(&["WARN", "diagnostics lost ", ": the reader of standard error was too slow"]).await;
}

#[tokio::test]
async fn a_stuck_reader_of_the_access_log_holds_up_no_reopening_no_reload_and_no_end() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let dead = Backend::start(|_| async {}).await;
    let long = "limits: { head: { size: 128KiB, target: 64KiB } }";
    let mut gateway = Gateway::start(&format!("{long}\n{}", config(&echo, &named, dead.address))).await;
    gateway.access.pause();
    // Longer lines fill the pipe and the buffer with fewer requests.
    let target = format!("/{}", "a".repeat(60_000));
    let mut client = Wire::connect(gateway.address()).await;
    while gateway.metric("longhaul_access_log_dropped_total").await == 0.0 {
        assert_eq!(client.get(&target, "").await.status(), 200);
    }
    gateway.log.find(&["WARN", "access log drops lines: its target is too slow"]).await;
    gateway.signal("USR1");
    gateway.signal("HUP");
    gateway.metric_becomes("longhaul_reloads_total{outcome=\"done\"}", 1.0).await;
    assert_eq!(client.get("/", "").await.status(), 200);
    gateway.signal("INT");
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log.find(&["WARN", "access log is not written to its end: its target is too slow"]).await;
}

#[tokio::test]
async fn warnings_that_clients_cause_are_limited_by_backend_and_summed_up() {
    let (echo, named) = (Echo::start().await, Named::start().await);
    let dead = Backend::start(|_| async {}).await;
    let gateway = Gateway::start(&config(&echo, &named, dead.address)).await;
    let backend = format!("handshake to backend dead/{} failed: ", dead.address);
    fail(&gateway, 40).await;
    let summary = gateway.log.find(&["WARN", " more like this within 10s: ", &backend]).await;
    let count = summary.split(" more like").next().unwrap().rsplit(' ').next().unwrap().parse::<usize>().unwrap();
    let written = gateway.log.count(&["WARN", &backend]) - gateway.log.count(&["more like this", &backend]);
    // A slow machine may be in a second window by the end of it.
    assert!(count >= 10, "{summary}");
    assert!(written <= 30, "{written} lines were written");
    assert!(gateway.metric("longhaul_diagnostics_held_back_total").await >= count as f64);
}
