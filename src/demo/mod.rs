//! The servers behind the gateway of `longhaul demo`: three chat backends with visible state, and a page to try them.
//!
//! All of them listen on free ports of 127.0.0.1 and live in this process. The gateway in front is the real one and
//! reads the text of a real configuration ([`Demo::config`]).

mod backend;
mod certificate;
mod control;
mod room;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::backend::Backend;
pub use self::certificate::DemoCertificate;
use self::serve::Changes;

/// The three backends and the control server behind the page, all running.
///
/// [`Demo::stop`] ends them and waits for their end. A drop ends them too, without waiting.
#[derive(Debug)]
pub struct Demo {
    backends: Arc<[Backend]>,
    control: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Demo {
    /// Starts three backends and the control server, each on a free port of 127.0.0.1.
    ///
    /// The caller runs on a Tokio runtime with I/O and time enabled, which must live as long as the demo.
    ///
    /// # Errors
    /// No port is free, by the system's error.
    pub async fn start() -> io::Result<Self> {
        let changes = Changes::new();
        let backends: Arc<[Backend]> =
            NAMES.into_iter().map(|name| Backend::start_new(name, changes.clone())).collect::<io::Result<_>>()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let control = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let router = control::router(Arc::clone(&backends), changes, stopped.clone());
        let server = tokio::spawn(serve::until_stopped(listener, router, stopped));
        Ok(Self { backends, control, stop, server })
    }

    /// The gateway's configuration for this demo, as a user would write it, listening on `listen`, with TLS where there
    /// is a certificate.
    pub fn config(&self, listen: SocketAddr, certificate: Option<&DemoCertificate>) -> String {
        let tls = certificate.map_or_else(String::new, |DemoCertificate { cert, key }| {
            format!("\n    tls:\n      certificates:\n        - {{ cert: {cert:?}, key: {key:?} }}")
        });
        let backends: String = self
            .backends
            .iter()
            .map(|backend| format!("      - {}    # {}\n", backend.address(), backend.name()))
            .collect();
        CONFIG
            .replace("{listen}", &(listen.to_string() + &tls))
            .replace("{backends}", backends.trim_end())
            .replace("{control}", &self.control.to_string())
    }

    /// The addresses of the backends A, B and C; each keeps its own for the demo's life.
    pub fn backends(&self) -> Vec<SocketAddr> {
        self.backends.iter().map(Backend::address).collect()
    }

    /// The address of the control server, which serves the page.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Ends the backends and the control server; returns when their ports are closed.
    pub async fn stop(self) {
        for backend in self.backends.iter() {
            backend.stop().await;
        }
        self.stop.send_replace(true);
        // The task fails only by a panic, which closes its port as well.
        let _ = self.server.await;
    }
}

/// Text for the terminal, with what to open and try when the gateway listens on `listen`.
///
/// The first line is `open http://ADDRESS/`, which scripts may wait for; `https` with a certificate.
pub fn welcome(listen: SocketAddr, certificate: Option<&DemoCertificate>) -> String {
    let text = WELCOME.replace("{listen}", &listen.to_string());
    let Some(DemoCertificate { cert, .. }) = certificate else { return text };
    let text = text.replace("http://", "https://").replace("ws://", "wss://");
    let note = format!(
        "\nThe certificate is this demo's own, so a browser asks before it goes on; curl and others trust it by\n  \
         curl --cacert {} https://localhost:{}/\n",
        cert.display(),
        listen.port()
    );
    text.replacen('\n', &note, 1)
}

const NAMES: [&str; 3] = ["A", "B", "C"];

const CONFIG: &str = "\
version: 1

listeners:
  - address: {listen}

access_log: off

routes:
  - path: /ws                  # the clients' WebSockets
    upstream: chat
  - path: /                    # the page and its buttons
    upstream: page

upstreams:
  chat:
    affinity:
      - query: client          # ws://HOST/ws?client=ID: the same id, the same backend
      - issue_cookie: { name: longhaul }
    backends:
{backends}
    health:
      check: websocket
      path: /health
      interval: 1s
      timeout: 1s
      rise: 1
      fall: 1
  page:
    backends:
      - {control}
    health: off
";

const WELCOME: &str = "\
open http://{listen}/

Three backends (A, B, C) run behind the gateway; each remembers a counter per client, in its own memory.
Try on the page:
  count, then reload: every client is back on its backend, and its counter with it
  open 20 more clients, and watch how the ids spread over the backends
  stop a backend: its clients reconnect elsewhere; start it again, reconnect all: they come home
Or from a terminal, with any WebSocket client:
  ws://{listen}/ws?client=me        send {\"type\":\"count\"} or {\"type\":\"chat\",\"text\":\"hello\"}
Ctrl-C ends everything.
";
