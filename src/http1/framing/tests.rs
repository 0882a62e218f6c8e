//! Heads that have one meaning, and heads that are refused.

use super::*;
use crate::http1::head::read_request;

fn checked(request: &str, headers: &str) -> Result<(Body, Option<String>), FramingError> {
    let text = format!("{request}\r\n{headers}\r\n");
    let head = read_request(text.as_bytes()).unwrap().unwrap();
    check(&head).map(|framing| (framing.body, framing.rewritten.map(|bytes| String::from_utf8(bytes).unwrap())))
}

fn body_of(headers: &str) -> Result<Body, FramingError> {
    checked("POST / HTTP/1.1", &format!("Host: h\r\n{headers}")).map(|(body, _)| body)
}

#[test]
fn a_length_is_one_number() {
    assert_eq!(body_of(""), Ok(Body::Length(0)));
    for length in ["3", "3, 3", "3,3", "3\r\nContent-Length: 3", "3\t,\t3 , 3", " 3 "] {
        assert_eq!(body_of(&format!("Content-Length: {length}\r\n")), Ok(Body::Length(3)), "{length:?}");
    }
    for length in [
        "",
        " ",
        ",",
        "3,",
        ",3",
        "3,,3",
        "3, 4",
        "3\r\nContent-Length: 4",
        "3\r\nContent-Length:",
        "03, 3",
        "+3",
        "-3",
        "0x3",
        "3;",
        "3.0",
        "3e1",
        "3 3",
        "3_0",
        "\"3\"",
        "9223372036854775808",
        "18446744073709551619",
        "99999999999999999999999999",
    ] {
        assert_eq!(body_of(&format!("Content-Length: {length}\r\n")), Err(FramingError::Length), "{length:?}");
    }
    assert_eq!(body_of("Content-Length: 9223372036854775807\r\n"), Ok(Body::Length(i64::MAX as u64)));
}

#[test]
fn the_one_transfer_coding_is_chunked() {
    for coding in ["chunked", "Chunked", "CHUNKED", " chunked\t"] {
        assert_eq!(body_of(&format!("Transfer-Encoding: {coding}\r\n")), Ok(Body::Chunked), "{coding:?}");
    }
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "gzip",
        "identity",
        "identity, chunked",
        "xchunked",
        "chunked;q=1",
        "chunke",
        "chunked chunked",
        "\"chunked\"",
        "gzip\r\nTransfer-Encoding: chunked",
        "chunked\r\nTransfer-Encoding: gzip",
    ] {
        let refused = body_of(&format!("Transfer-Encoding: {coding}\r\n"));
        assert_eq!(refused, Err(FramingError::CodingUnknown), "{coding:?}");
    }
    for coding in [
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: chunked",
    ] {
        assert_eq!(body_of(&format!("Transfer-Encoding: {coding}\r\n")), Err(FramingError::Coding), "{coding:?}");
    }
    let old = checked("POST / HTTP/1.0", "Transfer-Encoding: chunked\r\n");
    assert_eq!(old, Err(FramingError::Coding));
    for both in
        ["Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"]
    {
        assert_eq!(body_of(both), Err(FramingError::TwoLengths));
    }
}

#[test]
fn a_head_is_rewritten_where_others_could_read_it_in_another_way() {
    assert_eq!(checked("GET /a HTTP/1.1", "Host: h\r\nContent-Length: 0\r\n"), Ok((Body::Length(0), None)));
    let (_, text) = checked("POST /a HTTP/1.1", "Host: h\r\nContent-Length: 3, 3\r\nX: y\r\n").unwrap();
    assert_eq!(text.unwrap(), "POST /a HTTP/1.1\r\nHost: h\r\nX: y\r\nContent-Length: 3\r\n\r\n");
    let (_, text) = checked("GET http://a.test:80?q HTTP/1.0", "Host: b\r\nX:\r\n").unwrap();
    assert_eq!(text.unwrap(), "GET /?q HTTP/1.0\r\nHost: a.test:80\r\nX: \r\n\r\n");
    let (body, text) = checked("POST / HTTP/1.1", "Host: h\r\nTrailer: x\r\nTransfer-Encoding: chunked\r\n").unwrap();
    assert_eq!(
        (body, text.unwrap().as_str()),
        (Body::Chunked, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    );
}

#[test]
fn a_host_is_named_once_and_a_target_has_a_form_that_its_method_allows() {
    for (request, headers, refusal) in [
        ("GET / HTTP/1.1", "", FramingError::Host),
        ("GET / HTTP/1.1", "Host: a\r\nHost: a\r\n", FramingError::Host),
        ("GET / HTTP/1.0", "Host: a\r\nHost: a\r\n", FramingError::Host),
        ("GET http://a/ HTTP/1.1", "", FramingError::Host),
        ("GET / HTTP/1.1", "Host: user@a\r\n", FramingError::HostMalformed),
        ("GET / HTTP/1.0", "Host: a/\r\n", FramingError::HostMalformed),
        ("GET / HTTP/1.1", "Host: b\u{fc}cher\r\n", FramingError::HostMalformed),
        ("GET http://a/ HTTP/1.1", "Host: user@a\r\n", FramingError::HostMalformed),
        ("GET http://a%2f/ HTTP/1.1", "Host: a\r\n", FramingError::Target),
        ("GET * HTTP/1.1", "Host: a\r\n", FramingError::Target),
        ("GET a:80 HTTP/1.1", "Host: a\r\n", FramingError::Target),
        ("GET /a%00 HTTP/1.1", "Host: a\r\n", FramingError::Nul),
        ("GET http://a/%00b HTTP/1.1", "Host: a\r\n", FramingError::Nul),
        ("CONNECT a:80 HTTP/1.1", "Host: a\r\n", FramingError::Connect),
        ("CONNECT / HTTP/1.1", "Host: a\r\n", FramingError::Connect),
    ] {
        assert_eq!(checked(request, headers), Err(refusal), "{request}");
    }
    assert!(checked("GET / HTTP/1.0", "").is_ok());
    assert!(checked("GET / HTTP/1.1", "Host:\r\n").is_ok());
    assert!(checked("OPTIONS * HTTP/1.1", "Host: a\r\n").is_ok());
}

#[test]
fn connection_is_a_list_of_tokens() {
    let with = |list: &str| body_of(&format!("Connection: {list}\r\n"));
    for list in ["close", "keep-alive, Upgrade", "close,, x-hop ,", "", "host, cookie", "a\r\nConnection: b"] {
        assert!(with(list).is_ok(), "{list:?}");
    }
    let many = vec!["x"; MAX_OPTIONS + 1].join(",");
    let long = "x".repeat(MAX_OPTION + 1);
    for list in
        ["a b", "\"close\"", ":authority", "close; x", "a/b", "x=y", "\u{e9}", "(", many.as_str(), long.as_str()]
    {
        assert_eq!(with(list), Err(FramingError::Connection), "{list:?}");
    }
}
