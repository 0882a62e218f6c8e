//! Backends that fail, in every way, and the answers that their clients get.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::{Backend, Gateway, Named, Wire, located, one_upstream, order};
use socket2::{Domain, Socket, Type};

/// Checked once, before the listeners open, and not again while a test runs.
const CHECKED_ONCE: &str = "    affinity: [query: room]\n    health: { interval: 1h }\n";

/// A room whose key leads to `first`, and the address that is next for it.
fn room_of(gateway: &Gateway, first: SocketAddr) -> (String, SocketAddr) {
    let mut rooms = (0..1_000).map(|n| format!("/?room=r{n}"));
    rooms
        .find_map(|path| {
            let order = order(&located(gateway, &["--ip", "127.0.0.1", "--path", &path]));
            (order[0] == first).then(|| (path, order[1]))
        })
        .expect("one room of a thousand leads to each backend")
}

#[tokio::test]
async fn the_next_on_the_ring_gets_what_the_first_one_refuses() {
    let mut backends = Named::several(4).await;
    let addresses: Vec<_> = backends.iter().map(Named::address).collect();
    let gateway = Gateway::start(&one_upstream(&addresses, CHECKED_ONCE)).await;
    let (path, next) = room_of(&gateway, addresses[0]);
    backends.remove(0).stop().await;

    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get(&path, "").await.address(), next);
    let line = gateway.access.find(&[" request ", " tries=2 "]).await;
    assert!(line.contains(" status=200 ") && line.contains(" picked=next_on_ring "), "{line}");

    // Longer than the part that Pingora keeps for another try; nothing of it was read before the connect.
    let body: String = (0..30_000).map(|n| format!("{n:09} ")).collect();
    client.send(format!("POST {path} HTTP/1.1\r\nHost: lab\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(client.answer().await.address(), next);
    let next = backends.iter().find(|backend| backend.address() == next).unwrap();
    assert_eq!(next.last().text(), body);
    assert_eq!(gateway.metric("longhaul_failovers_total{upstream=\"u\"}").await, 2.0);
}

#[tokio::test]
async fn a_backend_that_does_not_take_connections_in_time_is_passed_over() {
    let full = FullQueue::new();
    let other = Named::start().await;
    let more = "    affinity: [query: room]\n    health: off\n    timeouts: { connect: 200ms }\n";
    let gateway = Gateway::start(&one_upstream(&[full.address, other.address()], more)).await;
    let (path, next) = room_of(&gateway, full.address);
    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get(&path, "").await.address(), next);
    gateway.log.find(&["connect to backend", "failed: ConnectTimedout"]).await;
    assert_eq!(gateway.metric("longhaul_backend_failures_total{kind=\"connect\",upstream=\"u\"}").await, 1.0);
}

#[tokio::test]
async fn a_backend_that_keeps_failing_goes_down_without_a_check() {
    let mut backends = Named::several(2).await;
    let addresses: Vec<_> = backends.iter().map(Named::address).collect();
    let gateway = Gateway::start(&one_upstream(&addresses, CHECKED_ONCE)).await;
    let (path, next) = room_of(&gateway, addresses[0]);
    backends.remove(0).stop().await;

    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..5 {
        assert_eq!(client.get(&path, "").await.address(), next);
    }
    gateway.access.find_nth(&[" request "], 4).await;
    let tries = |tries| gateway.access.count(&[&format!(" tries={tries} ")]);
    assert_eq!((tries(2), tries(1)), (3, 2), "fall is 3");
    let down = format!("backend u/{} is down: connect of real traffic failed: ConnectRefused", addresses[0]);
    gateway.log.find(&[&down]).await;
    assert_eq!(gateway.log.count(&["is down"]), 1, "{:?}", gateway.log.all());
    for (metric, value) in [
        ("longhaul_backend_failures_total{kind=\"connect\",upstream=\"u\"}".to_owned(), 3.0),
        ("longhaul_health_changes_total{to=\"down\",upstream=\"u\"}".to_owned(), 1.0),
        (format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", addresses[0]), 0.0),
        (format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", addresses[1]), 1.0),
    ] {
        assert_eq!(gateway.metric(&metric).await, value, "{metric}");
    }
}

#[tokio::test]
async fn failures_with_successes_between_them_take_no_backend_down() {
    let backend = Named::start().await;
    let address = backend.address();
    let gateway = Gateway::start(&one_upstream(&[address], "    health: { interval: 1h, fall: 2 }\n")).await;
    backend.stop().await;
    for _ in 0..3 {
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.status(), 502);
        let backend = Named::start_at(address).await;
        assert_eq!(Wire::connect(gateway.address()).await.get("/", "").await.address(), address);
        backend.stop().await;
    }
    assert_eq!(gateway.log.count(&["is down"]), 0);
}

#[tokio::test]
async fn the_backend_of_a_kept_connection_that_died_is_asked_again() {
    let backend = Named::start().await;
    let address = backend.address();
    let gateway = Gateway::start(&one_upstream(&[address], "    health: { interval: 1h }\n")).await;
    let mut client = Wire::connect(gateway.address()).await;
    for _ in 0..3 {
        assert_eq!(client.get("/", "").await.address(), address);
    }
    backend.stop().await;
    let backend = Named::start_at(address).await;
    assert_eq!(client.get("/", "").await.address(), address);
    assert_eq!(backend.requests().len(), 1);
}

/// A backend that answers the first request of a connection and closes it after the second one's head.
async fn closing_at_the_second_request() -> (Backend, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let (seen, requests) = tokio::sync::mpsc::unbounded_channel();
    let backend = Backend::start(move |stream| {
        let seen = seen.clone();
        async move {
            let mut wire = Wire::new(stream);
            for answers in [true, false] {
                let Some(request) = wire.request().await else { return };
                let _ = seen.send(request.head.start);
                if answers {
                    wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            }
        }
    })
    .await;
    (backend, requests)
}

#[tokio::test]
async fn only_requests_that_may_be_repeated_are_repeated_on_a_new_connection() {
    let (backend, mut requests) = closing_at_the_second_request().await;
    let gateway = Gateway::start(&one_upstream(&[backend.address], "")).await;
    let mut client = Wire::connect(gateway.address()).await;
    assert_eq!(client.get("/1", "").await.text(), "ok");
    assert_eq!(client.get("/2", "").await.text(), "ok", "a GET is asked again");
    client.send("POST /3 HTTP/1.1\r\nHost: lab\r\nContent-Length: 2\r\n\r\nhi").await;
    assert_eq!(client.answer().await.status(), 502, "a POST may have been carried out");
    drop(backend);
    let mut seen = Vec::new();
    while let Ok(request) = requests.try_recv() {
        seen.push(request.split(' ').take(2).collect::<Vec<_>>().join(" "));
    }
    assert_eq!(seen, ["GET /1", "GET /2", "GET /2", "POST /3"]);
}

/// Answer that a client gets of a backend that sends `sent` and then closes (or not). Only one that then is silent is
/// waited for in vain, and only there is the gateway's patience short.
async fn with_backend_that_sends(sent: &'static [u8], then: Then) -> (Backend, Gateway, Wire) {
    let backend = Backend::start(move |stream| async move {
        let mut wire = Wire::new(stream);
        if wire.request().await.is_none() {
            return;
        }
        wire.send(sent).await;
        match then {
            Then::Close => {}
            Then::Reset => {
                let stream = wire.stream.into_inner();
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
            }
            Then::Silence => std::future::pending().await,
        }
    })
    .await;
    let read = if matches!(then, Then::Silence) { "3s" } else { "60s" };
    let more = format!("    health: off\n    timeouts: {{ read: {read} }}\n");
    let gateway = Gateway::start(&one_upstream(&[backend.address], &more)).await;
    let mut client = Wire::connect(gateway.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: lab\r\n\r\n").await;
    (backend, gateway, client)
}

#[derive(Clone, Copy)]
enum Then {
    Close,
    Reset,
    Silence,
}

#[tokio::test]
async fn an_answer_cut_off_in_its_body_does_not_look_whole() {
    let sized = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    let unsized_ = b"HTTP/1.1 200 OK\r\n\r\nhalf";
    for (sent, then) in [
        (&sized[..], Then::Close),
        (sized, Then::Reset),
        (sized, Then::Silence),
        (chunked, Then::Close),
        (chunked, Then::Reset),
        (chunked, Then::Silence),
        // An answer without a length is whole when its connection is closed in order.
        (unsized_, Then::Reset),
        (unsized_, Then::Silence),
    ] {
        let (_backend, gateway, mut client) = with_backend_that_sends(sent, then).await;
        let answer = client.try_answer().await;
        assert!(answer.is_err(), "{} looks whole: {answer:?}", String::from_utf8_lossy(sent));
        let line = gateway.access.find(&[" request "]).await;
        assert!(line.contains(" status=200 ") && line.contains(" error="), "{line}");
    }
}

#[tokio::test]
async fn a_backend_that_answers_nonsense_or_nothing_is_a_502() {
    for sent in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 abc Whatever\r\n\r\n",
        b"\0\0\0\x05hello world, this is no HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5",
        b"",
    ] {
        for then in [Then::Close, Then::Reset] {
            let (_backend, _gateway, mut client) = with_backend_that_sends(sent, then).await;
            assert_eq!(client.answer().await.status(), 502, "{}", String::from_utf8_lossy(sent));
        }
    }
}

#[tokio::test]
async fn a_plain_request_that_fails_after_it_was_sent_charges_its_backend_once() {
    const CHARGED: &str = "longhaul_backend_failures_total{kind=\"request\",upstream=\"u\"}";
    for (sent, then, status, charged) in [
        (&b""[..], Then::Close, Some(502), 1.0),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Then::Close, Some(502), 1.0),
        (b"", Then::Silence, Some(504), 1.0),
        // This one has answered.
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", Then::Close, None, 0.0),
    ] {
        let (_backend, gateway, mut client) = with_backend_that_sends(sent, then).await;
        assert_eq!(client.try_answer().await.ok().map(|answer| answer.status()), status);
        gateway.access.find(&[" request ", " backend="]).await;
        assert_eq!(gateway.metric(CHARGED).await, charged, "{}", String::from_utf8_lossy(sent));
    }
}

#[tokio::test]
async fn a_backend_that_dies_between_its_100_and_its_answer_is_a_502() {
    let sent = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    for (then, status) in [(Then::Close, 502), (Then::Reset, 502), (Then::Silence, 504)] {
        let (_backend, gateway, mut client) = with_backend_that_sends(sent, then).await;
        assert_eq!(client.answer().await.status(), status);
        let line = gateway.access.find(&[" request "]).await;
        assert!(line.contains(&format!(" status={status} ")), "{line}");
    }
}

#[tokio::test]
async fn a_backend_that_is_too_slow_is_a_504() {
    for sent in [&b""[..], b"HTTP/1.1 200 OK\r\nContent-Le"] {
        let (_backend, gateway, mut client) = with_backend_that_sends(sent, Then::Silence).await;
        assert_eq!(client.answer().await.status(), 504);
        let line = gateway.access.find(&[" request "]).await;
        assert!(line.contains(" status=504 ") && line.contains(" error=ReadTimedout"), "{line}");
    }
}

/// A listener whose queue of connections is full: the kernel drops further SYNs, and a connect waits.
struct FullQueue {
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl FullQueue {
    fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) {
            waiting.push(stream);
        }
        Self { address, _listener: listener, _waiting: waiting }
    }
}
