//! A gateway with two named backends, a key that leads to each, and clients that wait.

use std::net::SocketAddr;

use tokio::task::JoinHandle;

use crate::lab::{Tunnel, backend, config, get, longhaul};
use crate::support::{Backend, Gateway, within};

/// Two backends, `x` and `y`, and keys of theirs.
pub(crate) struct Ground {
    pub(crate) gateway: Gateway,
    pub(crate) x: Backend,
    pub(crate) y: Backend,
    /// A key that leads to `x`.
    pub(crate) to_x: String,
    /// A key that leads to `y`.
    pub(crate) to_y: String,
}

/// The configuration of an upstream whose clients wait as `absent` says. Backends are checked twice a second.
pub(crate) fn holding(discover: &str, absent: &str, more: &str) -> String {
    let checks = "health: { interval: 500ms, timeout: 500ms, rise: 1, fall: 2 }";
    config(discover, &format!("    absent: {absent}\n{more}")).replace("health: { interval: 1h }", checks)
}

impl Ground {
    /// The two are members by commands.
    pub(crate) async fn new(absent: &str, more: &str) -> Self {
        Self::of(&holding("push", absent, more)).await
    }

    /// A gateway with this configuration, whose members are told by commands.
    pub(crate) async fn of(config: &str) -> Self {
        let (gateway, x, y) = (Gateway::start(config).await, backend().await, backend().await);
        let members = [format!("x={}", x.address), format!("y={}", y.address)];
        let set = ["members", "a", "set", &members[0], &members[1]];
        assert_eq!(longhaul(&gateway, &set).await.0, Some(0));
        let [to_x, to_y] = keys(&gateway, [x.address, y.address]).await;
        Self { gateway, x, y, to_x, to_y }
    }

    /// Stops `x`, and waits until checks have found it down; returns its address.
    pub(crate) async fn stop_x(&mut self) -> SocketAddr {
        let address = self.x.address;
        let elsewhere = Backend::start(|_| async {}).await;
        std::mem::replace(&mut self.x, elsewhere).stop().await;
        self.gateway.metric_becomes(&of_backend("up", "x"), 0.0).await;
        address
    }

    /// A plain request of a key, under way.
    pub(crate) fn asks(&self, key: &str) -> JoinHandle<(u16, String)> {
        let (gateway, path) = (self.gateway.address(), format!("/?k={key}"));
        tokio::spawn(async move { get(gateway, &path).await })
    }

    /// A handshake of a key, under way.
    pub(crate) fn opens(&self, key: &str) -> JoinHandle<Tunnel> {
        let (gateway, key) = (self.gateway.address(), key.to_owned());
        tokio::spawn(async move { Tunnel::open(gateway, &key).await })
    }

    /// Waits until so many clients wait for `x`.
    pub(crate) async fn held(&self, count: usize) {
        self.gateway.metric_becomes(&of_backend("held", "x"), count as f64).await;
    }

    /// Waits that ended so.
    pub(crate) async fn ended(&self, outcome: &str) -> f64 {
        self.gateway.metric(&of_outcome(outcome)).await
    }
}

/// Starts a backend again, at an address that it had.
pub(crate) async fn back_at(address: SocketAddr) -> Backend {
    Backend::start_at(address, crate::lab::serve).await
}

/// A key for each of two backends.
pub(crate) async fn keys(gateway: &Gateway, backends: [SocketAddr; 2]) -> [String; 2] {
    let mut found = [None, None];
    for key in 0.. {
        let (status, met) = get(gateway.address(), &format!("/?k={key}")).await;
        assert_eq!(status, 200);
        let place = backends.iter().position(|backend| backend.to_string() == met).unwrap();
        found[place].get_or_insert(key.to_string());
        if let [Some(one), Some(other)] = &found {
            return [one.clone(), other.clone()];
        }
    }
    unreachable!("each backend has some of all keys")
}

/// A client's answer.
pub(crate) async fn answer<T>(client: JoinHandle<T>) -> T {
    within("a client that waited", client).await.unwrap()
}

/// A gauge of a backend.
pub(crate) fn of_backend(gauge: &str, name: &str) -> String {
    format!("longhaul_backend_{gauge}{{backend=\"{name}\",upstream=\"a\"}}")
}

/// The count of waits that ended so.
pub(crate) fn of_outcome(outcome: &str) -> String {
    format!("longhaul_holds_total{{outcome=\"{outcome}\",upstream=\"a\"}}")
}
