//! Heads in any pieces: what is read of them, and what refuses them.

use super::*;

const BOUNDS: HeadBounds = HeadBounds { bytes: 2_000, lines: 10, target: 100 };
const GOOD: &str = "GET /a?b HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";

/// Outcome of bytes that come in pieces of `size`, and how many of them it took.
fn read(bytes: &[u8], size: usize) -> (usize, Result<Option<usize>, RequestRefused>) {
    let mut reading = HeadReading::default();
    let mut end = 0;
    while end < bytes.len() {
        end = (end + size).min(bytes.len());
        match reading.is_complete(&bytes[..end], &BOUNDS) {
            Ok(false) => {}
            Ok(true) => return (end, super::read(&bytes[..end], &BOUNDS).map(|head| Some(head.length))),
            Err(refused) => return (end, Err(refused)),
        }
    }
    (end, Ok(None))
}

#[test]
fn a_head_is_the_same_in_any_pieces() {
    for text in [GOOD.to_owned(), format!("\r\n\r\n{GOOD}"), GOOD.replace("\r\n", "\n"), format!("{GOOD}{GOOD}")] {
        let length = text.find("y").unwrap() + if text.contains('\r') { 5 } else { 3 };
        for size in 1..=text.len() {
            assert_eq!(read(text.as_bytes(), size).1, Ok(Some(length)), "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn what_is_refused_is_refused_in_any_pieces_alike() {
    let line = "X-Line: x\r\n";
    let get = |headers: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n").into_bytes();
    for (bytes, refused) in [
        (get(&line.repeat(10)), RequestRefused::Lines),
        (get(&format!("Cookie: {}\r\n", "c".repeat(3_000))), RequestRefused::Size),
        (get(&format!("Cookie: {}\r\n", "c".repeat(1_970))), RequestRefused::Size),
        (get("Bad Name: x\r\n"), RequestRefused::Malformed),
        (get("no colon\r\n"), RequestRefused::Malformed),
        (get("A: b\r\n c\r\n"), RequestRefused::Malformed),
        (get("A: \0\r\n"), RequestRefused::Malformed),
        (get("A : b\r\n"), RequestRefused::Malformed),
        (get("A: b\rc\r\n"), RequestRefused::Malformed),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100)).into(), RequestRefused::Target),
        (format!("GET /{}", "a".repeat(5_000)).into(), RequestRefused::Target),
        (format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(10_000)).into(), RequestRefused::Method),
        ("M".repeat(10_000).into(), RequestRefused::Method),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), RequestRefused::Version),
        (b"GET / HTTP/3.0\r\n\r\n".into(), RequestRefused::Version),
        (b"GET /\r\n\r\n".into(), RequestRefused::Version),
        (b"GET / http/1.1\r\n\r\n".into(), RequestRefused::Malformed),
        (b"GET / HTTP/1.1 \r\n\r\n".into(), RequestRefused::Malformed),
        (b"GET  / HTTP/1.1\r\n\r\n".into(), RequestRefused::Malformed),
        (b"HELO mail.example.com\r\n\r\n".into(), RequestRefused::Malformed),
        (b"QUIT\r\n\r\n".into(), RequestRefused::Malformed),
        (b"GET / HTTP/1.1\r\nHost: h\r\r\n\r\n".into(), RequestRefused::Malformed),
        (b"{}\r\n\r\n".into(), RequestRefused::Malformed),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".into(), RequestRefused::Tls),
    ] {
        for size in (1..100).chain([bytes.len()]) {
            let said = read(&bytes, size).1;
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
            assert_eq!(said, Err(refused), "{text:?} in pieces of {size}");
        }
    }
}

#[test]
fn nobody_waits_for_the_rest_of_what_is_refused_by_its_beginning() {
    for (bytes, at) in [
        (&b"\x16\x03\x01\x02\x00"[..], 1),
        (b"\x80GET / HTTP/1.1", 1),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 21),
        (b"GET / HTTP/2.0\r\nHost: h\r\n", 16),
        (b"GET / HTTP/1.1\r\nA: b\r\n", 22),
    ] {
        assert_eq!(read(bytes, 1).0, at, "{bytes:?}");
    }
}

#[test]
fn empty_lines_are_no_request() {
    let mut reading = HeadReading::default();
    assert_eq!(reading.is_complete(b"\r\n\n", &BOUNDS), Ok(false));
    assert!(!reading.has_begun(b"\r\n\n"));
    assert_eq!(reading.is_complete(b"\r\n\nG", &BOUNDS), Ok(false));
    assert!(reading.has_begun(b"\r\n\nG"));
    for lines in [&b"\n\r\n\r\n"[..], b"\r\n\r\n", b"\n"] {
        assert_eq!(HeadReading::default().is_complete(lines, &BOUNDS), Ok(false), "{lines:?}");
    }
}

#[test]
fn a_head_of_the_longest_length_is_read_and_one_byte_more_is_not() {
    let of = |length: usize| {
        let rest = "GET / HTTP/1.1\r\nHost: h\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(length - rest))
    };
    for size in [1, 7, 2_001] {
        assert_eq!(read(of(2_000).as_bytes(), size).1, Ok(Some(2_000)));
        assert_eq!(read(of(2_001).as_bytes(), size).1, Err(RequestRefused::Size));
    }
}
