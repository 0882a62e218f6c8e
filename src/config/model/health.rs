//! Values of `health`: the checks of an upstream's backends.

use std::time::Duration;

/// `health`: the checks of an upstream's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// `check` with `path`, `host` and `expect`: the kind of check; default `tcp`.
    pub check: Check,
    /// `interval`: time between the checks of one backend, default 2 s.
    pub interval: Duration,
    /// `timeout`: longest time of one check, default 1 s, no longer than `interval`.
    pub timeout: Duration,
    /// `rise`: checks in a row that must pass before a backend that is down counts as up, at least 1, default 2.
    pub rise: u32,
    /// `fall`: failures in a row (of checks, or of real traffic) that take a backend down, at least 1, default 3.
    pub fall: u32,
    /// `traffic`: the failures of real traffic that count, default `full`.
    pub traffic: TrafficHealth,
    /// `on_down`: the fate of the open tunnels of a backend that goes down, default `keep`.
    pub on_down: OnDown,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            check: Check::Tcp,
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            traffic: TrafficHealth::Full,
            on_down: OnDown::Keep,
        }
    }
}

/// Failures of real traffic that count against a backend's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficHealth {
    /// `off`: none; checks alone decide.
    Off,
    /// `connect`: connects that fail.
    Connect,
    /// `full`: connects that fail, and doubt about a backend that fails requests after they were sent.
    Full,
}

/// Kind of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// `tcp`: a connection that is established passes.
    Tcp,
    /// `http`: sends `GET path` and compares the status.
    Http {
        /// The request.
        request: CheckRequest,
        /// `expect`: statuses that pass, as inclusive ranges (`200`, `200-299`), default 200–399.
        expect: Vec<(u16, u16)>,
    },
    /// `websocket`: makes a real handshake, verifies `Sec-WebSocket-Accept`, and sends Close 1000.
    Websocket {
        /// The request.
        request: CheckRequest,
        /// `subprotocols`: offered in this order in `Sec-WebSocket-Protocol`; none where left out.
        subprotocols: Vec<String>,
    },
}

/// The request of an `http` or `websocket` check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckRequest {
    /// `path`: default `/`.
    pub path: String,
    /// `host`: the `Host` header; the backend's address where left out.
    pub host: Option<String>,
    /// `headers`: further header fields in the order written, behind them the `Origin` that `origin` asks for.
    pub headers: Vec<(String, String)>,
}

/// Fate of the open tunnels of a backend that goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// `keep`: the tunnels stay open.
    Keep,
    /// `close`: the tunnels get Close 1012, spread over the upstream's `drain_window`.
    Close,
}
