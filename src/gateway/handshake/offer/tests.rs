//! Requests that workers answer themselves, and those that they leave to Pingora.

use super::*;
use crate::http1::head::read_request;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn plain(bytes: &[u8]) -> Option<Plain<'_>> {
    Plain::of(read_request(bytes).ok()??)
}

fn request(lines: &str) -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

#[test]
fn a_request_for_a_websocket_is_read_with_its_length() {
    let text = request("Origin: https://example.com\r\n");
    let bytes = [text.as_bytes(), b"\x81\x00"].concat();
    let plain = plain(&bytes).unwrap();
    assert_eq!((plain.head.target, plain.path(), plain.query()), ("/chat?room=1", "/chat", Some("room=1")));
    assert_eq!((plain.host, plain.head.length), ("example.com", text.len()));
    assert_eq!(plain.offer.key, KEY);
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
        assert!(plain(whole.replace(what, with).as_bytes()).is_none(), "{with}");
    }
    for length in 0..whole.len() {
        assert!(plain(&whole.as_bytes()[..length]).is_none(), "the first {length} bytes");
    }
}
