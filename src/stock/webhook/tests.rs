//! Events and decisions of endpoints, and endpoints that fail.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time;

use crate::config::{HookEntry, KnownHooks, Settings};
use crate::hook::{Chain, Closed, Injector, Item, Outlet, To, Tunnel, TunnelId};
use crate::metrics::Metrics;

/// An endpoint that records the requests that it gets.
struct Listening {
    address: SocketAddr,
    told: mpsc::UnboundedReceiver<(HeaderMap, Bytes)>,
    page: Arc<Page>,
}

struct Page {
    told: mpsc::UnboundedSender<(HeaderMap, Bytes)>,
    /// The next answers; 204 where there are none left.
    answers: Mutex<Vec<StatusCode>>,
    /// One permit lets one request be answered.
    pace: Semaphore,
}

impl Listening {
    /// Gives these answers in turn, and then 204.
    async fn start(answers: &[StatusCode]) -> Self {
        let (sender, told) = mpsc::unbounded_channel();
        let mut answers = answers.to_vec();
        answers.reverse();
        let page = Page { told: sender, answers: Mutex::new(answers), pace: Semaphore::new(1_000) };
        let page = Arc::new(page);
        let site = Router::new().route("/events", post(take)).with_state(Arc::clone(&page));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, site).await.unwrap() });
        Self { address, told, page }
    }

    fn with(&self, more: &str) -> String {
        format!("url: http://{}/events?secret=1\n{more}", self.address)
    }

    async fn next(&mut self) -> (HeaderMap, Bytes) {
        time::timeout(Duration::from_secs(20), self.told.recv()).await.expect("the endpoint is told").unwrap()
    }

    async fn next_body(&mut self) -> Value {
        serde_json::from_slice(&self.next().await.1).unwrap()
    }
}

async fn take(State(page): State<Arc<Page>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    page.told.send((headers, body)).unwrap();
    page.pace.acquire().await.unwrap().forget();
    page.answers.lock().unwrap().pop().unwrap_or(StatusCode::NO_CONTENT)
}

/// An outlet that records the items that hooks send to tunnels.
struct Tunnels(mpsc::UnboundedSender<(To, Item)>);

impl Outlet for Tunnels {
    fn deliver(&self, to: To, item: Item, _: mpsc::UnboundedSender<usize>) {
        self.0.send((to, item)).unwrap();
    }
}

fn entry(with: &str) -> HookEntry {
    HookEntry { name: "webhook".into(), settings: Settings::parse(with).unwrap(), timeout: Duration::from_secs(10) }
}

/// A chain of one `webhook` on this route, started.
fn chain(with: &str, route: &str) -> Chain {
    let metrics = Metrics::new();
    let entries = [entry(with)];
    match Chain::build(&entries, route, &crate::stock::registry(), None, |name| metrics.hook(name)) {
        Ok(chain) => {
            chain.start(&tunnel().0.injector);
            chain
        }
        Err(problems) => panic!("{problems:?}"),
    }
}

fn tunnel() -> (Tunnel, mpsc::UnboundedReceiver<(To, Item)>) {
    let (sender, told) = mpsc::unbounded_channel();
    let tunnel = Tunnel {
        id: TunnelId::random(),
        request_id: "r-1".into(),
        client: [192, 0, 2, 1].into(),
        route: "* /".into(),
        upstream: "chat".into(),
        backend: ([127, 0, 0, 1], 9001).into(),
        key: None,
        injector: Injector::new(Arc::new(Tunnels(sender))),
        outbox: crate::hook::Outbox::default(),
    };
    (tunnel, told)
}

async fn open(chain: &Chain, tunnel: &Tunnel) {
    chain.on_open(tunnel, &mut chain.contexts().unwrap()).await.unwrap();
}

async fn close(chain: &Chain, tunnel: &Tunnel) {
    let closed = Closed::new("client_close", 1001, Duration::from_millis(1500), [10, 20], [1, 2]);
    chain.on_close(tunnel, &closed, &mut chain.contexts().unwrap()).await;
}

/// Number of this route's events with this outcome.
fn counted(route: &str, outcome: &str) -> u64 {
    let families = prometheus::gather();
    let all = families.iter().filter(|family| family.name() == "longhaul_webhook_events_total");
    let of_route = all.flat_map(|family| family.get_metric()).filter(|metric| {
        let has = |name: &str, value: &str| metric.get_label().iter().any(|l| l.name() == name && l.value() == value);
        has("route", route) && has("outcome", outcome)
    });
    of_route.map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[tokio::test]
async fn an_endpoint_is_told_of_the_opening_and_then_of_the_end() {
    let mut endpoint = Listening::start(&[]).await;
    let chain = chain(&endpoint.with("headers: {authorization: Bearer x}"), "told");
    let (tunnel, _) = tunnel();
    open(&chain, &tunnel).await;
    close(&chain, &tunnel).await;
    let (headers, body) = endpoint.next().await;
    assert_eq!(
        (&headers["content-type"], &headers["authorization"]),
        (&"application/json".parse().unwrap(), &"Bearer x".parse().unwrap())
    );
    assert_eq!(headers["webhook-id"], format!("{}-open", tunnel.id));
    assert!(!headers.contains_key("webhook-signature"));
    let mut body: Value = serde_json::from_slice(&body).unwrap();
    assert!(humantime::parse_rfc3339(body["time"].take().as_str().unwrap()).is_ok());
    let mut expected = json!({
        "event": "open", "time": null, "tunnel": tunnel.id.to_string(), "request_id": "r-1", "client": "192.0.2.1",
        "route": "* /", "upstream": "chat", "backend": "127.0.0.1:9001",
    });
    assert_eq!(body, expected);
    let mut body = endpoint.next_body().await;
    body["time"].take();
    let end = json!({
        "event": "close", "reason": "client_close", "close_code": 1001, "duration_ms": 1500,
        "bytes_from_client": 10, "bytes_from_backend": 20, "messages_from_client": 1, "messages_from_backend": 2,
    });
    end.as_object().unwrap().iter().for_each(|(name, value)| expected[name] = value.clone());
    assert_eq!((body, counted("told", "delivered")), (expected, 2));
}

#[tokio::test]
async fn only_the_events_that_are_listed_are_sent() {
    let mut endpoint = Listening::start(&[]).await;
    let chain = chain(&endpoint.with("events: [close]"), "listed");
    let (tunnel, _) = tunnel();
    open(&chain, &tunnel).await;
    close(&chain, &tunnel).await;
    assert_eq!(endpoint.next_body().await["event"], "close");
    assert!(endpoint.told.try_recv().is_err());
}

#[tokio::test]
async fn events_are_signed_with_the_secret_in_either_form() {
    let folder = tempfile::tempdir().unwrap();
    let secret = b"0123456789abcdef01234567";
    for (name, text) in [
        ("plain", "0123456789abcdef01234567\n".to_owned()),
        ("prefixed", format!("whsec_{}\n", STANDARD.encode(secret))),
    ] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let mut endpoint = Listening::start(&[]).await;
        let chain = chain(&endpoint.with(&format!("secret_file: {}", file.display())), "signed");
        open(&chain, &tunnel().0).await;
        let (headers, body) = endpoint.next().await;
        let part = |name: &str| headers[name].to_str().unwrap().to_owned();
        let signed = [part("webhook-id").as_bytes(), part("webhook-timestamp").as_bytes(), &body].join(&b'.');
        let signature = STANDARD.decode(part("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        assert!(hmac::verify(&key, &signed, &signature).is_ok(), "{name}");
    }
}

#[tokio::test]
async fn an_event_that_did_not_arrive_is_sent_again_before_the_next_of_its_tunnel() {
    let mut endpoint = Listening::start(&[StatusCode::SERVICE_UNAVAILABLE]).await;
    let chain = chain(&endpoint.with(""), "again");
    let (tunnel, _) = tunnel();
    open(&chain, &tunnel).await;
    close(&chain, &tunnel).await;
    let ids = [endpoint.next().await, endpoint.next().await, endpoint.next().await];
    let ids = ids.map(|(headers, _)| headers["webhook-id"].to_str().unwrap().to_owned());
    let (opened, closed) = (format!("{}-open", tunnel.id), format!("{}-close", tunnel.id));
    assert_eq!(ids, [opened.clone(), opened, closed]);
}

#[tokio::test]
async fn an_event_that_is_refused_or_failed_too_often_is_counted_and_the_next_one_is_sent() {
    let mut endpoint = Listening::start(&[StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY]).await;
    let chain = chain(&endpoint.with("retries: 0"), "lost");
    for _ in 0..3 {
        close(&chain, &tunnel().0).await;
        endpoint.next().await;
    }
    assert_eq!(["refused", "failed", "delivered"].map(|outcome| counted("lost", outcome)), [1, 1, 1]);
}

#[tokio::test]
async fn events_without_room_in_the_queue_are_dropped_and_counted_and_nobody_waits() {
    let mut endpoint = Listening::start(&[]).await;
    endpoint.page.pace.forget_permits(1_000);
    let chain = chain(&endpoint.with("queue: 3\ntimeout: 30s"), "full");
    for _ in 0..10 {
        open(&chain, &tunnel().0).await;
    }
    assert_eq!(counted("full", "dropped"), 7);
    endpoint.page.pace.add_permits(1_000);
    for _ in 0..3 {
        endpoint.next().await;
    }
}

#[tokio::test]
async fn what_is_queued_when_the_hook_goes_is_still_sent() {
    let mut endpoint = Listening::start(&[]).await;
    let chain = chain(&endpoint.with("events: [open]"), "gone");
    open(&chain, &tunnel().0).await;
    drop(chain);
    assert_eq!(endpoint.next_body().await["event"], "open");
}

#[tokio::test]
async fn the_end_of_a_tunnel_is_waited_for_as_long_as_one_request_may_take() {
    let mut endpoint = Listening::start(&[]).await;
    endpoint.page.pace.forget_permits(1_000);
    let chain = chain(&endpoint.with("timeout: 100ms"), "waited");
    close(&chain, &tunnel().0).await;
    assert_eq!(endpoint.next_body().await["event"], "close");
}

#[tokio::test]
async fn a_gate_lets_in_whom_the_endpoint_lets_in_and_closes_the_others() {
    let answers = [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::INTERNAL_SERVER_ERROR];
    let endpoint = Listening::start(&answers).await;
    let chain = chain(&endpoint.with("gate: true"), "gate");
    let mut told = Vec::new();
    for _ in answers {
        let (tunnel, mut items) = tunnel();
        open(&chain, &tunnel).await;
        told.push(items.try_recv().ok().map(|(to, item)| (to == To::Tunnel(tunnel.id), item)));
    }
    let close = |code, reason: &str| Some((true, Item::Close { code, reason: reason.to_owned() }));
    assert_eq!(told, [None, close(4403, "refused"), close(1013, "try again later")]);
    assert_eq!(["delivered", "failed"].map(|outcome| counted("gate", outcome)), [2, 1]);
}

#[tokio::test]
async fn a_gate_has_no_more_calls_under_way_than_it_may() {
    let mut endpoint = Listening::start(&[]).await;
    endpoint.page.pace.forget_permits(1_000);
    let chain = Arc::new(chain(&endpoint.with("gate: true\nqueue: 1"), "busy gate"));
    let asking = Arc::clone(&chain);
    let first = tokio::spawn(async move { open(&asking, &tunnel().0).await });
    endpoint.next().await;
    let (second, mut items) = tunnel();
    open(&chain, &second).await;
    let item = Item::Close { code: 1013, reason: "try again later".to_owned() };
    assert_eq!(items.try_recv().unwrap(), (To::Tunnel(second.id), item));
    endpoint.page.pace.add_permits(2);
    first.await.unwrap();
    let (third, mut items) = tunnel();
    open(&chain, &third).await;
    assert!(items.try_recv().is_err());
    assert_eq!(["delivered", "dropped"].map(|outcome| counted("busy gate", outcome)), [2, 1]);
}

#[tokio::test]
async fn a_gate_that_fails_may_let_everybody_in() {
    let endpoint = Listening::start(&[StatusCode::FORBIDDEN, StatusCode::BAD_GATEWAY]).await;
    let chain = chain(&endpoint.with("gate: true\non_failure: pass\nrefused_code: 1008"), "open gate");
    let (refused, mut items) = tunnel();
    open(&chain, &refused).await;
    let item = Item::Close { code: 1008, reason: "refused".to_owned() };
    assert_eq!(items.try_recv().unwrap(), (To::Tunnel(refused.id), item));
    let (passed, mut items) = tunnel();
    open(&chain, &passed).await;
    assert!(items.try_recv().is_err());
}

#[test]
fn each_problem_of_the_settings_is_told_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short");
    std::fs::write(&short, "hush").unwrap();
    for (with, told) in [
        ("events: [open]".to_owned(), "url"),
        ("url: example.com".to_owned(), "1:6: url: not a URL"),
        ("url: ftp://a.example/".to_owned(), "1:6: url: a URL of `ftp:`"),
        ("url: http://a.example/\nevents: []".to_owned(), "2:9: events: no event is sent"),
        ("url: http://a.example/\nevents: [message]".to_owned(), "2:10: events[0]"),
        ("url: http://a.example/\nevents: [close]\ngate: true".to_owned(), "2:9: events: `gate` asks when"),
        ("url: http://a.example/\nrefused_code: 4403".to_owned(), "2:15: refused_code: this belongs to `gate: true`"),
        ("url: http://a.example/\ngate: true\nrefused_code: 1000".to_owned(), "3:15: refused_code: a code of one's"),
        ("url: http://a.example/\nqueue: 0".to_owned(), "2:8: queue: 1 to 100000"),
        ("url: http://a.example/\ntimeout: 1m".to_owned(), "2:10: timeout: from 100ms to 30s"),
        ("url: http://a.example/\nretries: 9".to_owned(), "2:10: retries: 0 to 8"),
        ("url: http://a.example/\nheaders: {'a b': c}".to_owned(), "headers.a b: HTTP allows no such name"),
        ("url: http://a.example/\nsecret_file: /nowhere".to_owned(), "2:14: secret_file: /nowhere: No such file"),
        (format!("url: http://a.example/\nsecret_file: {}", short.display()), "at least 24 bytes, and this one has 4"),
        ("url: http://a.example/\nca_file: /nowhere".to_owned(), "2:10: ca_file: /nowhere cannot be read"),
    ] {
        let found = crate::stock::registry().check("webhook", &entry(&with).settings).expect_err(&with);
        let said = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(said.contains(told), "{with}\n-> {said}\nnot {told}");
    }
}
