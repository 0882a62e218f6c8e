//! A gateway before two backends that the test serves itself, and the way from one to the other.

use std::net::SocketAddr;
use std::process::Stdio;

use crate::support::{Gateway, within};
use crate::wire::{Frame, From, Manual, Wire, close, field, switching, upgrade};

/// A gateway with a route that re-attaches.
pub struct Rig {
    pub gateway: Gateway,
    pub backends: [Manual; 2],
}

/// The ends of a tunnel, and the backend that it leads to.
pub struct Ends {
    pub client: Wire,
    pub server: Wire,
    pub at: usize,
    /// Head of the request that the backend was sent.
    pub asked: String,
}

impl Rig {
    /// `reattach` is the text behind that key; `upstream` are further lines of the upstream's.
    pub async fn start(reattach: &str, upstream: &str) -> Self {
        let backends = [Manual::start().await, Manual::start().await];
        let yaml = configuration(&backends, reattach, upstream);
        Self { gateway: Gateway::start(&yaml).await, backends }
    }

    /// As [`start`](Self::start), with a gateway that knows the hooks of `tests/hooks`.
    pub async fn start_hooked(reattach: &str) -> Self {
        let backends = [Manual::start().await, Manual::start().await];
        Self { gateway: Gateway::start_hooked(&configuration(&backends, reattach, "")).await, backends }
    }

    /// Opens a tunnel, with further header lines of the client's.
    pub async fn open(&mut self, more: &str) -> Ends {
        let mut client = Wire::connect(self.gateway.address()).await;
        client.send(upgrade(more)).await;
        let (mut server, at) = self.next().await;
        let asked = server.head().await;
        server.send(switching("")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        Ends { client, server, at, asked }
    }

    /// The next connection at either backend.
    pub async fn next(&mut self) -> (Wire, usize) {
        let [one, other] = &mut self.backends;
        tokio::select! {
            wire = one.next() => (wire, 0),
            wire = other.next() => (wire, 1),
        }
    }

    /// The next backend takes the conversation over: its connection, and the head of the request.
    pub async fn taken_over(&mut self, ends: &mut Ends) -> Wire {
        let (mut server, at) = self.next().await;
        ends.asked = server.head().await;
        ends.at = at;
        server.send(switching("")).await;
        std::mem::replace(&mut ends.server, server)
    }

    /// Drains a backend; returns when its tunnels have been told.
    pub async fn drain(&self, at: usize) {
        drain(&self.gateway, self.backends[at].address(), &["--over", "0s", "--no-wait"]).await;
    }

    /// Gives a drained backend its share again.
    pub async fn undo(&self, at: usize) {
        drain(&self.gateway, self.backends[at].address(), &["--undo"]).await;
    }

    /// Waits until the one open tunnel leaves its backend, or is held.
    pub async fn parts(&self) {
        within("the tunnel to leave its backend", async { while self.listed().await["held"] != true {} }).await;
    }

    /// The one open tunnel, as `longhaul tunnels --json` shows it.
    pub async fn listed(&self) -> serde_json::Value {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_longhaul"));
        command.arg("tunnels").arg("--json").arg("--socket").arg(self.gateway.dir.path().join("control.sock"));
        let output = within("the command", command.kill_on_drop(true).output()).await.unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Drains the tunnel's backend, which answers the gateway's Close frame, until the next has taken over.
    pub async fn leave(&mut self, ends: &mut Ends) {
        let from = ends.at;
        self.drain(from).await;
        assert_eq!(ends.server.frame().await, goodbye());
        ends.server.send(close(From::Backend, 1012)).await;
        drop(self.taken_over(ends).await);
        assert_ne!(ends.at, from);
        self.undo(from).await;
    }

    /// Waits until so many re-attachments came to this outcome.
    pub async fn becomes(&self, reason: &str, outcome: &str, count: f64) {
        let name = format!("longhaul_reattach_total{{outcome=\"{outcome}\",reason=\"{reason}\",upstream=\"u\"}}");
        self.gateway.metric_becomes(&name, count).await;
    }
}

/// The gateway's Close frame to a backend that is drained.
pub fn goodbye() -> Frame {
    Frame::close_to_backend(1012, "backend_drained")
}

/// The configuration before two backends.
pub fn configuration(backends: &[Manual; 2], reattach: &str, upstream: &str) -> String {
    configuration_of(backends.each_ref().map(Manual::address), reattach, upstream)
}

/// Drains a backend, or gives it its share again.
pub async fn drain(gateway: &Gateway, backend: SocketAddr, more: &[&str]) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_longhaul"));
    command.args(["drain", "backend", &format!("u/{backend}")]).args(more);
    command.arg("--socket").arg(gateway.dir.path().join("control.sock")).stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the command", command.output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// As [`configuration`], by the backends' addresses.
pub fn configuration_of([one, other]: [SocketAddr; 2], reattach: &str, upstream: &str) -> String {
    format!(
        "version: 1\nthreads: 2\ncontrol_sock: '{{dir}}/control.sock'\nlisteners:\n  - address: 127.0.0.1:0\n\
         metrics:\n  address: 127.0.0.1:0\n\
         routes:\n  - {{ upstream: u, reattach: {reattach} }}\n\
         upstreams:\n  u:\n    backends: [{one}, {other}]\n    health: off\n{upstream}"
    )
}

impl Ends {
    /// Sends a message each way and waits for it.
    pub async fn both_ways(&mut self, word: &str) {
        self.client.send(crate::wire::text(From::Client, word)).await;
        assert_eq!(self.server.frame().await.payload, word.as_bytes());
        self.server.send(crate::wire::text(From::Backend, word)).await;
        assert_eq!(self.client.frame().await.payload, word.as_bytes());
    }

    /// Loses the backend's connection in this way.
    pub async fn lose(&mut self, rig: &Rig, lose: fn(Wire)) {
        let placeholder = Wire::connect(rig.gateway.address()).await;
        lose(std::mem::replace(&mut self.server, placeholder));
    }

    /// The client leaves, and the backend hears of it.
    pub async fn end(mut self) {
        drop(self.client);
        self.server.gone().await;
    }

    /// A field of the request that the backend was sent.
    pub fn field(&self, name: &str) -> Option<&str> {
        field(&self.asked, name)
    }
}
