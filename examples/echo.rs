//! A backend to try things with: says who it is and what it was asked for, and sends WebSocket messages back.
//!
//!     cargo run --example echo -- 9001 9002      # one for each port

use std::net::SocketAddr;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut backends = JoinSet::new();
    for port in std::env::args().skip(1) {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port.parse()?))).await?;
        let name = format!("backend {}", listener.local_addr()?.port());
        println!("{name} is there");
        let app = Router::new().fallback(move |request| answer(name, request));
        backends.spawn(async move { axum::serve(listener, app).await });
    }
    while let Some(ended) = backends.join_next().await {
        ended??;
    }
    Ok(())
}

async fn answer(name: String, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let mut asked = format!("{name}: {} {}\n", parts.method, parts.uri);
    for (header, value) in &parts.headers {
        asked += &format!("{header}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => upgrade.on_upgrade(|socket| echo(name, socket)),
        Err(_) => asked.into_response(),
    }
}

async fn echo(name: String, mut socket: WebSocket) {
    let mut next = Some(Message::text(name));
    while let Some(message) = next {
        let goes_back = matches!(message, Message::Text(_) | Message::Binary(_));
        if goes_back && socket.send(message).await.is_err() {
            break;
        }
        next = socket.recv().await.and_then(Result::ok);
    }
}
