//! The servers behind the gateway of `longhaul demo`: three chat backends with visible state, and a page to try them.
//! With `--discover` there are five, and the page says which of them are members of the gateway's upstream.
//!
//! All of them listen on free ports of 127.0.0.1 and live in this process. The gateway in front is the real one and
//! reads the text of a real configuration ([`Demo::config`]).

mod backend;
mod certificate;
mod control;
mod kept;
mod members;
mod room;
mod serve;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::backend::Backend;
pub use self::certificate::DemoCertificate;
use self::kept::Kept;
use self::members::Members;
use self::serve::Changes;

/// The backends and the control server behind the page, all running.
///
/// [`Demo::stop`] ends them and waits for their end. A drop ends them too, without waiting.
#[derive(Debug)]
pub struct Demo {
    backends: Arc<[Backend]>,
    /// With `--discover`.
    members: Option<Arc<Members>>,
    kept: Arc<Kept>,
    control: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Demo {
    /// Starts three backends and the control server, each on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// No port is free, or no temporary folder can be made, by the system's error.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(&NAMES[..FIRST], None).await
    }

    /// Starts five backends, of which three are members by a file in a new folder in `parent`.
    ///
    /// # Errors
    /// No port is free, or the file cannot be written.
    pub async fn start_discovered(parent: &Path) -> io::Result<Self> {
        Self::start_with(&NAMES, Some(parent)).await
    }

    /// The caller runs on a Tokio runtime with I/O and time enabled, which must live as long as the demo.
    async fn start_with(names: &[&'static str], parent: Option<&Path>) -> io::Result<Self> {
        let (changes, kept) = (Changes::new(), Arc::new(Kept::new()?));
        let start = |name: &&'static str| Backend::start_new(name, changes.clone(), Arc::clone(&kept));
        let backends: Arc<[Backend]> = names.iter().map(start).collect::<io::Result<_>>()?;
        let addresses = backends.iter().map(|backend| (backend.name(), backend.address()));
        let members = parent.map(|parent| Members::begin(parent, addresses, FIRST, changes.clone())).transpose()?;
        let members = members.map(Arc::new);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let control = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let router = control::router(Arc::clone(&backends), members.clone(), changes, stopped.clone());
        let server = tokio::spawn(serve::until_stopped(listener, router, stopped));
        Ok(Self { backends, members, kept, control, stop, server })
    }

    /// The gateway's configuration for this demo, as a user would write it, listening on `listen`, with TLS where there
    /// is a certificate.
    pub fn config(&self, listen: SocketAddr, certificate: Option<&DemoCertificate>) -> String {
        let tls = certificate.map_or_else(String::new, |DemoCertificate { cert, key }| {
            format!("\n    tls:\n      certificates:\n        - {{ cert: {cert:?}, key: {key:?} }}")
        });
        let listed = || {
            let line = |backend: &Backend| format!("      - {}    # {}\n", backend.address(), backend.name());
            format!("    backends:\n{}", self.backends.iter().map(line).collect::<String>())
        };
        let backends = self.members.as_ref().map_or_else(listed, |members| {
            let file = members.file();
            format!(
                "    discover: {{ file: {file:?}, settle: 0s }}\n    drain_window: 5s\n    absent: {{ hold: 20s }}\n"
            )
        });
        CONFIG
            .replace("{listen}", &(listen.to_string() + &tls))
            .replace("{backends}", backends.trim_end())
            .replace("{control}", &self.control.to_string())
    }

    /// The addresses of the backends A, B and C, and with `--discover` of D and E; each keeps its own for the demo's
    /// life.
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
        self.members.iter().for_each(|members| members.clear());
    }

    /// Removes the temporary files: for the end of a process that waits for nothing, where nothing is dropped.
    pub fn clear(&self) {
        self.members.iter().for_each(|members| members.clear());
        self.kept.clear();
    }
}

/// Text for the terminal, with what to open and try when the gateway listens on `listen`.
///
/// The first line is `open http://ADDRESS/`, which scripts may wait for; `https` with a certificate. Where there is an
/// `admin` listener, the second one is `dashboard http://ADDRESS/`.
pub fn welcome(listen: SocketAddr, admin: Option<SocketAddr>, certificate: Option<&DemoCertificate>) -> String {
    let text = with_certificate(WELCOME.replace("{listen}", &listen.to_string()), listen, certificate);
    let Some(admin) = admin else { return text };
    text.replacen('\n', &format!("\ndashboard http://{admin}/\n"), 1)
}

fn with_certificate(text: String, listen: SocketAddr, certificate: Option<&DemoCertificate>) -> String {
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

const NAMES: [&str; 5] = ["A", "B", "C", "D", "E"];
/// Number of backends of the demo without `--discover`, and the first members of the one with it.
const FIRST: usize = 3;

const CONFIG: &str = "\
version: 1

listeners:
  - address: {listen}

admin:
  address: 127.0.0.1:0         # the dashboard, for this machine alone

access_log: off

routes:
  - path: /ws                  # the clients' WebSockets
    upstream: chat
    reattach: { within: 10s, on: [going_away] }    # a restarted backend says so; a stopped one is as good as dead
  - path: /                    # the page and its buttons
    upstream: page

upstreams:
  chat:
    affinity:
      - query: client          # ws://HOST/ws?client=ID: the same id, the same backend
      - issue_cookie: { name: longhaul }
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
  restart a backend: its clients keep their sockets, and their counters go on at another one
Or from a terminal, with any WebSocket client:
  ws://{listen}/ws?client=me        send {\"type\":\"count\"} or {\"type\":\"chat\",\"text\":\"hello\"}
Ctrl-C ends everything.
";
