//! A gateway whose routes have hooks that act as each request says, and its backends.

use std::net::SocketAddr;

use crate::support::{Gateway, Message, Named, Wire};

pub(crate) struct Lab {
    pub gateway: Gateway,
    /// The backends of `u`, which `/` and `/plain` lead to.
    pub near: Vec<Named>,
    /// The backend of `v`, which no route leads to.
    pub far: Named,
}

impl Lab {
    /// Starts the lab: `/` has two hooks, `a` and `b`; `/plain` has none. The key of `u` is a header, that of `v` a
    /// query argument.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// As [`start`](Self::start); `more` stands at the end of the configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        let (near, far) = (Named::several(3).await, Named::start().await);
        let addresses: Vec<_> = near.iter().map(Named::address).collect();
        let gateway = Gateway::start_hooked(&(config("acting", &addresses, far.address()) + more)).await;
        Self { gateway, near, far }
    }

    /// A request in which the hooks are told to act.
    pub(crate) async fn get(&self, target: &str, acts: &[&str], headers: &str) -> Message {
        Wire::connect(self.gateway.address()).await.get(target, &format!("{}{headers}", told(acts))).await
    }

    /// The request that reached a backend.
    pub(crate) fn seen(&self) -> Message {
        let all = self.near.iter().chain([&self.far]).flat_map(Named::requests);
        all.last().expect("a request came")
    }

    /// Number of requests that reached backends.
    pub(crate) fn reached(&self) -> usize {
        self.near.iter().chain([&self.far]).map(|named| named.requests().len()).sum()
    }
}

/// The headers that tell hooks to act.
pub(crate) fn told(acts: &[&str]) -> String {
    acts.iter().map(|act| format!("X-Act: {act}\r\n")).collect()
}

/// The hooks `a` and `b`, labelled.
pub(crate) fn hooks(label: &str) -> String {
    let hook = |name| format!("{{ hook: acting, with: {{ name: {name}, label: {label} }}, timeout: 200ms }}");
    format!("[{}, {}]", hook("a"), hook("b"))
}

pub(crate) fn config(label: &str, near: &[SocketAddr], far: SocketAddr) -> String {
    let near: Vec<_> = near.iter().map(ToString::to_string).collect();
    format!(
        "version: 1\nlisteners:\n  - address: 127.0.0.1:0\nmetrics:\n  address: 127.0.0.1:0\n\
         routes:\n  - {{ path: /plain, upstream: u }}\n  - upstream: u\n    hooks: {}\n\
         upstreams:\n  u:\n    affinity: [header: x-room]\n    backends: [{}]\n    timeouts: {{ handshake: 5s }}\n  \
         v:\n    affinity: [query: room]\n    backends: [{far}]\n",
        hooks(label),
        near.join(", ")
    )
}

/// A correct handshake's headers.
pub(crate) const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
