//! Shared parts of these tests: a gateway with an admin listener, requests to it, and tunnels.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Echo, Gateway};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A token that is long enough.
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";

pub struct Lab {
    pub gateway: Gateway,
    pub echo: Echo,
    pub client: Client,
}

impl Lab {
    /// A gateway before an echo, with `more` keys of `admin`.
    pub async fn start(more: &str) -> Self {
        let echo = Echo::start().await;
        let gateway = Gateway::start(&config(echo.address(), more)).await;
        Self { gateway, echo, client: Client::builder().no_proxy().build().unwrap() }
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.admin.unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.ask(Method::GET, path)).await
    }

    /// A change as a program on this machine asks for it.
    pub async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        answer(self.ask(Method::POST, path).header("X-Longhaul-Admin", "1").json(&body)).await
    }

    /// A tunnel that is open, its echo's greeting read.
    pub async fn open(&self, key: &str) -> Socket {
        let (mut socket, _) = connect_async(format!("ws://{}/?key={key}", self.gateway.address())).await.unwrap();
        socket.next().await.unwrap().unwrap();
        socket
    }
}

pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// A configuration with a control socket, metrics and an admin listener.
pub fn config(backend: SocketAddr, more: &str) -> String {
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nadmin:\n  address: \
         127.0.0.1:0\n{more}control_sock: \"{{dir}}/control.sock\"\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    \
         health: off\n    affinity:\n      - query: key\n    backends: [{backend}]\n"
    )
}

/// Sends a message, and tells whether it comes back.
pub async fn echoes(socket: &mut Socket) -> bool {
    socket.send("hello".into()).await.is_ok()
        && matches!(socket.next().await, Some(Ok(message)) if message.to_text().unwrap() == "hello")
}
