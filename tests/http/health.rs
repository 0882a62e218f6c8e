//! Health checks take backends out and bring them back, and requests follow.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};

use crate::support::{Backend, Echo, Gateway, Named, Wire, one_upstream};

/// A backend that answers with its address, checks at `/health` with 200 or 503 as told, and silence as told.
struct Moody {
    backend: Backend,
    well: Arc<AtomicBool>,
    checks: Arc<AtomicUsize>,
}

impl Moody {
    async fn start() -> Self {
        let well = Arc::new(AtomicBool::new(true));
        let checks = Arc::new(AtomicUsize::new(0));
        let (mood, counter) = (Arc::clone(&well), Arc::clone(&checks));
        let backend = Backend::start(move |stream| {
            let (mood, counter) = (Arc::clone(&mood), Arc::clone(&counter));
            async move {
                let name = stream.local_addr().unwrap().to_string();
                let mut wire = Wire::new(stream);
                while let Some(request) = wire.request().await {
                    let check = request.head.target() == "/health";
                    counter.fetch_add(usize::from(check), Ordering::SeqCst);
                    let status = if check && !mood.load(Ordering::SeqCst) { "503 Unwell" } else { "200 OK" };
                    wire.send(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{name}", name.len())).await;
                }
            }
        })
        .await;
        Self { backend, well, checks }
    }
}

fn up(address: SocketAddr) -> String {
    format!("longhaul_backend_up{{backend=\"{address}\",upstream=\"u\"}}")
}

#[tokio::test]
async fn an_http_check_takes_a_backend_out_and_brings_it_back() {
    let moody = [Moody::start().await, Moody::start().await];
    let addresses = [moody[0].backend.address, moody[1].backend.address];
    // The other one is down only where it is silent for three seconds.
    let more = "    health: { check: http, path: /health, expect: 200-299, interval: 1s, timeout: 1s, rise: 3, \
                fall: 3 }\n";
    let gateway = Gateway::start(&one_upstream(&addresses, more)).await;
    let mut client = Wire::connect(gateway.address()).await;
    for round in 1..=2 {
        moody[0].well.store(false, Ordering::SeqCst);
        gateway.metric_becomes(&up(addresses[0]), 0.0).await;
        for _ in 0..10 {
            assert_eq!(client.get("/", "").await.address(), addresses[1]);
        }
        moody[0].well.store(true, Ordering::SeqCst);
        let before = moody[0].checks.load(Ordering::SeqCst);
        gateway.metric_becomes(&up(addresses[0]), 1.0).await;
        assert!(moody[0].checks.load(Ordering::SeqCst) - before >= 3, "rise is 3");
        let answered = async { while client.get("/", "").await.address() != addresses[0] {} };
        crate::support::within("requests to come back", answered).await;

        let name = format!("backend u/{}", addresses[0]);
        let down = [name.as_str(), "is down: check failed: status 503, expected 200-299"];
        gateway.log.find_nth(&[name.as_str(), "is up: checks pass"], round - 1).await;
        assert_eq!(gateway.log.count(&down), round, "one line for each change");
        assert_eq!(gateway.log.count(&[" is up"]), round);
    }
    assert_eq!(gateway.log.count(&[&format!("backend u/{}", addresses[1])]), 0);
    assert_eq!(gateway.metric("longhaul_health_changes_total{to=\"up\",upstream=\"u\"}").await, 2.0);
}

#[tokio::test]
async fn a_tcp_check_takes_a_backend_out_and_brings_it_back() {
    let mut backends = Named::several(2).await;
    let addresses = [backends[0].address(), backends[1].address()];
    let more = "    health: { interval: 300ms, timeout: 300ms }\n";
    let gateway = Gateway::start(&one_upstream(&addresses, more)).await;
    backends.remove(0).stop().await;
    gateway.metric_becomes(&up(addresses[0]), 0.0).await;
    gateway.log.find(&[&format!("backend u/{} is down: check failed: connection refused", addresses[0])]).await;
    let _back = Named::start_at(addresses[0]).await;
    gateway.metric_becomes(&up(addresses[0]), 1.0).await;
    gateway.log.find(&[&format!("backend u/{} is up: checks pass", addresses[0])]).await;
}

#[tokio::test]
async fn a_websocket_check_wants_a_real_handshake() {
    let echo = Echo::start().await;
    // This backend answers any request, and knows no WebSockets.
    let plain = Named::start().await;
    let addresses = [echo.address(), plain.address()];
    let more = "    health: { check: websocket, path: /ws, interval: 1h, timeout: 30s }\n";
    let gateway = Gateway::start(&one_upstream(&addresses, more)).await;
    gateway.log.find(&[&format!("backend u/{} is down: check failed: ", plain.address())]).await;
    assert_eq!(gateway.metric(&up(echo.address())).await, 1.0);
    assert_eq!(gateway.metric(&up(plain.address())).await, 0.0);
}

/// A broker that answers 400 unless `mqtt` is offered, 403 unless it is asked from its own site, and 401 without its
/// token.
async fn broker() -> Backend {
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let judge = |request: &Request, mut response: Response| {
        let has = |name: &str, value: &str| request.headers().get(name).is_some_and(|found| found == value);
        let refused: u16 = match () {
            () if !has("sec-websocket-protocol", "mqtt") => 400,
            () if !has("origin", "https://app.example.com") => 403,
            () if !has("authorization", "Bearer abc") => 401,
            () => {
                response.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
                return Ok(response);
            }
        };
        let mut response = ErrorResponse::new(None);
        *response.status_mut() = refused.try_into().unwrap();
        Err(response)
    };
    Backend::start(move |stream| async move {
        if let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, judge).await {
            while let Some(Ok(_)) = futures_util::StreamExt::next(&mut socket).await {}
        }
    })
    .await
}

#[tokio::test]
async fn a_broker_that_insists_on_a_subprotocol_an_origin_and_a_token_is_up_when_its_check_sends_them() {
    let broker = broker().await;
    let whole = "subprotocols: mqtt, origin: 'https://app.example.com', headers: { Authorization: Bearer abc }";
    let without = |part: &str| whole.replace(part, "");
    for (keys, outcome) in [
        (String::new(), "is down: check failed: status 400, expected 101"),
        (without("origin: 'https://app.example.com', "), "is down: check failed: status 403, expected 101"),
        (without(", headers: { Authorization: Bearer abc }"), "is down: check failed: status 401, expected 101"),
        (whole.to_owned(), ""),
    ] {
        let check = format!("check: websocket, path: /mqtt, interval: 1h, timeout: 30s, {keys}");
        let gateway = Gateway::start(&one_upstream(&[broker.address], &format!("    health: {{ {check} }}\n"))).await;
        if outcome.is_empty() {
            // The first round of checks ended before the listeners opened.
            assert_eq!(gateway.metric(&up(broker.address)).await, 1.0);
        } else {
            gateway.log.find(&[outcome]).await;
            assert_eq!(gateway.metric(&up(broker.address)).await, 0.0);
        }
    }
}

#[tokio::test]
async fn a_dead_backend_never_gets_the_first_request() {
    for _ in 0..3 {
        let alive = Named::start().await;
        let dead: Vec<SocketAddr> = (0..5).map(|_| Backend::refusing()).collect();
        let addresses = [&dead[..], &[alive.address()]].concat();
        let gateway = Gateway::start(&one_upstream(&addresses, "")).await;
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), alive.address());
        let line = gateway.access.find(&[" request "]).await;
        assert!(line.contains(" tries=1 "), "{line}");
        assert_eq!(gateway.log.count(&[" is down: check failed: connection refused"]), 5);
        // The first round of checks ended before the listeners opened.
        let lines = gateway.log.all();
        let listening = lines.iter().position(|line| line.contains("listening on")).unwrap();
        let last_down = lines.iter().rposition(|line| line.contains(" is down: ")).unwrap();
        assert!(last_down < listening, "{lines:?}");
    }
}

#[tokio::test]
async fn without_checks_no_backend_ever_counts_as_down() {
    let dead = Backend::refusing();
    let gateway = Gateway::start(&one_upstream(&[dead], "    health: off\n")).await;
    for _ in 0..10 {
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.status(), 502);
    }
    assert_eq!(gateway.metric(&up(dead)).await, 1.0);
    assert_eq!(gateway.log.count(&["is down"]), 0);
}

#[tokio::test]
async fn a_silent_backend_holds_up_nobody_elses_checks() {
    let silent = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while wire.request().await.is_some() {}
    })
    .await;
    let moody = Moody::start().await;
    let addresses = [silent.address, moody.backend.address];
    // One that answers is down only where it is silent for five seconds.
    let more = "    health: { check: http, path: /health, interval: 1s, timeout: 1s, fall: 5 }\n";
    let gateway = Gateway::start(&one_upstream(&addresses, more)).await;
    gateway.log.find(&[&format!("backend u/{} is down: check failed: no answer within 1s", silent.address)]).await;
    let before = moody.checks.load(Ordering::SeqCst);
    let checked = async {
        while moody.checks.load(Ordering::SeqCst) < before + 5 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    crate::support::within("five more checks", checked).await;
    assert_eq!(gateway.metric(&up(moody.backend.address)).await, 1.0);
    assert_eq!(gateway.metric(&up(silent.address)).await, 0.0);
}

#[tokio::test]
async fn every_one_of_many_silent_backends_gets_its_first_check_before_anybody_is_served() {
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(
            Backend::start(|stream| async move {
                Wire::new(stream).rest().await;
            })
            .await,
        );
    }
    let alive = Moody::start().await;
    let mut addresses: Vec<SocketAddr> = silent.iter().map(|backend| backend.address).collect();
    addresses.push(alive.backend.address);
    let more = "    health: { check: http, path: /health, interval: 30s, timeout: 8s }\n";
    let gateway = Gateway::start(&one_upstream(&addresses, more)).await;
    for _ in 0..20 {
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), alive.backend.address);
    }
    let text = gateway.scrape().await;
    let up = text.lines().filter(|line| line.starts_with("longhaul_backend_up{") && line.ends_with(" 1")).count();
    assert_eq!(up, 1);
}
