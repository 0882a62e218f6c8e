//! Signals: whatever is open when they come.

use std::net::TcpStream;

use futures_util::StreamExt;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use super::CONFIG;
use crate::support::{Backend, Echo, Gateway, Wire, one_upstream, within};

#[tokio::test]
async fn signals_that_a_gateway_takes_do_not_end_it_from_its_first_word_on() {
    for _ in 0..20 {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal("HUP");
        gateway.signal("USR1");
        gateway.log.find(&["reloaded: generation 2, nothing to change"]).await;
        gateway.signal("INT");
        assert_eq!(gateway.ended().await, Some(0));
    }
}

#[tokio::test]
async fn a_gateway_told_to_end_at_once_ends_in_order() {
    for signal in ["INT", "TERM"].into_iter().cycle().take(20) {
        let mut gateway = Gateway::start(CONFIG).await;
        gateway.signal(signal);
        assert_eq!(gateway.ended().await, Some(0), "{signal}");
        gateway.log.find(&[if signal == "INT" { "ended" } else { "nothing is left to serve" }]).await;
    }
}

/// A gateway with an open tunnel and a request at a backend that answers on demand.
struct Busy {
    gateway: Gateway,
    request: Wire,
    tunnel: tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>,
    let_go: tokio::sync::watch::Sender<bool>,
    _backends: (Backend, Echo),
}

impl Busy {
    async fn start() -> Self {
        let (let_go, may_answer) = tokio::sync::watch::channel(false);
        let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
        let slow = Backend::start(move |stream| {
            let (arrived, mut may_answer) = (arrived.clone(), may_answer.clone());
            async move {
                let mut wire = Wire::new(stream);
                while wire.request().await.is_some() {
                    arrived.send(()).await.unwrap();
                    if may_answer.wait_for(|may| *may).await.is_err() {
                        return;
                    }
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
                }
            }
        })
        .await;
        let echo = Echo::start().await;
        let config =
            one_upstream(&[slow.address], "").replace("- upstream", "- { path: /ws, upstream: ws }\n  - upstream");
        // By default a tunnel is closed at a random moment of half a minute.
        let config = config.replace("routes:", "drain: { window: 0s }\nroutes:");
        let gateway = Gateway::start(&format!("{config}  ws:\n    backends: [{}]\n", echo.address())).await;
        let mut request = Wire::connect(gateway.address()).await;
        request.send("GET /slow HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        within("the request at its backend", arrivals.recv()).await;
        let (mut tunnel, _) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
        tunnel.next().await;
        Self { gateway, request, tunnel, let_go, _backends: (slow, echo) }
    }

    /// The code of the Close frame that the tunnel gets.
    async fn close_code(&mut self) -> u16 {
        loop {
            match within("a Close frame", self.tunnel.next()).await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(_)) => {}
                other => panic!("no Close frame: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn sigint_ends_the_gateway_at_once_whatever_is_open() {
    let mut busy = Busy::start().await;
    busy.gateway.signal("INT");
    assert_eq!(busy.gateway.ended().await, Some(0));
    assert!(busy.request.try_answer().await.is_err());
    let line = busy.gateway.access.find(&[" tunnel_end "]).await;
    assert!(line.contains(" by=gateway reason=shutdown"), "{line}");
}

#[tokio::test]
async fn sigterm_closes_tunnels_and_serves_what_runs_before_the_end() {
    let mut busy = Busy::start().await;
    busy.gateway.signal("TERM");
    busy.gateway.log.find(&["draining: 1 tunnel and 1 request are left"]).await;
    assert_eq!(busy.close_code().await, 1001);
    while let Some(Ok(_)) = busy.tunnel.next().await {}
    super::until("the listener to refuse", || TcpStream::connect(busy.gateway.address()).is_err().then_some(())).await;
    busy.let_go.send(true).unwrap();
    assert_eq!(busy.request.answer().await.text(), "done");
    assert_eq!(busy.gateway.ended().await, Some(0));
    let line = busy.gateway.access.find(&[" tunnel_end "]).await;
    assert!(line.contains(" close_code=1001 by=gateway reason=shutdown"), "{line}");
    busy.gateway.access.find(&[" request ", " status=200 "]).await;
}

#[tokio::test]
async fn a_second_sigterm_or_sigint_ends_the_gateway_at_once() {
    for second in ["TERM", "INT"] {
        let mut busy = Busy::start().await;
        busy.gateway.signal("TERM");
        busy.close_code().await;
        // The request still runs, and holds the gateway.
        busy.gateway.signal(second);
        assert_eq!(busy.gateway.ended().await, Some(0), "{second}");
    }
}

/// Pingora and the clock have an end; `check` does not accept numbers beyond it.
#[tokio::test]
async fn with_the_largest_numbers_that_are_accepted_a_gateway_starts_and_ends() {
    let most = "upstream_keepalive_pool_size: 65536\nmax_blocking_threads: 65536\ngrace_period_seconds: 31536000\n\
                graceful_shutdown_timeout_seconds: 31536000\nblocking_threads_ttl_seconds: 31536000\n\
                fast_timeout_to_tokio_threshold_seconds: 31536000\n";
    let mut gateway = Gateway::start(&format!("{CONFIG}{most}")).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    gateway.log.find(&["nothing is left to serve"]).await;
}
