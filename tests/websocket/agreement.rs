//! One engine: a handshake is the same, byte for byte, whoever read the client's request and wherever its bytes were
//! cut.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Gateway;
use crate::wire::{ACCEPT, KEY, Manual, Wire, configuration};

/// A way for a client's request to come.
#[derive(Clone, Debug)]
enum Way {
    /// In one piece on a new connection: its worker reads it.
    Whole,
    /// In two pieces: most go on to Pingora.
    Cut(prop::sample::Index),
    /// Behind a plain request on the same connection: Pingora reads it.
    Behind,
    /// On a route with a hook that changes nothing.
    Hooked,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![any::<prop::sample::Index>().prop_map(Way::Cut), Just(Way::Behind), Just(Way::Hooked)]
}

/// Bytes that both sides saw.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    by_backend: String,
    by_client: String,
    /// Bytes of the tunnel that came behind the heads.
    early: [Vec<u8>; 2],
}

/// A handshake that comes in a certain way, with the backend's bytes cut at a place.
async fn handshake(
    gateway: &Gateway,
    backend: &mut Manual,
    way: &Way,
    cut: Option<&prop::sample::Index>,
    [request, answer]: [&str; 2],
) -> Seen {
    let mut client = Wire::connect(gateway.address()).await;
    let path = if matches!(way, Way::Hooked) { "/hooked" } else { "/plain." };
    let request = [request.replace("/path", path).as_bytes(), EARLY].concat();
    match way {
        Way::Whole | Way::Hooked => client.send(&request).await,
        Way::Cut(place) => {
            let (first, rest) = request.split_at(place.index(request.len()));
            client.send(first).await;
            tokio::task::yield_now().await;
            client.send(rest).await;
        }
        Way::Behind => {
            client.send("GET /plain. HTTP/1.1\r\nHost: example.com\r\n\r\n").await;
            let mut server = backend.next().await;
            server.head().await;
            server.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            assert_eq!(client.answer().await.status(), 204);
            client.send(&request).await;
        }
    }
    let mut server = backend.next().await;
    let by_backend = server.head().await.replace(path, "/path");
    let answer = [answer.as_bytes(), EARLY_BACK].concat();
    let (first, rest) = answer.split_at(cut.map_or(0, |cut| cut.index(answer.len())));
    server.send(first).await;
    tokio::task::yield_now().await;
    server.send(rest).await;
    let by_client = client.head().await;
    let switched = by_client.starts_with("HTTP/1.1 101 ");
    let early = match switched {
        true => [server.exactly(EARLY.len()).await, client.exactly(EARLY_BACK.len()).await],
        false => [Vec::new(), Vec::new()],
    };
    // An answer of the gateway's own has the time of day in it.
    let by_client = by_client.lines().filter(|line| !line.starts_with("Date: ")).collect::<Vec<_>>().join("\n");
    Seen { by_backend, by_client, early }
}

/// A masked Ping from the client and a Ping from the backend.
const EARLY: &[u8] = &[0x89, 0x82, 0, 0, 0, 0, b'h', b'i'];
const EARLY_BACK: &[u8] = &[0x89, 2, b'h', b'o'];

fn request() -> impl Strategy<Value = String> {
    let line = prop::sample::select(vec![
        "Connection: keep-alive, x-hop, cookie\r\n",
        "X-Hop: 1\r\n",
        "x-hop: 2\r\n",
        "X-Forwarded-For: 203.0.113.7\r\n",
        "x-forwarded-for: 203.0.113.8, 203.0.113.9\r\n",
        "X-Forwarded-Proto: https\r\n",
        "X-FORWARDED-HOST: other\r\n",
        "Cookie: a=1\r\n",
        "COOKIE: b=2\r\n",
        "Keep-Alive: timeout=5\r\n",
        "TE: trailers\r\n",
        "Accept:*/*\r\n",
        "X-Empty:\r\n",
        "Content-Length: 0\r\n",
        "Sec-WebSocket-Protocol: chat, mqtt\r\n",
        "Sec-WebSocket-Extensions: x-other; a=1\r\n",
    ]);
    prop::collection::vec(line, 0..8).prop_map(|lines| {
        format!(
            "GET /path?room=%20a HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade\r\nUPGRADE: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nsec-websocket-key: {KEY}\r\nX-Request-Id: same\r\n{}\r\n",
            lines.concat()
        )
    })
}

fn answer() -> impl Strategy<Value = String> {
    let interim = prop::sample::select(vec!["", "", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"]);
    let line = prop::sample::select(vec![
        "Set-Cookie: a=1\r\n",
        "set-cookie: b=2\r\n",
        "Server : old\r\n",
        "X-Folded: one,\r\n two\r\n",
        "X-Hop: 1\r\n",
        "Connection: x-hop\r\n",
        "Keep-Alive: timeout=5\r\n",
        "Content-Length: 0\r\n",
        "X-Request-Id: theirs\r\n",
        // Not offered by most requests.
        "Sec-WebSocket-Protocol: mqtt\r\n",
    ]);
    (interim, prop::collection::vec(line, 0..6)).prop_map(|(interim, lines)| {
        format!(
            "{interim}HTTP/1.1 101 Whatever\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n{}\r\n",
            lines.concat()
        )
    })
}

#[test]
fn a_handshake_is_the_same_whoever_reads_it_and_wherever_it_is_cut() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (gateway, backend) = runtime.block_on(async {
        let backend = Manual::start().await;
        let yaml = configuration(&[backend.address()], "");
        let hooked =
            "routes:\n  - { upstream: u, path: /hooked, hooks: [{ hook: ip_filter, with: { allow: [0.0.0.0/0] } }] }\n";
        (Gateway::start(&yaml.replace("routes:\n", hooked)).await, backend)
    });
    let backend = std::cell::RefCell::new(backend);
    let ways = prop::collection::vec((way(), any::<prop::sample::Index>()), 3);
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let held = runner.run(&(request(), answer(), ways), |(request, answer, ways)| {
        let backend = &mut *backend.borrow_mut();
        runtime.block_on(async {
            let texts = [&*request, &*answer];
            let expected = handshake(&gateway, backend, &Way::Whole, None, texts).await;
            for (way, cut) in &ways {
                let seen = handshake(&gateway, backend, way, Some(cut), texts).await;
                prop_assert_eq!(&seen, &expected, "{:?} {:?}", way, cut);
            }
            Ok(())
        })
    });
    held.unwrap();
}

#[tokio::test]
async fn a_blank_before_a_colon_leaves_a_101_and_refuses_a_request() {
    let mut backend = Manual::start().await;
    let gateway = crate::wire::gateway(&[backend.address()], "").await;
    let request = crate::wire::upgrade("");
    for pieces in [vec![&request[..]], vec![&request[..30], &request[30..]]] {
        let mut client = Wire::connect(gateway.address()).await;
        for piece in pieces {
            client.send(piece).await;
            tokio::task::yield_now().await;
        }
        let mut server = backend.next().await;
        server.head().await;
        server.send(crate::wire::switching("X-Foo : bar\r\n")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("\r\nX-Foo: bar\r\n"), "{head}");
    }
    let mut client = Wire::connect(gateway.address()).await;
    client.send(request.replace("Host:", "X-Foo : bar\r\nHost:")).await;
    assert_eq!(client.answer().await.status(), 400);
}
