//! A gateway whose upstream `a` is discovered, backends that say who they are, and clients that never stop asking.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::{SinkExt, StreamExt};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Backend, Gateway, within};

/// A whole configuration; `discover` is the value of that key, and `{dir}` stands for the gateway's folder.
pub(crate) fn config(discover: &str, more: &str) -> String {
    format!(
        "listeners:\n  - address: 127.0.0.1:0\nthreads: 2\naccess_log: {{ to: stdout }}\n\
         state_folder: \"{{dir}}/state\"\ncontrol_sock: \"{{dir}}/control.sock\"\n\
         upgrade_sock: \"{{dir}}/upgrade.sock\"\nmetrics:\n  address: 127.0.0.1:0\nroutes:\n  - upstream: a\n\
         upstreams:\n  a:\n    affinity: [{{ query: k }}]\n    health: {{ interval: 1h }}\n    \
         discover: {discover}\n{more}"
    )
}

/// The metric of a source of the upstream `a`.
pub(crate) fn of_source(metric: &str, source: &str) -> String {
    format!("longhaul_discovery_{metric}{{source=\"{source}\",upstream=\"a\"}}")
}

/// Path of a file in the gateway's folder.
pub(crate) fn in_folder(gateway: &Gateway, name: &str) -> PathBuf {
    gateway.dir.path().join(name)
}

/// Waits until keys lead to these backends, and to no others.
pub(crate) async fn leads_to(gateway: &Gateway, backends: &[SocketAddr]) {
    let expected: BTreeSet<_> = backends.iter().map(ToString::to_string).collect();
    let wait = async {
        loop {
            let mut met = BTreeSet::new();
            for key in 0..40 {
                met.insert(get(gateway.address(), &format!("/?k={key}")).await.1);
            }
            if met == expected {
                return;
            }
        }
    };
    within(&format!("requests to reach {expected:?}"), wait).await;
}

/// Status and body of an answer.
pub(crate) async fn get(gateway: SocketAddr, path: &str) -> (u16, String) {
    let answer = reqwest::get(format!("http://{gateway}{path}")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A backend that answers plain requests with its own address, and echoes on WebSockets after a message with it.
pub(crate) async fn backend() -> Backend {
    Backend::start(serve).await
}

/// Backends on one port of 127.0.0.1, 127.0.0.2, and so on, as addresses of one name are.
pub(crate) async fn backends_on_one_port<const N: usize>() -> [Backend; N] {
    'ports: loop {
        let mut backends = vec![backend().await];
        let port = backends[0].address.port();
        for last in 2..=N as u8 {
            let address = SocketAddr::from(([127, 0, 0, last], port));
            // Another test may have the port there.
            let Ok(backend) = Backend::try_start_at(address, serve).await else { continue 'ports };
            backends.push(backend);
        }
        return backends.try_into().unwrap_or_else(|_| unreachable!("as many were pushed"));
    }
}

pub(crate) async fn serve(stream: TcpStream) {
    let address = stream.local_addr().unwrap().to_string();
    let mut first = [0; 2048];
    let Ok(read) = stream.peek(&mut first).await else { return };
    if String::from_utf8_lossy(&first[..read]).to_ascii_lowercase().contains("upgrade: websocket") {
        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
        if socket.send(address.into()).await.is_err() {
            return;
        }
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() && socket.send(message).await.is_err() {
                return;
            }
        }
        return;
    }
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
        if line == "\r\n" {
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{address}", address.len());
            if stream.get_mut().write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
        line.clear();
    }
}

/// A gateway in a mount namespace of its own, in which these commands ran before it.
pub(crate) async fn mounted(dir: Arc<TempDir>, commands: &str, environment: &[(&str, &str)]) -> Gateway {
    // Root may mount by itself, others in a user namespace of their own.
    let may_mount = Command::new("unshare").args(["--mount", "true"]).status().unwrap().success();
    let own = if may_mount { &["--mount"][..] } else { &["--map-root-user", "--mount"] };
    let inside = format!("{commands} && exec \"$0\" \"$@\"");
    let flags = [own, &["--", "sh", "-c", &inside, env!("CARGO_BIN_EXE_longhaul")]].concat();
    Gateway::begin_with(Path::new("unshare"), dir, &flags, environment).listening().await
}

/// An open tunnel.
pub(crate) struct Tunnel {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The backend, by its own word.
    pub(crate) backend: SocketAddr,
}

impl Tunnel {
    pub(crate) async fn open(gateway: SocketAddr, key: &str) -> Self {
        let (mut socket, _) = connect_async(format!("ws://{gateway}/?k={key}")).await.unwrap();
        let hello = within("a backend's first message", socket.next()).await.unwrap().unwrap();
        Self { socket, backend: hello.to_text().unwrap().parse().unwrap() }
    }

    /// Sends a message and takes it back.
    pub(crate) async fn echo(&mut self, text: &str) {
        self.socket.send(text.into()).await.unwrap();
        let back = within("an echo", self.socket.next()).await.unwrap().unwrap();
        assert_eq!(back.to_text().unwrap(), text);
    }

    /// Code of the Close frame that ends it.
    pub(crate) async fn closed(&mut self) -> u16 {
        within("a Close frame", self.closed_at_last()).await
    }

    /// As [`closed`](Self::closed), however long that takes.
    pub(crate) async fn closed_at_last(&mut self) -> u16 {
        match self.socket.next().await.unwrap().unwrap() {
            Message::Close(Some(frame)) => frame.code.into(),
            other => panic!("{other:?} in place of a Close frame"),
        }
    }
}

/// Clients that send requests one after the other, until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn on(gateway: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let client = |number: usize| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let (client, mut failed) = (reqwest::Client::new(), Vec::new());
                for turn in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    match client.get(format!("http://{gateway}/?k={number}.{turn}")).send().await {
                        Ok(answer) if answer.status() == 200 => _ = answered.fetch_add(1, Ordering::SeqCst),
                        other => failed.push(format!("{other:?}")),
                    }
                    tokio::task::yield_now().await;
                }
                failed
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, answered, clients }
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn goes_on(&self, more: usize) {
        let enough = self.answered.load(Ordering::SeqCst) + more;
        let wait = async {
            while self.answered.load(Ordering::SeqCst) < enough {
                tokio::task::yield_now().await;
            }
        };
        within("answers", wait).await;
    }

    /// Checks that nobody has noticed anything: these tunnels, which are all that were opened, carry on, and no request
    /// has failed.
    pub(crate) async fn nobody_noticed(self, gateway: &Gateway, open: &mut [Tunnel]) {
        for tunnel in open {
            tunnel.echo("still here").await;
        }
        self.goes_on(20).await;
        assert_eq!(self.failures().await, [""; 0]);
        assert_eq!(gateway.access.count(&["tunnel_end"]), 0);
    }

    /// Ends the load; what failed of it.
    pub(crate) async fn failures(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut failed = Vec::new();
        for client in self.clients {
            failed.extend(within("a client", client).await.unwrap());
        }
        failed
    }
}

/// Runs a command about the gateway; its exit code and output.
pub(crate) async fn longhaul(gateway: &Gateway, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(arguments).arg("--socket").arg(in_folder(gateway, "control.sock"));
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (output.status.code(), text)
}
