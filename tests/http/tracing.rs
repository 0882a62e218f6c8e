//! Traces: what backends get of them, what is exported to a receiver, and what a receiver that is slow or gone costs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::support::{Backend, Echo, Gateway, Named, Wire, one_upstream, within};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A receiver of spans, which answers each request with the next of its answers, the last one again and again.
struct Receiver {
    backend: Backend,
    bodies: Arc<Mutex<Vec<Value>>>,
    /// Answers that may be given: one for each permit.
    permits: Arc<Semaphore>,
}

impl Receiver {
    async fn start(answers: &'static [(u16, &'static str)], permits: usize) -> Self {
        let (bodies, permits) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::new(Semaphore::new(permits)));
        let (kept, allowed) = (Arc::clone(&bodies), Arc::clone(&permits));
        let backend = Backend::start(move |stream| {
            let (kept, allowed) = (Arc::clone(&kept), Arc::clone(&allowed));
            async move {
                let mut wire = Wire::new(stream);
                while let Some(request) = wire.request().await {
                    assert_eq!(request.head.start, "POST /v1/traces HTTP/1.1");
                    assert_eq!(request.head.get("content-type").as_deref(), Some("application/json"));
                    let count = {
                        let mut bodies = kept.lock().unwrap();
                        bodies.push(serde_json::from_slice(&request.body).unwrap());
                        bodies.len()
                    };
                    allowed.acquire().await.unwrap().forget();
                    let (status, body) = answers[(count - 1).min(answers.len() - 1)];
                    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                    if wire.stream.write_all(answer.as_bytes()).await.is_err() {
                        return;
                    }
                }
            }
        });
        Self { backend: backend.await, bodies, permits }
    }

    /// Configuration of a gateway that exports here, every trace unless a proxy says otherwise.
    fn config(&self, backends: &[std::net::SocketAddr], more: &str) -> String {
        let export = format!("url: 'http://{}/v1/traces', service: edge", self.backend.address);
        format!("tracing: {{ export: {{ {export}{more} }} }}\n{}", one_upstream(backends, ""))
    }

    /// The spans so far.
    fn spans(&self) -> Vec<Value> {
        let bodies = self.bodies.lock().unwrap();
        let scopes = bodies.iter().map(|body| &body["resourceSpans"][0]["scopeSpans"][0]["spans"]);
        scopes.flat_map(|spans| spans.as_array().unwrap().clone()).collect()
    }

    fn bodies(&self) -> usize {
        self.bodies.lock().unwrap().len()
    }
}

/// The value of an attribute, as text.
fn attribute(span: &Value, key: &str) -> Option<String> {
    let attributes = span["attributes"].as_array().unwrap();
    let value = &attributes.iter().find(|attribute| attribute["key"] == key)?["value"];
    Some(value["stringValue"].as_str().or(value["intValue"].as_str()).unwrap_or_else(|| panic!("{value}")).to_owned())
}

/// The parts of a `traceparent`.
fn parts(traceparent: &str) -> (String, String, String) {
    let parts: Vec<&str> = traceparent.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { panic!("{traceparent}") };
    assert_eq!((version, trace.len(), span.len()), ("00", 32, 16), "{traceparent}");
    (trace.into(), span.into(), flags.into())
}

#[tokio::test]
async fn a_trace_is_passed_on_or_begun_and_its_request_exported() {
    let (receiver, backend) = (Receiver::start(&[(200, "{}")], 1_000).await, Named::start().await);
    let gateway = Gateway::start(&receiver.config(&[backend.address()], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    let given = format!("traceparent: 00-{TRACE}-{PARENT}-00\r\nTraceState: a=1\r\ntracestate: b=2\r\n");
    assert_eq!(client.get("/seen?secret=1", &given).await.status(), 200);
    let first = backend.last().head;
    assert_eq!(first.all("traceparent").len(), 1);
    let (trace, span, flags) = parts(&first.get("traceparent").unwrap());
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"), "a stranger's flag does not count");
    assert_ne!(span, PARENT);
    assert_eq!(first.get("tracestate").as_deref(), Some("a=1, b=2"));
    gateway.access.find(&["request ", &format!("trace_id={TRACE}")]).await;

    assert_eq!(client.get("/begun", "tracestate: a=1\r\n").await.status(), 200);
    let second = backend.last().head;
    let (begun, own, _) = parts(&second.get("traceparent").unwrap());
    assert_ne!(begun, TRACE);
    assert_eq!(second.get("tracestate"), None, "what belongs to no trace does not go on");

    gateway.metric_becomes("longhaul_spans_total{outcome=\"exported\"}", 2.0).await;
    let spans = receiver.spans();
    let [one, other] = &spans[..] else { panic!("{spans:#?}") };
    assert_eq!((&one["traceId"], &one["spanId"], &one["parentSpanId"]), (&TRACE.into(), &span.into(), &PARENT.into()));
    assert_eq!((&other["traceId"], &other["spanId"]), (&begun.into(), &own.into()));
    assert!(other.get("parentSpanId").is_none(), "{other}");
    assert_eq!((&one["name"], &one["kind"], &one["status"]), (&"GET * /".into(), &2.into(), &serde_json::json!({})));
    let nanos = |key: &str| one[key].as_str().unwrap().parse::<u64>().unwrap();
    assert!(nanos("startTimeUnixNano") <= nanos("endTimeUnixNano"), "{one}");
    for (key, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("http.route", "* /"),
        ("url.path", "/seen"),
        ("url.scheme", "http"),
        ("server.address", "lab"),
        ("client.address", "127.0.0.1"),
        ("network.peer.address", "127.0.0.1"),
        ("longhaul.upstream", "u"),
        ("longhaul.backend", &backend.address().to_string()),
        ("longhaul.tries", "1"),
    ] {
        assert_eq!(attribute(one, key).as_deref(), Some(value), "{key}");
    }
    assert!(!one.to_string().contains("secret"));
    let body = receiver.bodies.lock().unwrap()[0].clone();
    let resource = &body["resourceSpans"][0]["resource"]["attributes"][0];
    assert_eq!(*resource, serde_json::json!({ "key": "service.name", "value": { "stringValue": "edge" } }));
}

#[tokio::test]
async fn a_handshake_has_a_span_that_ends_while_its_tunnel_lives() {
    let (receiver, echo) = (Receiver::start(&[(200, "{}")], 1_000).await, Echo::start().await);
    let config = receiver
        .config(&[echo.address()], "")
        .replace("routes:", "routes:\n  - { path: /hooked, upstream: u, hooks: [acting] }");
    let gateway = Gateway::start_hooked(&config).await;
    let mut ids = BTreeSet::new();
    let mut sockets = Vec::new();
    // A worker carries out the one, Pingora's session the other, whose route has a hook.
    for path in ["/plain", "/hooked"] {
        let mut request = format!("ws://{}{path}", gateway.address()).into_client_request().unwrap();
        request.headers_mut().insert("traceparent", format!("00-{TRACE}-{PARENT}-01").parse().unwrap());
        let (mut socket, _) = connect_async(request).await.unwrap();
        socket.next().await.unwrap().unwrap();
        sockets.push(socket);
        let line = gateway.access.find_nth(&["tunnel_open", &format!("trace_id={TRACE}")], ids.len()).await;
        ids.insert(line.split_once(" tunnel=").unwrap().1.split(' ').next().unwrap().to_owned());
    }
    gateway.metric_becomes("longhaul_spans_total{outcome=\"exported\"}", 2.0).await;
    let spans = receiver.spans();
    for span in &spans {
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&TRACE.into(), &PARENT.into()));
        assert_eq!(attribute(span, "http.response.status_code").as_deref(), Some("101"));
    }
    let named: BTreeSet<String> = spans.iter().filter_map(|span| attribute(span, "longhaul.tunnel")).collect();
    assert_eq!(named, ids);
    for mut socket in sockets {
        socket.close(None).await.unwrap();
        while socket.next().await.is_some() {}
    }
    gateway.access.find_nth(&["tunnel_end", &format!("trace_id={TRACE}")], 1).await;
    gateway.metric_becomes("longhaul_tunnels_ended_total{reason=\"client_close\",upstream=\"u\"}", 2.0).await;
    assert_eq!(receiver.spans().len(), 2, "the end of a tunnel is no span");
}

#[tokio::test]
async fn both_ways_of_a_handshake_send_one_traceparent_and_no_stray_state() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        let Some(request) = wire.request().await else { return };
        let seen = format!("{:?} {:?}", request.head.all("traceparent"), request.head.all("tracestate"));
        let answer = format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n{seen}", seen.len());
        // The gateway may be gone.
        let _ = wire.stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let config = format!("tracing: {{ sample: 0 }}\n{}", one_upstream(&[backend.address], ""));
    let config = config.replace("routes:", "routes:\n  - { path: /hooked, upstream: u, hooks: [acting] }");
    let gateway = Gateway::start_hooked(&config).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for path in ["/plain", "/hooked"] {
        for hostile in [
            format!("traceparent: 00-{TRACE}-{PARENT}-01\r\nTraceparent: 00-{TRACE}-{PARENT}-01\r\n"),
            format!("traceparent: 00-{}-{PARENT}-01\r\n", "0".repeat(32)),
            format!("traceparent: ff-{TRACE}-{PARENT}-01\r\n"),
            format!("TRACEPARENT: 00-{}-{PARENT}-01\r\n", TRACE.to_uppercase()),
            format!("traceparent: {}\r\n", "0-".repeat(2_000)),
            "traceparent: \u{fc}\r\n".to_owned(),
            "traceparent:\r\n".to_owned(),
        ] {
            let mut client = Wire::connect(gateway.address()).await;
            let answer = client.get(path, &format!("{upgrade}{hostile}tracestate: a=1\r\n")).await;
            assert_eq!(answer.status(), 403);
            let seen = answer.text();
            let (parent, state) = seen.split_once("\"] ").unwrap();
            let (trace, _, flags) = parts(parent.strip_prefix("[\"").unwrap());
            assert!(trace != TRACE && trace != "0".repeat(32) && flags == "00", "{hostile}: {seen}");
            assert_eq!(state, "[]", "{hostile}");
        }
    }
    assert_eq!(gateway.metric("longhaul_spans_total{outcome=\"exported\"}").await, 0.0);
}

#[tokio::test]
async fn a_trusted_proxy_decides_what_is_recorded_and_without_tracing_nothing_is_touched() {
    let (receiver, backend) = (Receiver::start(&[(200, "{}")], 1_000).await, Named::start().await);
    let config = receiver.config(&[backend.address()], "");
    let trusting = Gateway::start(&format!("trusted_proxies: [127.0.0.1/32]\n{config}")).await;
    let mut client = Wire::connect(trusting.address()).await;
    for flags in ["00", "01"] {
        client.get("/", &format!("traceparent: 00-{TRACE}-{PARENT}-{flags}\r\n")).await;
        assert_eq!(parts(&backend.last().head.get("traceparent").unwrap()).2, flags);
    }
    trusting.metric_becomes("longhaul_spans_total{outcome=\"exported\"}", 1.0).await;

    let plain = Gateway::start(&one_upstream(&[backend.address()], "")).await;
    let mut client = Wire::connect(plain.address()).await;
    client.get("/", "traceparent: nonsense\r\ntracestate: a=1\r\n").await;
    let head = backend.last().head;
    assert_eq!(
        (head.get("traceparent").as_deref(), head.get("tracestate").as_deref()),
        (Some("nonsense"), Some("a=1"))
    );
    client.get("/", "").await;
    assert_eq!(backend.last().head.get("traceparent"), None);
    assert!(!plain.access.find_nth(&["request "], 1).await.contains("trace_id"));
}

#[tokio::test]
async fn a_receiver_that_hangs_costs_spans_and_no_requests() {
    let (receiver, backend) = (Receiver::start(&[(200, "{}")], 0).await, Named::start().await);
    let gateway = Gateway::start(&receiver.config(&[backend.address()], ", queue: 8, timeout: 1m")).await;
    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get("/", "").await.status(), 200);
    within("the first batch", async {
        while receiver.bodies() == 0 {
            tokio::task::yield_now().await
        }
    })
    .await;
    // The exporter waits for an answer: eight spans find room, the others do not.
    for _ in 0..28 {
        assert_eq!(client.get("/", "").await.status(), 200);
    }
    gateway.metric_becomes("longhaul_spans_total{outcome=\"dropped\"}", 20.0).await;
    receiver.permits.add_permits(1_000);
    gateway.metric_becomes("longhaul_spans_total{outcome=\"exported\"}", 9.0).await;
    assert_eq!(gateway.metric("longhaul_spans_total{outcome=\"failed\"}").await, 0.0);
}

#[tokio::test]
async fn a_batch_is_sent_again_where_that_may_help_and_what_is_refused_is_counted() {
    let answers = &[(503, ""), (200, "{}"), (400, "no"), (200, r#"{"partialSuccess":{"rejectedSpans":"1"}}"#)];
    let (receiver, backend) = (Receiver::start(answers, 1_000).await, Named::start().await);
    let gateway = Gateway::start(&receiver.config(&[backend.address()], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    let counted = async |exported: f64, failed: f64| {
        gateway.metric_becomes("longhaul_spans_total{outcome=\"exported\"}", exported).await;
        gateway.metric_becomes("longhaul_spans_total{outcome=\"failed\"}", failed).await;
    };
    for (exported, failed) in [(1.0, 0.0), (1.0, 1.0), (1.0, 2.0)] {
        client.get("/", "").await;
        counted(exported, failed).await;
    }
    assert_eq!(receiver.bodies(), 4, "the first batch was sent twice");
    gateway.log.find(&["WARN", "spans are lost", "400"]).await;
    gateway.log.find(&["spans are exported", "again"]).await;
}

#[tokio::test]
async fn the_end_of_the_process_sends_what_is_left() {
    let (receiver, backend) = (Receiver::start(&[(200, "{}")], 1_000).await, Named::start().await);
    let mut gateway = Gateway::start(&receiver.config(&[backend.address()], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get("/", "").await.status(), 200);
    gateway.access.find(&["request "]).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    // What the process sent may have to be read yet.
    within("the span", async {
        while receiver.spans().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(receiver.spans().len(), 1);
}
