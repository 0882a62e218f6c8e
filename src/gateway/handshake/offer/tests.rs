//! Heads that workers read and write are what Pingora would make of them.

use std::net::{IpAddr, SocketAddr};

use pingora::http::{RequestHeader, ResponseHeader};
use proptest::prelude::*;

use super::*;
use crate::client::Client;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn request(lines: &str) -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

fn asked(ask: &Ask<'_>, via_trusted: bool) -> Request {
    let address = IpAddr::from([192, 0, 2, 7]);
    Request {
        id: "id-1".into(),
        client: Client { address, secure: false, via_trusted },
        peer: SocketAddr::new(address, 4711),
        method: Method::GET,
        host: ask.host.into(),
        path: ask.path().into(),
        route: None,
        key: None,
    }
}

/// The first line, and the others in order, names in lower case.
fn lines(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8(head.to_vec()).unwrap();
    let mut lines: Vec<String> =
        text.split_terminator("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect();
    for line in &mut lines[1..] {
        let (name, value) = line.split_once(": ").unwrap();
        *line = format!("{}: {value}", name.to_ascii_lowercase());
    }
    lines[1..].sort();
    lines
}

/// What Pingora's types and the rules for them make of the same request.
fn by_pingora(ask: &Ask<'_>, asked: &Request) -> Vec<String> {
    let mut header = RequestHeader::build("GET", ask.target.as_bytes(), None).unwrap();
    for line in &ask.lines {
        header.append_header(line.name.to_owned(), line.value).unwrap();
    }
    forward::upgrade_request(&mut header).unwrap();
    forward::identify(&mut header, asked).unwrap();
    let mut head = format!("GET {} HTTP/1.1\r\n", ask.target).into_bytes();
    header.header_to_h1_wire(&mut head);
    lines(&head)
}

#[test]
fn a_request_for_a_websocket_is_read_with_its_length() {
    let text = request("Origin: https://example.com\r\n");
    let bytes = [text.as_bytes(), b"\x81\x00"].concat();
    let ask = Ask::read(&bytes).unwrap();
    assert_eq!((ask.target, ask.path(), ask.query()), ("/chat?room=1", "/chat", Some("room=1")));
    assert_eq!((ask.host, ask.length), ("example.com", text.len()));
    assert_eq!(ask.offer.key, KEY);
}

#[test]
fn whatever_leaves_a_question_open_is_pingoras() {
    let whole = request("");
    for (what, with) in [
        ("GET /chat", "POST /chat"),
        ("GET /chat", "GET //chat"),
        ("GET /chat", "GET http://example.com/chat"),
        ("GET /chat", "GET /ch\u{e4}t"),
        ("GET /chat", "GET /c\"t"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("Host: example.com\r\n", ""),
        ("Host: example.com\r\n", "Host: example.com\r\nHost: example.com\r\n"),
        ("Host: example.com\r\n", "Host: exa mple.com\r\n"),
        ("Upgrade: websocket", "Upgrade: h2c"),
        ("Connection: Upgrade", "Connection: close"),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nContent-Length: 1\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nTransfer-Encoding: chunked\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\nExpect: 100-continue\r\n"),
        ("Sec-WebSocket-Version: 13\r\n", "Sec-WebSocket-Version: 13\r\n folded: 1\r\n"),
    ] {
        assert!(Ask::read(whole.replace(what, with).as_bytes()).is_none(), "{with}");
    }
    for length in 0..whole.len() {
        assert!(Ask::read(&whole.as_bytes()[..length]).is_none(), "the first {length} bytes");
    }
}

#[test]
fn the_first_final_answer_is_found() {
    assert!(matches!(Answered::read(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP"), Ok(Answered::Interim(37))));
    assert!(matches!(Answered::read(b"HTTP/1.1 101 Switching\r\n"), Ok(Answered::Partly)));
    assert!(matches!(Answered::read(b"HTTP/1.1 403 Forbidden\r\n\r\n"), Ok(Answered::Refusal)));
    assert!(Answered::read(b"SSH-2.0-OpenSSH_9.2\r\n").is_err());
    let Ok(Answered::Switching(switching)) =
        Answered::read(b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x81")
    else {
        panic!("a 101 is none");
    };
    assert_eq!(switching.length, 46);
}

/// Header lines such as matter here.
fn field() -> impl Strategy<Value = String> {
    let name = prop::sample::select(vec![
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Forwarded-Host",
        "X-Request-Id",
        "Keep-Alive",
        "TE",
        "Trailer",
        "Proxy-Connection",
        "Cookie",
        "Authorization",
        "Origin",
        "X-Hop",
        "x-own",
        "Sec-WebSocket-Protocol",
        "Set-Cookie",
        "Connection",
        "Server",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "a, b",
        "upgrade, x-hop",
        "X-Own, cookie, Upgrade",
        "x-forwarded-for, upgrade",
        "203.0.113.7",
        "https",
    ]);
    (name, value).prop_map(|(name, value)| format!("{name}: {value}\r\n"))
}

proptest! {
    #[test]
    fn backends_are_sent_what_pingora_would_send(fields in prop::collection::vec(field(), 0..8), via_trusted: bool) {
        let text = request(&fields.concat());
        let ask = Ask::read(text.as_bytes()).unwrap();
        let asked = asked(&ask, via_trusted);
        prop_assert_eq!(lines(&ask.for_backend(&asked)), by_pingora(&ask, &asked));
    }

    #[test]
    fn clients_are_sent_what_pingora_would_send(fields in prop::collection::vec(field(), 0..8)) {
        let text = format!("HTTP/1.1 101 Whatever\r\nUpgrade: WebSocket\r\nContent-Length: 0\r\n{}\r\n", fields.concat());
        let Ok(Answered::Switching(mut switching)) = Answered::read(text.as_bytes()) else { panic!("a 101 is none") };
        let mut header = ResponseHeader::build(101, None).unwrap();
        for (name, value) in &switching.headers {
            header.append_header(name, value).unwrap();
        }
        forward::upgrade_response(&mut header).unwrap();
        forward::decorate_with(&mut header, Some("a=b"), "id-1").unwrap();
        let mut expected = b"HTTP/1.1 101 Switching Protocols\r\n".to_vec();
        header.header_to_h1_wire(&mut expected);
        prop_assert_eq!(lines(&switching.finish(Some("a=b"), "id-1")), lines(&expected));
    }
}
