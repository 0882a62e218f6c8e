//! An axum server in the gateway's process, which pushes messages into open sockets and ends them.
//!
//!     cargo run --example echo -- 9001 9002 &
//!     cargo run --example axum -- -c examples/axum.yaml &
//!     cargo run --example ws -- 'ws://127.0.0.1:8080/?user=ada'           # in another terminal; says its tunnel's id
//!     curl -d 'dinner is ready' http://127.0.0.1:8081/users/ada           # 1: how many sockets got it
//!     curl -d 'closing soon' http://127.0.0.1:8081/users
//!     curl -X DELETE http://127.0.0.1:8081/tunnels/0123456789abcdef      # ends one socket by its id

use std::process::ExitCode;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, post};
use longhaul::Gateway;
use longhaul::hook::{
    Direction, Hook, Injector, Item, KeyTag, Message, NoSettings, Result, Setup, SetupError, To, Tunnel, TunnelId,
};
use tokio::net::TcpListener;

/// Tells each client its tunnel's id; and where a route has no hook at all, no message can be pushed.
struct Greeting;

impl Hook for Greeting {
    type Settings = NoSettings;
    type Context = ();

    fn new(_: NoSettings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self)
    }

    async fn on_open(&self, tunnel: &Tunnel, _: &mut ()) -> Result<()> {
        tunnel.send(Direction::ToClient, Message::text(format!("you are tunnel {}", tunnel.id)));
        Ok(())
    }
}

/// Tunnels with the affinity key `user`: the configuration takes it from `?user=`.
async fn push(State(gateway): State<Injector>, Path(user): Path<String>, text: String) -> String {
    let message = Item::Message(Direction::ToClient, Message::text(text));
    gateway.send(To::Key(KeyTag::of(user.as_bytes())), message).await.to_string()
}

async fn push_to_all(State(gateway): State<Injector>, text: String) -> String {
    gateway.send(To::All, Item::Message(Direction::ToClient, Message::text(text))).await.to_string()
}

async fn kick(State(gateway): State<Injector>, Path(id): Path<String>) -> Result<StatusCode, StatusCode> {
    let id: TunnelId = id.parse().map_err(|_| StatusCode::BAD_REQUEST)?;
    let close = Item::Close { code: 4000, reason: "shown out".into() };
    match gateway.send(id.into(), close).await {
        0 => Err(StatusCode::NOT_FOUND),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

async fn serve(gateway: Injector) -> std::io::Result<()> {
    let address = std::env::var("API").unwrap_or_else(|_| "127.0.0.1:8081".into());
    let listener = loop {
        match TcpListener::bind(&address).await {
            Ok(listener) => break listener,
            // After `longhaul upgrade`, until the old process has ended.
            Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    eprintln!("api on http://{}", listener.local_addr()?);
    let app = Router::new()
        .route("/users", post(push_to_all))
        .route("/users/{user}", post(push))
        .route("/tunnels/{id}", delete(kick));
    axum::serve(listener, app.with_state(gateway)).await
}

fn main() -> ExitCode {
    Gateway::builder().hook::<Greeting>("greeting").on_start(|gateway| drop(tokio::spawn(serve(gateway)))).run()
}
