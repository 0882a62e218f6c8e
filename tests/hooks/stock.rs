//! The hooks that ship, in the stock gateway.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{connect_async, tungstenite};

use crate::lab::UPGRADE;
use crate::support::{Echo, Gateway, Named, Wire, one_upstream, within};

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A gateway with one route, which has these hooks.
async fn gateway(backend: std::net::SocketAddr, hooks: &str) -> Gateway {
    let route = format!("- hooks: [{hooks}]\n    upstream");
    Gateway::start(&one_upstream(&[backend], "    health: off\n").replace("- upstream", &route)).await
}

/// A tunnel through the gateway, past the backend's greeting.
async fn connect(gateway: &Gateway) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    within("the greeting", socket.next()).await.unwrap().unwrap();
    socket
}

async fn say(socket: &mut Socket, text: &str) -> tungstenite::Message {
    socket.send(text.into()).await.unwrap();
    within("an answer", socket.next()).await.unwrap().unwrap()
}

fn closed(code: u16, reason: &'static str) -> tungstenite::Message {
    tungstenite::Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))
}

#[tokio::test]
async fn requests_over_the_limit_are_answered_429() {
    let backend = Named::start().await;
    let gateway = gateway(backend.address(), "{ hook: rate_limit, with: { requests: 2/d } }").await;
    let mut wire = Wire::connect(gateway.address()).await;
    assert_eq!([wire.get("/", "").await.status(), wire.get("/", "").await.status()], [200, 200]);
    let refused = wire.get("/", "").await;
    assert_eq!(refused.status(), 429);
    assert!(refused.head.get("retry-after").is_some());
    let upgrade = Wire::connect(gateway.address()).await.get("/", UPGRADE).await;
    assert_eq!((upgrade.status(), backend.requests().len()), (429, 2), "an upgrade is no way around");
}

#[tokio::test]
async fn messages_over_the_limit_close_the_tunnel_and_a_closed_tunnel_makes_room() {
    let echo = Echo::start().await;
    let gateway =
        gateway(echo.address(), "{ hook: rate_limit, with: { messages: 2/d, tunnels: 1, by: client_ip } }").await;
    let mut socket = connect(&gateway).await;
    let Err(tungstenite::Error::Http(refused)) = connect_async(format!("ws://{}/", gateway.address())).await else {
        panic!("one tunnel is open")
    };
    assert_eq!(refused.status(), 429);
    assert_eq!([say(&mut socket, "a").await, say(&mut socket, "b").await], ["a".into(), "b".into()]);
    assert_eq!(say(&mut socket, "c").await, closed(1008, "too many messages"));
    drop(socket);
    let again = async { while connect_async(format!("ws://{}/", gateway.address())).await.is_err() {} };
    within("room for another", again).await;
}

#[tokio::test]
async fn delayed_messages_arrive_in_order() {
    let echo = Echo::start().await;
    let hook = "{ hook: rate_limit, with: { messages: 500/s burst 1, on_excess: delay } }";
    let gateway = gateway(echo.address(), hook).await;
    let mut socket = connect(&gateway).await;
    for number in 0..20 {
        socket.send(number.to_string().into()).await.unwrap();
    }
    for number in 0..20 {
        assert_eq!(within("an echo", socket.next()).await.unwrap().unwrap(), number.to_string().into());
    }
}

#[tokio::test]
async fn pages_of_other_sites_open_no_tunnel() {
    let echo = Echo::start().await;
    let gateway = gateway(echo.address(), "origin").await;
    for (origin, passes) in [("same", true), ("https://evil.example", false), ("null", false)] {
        let mut request = format!("ws://{}/", gateway.address()).into_client_request().unwrap();
        let same = format!("http://{}", gateway.address());
        let origin = if origin == "same" { &same } else { origin };
        request.headers_mut().insert("origin", origin.parse().unwrap());
        match connect_async(request).await {
            Ok(_) => assert!(passes, "{origin}"),
            Err(tungstenite::Error::Http(refused)) => assert_eq!((refused.status().as_u16(), passes), (403, false)),
            Err(other) => panic!("{origin}: {other}"),
        }
    }
    assert_eq!(echo.backend.accepted(), 1, "the others reached nobody");
}

#[tokio::test]
async fn addresses_are_kept_out() {
    let backend = Named::start().await;
    let gateway = gateway(backend.address(), "{ hook: ip_filter, with: { deny: [127.0.0.2] } }").await;
    for (source, status) in [([127, 0, 0, 1], 200), ([127, 0, 0, 2], 403)] {
        let mut wire = Wire::connect_from(source.into(), gateway.address()).await;
        assert_eq!(wire.get("/", "").await.status(), status);
    }
}

#[tokio::test]
async fn headers_are_changed_on_both_ways() {
    let backend = Named::start().await;
    let hook = "{ hook: headers, with: { request: { set: { X-Client: '${client_ip}', X-Room: '${query:room}' } }, \
                response: { set: { X-Up: '${upstream}' } } } }";
    let gateway = gateway(backend.address(), hook).await;
    let forged = "X-Client: forged\r\nX-Room: forged\r\n";
    let answer = Wire::connect(gateway.address()).await.get("/?room=7", forged).await;
    assert_eq!(answer.head.all("x-up"), ["u"]);
    let seen = backend.last().head;
    assert_eq!((seen.all("x-client"), seen.all("x-room")), (vec!["127.0.0.1"], vec!["7"]));
}

#[tokio::test]
async fn messages_pass_by_the_policy_and_are_changed_by_it() {
    let echo = Echo::start().await;
    let hook = "{ hook: message_filter, with: { json: required, deny: [secret], on_violation: { reply: 'no' }, \
                replace: [{ pattern: '\\d{4}', with: '****' }] } }";
    let gateway = gateway(echo.address(), hook).await;
    let mut socket = connect(&gateway).await;
    for (said, heard) in [("[1]", "[1]"), ("[\"pin 1234\"]", "[\"pin ****\"]"), ("[\"secret\"]", "no"), ("[", "no")] {
        assert_eq!(say(&mut socket, said).await, heard.into());
    }
}

#[tokio::test]
async fn a_violation_closes_the_tunnel_with_its_code() {
    let echo = Echo::start().await;
    let gateway = gateway(echo.address(), "{ hook: message_filter, with: { max_size: 3B } }").await;
    let mut socket = connect(&gateway).await;
    assert_eq!(say(&mut socket, "1234").await, closed(1009, "the message is too long"));
}
