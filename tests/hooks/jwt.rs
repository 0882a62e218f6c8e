//! `jwt` in the stock gateway: browsers' handshakes, what backends see, and the end of a token's tunnels.

use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use longhaul::ws::handshake::accept;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::lab::UPGRADE;
use crate::support::{Backend, Echo, Gateway, Named, Wire, one_upstream, within};

const SECRET: &str = "a secret of thirty-two characters";

/// A file with the secret, for a hook that accepts tokens signed with it.
struct Guard {
    folder: TempDir,
}

impl Guard {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("secret"), SECRET).unwrap();
        Self { folder }
    }

    /// The configuration of one upstream whose route is guarded; `more` are further settings of the hook.
    fn config(&self, backend: std::net::SocketAddr, more: &str) -> String {
        let secret = self.folder.path().join("secret");
        let with = format!("{{ secret_file: {}, {more} }}", secret.display());
        one_upstream(&[backend], "")
            .replace("- upstream", &format!("- hooks: [{{ hook: jwt, with: {with} }}]\n    upstream"))
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn token(claims: &Value) -> String {
    encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// Opens a tunnel as a browser does, with the token among the subprotocols.
async fn open(gateway: &Gateway, protocols: &str) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Error> {
    let mut request = format!("ws://{}/", gateway.address()).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_str(protocols).unwrap());
    within("the handshake", connect_async(request)).await.map(|(socket, _)| socket)
}

/// The code and the reason of the Close frame that comes next.
async fn closed(socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>) -> CloseFrame {
    match within("a Close frame", socket.next()).await {
        Some(Ok(Message::Close(Some(frame)))) => frame,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn requests_and_upgrades_need_a_token_and_the_backend_learns_whose() {
    let (guard, backend) = (Guard::new(), Named::start().await);
    let gateway = Gateway::start(&guard.config(backend.address(), "claims: { sub: x-user }, forward: false")).await;
    for headers in [String::new(), UPGRADE.to_owned(), "Upgrade: x\r\n".to_owned()] {
        let answer = Wire::connect(gateway.address()).await.get("/", &format!("{headers}X-User: root\r\n")).await;
        assert_eq!(answer.status(), 401, "{headers}");
        assert_eq!(answer.head.get("www-authenticate").as_deref(), Some("Bearer realm=\"longhaul\""));
    }
    assert!(backend.requests().is_empty());
    gateway.access.find(&["status=401", "jwt=missing"]).await;
    let token = token(&json!({ "sub": "u-1", "exp": now() + 60 }));
    let headers = format!("X-User: root\r\nAuthorization: Bearer {token}\r\n");
    assert_eq!(Wire::connect(gateway.address()).await.get("/", &headers).await.status(), 200);
    let seen = backend.last();
    assert_eq!((seen.head.all("x-user"), seen.head.get("authorization")), (vec!["u-1"], None));
}

#[tokio::test]
async fn a_claim_keeps_its_bearers_on_one_backend() {
    let (guard, backends) = (Guard::new(), Named::several(3).await);
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address().to_string()).collect();
    let config = guard.config(backends[0].address(), "key: room");
    let gateway = Gateway::start(&config.replace(&addresses[0], &addresses.join(", "))).await;
    for room in 0..5 {
        for user in 0..4 {
            let token = token(&json!({ "sub": user, "room": format!("r-{room}"), "exp": now() + 60 }));
            let headers = format!("Authorization: Bearer {token}\r\n");
            Wire::connect(gateway.address()).await.get(&format!("/{room}"), &headers).await;
        }
    }
    for room in 0..5 {
        let of_room = |backend: &&Named| backend.requests().iter().any(|seen| seen.head.target() == format!("/{room}"));
        assert_eq!(backends.iter().filter(of_room).count(), 1, "room {room}");
    }
}

#[tokio::test]
async fn a_browser_whose_token_is_its_only_subprotocol_gets_an_answer_that_it_takes() {
    let (guard, echo) = (Guard::new(), Echo::start().await);
    let gateway = Gateway::start(&guard.config(echo.address(), "from: [{ protocol: bearer. }]")).await;
    let good = token(&json!({ "exp": now() + 60 }));
    let mut socket = open(&gateway, &format!("bearer.{good}")).await.unwrap();
    assert_eq!(
        within("a message", socket.next()).await.unwrap().unwrap().into_text().unwrap(),
        echo.address().to_string()
    );
    let Err(Error::Http(answer)) = open(&gateway, "bearer.bad").await else { panic!("it was let in") };
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn the_other_subprotocols_are_negotiated_without_the_token() {
    let backend = Backend::start(|stream| async move {
        let mut wire = Wire::new(stream);
        while let Some(request) = wire.request().await {
            let key = request.head.get("sec-websocket-key").unwrap_or_default();
            let offered = request.head.get("sec-websocket-protocol").unwrap_or_default();
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: chat.v1\r\nX-Offered: {offered}\r\n\r\n",
                accept(&key)
            );
            wire.send(answer).await;
        }
    })
    .await;
    let guard = Guard::new();
    let gateway = Gateway::start(&guard.config(backend.address, "from: [{ protocol: bearer. }]")).await;
    let token = token(&json!({ "exp": now() + 60 }));
    let offer = format!("{UPGRADE}Sec-WebSocket-Protocol: chat.v2, bearer.{token}, chat.v1\r\n");
    let answer = Wire::connect(gateway.address()).await.get("/", &offer).await;
    assert_eq!(answer.status(), 101);
    assert_eq!(answer.head.all("sec-websocket-protocol"), ["chat.v1"]);
    assert_eq!(answer.head.get("x-offered").as_deref(), Some("chat.v2, chat.v1"));
}

#[tokio::test]
async fn a_tunnel_is_closed_when_its_token_expires_and_others_go_on() {
    let (guard, echo) = (Guard::new(), Echo::start().await);
    let gateway = Gateway::start(&guard.config(echo.address(), "from: [{ protocol: bearer. }], leeway: 0s")).await;
    let mut stays = open(&gateway, &format!("bearer.{}", token(&json!({ "exp": now() + 3600 })))).await.unwrap();
    stays.next().await;
    // On a machine that stands still for so long the token has expired before it arrives.
    let mut expires = loop {
        match open(&gateway, &format!("bearer.{}", token(&json!({ "exp": now() + 3 })))).await {
            Ok(socket) => break socket,
            Err(Error::Http(answer)) => assert_eq!(answer.status(), 401),
            Err(other) => panic!("{other}"),
        }
    };
    let frame = loop {
        match within("a Close frame", expires.next()).await {
            Some(Ok(Message::Close(Some(frame)))) => break frame,
            Some(Ok(Message::Text(greeting))) => assert_eq!(greeting.as_str(), echo.address().to_string()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::from(4401), "token expired"));
    gateway.access.find(&["tunnel_end", "close_code=4401", "by=gateway", "reason=hook_closed"]).await;
    futures_util::SinkExt::send(&mut stays, Message::text("still here")).await.unwrap();
    assert_eq!(within("an echo", stays.next()).await.unwrap().unwrap().into_text().unwrap(), "still here");
}

#[tokio::test]
async fn a_tunnel_that_was_handed_over_is_closed_by_the_next_process_when_its_token_expires() {
    let (guard, echo) = (Guard::new(), Echo::start().await);
    let mut old = Gateway::start(&guard.config(echo.address(), "from: [{ protocol: bearer. }], leeway: 0s")).await;
    // Lifetime of the token: longer than a handover takes.
    let token = token(&json!({ "exp": now() + 10 }));
    let mut socket = open(&old, &format!("bearer.{token}")).await.unwrap();
    socket.next().await;
    let gateway = old.successor().await;
    assert_eq!(old.ended().await, Some(0));
    let frame = closed(&mut socket).await;
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::from(4401), "token expired"));
    gateway.access.find(&["tunnel_end", "close_code=4401", "reason=hook_closed"]).await;
}
