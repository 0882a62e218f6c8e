//! A backend for every case, and upgrades from one process to the next.

use std::net::SocketAddr;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, watch};

use crate::support::{Backend, Gateway, Wire, within};
use crate::ws::{CLOSE, frame, read_frame};

/// A backend whose answer depends on the path.
///
/// `/echo` is a WebSocket that sends every message back; `/late` is one too, once the gate is open; `/puppet` is one
/// that the test plays; `/slow` sends half its answer, and the other half once the gate is open; `/events` is a stream
/// of events that the test plays; anything else is answered at once with the backend's address.
pub(crate) struct Lab {
    backend: Backend,
    /// Gate at which connections wait; `true` lets all of them go on.
    pub(crate) gate: watch::Sender<bool>,
    arrived: Mutex<mpsc::UnboundedReceiver<Arrived>>,
}

/// A connection that came for a path which waits for the test.
pub(crate) struct Arrived {
    pub(crate) path: String,
    /// The stream, where the test is to play it.
    pub(crate) stream: Option<TcpStream>,
}

impl Lab {
    pub(crate) async fn start() -> Self {
        let (tell, arrived) = mpsc::unbounded_channel();
        let gate = watch::Sender::new(false);
        let opened = gate.subscribe();
        let backend = Backend::start(move |stream| serve(stream, tell.clone(), opened.clone())).await;
        Self { backend, gate, arrived: Mutex::new(arrived) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.backend.address
    }

    /// The next connection that waits for the test.
    pub(crate) async fn arrived(&self) -> Arrived {
        within("a connection at the backend", async { self.arrived.lock().await.recv().await }).await.unwrap()
    }

    /// The next one's stream.
    pub(crate) async fn puppet(&self) -> TcpStream {
        self.arrived().await.stream.expect("the test plays it")
    }

    /// A configuration with this backend as upstream `u`; `more` are further keys of it, each line indented by four.
    pub(crate) fn config(&self, more: &str) -> String {
        config(&[self.address()], more)
    }

    /// A gateway before this backend.
    pub(crate) async fn gateway(&self, more: &str) -> Gateway {
        ready(Gateway::start(&self.config(more)).await).await
    }
}

/// A configuration with metrics, an upgrade socket, and one upstream `u`.
pub(crate) fn config(backends: &[SocketAddr], more: &str) -> String {
    let backends: Vec<String> = backends.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nthreads: 2\nupgrade_sock: {{dir}}/upgrade.sock\nlisteners:\n  - address: 127.0.0.1:0\n\
         metrics:\n  address: 127.0.0.1:0\nroutes:\n  - upstream: u\nupstreams:\n  u:\n    health: off\n    \
             backends: [{}]\n{more}",
        backends.join(", ")
    )
}

/// Waits until a gateway would hear a successor.
pub(crate) async fn ready(gateway: Gateway) -> Gateway {
    gateway.log.find(&["successors are awaited at"]).await;
    gateway
}

/// Puts a successor in the gateway's place, waits until the old process has ended, and returns it for its logs.
pub(crate) async fn upgrade(gateway: &mut Gateway) -> Gateway {
    let successor = ready(gateway.successor().await).await;
    let mut old = std::mem::replace(gateway, successor);
    assert_eq!(old.ended().await, Some(0), "{:?}", old.log.to_the_end().await);
    old.log.to_the_end().await;
    old.access.to_the_end().await;
    old
}

/// A request on a connection of its own; the backend's address.
pub(crate) async fn get(address: SocketAddr) -> SocketAddr {
    Wire::connect(address).await.get("/", "Connection: close\r\n").await.address()
}

async fn serve(stream: TcpStream, tell: mpsc::UnboundedSender<Arrived>, mut opened: watch::Receiver<bool>) {
    let name = stream.local_addr().unwrap().to_string();
    let mut wire = Wire::new(stream);
    while let Some(request) = wire.request().await {
        let path = request.head.target().to_owned();
        if request.head.get("upgrade").is_some() {
            if path == "/late" {
                tell.send(Arrived { path: path.clone(), stream: None }).unwrap();
                opened.wait_for(|opened| *opened).await.unwrap();
            }
            wire.send(SWITCHING).await;
            let stream = wire.stream.into_inner();
            if path == "/puppet" {
                // The test may have ended by now.
                let _ = tell.send(Arrived { path, stream: Some(stream) });
                return;
            }
            return echo(stream).await;
        }
        match path.as_str() {
            "/slow" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
                tell.send(Arrived { path, stream: None }).unwrap();
                opened.wait_for(|opened| *opened).await.unwrap();
                wire.send("other").await;
            }
            "/events" => {
                wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                    .await;
                tell.send(Arrived { path, stream: Some(wire.stream.into_inner()) }).unwrap();
                return;
            }
            _ => {
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                if wire.stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Sends every frame back as it came, and answers a Close with the same.
async fn echo(stream: TcpStream) {
    let mut stream = BufStream::new(stream);
    while let Ok(received) = read_frame(&mut stream).await {
        let answer = frame(received.first, &received.payload, false);
        let sent = async {
            stream.write_all(&answer).await?;
            stream.flush().await
        };
        if sent.await.is_err() || received.first == CLOSE {
            return;
        }
    }
}

/// Runs blocking work on a thread of its own.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    within("blocking work", tokio::task::spawn_blocking(work)).await.unwrap()
}

/// Stops a process, and returns once every thread of it stands still.
pub(crate) fn stop(process: Pid) {
    kill_process(process, Signal::STOP).unwrap();
    let stands_still = || {
        let mut threads = std::fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).unwrap();
        // A thread that has ended since stands still as well.
        threads.all(|thread| {
            std::fs::read_to_string(thread.unwrap().path().join("stat")).map_or(true, |stat| stat.contains(") T "))
        })
    };
    while !stands_still() {
        std::thread::yield_now();
    }
}

const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
