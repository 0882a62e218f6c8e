//! A table of requests and answers that programs read in several ways, and what reached the other side of each: alike
//! for the first request of a connection, for one behind another, in pieces, and on a route with hooks.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cast::{ask, connect};
use crate::support::{Backend, Gateway, Named, one_upstream};
use crate::wire::{KEY, Wire, upgrade};

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 66, 0, 1);

/// A way for a request to come.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// The first one of its connection.
    First,
    /// In three pieces.
    Pieces,
    /// Behind another one, sent before that is answered.
    Behind,
    /// For a route with a hook that lets everything pass.
    Hooked,
}

const WAYS: [Way; 4] = [Way::First, Way::Pieces, Way::Behind, Way::Hooked];

/// A gateway whose route for `/hooked` has a hook.
async fn start(backend: std::net::SocketAddr) -> Gateway {
    let hooked =
        "routes:\n  - { upstream: u, path: /hooked, hooks: [{ hook: ip_filter, with: { allow: [0.0.0.0/0] } }] }\n";
    Gateway::start(&one_upstream(&[backend], "    health: off\n").replace("routes:\n", hooked)).await
}

/// The status of the answer to a request that comes in this way.
async fn status(gateway: &Gateway, way: Way, request: &str) -> u16 {
    let mut wire = connect(CLIENT, gateway.address()).await;
    let request = match way {
        Way::Hooked => request.replace("/path", "/hooked"),
        _ => request.to_owned(),
    };
    match way {
        Way::Behind => wire.send(format!("GET /ahead HTTP/1.1\r\nHost: lab\r\n\r\n{request}")).await,
        Way::Pieces => {
            for piece in request.as_bytes().chunks(request.len() / 3 + 1) {
                // The gateway may have answered already.
                let _ = wire.stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
        }
        Way::First | Way::Hooked => wire.send(&request).await,
    }
    if matches!(way, Way::Behind) {
        assert_eq!(wire.answer().await.status(), 200);
    }
    wire.answer().await.status()
}

fn post(framing: &str, body: &str) -> String {
    format!("POST /path HTTP/1.1\r\nHost: lab\r\n{framing}\r\n\r\n{body}")
}

/// Requests with their body as the backend has to see it; none where the request has to be refused with the status.
fn table() -> Vec<(String, Result<&'static str, u16>)> {
    let mut table = Vec::new();
    for (length, body) in
        [("3", Ok("abc")), ("3, 3", Ok("abc")), ("3 ,\t3", Ok("abc")), ("3\r\ncontent-length:3", Ok("abc"))]
    {
        table.push((post(&format!("Content-Length: {length}"), "abc"), body));
    }
    let lengths = [
        "",
        "+3",
        "-3",
        "0x3",
        "3,",
        ",3",
        "3,,3",
        "3, 4",
        "4\r\nContent-Length: 3",
        "03, 3",
        "3;",
        "3.0",
        "3 3",
        "\u{b}3",
        "9223372036854775808",
        "18446744073709551619",
        "3\r\n 3",
        "3\0",
    ];
    table.extend(lengths.map(|length| (post(&format!("Content-Length: {length}"), "abc"), Err(400))));
    let chunks = "3\r\nabc\r\n0\r\n\r\n";
    for coding in ["chunked", "CHUNKED", "\tchunked "] {
        table.push((post(&format!("Transfer-Encoding: {coding}"), chunks), Ok("abc")));
    }
    for (coding, status) in [
        ("gzip, chunked", 501),
        ("gzip\r\nTransfer-Encoding: chunked", 501),
        ("chunked, gzip", 501),
        ("identity", 501),
        ("xchunked", 501),
        ("chunked;x", 501),
        ("chunked x", 501),
        ("\"chunked\"", 501),
        ("", 400),
        (",chunked", 400),
        ("chunked,", 400),
        ("chunked, chunked", 400),
        ("chunked\r\nTransfer-Encoding: chunked", 400),
        ("\u{b}chunked", 400),
        ("chunked\r\nContent-Length: 3", 400),
        ("chunked\r\n chunked", 400),
        ("chunked\0", 400),
    ] {
        table.push((post(&format!("Transfer-Encoding: {coding}"), chunks), Err(status)));
    }
    table.push((post("Transfer-Encoding : chunked", chunks), Err(400)));
    table.push((post("Content-Length : 3", "abc"), Err(400)));
    table.push((post("Transfer-Encoding: chunked", chunks).replace("/1.1", "/1.0"), Err(400)));
    for chunks in ["3;a=b\r\nabc\r\n0\r\n\r\n", "3 ;a\r\nabc\r\n00\r\n\r\n", "1\r\na\r\n2\r\nbc\r\n0\r\nT: x\r\n\r\n"] {
        table.push((post("Trailer: T\r\nTransfer-Encoding: chunked", chunks), Ok("abc")));
    }
    for chunks in [
        "\r\n3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\rabc\r\n0\r\n\r\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 3\r\nabc\r\n0\r\n\r\n",
        "3,\r\nabc\r\n0\r\n\r\n",
        "3\0\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\r\nT : x\r\n\r\n",
        "3\r\nabc\r\n0\r\nGET / HTTP/1.1\r\n\r\n",
        "3\r\nabc\r\n10000000000000000\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
    ] {
        table.push((post("Transfer-Encoding: chunked", chunks), Err(400)));
    }
    table
}

#[tokio::test]
async fn a_body_reaches_the_backend_in_one_meaning_or_not_at_all() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    for (request, expected) in table() {
        for way in WAYS {
            let before = backend.requests().len();
            let status = status(&gateway, way, &request).await;
            let requests = backend.requests().split_off(before);
            let reached: Vec<_> = requests.iter().filter(|request| request.head.target() != "/ahead").collect();
            match expected {
                Ok(body) => {
                    assert_eq!((status, reached.len()), (200, 1), "{way:?} {request:?}");
                    let (head, text) = (&reached[0].head, reached[0].text());
                    assert_eq!(text, body, "{way:?} {request:?}");
                    let framing = (head.all("content-length").len(), head.all("transfer-encoding").len());
                    assert!([(1, 0), (0, 1)].contains(&framing), "{way:?} {request:?}: {head:?}");
                    assert_eq!(head.get("trailer"), None);
                    assert!(head.all("content-length").iter().all(|length| *length == "3"), "{head:?}");
                    assert!(head.all("transfer-encoding").iter().all(|coding| *coding == "chunked"), "{head:?}");
                }
                Err(refused) => {
                    assert_eq!(status, refused, "{way:?} {request:?}");
                    assert!(reached.is_empty(), "{way:?} {request:?}: {reached:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_list_in_connection_that_is_none_is_400_whoever_reads_it() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    let lists = ["a b", "\"close\"", ":authority", "close; x", "x=y", "a/b", "(x)", "\u{e9}"];
    for list in lists {
        let plain = format!("GET /path HTTP/1.1\r\nHost: lab\r\nConnection: {list}\r\n\r\n");
        let socket = upgrade("").replace("GET / ", "GET /path ").replace(": Upgrade", &format!(": Upgrade, {list}"));
        for request in [plain, socket] {
            for way in WAYS {
                assert_eq!(status(&gateway, way, &request).await, 400, "{way:?} {request:?}");
            }
        }
    }
    let many = vec!["x-hop"; 20].join(", ");
    for list in ["close,, x-hop ,", "keep-alive, host, cookie, x-forwarded-for", many.as_str()] {
        let request =
            format!("GET /path HTTP/1.1\r\nHost: lab\r\nCookie: a=b\r\nX-Hop: 1\r\nConnection: {list}\r\n\r\n");
        for way in [Way::First, Way::Pieces, Way::Hooked] {
            assert_eq!(status(&gateway, way, &request).await, 200, "{way:?} {list}");
            let head = backend.last().head;
            assert_eq!((head.all("host"), head.get("cookie").as_deref()), (vec!["lab"], Some("a=b")), "{list}");
            assert_eq!(head.get("x-hop").is_some(), !list.contains("x-hop"), "{list}");
        }
    }
}

#[tokio::test]
async fn a_target_has_a_form_that_its_method_allows() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    for (line, refused) in [
        ("GET *", 400),
        ("POST *", 400),
        ("GET lab:80", 400),
        ("GET path", 400),
        ("GET ?q", 400),
        ("GET ftp://lab/", 400),
        ("GET http:///x", 400),
        ("GET http://u@lab/", 400),
        ("OPTIONS *x", 400),
        ("GET /a b", 400),
        ("CONNECT lab:80", 405),
        ("CONNECT /", 405),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: lab\r\n\r\n");
        for way in [Way::First, Way::Pieces, Way::Behind] {
            assert_eq!(status(&gateway, way, &request).await, refused, "{way:?} {line}");
        }
    }
    for (line, target, host) in [
        ("OPTIONS *", "*", "lab"),
        ("GET http://other.test", "/", "other.test"),
        ("GET HTTP://other.test:8080?q=/", "/?q=/", "other.test:8080"),
        ("OPTIONS http://other.test", "*", "other.test"),
        ("GET https://other.test//x/../y", "//x/../y", "other.test"),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: lab\r\n\r\n");
        for way in [Way::First, Way::Pieces] {
            assert_eq!(status(&gateway, way, &request).await, 200, "{way:?} {line}");
            let head = backend.last().head;
            assert_eq!((head.target().to_owned(), head.all("host")), (target.to_owned(), vec![host]), "{way:?} {line}");
            assert_eq!(head.get("x-forwarded-host").as_deref(), Some(host));
        }
    }
}

#[tokio::test]
async fn characters_that_stand_in_no_uri_reach_the_backend_as_they_came() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    for target in ["/path/<>\"?<>\"", "/path/`?`{|}", "/path/a^b", "/path/%3C<", "/path?q=<script>\""] {
        let get = format!("GET {target} HTTP/1.1\r\nHost: lab\r\n\r\n");
        let post = format!("POST {target} HTTP/1.1\r\nHost: lab\r\nContent-Length: 3\r\n\r\nabc");
        let socket = upgrade("").replace("GET / ", &format!("GET {target} "));
        for (request, body) in [(get, ""), (post, "abc"), (socket, "")] {
            for way in WAYS {
                assert_eq!(status(&gateway, way, &request).await, 200, "{way:?} {request}");
                let last = backend.last();
                let expected =
                    if matches!(way, Way::Hooked) { target.replace("/path", "/hooked") } else { target.to_owned() };
                assert_eq!((last.head.target(), last.text().as_str()), (expected.as_str(), body), "{way:?}");
            }
        }
    }
}

/// The head and the body that a client gets of an answer, up to the end of the connection.
async fn relayed(answer: &'static str, request: &str) -> (String, String) {
    let backend = Backend::start(move |stream| async move {
        let mut wire = Wire::of(stream);
        if wire.next_head().await.is_some() {
            wire.send(answer).await;
        }
    })
    .await;
    let gateway = start(backend.address).await;
    let mut client = connect(CLIENT, gateway.address()).await;
    client.send(request).await;
    let mut all = Vec::new();
    // The connection may end by a reset.
    let _ = client.stream.read_to_end(&mut all).await;
    let text = String::from_utf8(all).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}: {text:?}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn an_answer_has_one_meaning_too_or_is_502() {
    let plain = "GET /path HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n";
    let socket = upgrade("").replace("GET / ", "GET /path ").replace(": Upgrade", ": Upgrade, close");
    for request in [plain, &socket] {
        for framing in [
            "Content-Length: 3, 3",
            "Content-Length: 3\r\ncontent-length: 3",
            "Content-Length : 3",
            "X-A : b\r\nContent-Length: 3",
        ] {
            let answer: &'static str = format!("HTTP/1.1 403 No\r\n{framing}\r\n\r\nabc").leak();
            let (head, body) = relayed(answer, request).await;
            assert!(head.starts_with("http/1.1 403 ") && body == "abc", "{answer:?}: {head} {body}");
            assert_eq!(head.matches("content-length: 3").count(), 1, "{answer:?}: {head}");
            assert!(!head.contains("3,"), "{answer:?}: {head}");
        }
        for framing in [
            "Content-Length: 3, 4",
            "Content-Length: +3",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: ",
            "Content-Length: 9223372036854775808",
            "Content-Length: 18446744073709551615",
            "Transfer-Encoding: gzip, chunked",
        ] {
            let answer: &'static str = format!("HTTP/1.1 403 No\r\n{framing}\r\n\r\n3\r\nabc\r\n0\r\n\r\n").leak();
            let (head, _) = relayed(answer, request).await;
            assert!(head.starts_with("http/1.1 502 "), "{answer:?}: {head}");
        }
        let both = "HTTP/1.1 403 No\r\nTrailer: T\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n\
                    3\r\nabc\r\n0\r\nT: x\r\n\r\n";
        let (head, body) = relayed(both, request).await;
        assert!(!head.contains("content-length") && !head.contains("trailer"), "{head}");
        assert_eq!(body, "3\r\nabc\r\n0\r\n\r\n");
        let asked =
            "HTTP/1.1 426 Upgrade Required\r\nUpgrade: other/2\r\nConnection: Upgrade\r\nContent-Length: 0\r\n\r\n";
        let (head, _) = relayed(asked, request).await;
        assert!(head.contains("\r\nupgrade: other/2"), "{head}");
        let cut = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 400\r\n\r\npart";
        let (head, body) = relayed(cut, request).await;
        assert!(head.starts_with("http/1.1 401 ") && body == "part", "{head} {body}");
    }
}

/// Clients that say they are done get what they asked for, plain or with a body.
#[tokio::test]
async fn half_closed_clients_get_every_answer_that_they_asked_for() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    let get = "GET /path HTTP/1.1\r\nHost: lab\r\n\r\n";
    for request in [
        get.to_owned(),
        post("Content-Length: 3", "abc"),
        post("Transfer-Encoding: chunked", "0\r\n\r\n"),
        get.repeat(3),
    ] {
        let mut client = connect(CLIENT, gateway.address()).await;
        client.send(&request).await;
        client.stream.shutdown().await.unwrap();
        for _ in 0..request.matches("HTTP/1.1").count() {
            assert_eq!(client.answer().await.status(), 200, "{request:?}");
        }
        assert_eq!(client.rest().await, b"");
    }
}

#[tokio::test]
async fn an_upgrade_by_http_1_0_reaches_the_backend_as_a_plain_request_on_every_way() {
    let backend = Named::start().await;
    let gateway = start(backend.address()).await;
    let request = format!(
        "GET /path HTTP/1.0\r\nHost: lab\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    for way in WAYS {
        assert_eq!(status(&gateway, way, &request).await, 200, "{way:?}");
        assert_eq!(backend.last().head.get("upgrade"), None, "{way:?}");
    }
    let refused = ask(CLIENT, &gateway, "GET /path HTTP/1.1\r\nHost: lab\r\nUpgrade: websocket\r\n\r\n").await;
    assert_eq!(refused.status(), 400);
}
