//! A backend whose answer depends on the path, a gateway before several of them, and the people who use it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::TcpSocket;

use crate::support::{Backend, Gateway, within};
use crate::wire::{ACCEPT, From, Reply, Wire, frame, switching, text, upgrade};

/// A backend that does what the path of a request names.
pub(crate) struct Cast {
    backend: Backend,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Cast {
    pub(crate) async fn start() -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let backend = Backend::start(move |stream| {
            let seen = Arc::clone(&seen);
            async move {
                let address = stream.local_addr().unwrap();
                play(Wire::of(stream), address, &seen).await;
            }
        })
        .await;
        Self { backend, asked }
    }

    pub(crate) async fn several(count: usize) -> Vec<Self> {
        let mut cast = Vec::new();
        for _ in 0..count {
            cast.push(Self::start().await);
        }
        cast
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// Connections so far, those of health checks included.
    pub(crate) fn accepted(&self) -> usize {
        self.backend.accepted()
    }

    /// Number of requests for a path so far.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| *asked == path).count()
    }
}

/// The addresses of all of them.
pub(crate) fn addresses(cast: &[Cast]) -> Vec<SocketAddr> {
    cast.iter().map(Cast::address).collect()
}

async fn play(mut wire: Wire, address: SocketAddr, asked: &Mutex<Vec<String>>) {
    while let Some(head) = wire.next_head().await {
        let target = head.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap().to_owned();
        asked.lock().unwrap().push(path.clone());
        let greeting = text(From::Backend, &address.to_string());
        // The last segment, so that routes for paths lead to every deed.
        match &path[path.rfind('/').unwrap_or_default()..] {
            "/destroy" => return,
            "/reset" => return wire.reset(),
            "/half" => return wire.send("HTTP/1.1 101 Swit").await,
            "/garbage" => return wire.send("SSH-2.0-OpenSSH_9.2\r\n\r\n").await,
            "/endless" => return endless(&mut wire).await,
            "/never" => return wire.gone().await,
            "/wordy" => return wordy(wire).await,
            "/subprotocol" => wire.send(switching("Sec-WebSocket-Protocol: chat\r\n")).await,
            "/extension" => wire.send(switching("Sec-WebSocket-Extensions: permessage-deflate\r\n")).await,
            "/accept" => wire.send(switching("").replace(ACCEPT, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=")).await,
            "/naked" => wire.send("HTTP/1.1 101 Switching Protocols\r\n\r\n").await,
            _ if head.contains("websocket") => {
                wire.send([switching("").as_bytes(), &greeting].concat()).await;
                return echo(wire).await;
            }
            _ => {
                let body = address.to_string();
                wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
            }
        }
    }
}

/// Sends every frame back, and ends after a Close frame.
pub(crate) async fn echo(mut wire: Wire) {
    while let Some(message) = wire.next_frame().await {
        let bytes = frame(From::Backend, message.first, &message.payload);
        if tokio::io::AsyncWriteExt::write_all(&mut wire.stream, &bytes).await.is_err() || message.first == 0x88 {
            return;
        }
    }
}

/// An answer of [`WORDY`] bytes, or as much of it as is taken.
async fn wordy(mut wire: Wire) {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {WORDY}\r\n\r\n");
    let _ = wire.try_send([head.into_bytes(), vec![b'x'; WORDY]].concat()).await;
}

/// Length of a long answer: more than the buffers of a connection hold.
pub(crate) const WORDY: usize = 32 << 20;

/// A head that is never over: 4 MiB of it, or as much as is taken.
async fn endless(wire: &mut Wire) {
    let lines = "X-Filler: and so on and so on and so on\r\n".repeat(1_000);
    let _ = tokio::io::AsyncWriteExt::write_all(&mut wire.stream, b"HTTP/1.1 101 Switching Protocols\r\n").await;
    for _ in 0..100 {
        if tokio::io::AsyncWriteExt::write_all(&mut wire.stream, lines.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A configuration with metrics and sockets in the gateway's folder, and one upstream `u` whose key is `u` in the
/// query; `more` are further keys of it, each line indented by four.
pub(crate) fn config(backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nthreads: 2\nupgrade_sock: \"{{dir}}/upgrade.sock\"\ncontrol_sock: \"{{dir}}/control.sock\"\n\
         listeners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n  - upstream: u\n\
         upstreams:\n  u:\n    affinity: [ query: u ]\n    backends: [{}]\n{more}",
        backends.join(", ")
    )
}

/// A connection from an address of 127.0.0.0/8.
pub(crate) async fn connect(source: Ipv4Addr, to: SocketAddr) -> Wire {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    Wire::of(within("a connection", socket.connect(to)).await.unwrap())
}

/// An upgrade request for a target.
pub(crate) fn upgrade_to(target: &str) -> String {
    upgrade("").replace("GET / ", &format!("GET {target} "))
}

/// A plain request and an upgrade, both with this target and this host.
pub(crate) fn both(target: &str, host: &str) -> [String; 2] {
    let upgrade = upgrade_to(target).replace("Host: test", &format!("Host: {host}"));
    [format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"), upgrade]
}

/// Sends a request on a connection of its own; the answer, whose body may be cut short.
pub(crate) async fn ask(source: Ipv4Addr, gateway: &Gateway, request: &str) -> Reply {
    let mut wire = connect(source, gateway.address()).await;
    wire.send(request).await;
    wire.answer().await
}

/// Somebody with an open tunnel.
pub(crate) struct User {
    pub(crate) wire: Wire,
    /// The address of the backend at the other end.
    pub(crate) home: SocketAddr,
}

impl User {
    /// Opens a tunnel with a key of the ring.
    pub(crate) async fn open(source: Ipv4Addr, gateway: &Gateway, key: usize) -> Self {
        Self::open_at(source, gateway, &format!("/?u={key}")).await
    }

    /// Opens a tunnel by a target.
    pub(crate) async fn open_at(source: Ipv4Addr, gateway: &Gateway, target: &str) -> Self {
        let mut wire = connect(source, gateway.address()).await;
        wire.send(upgrade_to(target)).await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{target}: {head}");
        let home = String::from_utf8(wire.frame().await.payload).unwrap().parse().unwrap();
        Self { wire, home }
    }

    /// Opens a tunnel with a key of the ring, unless the gateway has no room for it.
    pub(crate) async fn try_open(source: Ipv4Addr, gateway: &Gateway, key: usize) -> Option<Self> {
        let mut wire = connect(source, gateway.address()).await;
        wire.try_send(upgrade_to(&format!("/?u={key}"))).await.ok()?;
        let head = within("an answer, or the end", wire.next_head()).await?;
        if !head.starts_with("HTTP/1.1 101 ") {
            return None;
        }
        let home = String::from_utf8(wire.frame().await.payload).unwrap().parse().unwrap();
        Some(Self { wire, home })
    }

    /// Sends a message and waits for the same message.
    pub(crate) async fn echoes(&mut self, message: &str) {
        self.wire.send(text(From::Client, message)).await;
        assert_eq!(self.wire.frame().await.payload, message.as_bytes(), "a tunnel of {}", self.home);
    }
}

/// One user for each key, at `127.9.0.x`, all of them greeted; together they have tunnels to every backend.
pub(crate) async fn users(gateway: &Gateway, cast: &[Cast]) -> Vec<User> {
    let mut users = Vec::new();
    for key in 0..KEYS {
        users.push(User::open(Ipv4Addr::new(127, 9, 0, 1 + key as u8), gateway, key).await);
    }
    for backend in addresses(cast) {
        assert!(users.iter().any(|user| user.home == backend), "{KEYS} keys reach every backend");
    }
    users
}

/// Asserts that every tunnel still echoes, and that whoever comes now with a user's key gets to that user's backend.
pub(crate) async fn unharmed(gateway: &Gateway, users: &mut [User]) {
    for (key, user) in users.iter_mut().enumerate() {
        user.echoes("still here").await;
        let newcomer = User::open(Ipv4Addr::new(127, 10, 0, 1 + key as u8), gateway, key).await;
        assert_eq!(newcomer.home, user.home, "key {key}");
    }
    for user in users {
        let up = format!("longhaul_backend_up{{backend=\"{}\",upstream=\"u\"}}", user.home);
        assert_eq!(gateway.metric(&up).await, 1.0, "{up}");
    }
}

/// Keys that stand on the rings of up to three backends on any ports, each backend being the home of some: with 24 of
/// them one ring of five thousand had a backend without any.
pub(crate) const KEYS: usize = 48;
