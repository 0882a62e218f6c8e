//! The values of a configuration file, valid by construction.

mod access_log;
mod admin;
mod affinity;
mod backend;
mod backend_limits;
mod discover;
mod drain;
mod forwarding;
mod health;
mod limits;
mod listener;
mod nowhere;
mod rate;
mod rates;
mod reattach;
mod route;
mod tracing;
mod tunnel_limits;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use pingora_core::server::configuration::ServerConf;

use super::source::ConfigFile;
pub use access_log::{AccessLog, LogFormat, LogTarget};
pub use admin::Admin;
pub use affinity::{AffinitySource, IssueCookie, SameSite, Secure};
pub use backend::Backend;
pub use backend_limits::{Absent, Admission, BackendLimits, HandshakeRate};
pub use discover::{
    Discover, DiscoverFrom, DnsName, DnsService, Etcd, EtcdUser, Host, Ipv6, KubernetesService, ListedMember,
    ListedNames, Lookup, Password,
};
pub use drain::Drain;
pub use forwarding::{Forwarded, Forwarding, Strangers};
pub use health::{Check, CheckRequest, Health, OnDown, TrafficHealth};
pub use limits::{BodyLimits, HeadLimits, KeepAlive, Limits, Pace, PerClient, RouteLimits};
pub use listener::{ClientAuth, Hsts, Listener, ListenerTls, PemPair, ProxyProtocol, TlsVersion};
pub use rate::Rate;
pub use rates::{OverRate, Rates, TunnelRates};
pub use reattach::{Occasions, Reattach};
pub use route::{Compression, Handshake, HookEntry, HostPattern, Route};
pub use tracing::{TraceExport, Tracing};
pub use tunnel_limits::TunnelLimits;
pub use upstream::{OnChange, Timeouts, Upstream, UpstreamTls};

/// One configuration file, read and checked.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from; `None` where it was not read from a file.
    pub source: Option<ConfigFile>,
    /// Pingora's own keys (`version`, `threads`, `pid_file`, …).
    pub pingora: ServerConf,
    /// `listeners`: the sockets accepted on; at least one, no address twice.
    pub listeners: Vec<Listener>,
    /// `trusted_proxies`: the proxies whose `X-Forwarded-*` headers are believed; none if empty.
    pub trusted_proxies: Vec<IpNet>,
    /// `underscores_in_headers`: default `drop`.
    pub underscores_in_headers: Underscores,
    /// `forwarding`: the word that backends get on where a request came from.
    pub forwarding: Forwarding,
    /// `metrics`: the Prometheus listener; none if left out.
    pub metrics: Option<Metrics>,
    /// `admin`: the listener of the admin API; none if left out.
    pub admin: Option<Admin>,
    /// `access_log`: its target and format; `None` when `off`.
    pub access_log: Option<AccessLog>,
    /// `tracing`: the trace context of requests; `None` when `off` (the default).
    pub tracing: Option<Tracing>,
    /// `watch`: reload when the file changes, default `false`.
    pub watch: bool,
    /// `control_sock`: the Unix socket that `longhaul reload`, `drain`, `status` and `upgrade` talk to; where left out,
    /// `control.sock` in the runtime folder.
    pub control_sock: Option<PathBuf>,
    /// `state_folder`: where the gateway keeps what it is to know at its next start; where left out, the folder that
    /// systemd names, and nothing is kept without one.
    pub state_folder: Option<PathBuf>,
    /// `engine`: the system's interface by which workers send, default `auto`.
    pub engine: Engine,
    /// `hook_memory`: bytes that unfinished messages on routes with hooks may take on one worker, default 64 MiB.
    pub hook_memory: u64,
    /// `limits`: bounds on what clients send and on how long they are waited for.
    pub limits: Limits,
    /// `drain`: how the process ends.
    pub drain: Drain,
    /// `routes`, in the order written; at least one, each naming an upstream of `upstreams`.
    pub routes: Vec<Route>,
    /// `upstreams`, in the order written; names are unique.
    pub upstreams: Vec<Upstream>,
}

/// Treatment of request headers with `_` in their names, which programs behind CGI, WSGI and PHP take for `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Underscores {
    /// `drop`: backends do not get them, so that none passes for a header that the gateway sets (nginx's default).
    #[default]
    Drop,
    /// `keep`: backends get them.
    Keep,
}

/// The system's interface by which tunnels' workers send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// `auto`: as `io_uring` where the system allows it, else as `epoll`.
    #[default]
    Auto,
    /// `epoll`: each write is a call of its own.
    Epoll,
    /// `io_uring`: the writes of one turn of a worker are one call. Where the system does not allow it, the gateway
    /// does not start.
    IoUring,
}

/// `metrics`: the Prometheus listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `address`: IP and port that answers `GET /metrics`.
    pub address: SocketAddr,
}
