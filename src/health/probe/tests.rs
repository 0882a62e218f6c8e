//! Each kind of check against backends that are well, ill and hostile, over real sockets.

use futures_util::StreamExt;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::*;
use crate::ws::handshake;

/// Long enough for any answer on a loaded machine.
const PATIENT: Duration = Duration::from_secs(30);
/// For backends that never answer.
const BRIEF: Duration = Duration::from_millis(100);

fn probe(check: Check, timeout: Duration) -> Probe {
    Probe::new(&Health { check, timeout, ..Health::default() }, &Dialer::default(), &Layers::default())
}

fn http(path: &str, host: Option<&str>, expect: &[(u16, u16)], timeout: Duration) -> Probe {
    probe(Check::Http { request: asking(path, host), expect: expect.to_vec() }, timeout)
}

fn websocket(timeout: Duration) -> Probe {
    probe(Check::Websocket { request: asking("/ws", None), subprotocols: Vec::new() }, timeout)
}

fn asking(path: &str, host: Option<&str>) -> CheckRequest {
    CheckRequest { path: path.to_owned(), host: host.map(str::to_owned), headers: Vec::new() }
}

/// A `tcp`, an `http` and a `websocket` check.
fn each_kind(timeout: Duration) -> [Probe; 3] {
    [probe(Check::Tcp, timeout), http("/", None, &[(200, 399)], timeout), websocket(timeout)]
}

/// An address where nobody listens, bound for as long as the socket lives: no other test is given it.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Reads one request's head.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A backend that answers one request with what `answer` makes of it, then holds the connection until the check has
/// left; the request comes back.
async fn answering(answer: impl FnOnce(&str) -> Vec<u8> + Send + 'static) -> (SocketAddr, oneshot::Receiver<String>) {
    let (listener, address) = listener().await;
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        // A check that has read enough may reset the connection.
        let _ = stream.write_all(&answer(&request)).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
        let _ = sender.send(request);
    });
    (address, receiver)
}

async fn saying(answer: &'static str) -> SocketAddr {
    answering(|_| answer.into()).await.0
}

fn accept_for(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    handshake::accept(key)
}

fn switching(accept: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_backend_that_refuses_fails_every_check() {
    let (_bound, address) = refusing();
    for probe in each_kind(PATIENT) {
        assert_eq!(probe.run(address).await, Err(CheckError::Refused), "{probe:?}");
    }
    assert_eq!(CheckError::Refused.to_string(), "connection refused");
}

#[tokio::test]
async fn no_way_to_a_backend_is_told_in_the_system_s_words() {
    // A broadcast address: TCP refuses it before anything is sent.
    let nowhere = SocketAddr::from(([255, 255, 255, 255], 9));
    for probe in each_kind(PATIENT) {
        let text = probe.run(nowhere).await.unwrap_err().to_string();
        assert!(text.starts_with("cannot connect: ") && text.contains("os error"), "{text}");
    }
}

#[tokio::test]
async fn a_silent_backend_passes_a_tcp_check_and_is_late_for_the_others() {
    let (_listener, address) = listener().await;
    assert_eq!(probe(Check::Tcp, PATIENT).run(address).await, Ok(()));
    let [_, http, websocket] = each_kind(BRIEF);
    assert_eq!(http.run(address).await, Err(CheckError::NoAnswer(BRIEF)));
    assert_eq!(websocket.run(address).await, Err(CheckError::NoAnswer(BRIEF)));
    assert_eq!(CheckError::NoAnswer(Duration::from_secs(1)).to_string(), "no answer within 1s");
}

#[tokio::test]
async fn a_backend_that_drips_its_head_is_late_in_all() {
    for probe in [http("/", None, &[(200, 200)], BRIEF), websocket(BRIEF)] {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nX: ").await.unwrap();
            let mut every = tokio::time::interval(Duration::from_millis(5));
            while stream.write_all(b"x").await.is_ok() {
                every.tick().await;
            }
        });
        assert_eq!(probe.run(address).await, Err(CheckError::NoAnswer(BRIEF)), "{probe:?}");
    }
}

#[tokio::test]
async fn an_expected_status_passes_and_another_is_named() {
    for (answer, outcome) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Err("status 503, expected 200-399, 418")),
        ("HTTP/1.1 418 I'm a teapot\r\nContent-Length: 0\r\n\r\n", Ok(())),
        ("HTTP/1.0 400 Bad Request\r\n\r\n", Err("status 400, expected 200-399, 418")),
    ] {
        let probe = http("/", None, &[(200, 399), (418, 418)], PATIENT);
        let outcome = outcome.map_err(str::to_owned);
        assert_eq!(probe.run(saying(answer).await).await.map_err(|failure| failure.to_string()), outcome, "{answer}");
    }
}

#[tokio::test]
async fn an_http_check_asks_for_its_path_and_host() {
    let (address, request) = answering(|_| b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()).await;
    let probe = http("/healthz?deep=1", Some("chat.example.com"), &[(204, 204)], PATIENT);
    assert_eq!(probe.run(address).await, Ok(()));
    let request = request.await.unwrap();
    assert!(request.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nHost: chat.example.com\r\n"), "{request}");
}

#[tokio::test]
async fn a_check_sends_its_own_header_fields_and_may_replace_the_name_that_it_goes_by() {
    let headers = [("Authorization", "Bearer abc"), ("user-agent", "probe/1")];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let request = CheckRequest { headers, ..asking("/", None) };
    let checks = [
        Check::Http { request: request.clone(), expect: vec![(200, 200)] },
        Check::Websocket { request, subprotocols: vec!["mqtt".to_owned(), "mqttv3.1".to_owned()] },
    ];
    let mut heads = Vec::new();
    for check in checks {
        let (address, request) = answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
        let _ = probe(check, PATIENT).run(address).await;
        let head = request.await.unwrap();
        assert!(head.contains("\r\nAuthorization: Bearer abc\r\nuser-agent: probe/1\r\n"), "{head}");
        assert!(!head.contains("longhaul-health"), "{head}");
        heads.push(head);
    }
    assert!(heads[1].contains("\r\nSec-WebSocket-Protocol: mqtt, mqttv3.1\r\n"), "{}", heads[1]);
}

#[tokio::test]
async fn a_subprotocol_that_was_offered_may_be_chosen_and_another_may_not() {
    let request = asking("/", None);
    let check = Check::Websocket { request, subprotocols: vec!["mqtt".to_owned()] };
    for (chosen, outcome) in [("mqtt", Ok(())), ("MQTT", Err(BadAnswer::ProtocolNotOffered("MQTT".to_owned())))] {
        let more = format!("\r\nSec-WebSocket-Protocol: {chosen}\r\n\r\n");
        let (address, _) =
            answering(move |request| switching(&accept_for(request)).replace("\r\n\r\n", &more).into()).await;
        let outcome = outcome.map_err(CheckError::Handshake);
        assert_eq!(probe(check.clone(), PATIENT).run(address).await, outcome, "{chosen}");
    }
}

#[tokio::test]
async fn the_host_is_the_backend_s_address_where_left_out() {
    for probe in [http("/", None, &[(200, 200)], PATIENT), websocket(PATIENT)] {
        let (address, request) = answering(|_| b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()).await;
        let _ = probe.run(address).await;
        let request = request.await.unwrap();
        assert!(request.contains(&format!("\r\nHost: {address}\r\n")), "{request}");
    }
}

#[tokio::test]
async fn a_body_without_end_does_not_hold_up_an_http_check() {
    let address = saying("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
    assert_eq!(http("/", None, &[(200, 200)], PATIENT).run(address).await, Ok(()));
}

#[tokio::test]
async fn interim_answers_are_skipped() {
    let early = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let (address, _) = answering(move |_| format!("{early}HTTP/1.1 200 OK\r\n\r\n").into()).await;
    assert_eq!(http("/", None, &[(200, 200)], PATIENT).run(address).await, Ok(()));

    let (address, _) = answering(move |request| format!("{early}{}", switching(&accept_for(request))).into()).await;
    assert_eq!(websocket(PATIENT).run(address).await, Ok(()));
}

#[tokio::test]
async fn garbage_and_endless_heads_are_malformed() {
    for probe in [http("/", None, &[(200, 200)], PATIENT), websocket(PATIENT)] {
        let garbage = saying("SSH-2.0-OpenSSH_9.2\r\n\r\n").await;
        assert_eq!(probe.run(garbage).await, Err(CheckError::HeadMalformed), "{probe:?}");

        let (listener, endless) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nX: ").await;
            while stream.write_all(&[b'x'; 4096]).await.is_ok() {}
        });
        assert_eq!(probe.run(endless).await, Err(CheckError::HeadMalformed), "{probe:?}");
    }
}

#[tokio::test]
async fn an_end_before_the_answer_is_told_as_such() {
    for probe in [http("/", None, &[(200, 200)], PATIENT), websocket(PATIENT)] {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_request(&mut stream).await;
        });
        assert_eq!(probe.run(address).await, Err(CheckError::Closed), "{probe:?}");
    }
}

#[tokio::test]
async fn a_path_host_or_header_that_cannot_be_sent_is_told_and_nothing_is_sent() {
    let bad_host = Some("a\r\nX-Injected: 1");
    let headers = vec![("X-Probe".to_owned(), "a\r\nX-Injected: 1".to_owned())];
    let bad_header = CheckRequest { headers, ..asking("/", None) };
    let requests = [asking("/a b", None), asking("/\r\nX-Injected: 1", None), asking("/", bad_host), bad_header];
    let checks = requests.into_iter().flat_map(|request| {
        let websocket = Check::Websocket { request: request.clone(), subprotocols: Vec::new() };
        [Check::Http { request, expect: vec![(200, 200)] }, websocket]
    });
    let (_bound, address) = refusing();
    for check in checks {
        // Nobody listens there: had anything been tried, the failure would be another.
        let outcome = probe(check.clone(), PATIENT).run(address).await;
        assert_eq!(outcome, Err(CheckError::Unsendable), "{check:?}");
    }
}

#[tokio::test]
async fn a_websocket_check_shakes_hands_and_leaves_with_close_1000() {
    let (listener, address) = listener().await;
    let backend = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        socket.next().await
    });
    assert_eq!(websocket(PATIENT).run(address).await, Ok(()));
    match backend.await.unwrap() {
        Some(Ok(Message::Close(Some(close)))) => assert_eq!(close.code, CloseCode::Normal),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_websocket_check_names_what_is_wrong_with_the_answer() {
    let (wrong, _) = answering(|_| switching("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=").into()).await;
    let outcome = websocket(PATIENT).run(wrong).await;
    assert_eq!(outcome, Err(CheckError::Handshake(BadAnswer::AcceptWrong)));
    assert_eq!(outcome.unwrap_err().to_string(), "Sec-WebSocket-Accept does not match the key");

    let plain = saying("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(websocket(PATIENT).run(plain).await.unwrap_err().to_string(), "status 200, expected 101");

    let (unasked, _) = answering(|request| {
        switching(&accept_for(request)).replace("\r\n\r\n", "\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n").into()
    })
    .await;
    let outcome = websocket(PATIENT).run(unasked).await;
    assert_eq!(outcome, Err(CheckError::Handshake(BadAnswer::ProtocolNotOffered("mqtt".to_owned()))));
}

#[tokio::test]
async fn a_websocket_check_passes_whatever_the_backend_makes_of_the_close() {
    let chatty = [&[0x81, 5][..], b"hello"].concat();
    for behind in [vec![], chatty, vec![0x88, 2, 0x03, 0xE8], vec![0xFF; 50]] {
        let (address, _) = answering(|request| [switching(&accept_for(request)).into(), behind].concat()).await;
        assert_eq!(websocket(PATIENT).run(address).await, Ok(()));
    }
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let request = read_request(&mut stream).await;
        stream.write_all(switching(&accept_for(&request)).as_bytes()).await.unwrap();
    });
    assert_eq!(websocket(PATIENT).run(address).await, Ok(()), "gone right after the 101");
}

#[test]
fn probes_are_equal_when_they_do_the_same() {
    assert_eq!(websocket(BRIEF), websocket(BRIEF));
    assert_ne!(websocket(BRIEF), websocket(PATIENT));
    assert_ne!(probe(Check::Tcp, BRIEF), websocket(BRIEF));
}
