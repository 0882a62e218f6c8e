//! Clients that send a body or take an answer too slowly, or send too much: cut off, counted, and held against nobody.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

use crate::cast::connect;
use crate::support::{Backend, Gateway, Named, Wire as HttpWire, one_upstream, within};
use crate::wire::Wire;

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 68, 0, 1);
const TICK: Duration = Duration::from_millis(50);

async fn start(limits: &str, backend: SocketAddr, upstream: &str) -> Gateway {
    let upstream = format!("    health: {{ check: tcp, interval: 1h }}\n{upstream}");
    Gateway::start(&format!("limits: {limits}\n{}", one_upstream(&[backend], &upstream))).await
}

fn refused(gateway: &Gateway, reason: &str) -> String {
    format!("longhaul_refused_total{{listener=\"{}\",reason=\"{reason}\"}}", gateway.address())
}

/// Asserts that `count` requests were refused for `reason`, and that no failure was held against a backend.
async fn only_the_client_is_charged(gateway: &Gateway, reason: &str, count: usize) {
    gateway.metric_becomes(&refused(gateway, reason), count as f64).await;
    let scrape = gateway.scrape().await;
    let charged = ["longhaul_backend_failures_total{", "longhaul_local_failures_total{"];
    let charged = scrape.lines().filter(|line| charged.iter().any(|name| line.starts_with(name)));
    assert!(charged.clone().all(|line| line.ends_with(" 0")), "{:?}", charged.collect::<Vec<_>>());
    assert!(scrape.lines().any(|line| line.starts_with("longhaul_backend_up{") && line.ends_with(" 1")));
}

/// Sends the head, then a piece at every tick, until the gateway answers; the status of the answer.
async fn drip(gateway: &Gateway, head: &str, piece: &str) -> u16 {
    let mut client = connect(CLIENT, gateway.address()).await;
    client.send(head).await;
    let mut room = [0; 12];
    let status = async {
        loop {
            tokio::select! {
                read = client.stream.read_exact(&mut room) => break read.unwrap(),
                () = sleep(TICK) => {
                    let _ = client.try_send(piece).await;
                }
            }
        }
    };
    within("an answer", status).await;
    let status = String::from_utf8_lossy(&room[9..]).parse().unwrap();
    drop(client);
    status
}

const BY_LENGTH: &str = "POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 100000\r\n\r\n";
const BY_CHUNKS: &str = "POST / HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n";

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_answered_408() {
    let backend = Named::start().await;
    let gateway = start("{ body: { idle: 1s, min_rate: 1KiB } }", backend.address(), "").await;
    for (head, piece) in [(BY_LENGTH, ""), (BY_LENGTH, "x"), (BY_CHUNKS, ""), (BY_CHUNKS, "1\r\nx\r\n")] {
        assert_eq!(drip(&gateway, head, piece).await, 408, "{head:?} {piece:?}");
    }
    let line = gateway.access.find_nth(&[" status=408 ", " error=body_slow"], 3).await;
    assert!(line.contains(" backend="), "{line}");
    only_the_client_is_charged(&gateway, "body_slow", 4).await;
    assert!(backend.requests().is_empty());
    assert_eq!(HttpWire::connect(gateway.address()).await.get("/", "").await.status(), 200);
}

/// The backend has `timeouts.read` to answer, and the client as long to send: it is the client that is waited for.
#[tokio::test]
async fn a_backend_that_waits_for_a_slow_body_is_not_charged_whichever_limit_comes_first() {
    let backend = Named::start().await;
    let gateway = start("{ body: { idle: 60s } }", backend.address(), "    timeouts: { read: 300ms }\n").await;
    for _ in 0..10 {
        assert_eq!(drip(&gateway, &format!("{BY_LENGTH}half"), "").await, 408);
    }
    only_the_client_is_charged(&gateway, "body_slow", 10).await;
}

#[tokio::test]
async fn a_client_that_is_slow_and_alive_is_served() {
    let backend = Named::start().await;
    // The body takes longer than a client may be still, and no pause of it takes nearly so long.
    let gateway = start("{ body: { idle: 4s, min_rate: 100B } }", backend.address(), "").await;
    let mut client = connect(CLIENT, gateway.address()).await;
    client.send("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: 4096\r\n\r\n").await;
    for _ in 0..64 {
        sleep(2 * TICK).await;
        client.send([b'x'; 64]).await;
    }
    assert_eq!(client.answer().await.status(), 200);
    only_the_client_is_charged(&gateway, "body_slow", 0).await;
}

/// Takes so many bytes, a piece at a time: others of this thread go on meanwhile.
async fn take(wire: &mut Wire, length: usize) {
    let (mut left, piece) = (length, 64 << 10);
    while left > 0 {
        left -= wire.exactly(piece.min(left)).await.len();
    }
}

#[tokio::test]
async fn time_in_which_a_backend_is_waited_for_is_not_the_clients() {
    const LENGTH: usize = 32 << 20;
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::of(stream);
        while let Some(head) = wire.next_head().await {
            // Longer than a client may be still.
            sleep(Duration::from_secs(9)).await;
            if head.starts_with("POST") {
                take(&mut wire, LENGTH).await;
            }
            wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
            sleep(Duration::from_secs(9)).await;
            wire.send("0\r\n\r\n").await;
        }
    })
    .await;
    let limits = "{ body: { idle: 6s, min_rate: 1MiB }, answer: { idle: 6s, min_rate: 1MiB } }";
    let gateway = start(limits, backend.address, "").await;
    let upload = async {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: lab\r\nContent-Length: {LENGTH}\r\n\r\n")).await;
        within("room for it", client.stream.write_all(&vec![b'x'; LENGTH])).await.unwrap();
        assert_eq!(client.answer().await.body, "ok");
    };
    let poll = async {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
        assert_eq!(client.answer().await.body, "ok");
    };
    let told_to_go_on = async {
        let mut client = connect(CLIENT, gateway.address()).await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: lab\r\nExpect: 100-continue\r\nContent-Length: {LENGTH}\r\n\r\n"))
            .await;
        sleep(Duration::from_secs(7)).await;
        within("room for it", client.stream.write_all(&vec![b'x'; LENGTH])).await.unwrap();
        assert_eq!(client.answer().await.body, "ok");
    };
    tokio::join!(upload, poll, told_to_go_on);
    for reason in ["body_slow", "answer_slow"] {
        only_the_client_is_charged(&gateway, reason, 0).await;
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_answered_413_and_its_backend_never_has_all_of_it() {
    let backend = Named::start().await;
    let routes = "routes:\n  - upstream: u\n  - { path: /more, upstream: u, body: { size: 2KiB } }\n  \
                  - { path: /all, upstream: u, body: { size: off } }\n";
    let config = one_upstream(&[backend.address()], "    health: off\n").replace("routes:\n  - upstream: u\n", routes);
    let gateway = Gateway::start(&format!("limits: {{ body: {{ size: 1KiB }} }}\n{config}")).await;
    let request = |path: &str, length: usize, chunked: bool| {
        let body = "x".repeat(length);
        match chunked {
            false => format!("POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {length}\r\n\r\n{body}"),
            true => format!(
                "POST {path} HTTP/1.1\r\nHost: lab\r\nTransfer-Encoding: chunked\r\n\r\n\
                 {length:x};e=x\r\n{body}\r\n0\r\n\r\n"
            ),
        }
    };
    let mut refusals = 0;
    for chunked in [false, true] {
        for (path, longest) in [("/", 1024), ("/more", 2048), ("/all", 100_000)] {
            let mut client = connect(CLIENT, gateway.address()).await;
            client.send(request(path, longest, chunked)).await;
            assert_eq!(client.answer().await.status(), 200, "{path} {chunked}");
            assert_eq!(backend.last().body.len(), longest);
            if path == "/all" {
                continue;
            }
            let seen = backend.requests().len();
            client.send(request(path, longest + 1, chunked)).await;
            let answer = client.answer().await;
            assert_eq!((answer.status(), answer.field("connection")), (413, Some("close")), "{path} {chunked}");
            let id = format!("request_id={} ", answer.field("x-request-id").unwrap());
            gateway.access.find(&[&id, " status=413 ", " error=body_size"]).await;
            let _ = client.stream.shutdown().await;
            client.gone().await;
            assert_eq!(backend.requests().len(), seen, "no backend has a whole request of {path}");
            refusals += 1;
        }
    }
    gateway.metric_becomes(&refused(&gateway, "body_size"), f64::from(refusals)).await;
}

#[tokio::test]
async fn a_length_that_is_too_long_is_refused_before_anything_is_sent_or_a_backend_is_asked() {
    let backend = Named::start().await;
    let config = one_upstream(&[backend.address()], "    health: off\n");
    let gateway = Gateway::start(&format!("limits: {{ body: {{ size: 1KiB }} }}\n{config}")).await;
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: lab\r\n{more}Content-Length: 1025\r\n\r\n")).await;
        assert_eq!(client.answer().await.status(), 413);
        drop(client);
    }
    assert_eq!(backend.backend.accepted(), 0);
}

/// A client with a small window, as a slow one has on most networks.
async fn narrow(gateway: &Gateway) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.bind((CLIENT, 0).into()).unwrap();
    let mut stream = within("a connection", socket.connect(gateway.address())).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await.unwrap();
    stream
}

/// A backend that answers with so many bytes.
async fn wordy(length: usize) -> Backend {
    Backend::start(move |stream| async move {
        let mut wire = Wire::of(stream);
        while wire.next_head().await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            if wire.try_send([head.into_bytes(), vec![b'x'; length]].concat()).await.is_err() {
                return;
            }
        }
    })
    .await
}

/// Reads a piece at every tick, until the stream ends or fails; the bytes it had.
async fn sip(stream: &mut TcpStream, piece: usize, ticks: usize) -> (usize, bool) {
    let (mut room, mut had) = (vec![0; piece], 0);
    for _ in 0..ticks {
        match stream.read(&mut room).await {
            Ok(count @ 1..) => had += count,
            Ok(0) | Err(_) => return (had, true),
        }
        sleep(TICK).await;
    }
    (had, false)
}

#[tokio::test]
async fn an_answer_that_is_taken_too_slowly_is_cut_off() {
    let backend = wordy(32 << 20).await;
    let gateway = start("{ answer: { idle: 3s, min_rate: 256KiB } }", backend.address, "").await;
    let mut slow = narrow(&gateway).await;
    let (had, ended) = within("the cut", sip(&mut slow, 256, usize::MAX)).await;
    assert!(ended && had < 32 << 20, "{had}");
    let deaf = narrow(&gateway).await;
    gateway.access.find_nth(&[" status=200 ", " error=answer_slow"], 1).await;
    drop(deaf);
    only_the_client_is_charged(&gateway, "answer_slow", 2).await;
    gateway.metric_becomes(&format!("longhaul_connections_open{{listener=\"{}\"}}", gateway.address()), 0.0).await;
    // Of whoever is cut off the system keeps nothing either.
    let other = HttpWire::connect(gateway.address()).await.get("/", "").await;
    assert_eq!(other.body.len(), 32 << 20);
}

#[tokio::test]
async fn an_answer_that_is_taken_slowly_by_a_client_that_is_alive_arrives() {
    const LENGTH: usize = 16 << 20;
    let backend = wordy(LENGTH).await;
    let gateway = start("{ answer: { idle: 4s, min_rate: 1KiB } }", backend.address, "").await;
    let mut client = narrow(&gateway).await;
    // Twice the time of `idle`, at 20 KiB/s: a fraction of what waits in the system's buffers.
    let (had, ended) = sip(&mut client, 1024, 160).await;
    assert!(!ended);
    let mut rest = vec![0; LENGTH - had];
    within("the rest", client.read_exact(&mut rest)).await.unwrap();
}
