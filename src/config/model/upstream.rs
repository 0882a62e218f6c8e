//! Values of `upstreams`: groups of backends, each with one policy.

use std::path::PathBuf;
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::affinity::AffinitySource;
use super::backend::Backend;
use super::backend_limits::{Absent, Admission, BackendLimits};
use super::discover::Discover;
use super::health::Health;
use super::listener::PemPair;
use super::rates::TunnelRates;
use super::tunnel_limits::TunnelLimits;
use crate::proxy_protocol::ProxyVersion;

/// One entry of `upstreams`: a named group of backends with one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its key in `upstreams`.
    pub name: String,
    /// `affinity`: empty where left out; the backend with the fewest open tunnels is then picked.
    pub affinity: Vec<AffinitySource>,
    /// `backends`: at least one with a weight above 0, no name and no address twice. Empty with `discover`, and where
    /// one is a host name: the source of the members is then
    /// [`DiscoverFrom::Backends`](super::DiscoverFrom::Backends).
    pub backends: Vec<Backend>,
    /// `discover`: the source of the members, in place of `backends`.
    pub discover: Option<Discover>,
    /// `balance_factor`: bounded load, above 1.0; `None` when `off` (the default).
    pub balance_factor: Option<f64>,
    /// `health`: `None` when `off`; no backend is then taken as down.
    pub health: Option<Health>,
    /// `fail_open`: with every backend down, pick as if all were up (default: answer 503).
    pub fail_open: bool,
    /// `drain_window`: time over which the closing of tunnels for a change is spread, default 30 s.
    pub drain_window: Duration,
    /// `on_change`: the fate of open tunnels whose route or backend a reload takes away, default `close`.
    pub on_change: OnChange,
    /// `rehome`, `over`: after the ring changed, tunnels whose key belongs to another backend now are closed (Close
    /// 1012) spread over this time; `None` when `off` (the default).
    pub rehome: Option<Duration>,
    /// `tries`: most backends that a request is sent to, one after the other, 1 to 100, default 2. Connects that fail
    /// do not count.
    pub tries: usize,
    /// `timeouts`: time limits of requests and handshakes.
    pub timeouts: Timeouts,
    /// `tunnel`: limits of open tunnels.
    pub tunnel: TunnelLimits,
    /// `limits`: bounds on what one backend carries.
    pub limits: BackendLimits,
    /// `admission`: the queue before each backend; `None` when `off` (the default).
    pub admission: Option<Admission>,
    /// `absent`: clients of a backend that is away wait for it; `None` when `off` (the default).
    pub absent: Option<Absent>,
    /// `tunnel`: the rates at which clients may send through tunnels.
    pub rates: TunnelRates,
    /// `tls`: TLS to backends; plain connections if left out.
    pub tls: Option<UpstreamTls>,
    /// `proxy_protocol`: the version of the PROXY header that begins each connection to a backend; `None` when `off`
    /// (the default).
    pub proxy_protocol: Option<ProxyVersion>,
}

/// `tls` of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamTls {
    /// `server_name`: name that backends are asked for, and that their certificates must be for; where left out, each
    /// one's IP address, and none is asked for.
    pub server_name: Option<ServerName<'static>>,
    /// `ca`: PEM file with the authorities that backends' certificates must lead to; the system's where left out.
    pub ca: Option<PathBuf>,
    /// `certificate`, `key`: what the gateway presents to backends that ask; nothing where left out.
    pub certificate: Option<PemPair>,
    /// `verify`: backends' certificates are verified, default `true`.
    pub verify: bool,
}

/// Fate of open tunnels whose route or backend a reload takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// `keep`: the tunnels stay open.
    Keep,
    /// `close`: the tunnels get Close 1012, spread over the upstream's `drain_window`.
    Close,
}

/// `timeouts`: time limits of requests and handshakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// `connect`: longest time to connect to one backend, default 3 s.
    pub connect: Duration,
    /// `handshake`: longest time from an upgrade request to the backend's answer, all tries together, default 10 s.
    pub handshake: Duration,
    /// `try`: longest time from a handshake's request to one backend's answer while another backend may be asked,
    /// default 3 s.
    pub per_try: Duration,
    /// `read`: longest time between two reads from either side of a request, default 60 s.
    pub read: Duration,
    /// `write`: longest time of one write to either side of a request, default 60 s.
    pub write: Duration,
    /// `idle`: longest time for which a connection to a backend is kept between two requests, default 60 s as with
    /// nginx (`keepalive_timeout` of an upstream); `None` where it has no limit.
    pub idle: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(10),
            per_try: Duration::from_secs(3),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
            idle: Some(Duration::from_secs(60)),
        }
    }
}
