//! Sessions that backends begin: the key travels in the application's cookie, and the application does not see it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

use crate::support::{Backend, Gateway, Message, Named, Wire, one_upstream};

const BORN: &str = "    affinity: [cookie: { name: JSESSIONID, born_on: backend }]\n";
/// The first source of the README's first example that has a value for a client without a session.
const BORN_OR_ADDRESS: &str = "    affinity: [cookie: { name: JSESSIONID, born_on: backend }, client_ip]\n";

/// The value of a cookie in a `Cookie` line.
fn cookie(line: &str, name: &str) -> Option<String> {
    line.split("; ").find_map(|pair| pair.strip_prefix(&format!("{name}="))).map(str::to_owned)
}

/// [`servlet_at`] a free address.
async fn servlet() -> (Backend, Arc<Mutex<HashSet<String>>>) {
    servlet_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
}

/// A servlet container: begins a session where it does not know the one that is sent, and says whether it knew it.
async fn servlet_at(address: SocketAddr) -> (Backend, Arc<Mutex<HashSet<String>>>) {
    let sessions: Arc<Mutex<HashSet<String>>> = Arc::default();
    let known = Arc::clone(&sessions);
    let backend = Backend::start_at(address, move |stream| {
        let known = Arc::clone(&known);
        async move {
            let mut wire = Wire::new(stream);
            while let Some(request) = wire.request().await {
                let sent = request.head.get("cookie").and_then(|line| cookie(&line, "JSESSIONID"));
                let knew = sent.as_ref().is_some_and(|session| known.lock().unwrap().contains(session));
                let begun = if knew {
                    String::new()
                } else {
                    let session = format!("{:032X}", rand::random::<u128>());
                    known.lock().unwrap().insert(session.clone());
                    format!("Set-Cookie: JSESSIONID={session}; Path=/; HttpOnly\r\n")
                };
                let body = if knew { "known" } else { "begun" };
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{begun}\r\n{body}")).await;
            }
        }
    })
    .await;
    (backend, sessions)
}

/// The `NAME=VALUE` of the one cookie that an answer sets.
fn set_by(answer: &Message) -> String {
    let all = answer.head.all("set-cookie");
    assert_eq!(all.len(), 1, "{answer:?}");
    all[0].split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn no_visitor_loses_the_session_that_a_backend_began() {
    for affinity in [BORN, BORN_OR_ADDRESS] {
        let mut backends = Vec::new();
        for _ in 0..3 {
            backends.push(servlet().await.0);
        }
        let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
        let gateways = [
            Gateway::start(&one_upstream(&addresses, affinity)).await,
            Gateway::start(&one_upstream(&addresses, affinity)).await,
        ];
        for _ in 0..30 {
            let first = Wire::connect(gateways[0].address()).await.get("/", "").await;
            assert_eq!(first.text(), "begun");
            let session = set_by(&first);
            // Any gateway with the same file, and so one that was started anew, knows the way.
            for gateway in &gateways {
                let again = Wire::connect(gateway.address()).await.get("/", &format!("Cookie: {session}\r\n")).await;
                assert_eq!(again.text(), "known", "{session}");
            }
        }
    }
}

#[tokio::test]
async fn a_session_stays_where_it_began_when_backends_join_or_come_back() {
    let down = Named::start().await;
    let address = down.address();
    down.stop().await;
    let (first, second) = (servlet().await.0, servlet().await.0);
    let listed = [first.address, second.address, address];
    let gateway = Gateway::start(&one_upstream(&listed, BORN)).await;
    let mut sessions = Vec::new();
    for _ in 0..24 {
        sessions.push(set_by(&Wire::connect(gateway.address()).await.get("/", "").await));
    }

    let (_back, _) = servlet_at(address).await;
    let joined = servlet().await.0;
    let more = [listed[0], listed[1], address, joined.address];
    for gateway in
        [Gateway::start(&one_upstream(&listed, BORN)).await, Gateway::start(&one_upstream(&more, BORN)).await]
    {
        for session in &sessions {
            let again = Wire::connect(gateway.address()).await.get("/", &format!("Cookie: {session}\r\n")).await;
            assert_eq!(again.text(), "known", "{session}");
        }
    }
}

#[tokio::test]
async fn sessions_without_another_source_spread_over_all_backends() {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(servlet().await);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|(backend, _)| backend.address).collect();
    let gateway = Gateway::start(&one_upstream(&addresses, BORN)).await;
    for _ in 0..60 {
        Wire::connect(gateway.address()).await.get("/", "").await;
    }
    for (_, sessions) in &backends {
        assert!(!sessions.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_application_sees_its_own_values_alone() {
    let backend = Named::answering(SocketAddr::from(([127, 0, 0, 1], 0)), |_| {
        let lines = ["JSESSIONID=abc.node1; Path=/app", "theme=dark", "JSESSIONID=; Max-Age=0"];
        lines.map(|line| format!("Set-Cookie: {line}\r\n")).concat()
    })
    .await;
    let gateway = Gateway::start(&one_upstream(&[backend.address()], BORN)).await;
    let mut client = Wire::connect(gateway.address()).await;
    let answer = client.get("/", "Cookie: a=b; JSESSIONID=dummy; c=d\r\n").await;
    assert_eq!(backend.last().head.all("cookie"), ["a=b; JSESSIONID=dummy; c=d"]);
    let all = answer.head.all("set-cookie");
    assert_eq!((all.len(), all[1], all[2]), (3, "theme=dark", "JSESSIONID=; Max-Age=0"));
    let (pair, path) = all[0].split_once(';').unwrap();
    assert_eq!(path, " Path=/app");
    let place = pair.strip_prefix("JSESSIONID=").unwrap().strip_suffix("~abc.node1").unwrap();
    assert!(place.len() == 9 && place.bytes().all(|letter| letter.is_ascii_alphabetic()), "{pair}");

    // The same place comes back with the next session that the backend begins.
    let answer = client.get("/", &format!("Cookie: a=b; {pair}\r\nCookie: c=d\r\n")).await;
    assert_eq!(backend.last().head.all("cookie").join("; "), "a=b; JSESSIONID=abc.node1; c=d");
    assert_eq!(answer.head.all("set-cookie")[0], all[0]);
}

#[tokio::test]
async fn gateways_behind_each_other_add_and_remove_one_place_each() {
    let mut backends = Vec::new();
    for _ in 0..3 {
        backends.push(servlet().await.0);
    }
    let addresses: Vec<SocketAddr> = backends.iter().map(|backend| backend.address).collect();
    let inner = Gateway::start(&one_upstream(&addresses, BORN)).await;
    let outer = Gateway::start(&one_upstream(&[inner.address()], BORN)).await;
    for _ in 0..12 {
        let session = set_by(&Wire::connect(outer.address()).await.get("/", "").await);
        assert_eq!(session.matches('~').count(), 2, "{session}");
        let again = Wire::connect(outer.address()).await.get("/", &format!("Cookie: {session}\r\n")).await;
        assert_eq!(again.text(), "known", "{session}");
    }
}

#[tokio::test]
async fn a_session_begun_on_the_101_brings_the_tunnel_back() {
    for hooks in ["", "    hooks: [{ hook: headers, with: { response: { set: { x-seen: '1' } } } }]\n"] {
        let mut backends = Vec::new();
        for _ in 0..3 {
            backends.push(Backend::start(|stream| async move { greet(stream).await }).await);
        }
        let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
        let config = one_upstream(&addresses, BORN).replace("  - upstream: u\n", &format!("  - upstream: u\n{hooks}"));
        let gateway = Gateway::start(&config).await;
        for _ in 0..6 {
            let (_socket, response) = connect_async(format!("ws://{}/ws", gateway.address())).await.unwrap();
            let set = response.headers()["set-cookie"].to_str().unwrap().to_owned();
            let pair = set.strip_suffix("; Path=/").unwrap();
            assert!(pair.ends_with("~born") && response.headers()["x-cookie"].is_empty(), "{pair}");
            let home = response.headers()["x-backend"].clone();

            let mut request = format!("ws://{}/ws", gateway.address()).into_client_request().unwrap();
            request.headers_mut().insert("cookie", format!("a=b; {pair}").parse().unwrap());
            let (_socket, response) = connect_async(request).await.unwrap();
            assert_eq!(response.headers()["x-backend"], home);
            assert_eq!(response.headers()["x-cookie"], "a=b; JSESSIONID=born");
        }
    }
}

/// A backend that refuses an upgrade may begin a session with its refusal: a page for the login, say.
#[tokio::test]
async fn a_session_begun_with_a_refusal_of_an_upgrade_brings_the_client_back() {
    const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                           Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let affinity = BORN.replace("]\n", ", issue_cookie]\n");
    for hooks in ["", "    hooks: [{ hook: headers, with: { response: { set: { x-seen: '1' } } } }]\n"] {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut backends = Vec::new();
        for _ in 0..3 {
            backends.push(Named::answering(any, |_| "Set-Cookie: JSESSIONID=abc; Path=/\r\n".to_owned()).await);
        }
        let addresses: Vec<_> = backends.iter().map(Named::address).collect();
        let config =
            one_upstream(&addresses, &affinity).replace("  - upstream: u\n", &format!("  - upstream: u\n{hooks}"));
        let gateway = Gateway::start(&config).await;
        for _ in 0..6 {
            let first = Wire::connect(gateway.address()).await.get("/", UPGRADE).await;
            let set = first.head.all("set-cookie");
            assert_eq!((first.status(), set.len()), (200, 2), "{set:?}");
            assert!(set[0].starts_with("JSESSIONID=") && set[0].ends_with("~abc; Path=/"), "{set:?}");
            assert!(set[1].starts_with("longhaul="), "{set:?}");

            let session = set[0].split(';').next().unwrap();
            let cookies = format!("{UPGRADE}Cookie: {session}; longhaul=another\r\n");
            let again = Wire::connect(gateway.address()).await.get("/", &cookies).await;
            assert_eq!(again.address(), first.address());
            let home = backends.iter().find(|backend| backend.address() == first.address()).unwrap();
            assert_eq!(home.last().head.all("cookie"), ["JSESSIONID=abc; longhaul=another"]);
        }
    }
}

/// Opens a WebSocket, begins a session on the 101, and tells the cookie that came.
async fn greet(stream: tokio::net::TcpStream) {
    let name = stream.local_addr().unwrap().to_string();
    #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
    let decorate = |request: &Request, mut response: Response| {
        let cookie = request.headers().get("cookie").cloned().unwrap_or_else(|| "".parse().unwrap());
        response.headers_mut().insert("set-cookie", "JSESSIONID=born; Path=/".parse().unwrap());
        response.headers_mut().insert("x-backend", name.parse().unwrap());
        response.headers_mut().insert("x-cookie", cookie);
        Ok(response)
    };
    if let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, decorate).await {
        while let Some(Ok(_)) = futures_util::StreamExt::next(&mut socket).await {}
    }
}
