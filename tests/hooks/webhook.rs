//! `webhook` in the stock gateway: an endpoint that is told of tunnels, and decides about them.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::{connect_async, tungstenite};

use crate::support::{Echo, Gateway, one_upstream, within};

/// An endpoint that answers like this, and passes on what it is told.
async fn endpoint(answer: StatusCode) -> (SocketAddr, mpsc::UnboundedReceiver<Value>) {
    let (sender, told) = mpsc::unbounded_channel();
    let take = move |body: Bytes| {
        sender.send(serde_json::from_slice(&body).unwrap()).unwrap();
        std::future::ready(answer)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/", post(take))).await.unwrap() });
    (address, told)
}

async fn start(echo: &Echo, endpoint: SocketAddr, more: &str) -> Gateway {
    let hook = format!(
        "- hooks: [{{ hook: webhook, with: {{ url: 'http://{endpoint}/', timeout: 30s, {more} }} }}]\n    upstream"
    );
    Gateway::start(&one_upstream(&[echo.address()], "").replace("- upstream", &hook)).await
}

#[tokio::test]
async fn an_endpoint_is_told_of_a_tunnel_what_the_access_log_has_of_it() {
    let (address, mut told) = endpoint(StatusCode::OK).await;
    let echo = Echo::start().await;
    let gateway = start(&echo, address, "").await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    let opened = within("the opening", told.recv()).await.unwrap();
    socket.send("one".into()).await.unwrap();
    let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
    socket.close(Some(frame)).await.unwrap();
    while within("the end", socket.next()).await.is_some() {}
    let ended = within("the end", told.recv()).await.unwrap();
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    for event in [&opened, &ended] {
        assert_eq!((text(event, "upstream"), text(event, "route")), ("u".to_owned(), "* /".to_owned()));
        assert_eq!((text(event, "client"), text(event, "backend")), ("127.0.0.1".into(), echo.address().to_string()));
    }
    assert_eq!((text(&opened, "event"), text(&ended, "event")), ("open".to_owned(), "close".to_owned()));
    assert_eq!((ended["close_code"].clone(), ended["messages_from_client"].clone()), (1001.into(), 1.into()));
    let line = gateway.access.find(&["tunnel_end"]).await;
    for name in ["request_id", "tunnel", "reason"] {
        assert!(line.contains(&format!("{name}={}", text(&ended, name))), "{name} in {line}");
    }
    assert_eq!((&opened["tunnel"], &opened["request_id"]), (&ended["tunnel"], &ended["request_id"]));
}

#[tokio::test]
async fn a_tunnel_that_the_endpoint_refuses_is_closed_before_a_message_passes() {
    let (address, mut told) = endpoint(StatusCode::FORBIDDEN).await;
    let echo = Echo::start().await;
    let gateway = start(&echo, address, "gate: true, events: [open]").await;
    let (mut socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    let first = within("the Close frame", socket.next()).await.unwrap().unwrap();
    let tungstenite::Message::Close(Some(frame)) = first else { panic!("{first:?}") };
    assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::from(4403), "refused"));
    assert_eq!(within("the opening", told.recv()).await.unwrap()["event"], "open");
    gateway.access.find(&["tunnel_end", "close_code=4403", "reason=hook_closed"]).await;
}

#[tokio::test]
async fn a_process_that_ends_tells_of_the_tunnels_that_end_with_it() {
    let (address, mut told) = endpoint(StatusCode::OK).await;
    let echo = Echo::start().await;
    let mut gateway = start(&echo, address, "events: [close]").await;
    let (_socket, _) = connect_async(format!("ws://{}/", gateway.address())).await.unwrap();
    gateway.access.find(&["tunnel_open"]).await;
    gateway.signal("INT");
    gateway.ended().await;
    let event = within("the end", told.recv()).await.unwrap();
    assert_eq!(event["event"], "close");
}
