//! Heads of requests in every broken form, in pieces, late or without end: each is refused with a trace, within limits.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::cast::connect;
use crate::support::{Gateway, Named, one_upstream, within};
use crate::wire::{Wire, upgrade};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 67, 0, 1);

async fn start(limits: &str) -> (Named, Gateway) {
    start_with(limits, "").await
}

/// With further keys of the upstream: lines indented by four.
async fn start_with(limits: &str, upstream: &str) -> (Named, Gateway) {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], &format!("    health: off\n{upstream}"));
    let gateway = Gateway::start(&format!("limits: {limits}\n{config}")).await;
    (backend, gateway)
}

fn refused(gateway: &Gateway, reason: &str) -> String {
    format!("longhaul_refused_total{{listener=\"{}\",reason=\"{reason}\"}}", gateway.address())
}

fn get(headers: &str) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: lab\r\n{headers}\r\n").into_bytes()
}

/// Heads that are refused, each with the status and the reason.
fn broken() -> Vec<(Vec<u8>, u16, &'static str)> {
    vec![
        (get("Host: lab\r\n"), 400, "host"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), 400, "host"),
        (get(&"X-Line: x\r\n".repeat(300)), 431, "lines"),
        (get(&format!("Cookie: {}\r\n", "c".repeat(1_100_000))), 431, "size"),
        (format!("GET /{} HTTP/1.1\r\nHost: lab\r\n\r\n", "t".repeat(9 << 10)).into(), 414, "target"),
        (format!("{} / HTTP/1.1\r\nHost: lab\r\n\r\n", "M".repeat(10_000)).into(), 501, "method"),
        (b"CONNECT lab:80 HTTP/1.1\r\nHost: lab:80\r\n\r\n".to_vec(), 405, "connect"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 505, "version"),
        (b"GET / HTTP/3.0\r\nHost: lab\r\n\r\n".to_vec(), 505, "version"),
        (b"GET /\r\n\r\n".to_vec(), 505, "version"),
        (b"GET / http/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "malformed"),
        (b"GET  / HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "malformed"),
        (b" GET / HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "malformed"),
        (b"GET / HTTP/1.1\r\nHost: l\0b\r\n\r\n".to_vec(), 400, "malformed"),
        (b"GET /\0 HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "malformed"),
        (get("X: one\r\n two\r\n"), 400, "malformed"),
        (get("no colon\r\n"), 400, "malformed"),
        (get("Blank : x\r\n"), 400, "malformed"),
        (get(": x\r\n"), 400, "malformed"),
        (get("X: a\rb\r\n"), 400, "malformed"),
        (b"\x80\xff\x00\x01random bytes".to_vec(), 400, "malformed"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), 400, "malformed"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400, "tls"),
        (get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400, "two_lengths"),
        (get("Content-Length: 1, 2\r\n"), 400, "length"),
        (get("Transfer-Encoding: gzip, chunked\r\n"), 501, "coding_unknown"),
        (get("Connection: a b\r\n"), 400, "connection"),
        (b"GET lab HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "target_malformed"),
        (b"GET /%00 HTTP/1.1\r\nHost: lab\r\n\r\n".to_vec(), 400, "target_nul"),
    ]
}

#[tokio::test]
async fn every_broken_head_gets_an_answer_a_line_and_a_count_and_no_backend_sees_it() {
    let (backend, gateway) = start("{}").await;
    for (bytes, status, reason) in broken() {
        let name = String::from_utf8_lossy(&bytes[..bytes.len().min(50)]).into_owned();
        let before = gateway.metric(&refused(&gateway, reason)).await;
        let mut client = connect(CLIENT, gateway.address()).await;
        // The gateway may answer and close before it has read everything.
        let _ = client.stream.write_all(&bytes).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), status, "{name:?}: {answer:?}");
        assert_eq!(answer.field("server"), None, "{name:?}");
        assert_eq!((answer.field("connection"), answer.field("cache-control")), (Some("close"), Some("no-store")));
        assert_eq!(answer.field("allow").is_some(), status == 405, "{name:?}");
        let id = answer.field("x-request-id").unwrap_or_else(|| panic!("{name:?}: {answer:?}"));
        assert!(answer.body.contains(id), "{name:?}: {answer:?}");
        let line = gateway.access.find(&[&format!("request_id={id} ")]).await;
        assert!(line.contains(&format!(" status={status} ")) && line.contains(&format!(" error={reason}")), "{line}");
        assert!(line.contains(&format!(" client={CLIENT} ")), "{line}");
        gateway.metric_becomes(&refused(&gateway, reason), before + 1.0).await;
        let _ = client.stream.shutdown().await;
        client.gone().await;
    }
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
    gateway.metric_becomes(&open(&gateway), 0.0).await;
}

fn open(gateway: &Gateway) -> String {
    format!("longhaul_connections_open{{listener=\"{}\"}}", gateway.address())
}

/// Heads behind the first one pass the same reader, on another thread.
#[tokio::test]
async fn a_good_request_before_a_broken_one_is_answered_first() {
    let (backend, gateway) = start("{}").await;
    let all = broken();
    for (bytes, status, _) in &all {
        let mut client = connect(CLIENT, gateway.address()).await;
        let _ = client.stream.write_all(&[&get(""), &bytes[..]].concat()).await;
        assert_eq!(client.answer().await.status(), 200);
        assert_eq!(
            client.answer().await.status(),
            *status,
            "{:?}",
            String::from_utf8_lossy(&bytes[..30.min(bytes.len())])
        );
        let _ = client.stream.shutdown().await;
        client.gone().await;
    }
    assert_eq!(backend.requests().len(), all.len());
}

#[tokio::test]
async fn a_head_has_one_limit_of_time_however_its_bytes_come() {
    let (backend, gateway) = start("{ head: { time: 3s } }").await;
    let beginnings: [&[u8]; 3] = [b"", b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n", b"\r\n"];
    for beginning in beginnings {
        let client = connect(CLIENT, gateway.address()).await;
        let Wire { stream, .. } = client;
        let (mut reader, mut writer) = stream.into_split();
        // A byte now and then: never still for the whole limit, and never done.
        let drip = tokio::spawn(async move {
            writer.write_all(beginning).await.unwrap();
            for byte in b"GET /slow HTTP/1.1\r\nX-Filler: ".iter().chain(std::iter::repeat(&b'x')) {
                tokio::time::sleep(Duration::from_millis(25)).await;
                if writer.write_all(&[*byte]).await.is_err() {
                    return;
                }
            }
        });
        let mut all = Vec::new();
        let read = async {
            let mut room = [0; 1024];
            while !String::from_utf8_lossy(&all).contains(" 408 ") {
                let count = reader.read(&mut room).await.unwrap();
                assert!(count > 0, "{:?}", String::from_utf8_lossy(&all));
                all.extend_from_slice(&room[..count]);
            }
        };
        within("the answer 408", read).await;
        drip.abort();
    }
    gateway.access.find_nth(&[" status=408 ", " error=slow"], 2).await;
    gateway.metric_becomes(&refused(&gateway, "slow"), 3.0).await;
    assert_eq!(backend.requests().len(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_closed_without_an_answer() {
    let (_backend, gateway) = start("{ head: { time: 3s }, keep_alive: { idle: 1s } }").await;
    let mut silent = connect(CLIENT, gateway.address()).await;
    gateway
        .metric_becomes(&format!("longhaul_connections_accepted_total{{listener=\"{}\"}}", gateway.address()), 1.0)
        .await;
    assert_eq!(silent.rest().await, b"");
    gateway.metric_becomes(&refused(&gateway, "silent"), 1.0).await;
    let mut blank = connect(CLIENT, gateway.address()).await;
    blank.send("\r\n\r\n").await;
    assert_eq!(blank.rest().await, b"", "empty lines are no request");
    let mut kept = connect(CLIENT, gateway.address()).await;
    kept.send(get("")).await;
    assert_eq!(kept.answer().await.status(), 200);
    assert_eq!(kept.rest().await, b"");
    gateway.metric_becomes(&open(&gateway), 0.0).await;
    gateway.metric_becomes(&refused(&gateway, "silent"), 2.0).await;
    gateway.access.find(&[" request "]).await;
    assert_eq!(gateway.access.count(&[" request "]), 1);
}

#[tokio::test]
async fn a_client_that_ends_its_side_within_a_head_is_told() {
    let (_backend, gateway) = start("{}").await;
    let mut client = connect(CLIENT, gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: la").await;
    client.finish().await;
    let answer = client.answer().await;
    assert_eq!(answer.status(), 400);
    gateway.access.find(&[" error=incomplete"]).await;
}

/// 200 clients with 900 kB each would be 180 MiB: each is refused for as much as a head may have.
#[tokio::test]
async fn heads_without_end_cost_no_more_than_their_limit() {
    let (backend, gateway) = start("{}").await;
    let mut clients = JoinSet::new();
    for number in 0..200 {
        let address = gateway.address();
        clients.spawn(async move {
            let mut client = connect(Ipv4Addr::new(127, 67, 1, number), address).await;
            client.send("GET / HTTP/1.1\r\nHost: lab\r\n").await;
            for _ in 0..900 {
                if client.try_send([b'x'; 1000]).await.is_err() {
                    break;
                }
            }
            client.answer().await.status()
        });
    }
    while let Some(status) = clients.join_next().await {
        assert_eq!(status.unwrap(), 431);
    }
    assert!(backend.requests().is_empty());
    gateway.metric_becomes(&refused(&gateway, "size"), 200.0).await;
}

#[tokio::test]
async fn a_head_in_pieces_is_a_request_like_any_other() {
    let (backend, gateway) = start("{}").await;
    let mut client = connect(CLIENT, gateway.address()).await;
    for round in 0..3 {
        for byte in format!("GET /{round} HTTP/1.1\r\nHost: lab\r\nX: y\r\n\r\n").bytes() {
            client.send([byte]).await;
        }
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(backend.requests().iter().map(|request| request.head.target()).collect::<Vec<_>>(), ["/0", "/1", "/2"]);
}

/// Behind a request for a tunnel comes what is no request: no backend may be made to answer it.
#[tokio::test]
async fn bytes_behind_a_refused_upgrade_are_no_request() {
    let (backend, gateway) = start("{}").await;
    for head in [upgrade(""), upgrade("").replace("Version: 13", "Version: 8")] {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(format!("{head}GET /smuggled HTTP/1.1\r\nHost: lab\r\n\r\n")).await;
        let _ = client.answer().await;
        client.gone().await;
    }
    assert!(backend.requests().iter().all(|request| request.head.target() != "/smuggled"), "{:?}", backend.requests());
}

#[tokio::test]
async fn requests_behind_bodies_of_any_framing_are_answered_in_their_order() {
    let (backend, gateway) = start("{}").await;
    let mut client = connect(CLIENT, gateway.address()).await;
    let requests = "POST /0 HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n\
                    POST /1 HTTP/1.1\r\nHost: lab\r\nContent-Length: 5, 5\r\n\r\nfghij\
                    GET http://lab/2 HTTP/1.1\r\nHost: other\r\n\r\n\r\n\
                    GET /3 HTTP/1.1\r\nHost: lab\r\n\r\n";
    for piece in [requests.len(), 7, 1] {
        for bytes in requests.as_bytes().chunks(piece) {
            client.send(bytes).await;
        }
        for _ in 0..4 {
            assert_eq!(client.answer().await.status(), 200);
        }
        let seen = backend.requests().split_off(backend.requests().len() - 4);
        let seen: Vec<_> = seen.iter().map(|request| (request.head.target(), request.text())).collect();
        let expected = [("/0", "abcde"), ("/1", "fghij"), ("/2", ""), ("/3", "")];
        assert_eq!(seen, expected.map(|(target, body)| (target, body.to_owned())));
    }
}

#[tokio::test]
async fn a_body_with_a_broken_chunk_is_answered_400_logged_and_counted() {
    let (backend, gateway) = start("{}").await;
    let bodies = ["\r\n3\r\nabc\r\n0\r\n\r\n", "x\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "3\nabc\n0\n\n"];
    for body in bodies {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n{body}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status(), 400, "{body:?}");
        let id = format!("request_id={} ", answer.field("x-request-id").unwrap());
        gateway.access.find(&[&id, " status=400 ", " duration_ms=", " error=chunk"]).await;
    }
    gateway.metric_becomes(&refused(&gateway, "chunk"), bodies.len() as f64).await;
    assert!(backend.requests().is_empty(), "{:?}", backend.requests());
}

/// Requests with a byte or two changed, by numbers that are the same at every run.
#[tokio::test]
async fn whatever_is_changed_in_a_request_the_answer_is_the_gateways_own_or_the_backends() {
    // A body that is shorter than announced ends nobody's test.
    let limits = "{ head: { time: 500ms }, keep_alive: { idle: 1s } }";
    let (_backend, gateway) = start_with(limits, "    timeouts: { read: 1s }\n").await;
    let good = [
        "GET /a?b=c HTTP/1.1\r\nHost: lab\r\nAccept: */*\r\nCookie: a=b\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        "GET http://lab/ HTTP/1.1\r\nHost: lab\r\nConnection: keep-alive\r\n\r\n",
    ];
    let mut state = SEED;
    let mut next = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for _ in 0..4 {
        let mut clients = JoinSet::new();
        for _ in 0..150 {
            let mut bytes = good[next(good.len())].as_bytes().to_vec();
            for _ in 0..=next(2) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = BYTES[next(BYTES.len())],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, BYTES[next(BYTES.len())]),
                }
            }
            let address = gateway.address();
            clients.spawn(async move {
                let mut client = connect(CLIENT, address).await;
                client.send(&bytes).await;
                let mut all = Vec::new();
                // The connection may end by a reset.
                let _ = within("the end", client.stream.read_to_end(&mut all)).await;
                (String::from_utf8_lossy(&bytes).into_owned(), String::from_utf8_lossy(&all).into_owned())
            });
        }
        while let Some(done) = clients.join_next().await {
            let (request, answers) = done.unwrap();
            assert!(!answers.contains("Pingora"), "seed {SEED}: {request:?} is answered {answers:?}");
            let ids = answers.matches("x-request-id: ").count();
            let heads = answers.matches("HTTP/1.1 ").count();
            assert_eq!(ids, heads, "seed {SEED}: {request:?} is answered {answers:?}");
        }
    }
}

/// Bytes that mean something to somebody.
const BYTES: &[u8] = b"\0\n\r\t :;,/\\\"<>@?#%[]{}_~\x7f\x80\xff0Aa";
const SEED: u64 = 20_261_129;
