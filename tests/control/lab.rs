//! Shared parts of these tests: configurations, the command line, words on the control socket, tunnels.
#![allow(unreachable_pub, reason = "a test binary exports nothing")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Gateway, within};

pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A configuration with a control socket in the gateway's folder, metrics, and one upstream `u`.
pub fn config(drain: &str, backends: &[SocketAddr]) -> String {
    let backends: Vec<_> = backends.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\n\
         control_sock: \"{{dir}}/control.sock\"\ndrain: {drain}\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    \
         health: off\n    affinity:\n      - query: key\n    backends: [{}]\n",
        backends.join(", ")
    )
}

/// Path at which [`config`] puts the control socket.
pub fn control_socket(gateway: &Gateway) -> PathBuf {
    gateway.dir.path().join("control.sock")
}

/// Exit code and output of the command line.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Runs the command line, against the gateway's control socket, to its end.
pub async fn longhaul(gateway: &Gateway, arguments: &[&str]) -> Said {
    let mut all = arguments.to_vec();
    let socket = control_socket(gateway);
    all.extend(["--socket", socket.to_str().unwrap()]);
    command(&all, &[]).await
}

/// Runs the command line to its end.
pub async fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = within(&format!("the end of {arguments:?}"), command.output()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

/// A connection to a control socket.
pub struct Control {
    stream: BufReader<UnixStream>,
}

impl Control {
    pub async fn connect(path: &Path) -> Self {
        Self { stream: BufReader::new(UnixStream::connect(path).await.unwrap()) }
    }

    /// Connects to the gateway's control socket and sends a request.
    pub async fn ask(gateway: &Gateway, request: &str) -> Self {
        let mut control = Self::connect(&control_socket(gateway)).await;
        control.send(format!("{request}\n").as_bytes()).await.unwrap();
        control
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes).await
    }

    /// The next line; null at the end.
    pub async fn next(&mut self) -> Value {
        let mut line = String::new();
        within("a line on the control socket", self.stream.read_line(&mut line)).await.unwrap();
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }
}

/// A tunnel to an echo, and the address that the echo introduced itself with.
pub async fn open(gateway: &Gateway, key: &str) -> (Socket, SocketAddr) {
    let (mut socket, _) = connect_async(format!("ws://{}/?key={key}", gateway.address())).await.unwrap();
    let name = socket.next().await.unwrap().unwrap();
    let address = name.to_text().unwrap().parse().unwrap();
    (socket, address)
}

/// Sends a message, and tells whether it comes back.
pub async fn echoes(socket: &mut Socket) -> bool {
    socket.send("hello".into()).await.is_ok()
        && matches!(socket.next().await, Some(Ok(message)) if message.to_text().unwrap() == "hello")
}

/// Reads to the Close frame, answers it, and returns its code with what came before it.
pub async fn closed(socket: &mut Socket) -> (u16, Vec<Message>) {
    let mut before = Vec::new();
    let read = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                Some(Ok(message)) => before.push(message),
                other => panic!("no Close frame, but {other:?}"),
            }
        }
    };
    let code = within("a Close frame", read).await;
    // The answer is written by the next read or flush.
    while socket.next().await.is_some() {}
    (code, before)
}

/// The status of a path on the metrics listener.
pub async fn probe(gateway: &Gateway, path: &str) -> u16 {
    reqwest::get(format!("http://{}{path}", gateway.metrics.unwrap())).await.unwrap().status().as_u16()
}

/// Waits until a connection to the gateway's listener is refused.
pub async fn refuses(gateway: &Gateway) {
    let refused = async {
        while TcpStream::connect(gateway.address()).await.is_ok() {
            // The gateway has to get to its signal behind these connections.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    within("the listener to close", refused).await;
}
