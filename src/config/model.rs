//! The values of a configuration file, valid by construction.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use pingora_core::server::configuration::ServerConf;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};

use super::limits::Limits;
pub use super::listener::{ClientAuth, Hsts, Listener, ListenerTls, PemPair, ProxyProtocol, TlsVersion};
use super::settings::Settings;
use super::source::Source;
use crate::proxy_protocol::Version;

/// One configuration file, read and checked.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from; `None` where it was not read from a file.
    pub source: Option<Source>,
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
    /// `access_log`: its target and format; `None` when `off`.
    pub access_log: Option<AccessLog>,
    /// `watch`: reload when the file changes, default `false`.
    pub watch: bool,
    /// `control_sock`: the Unix socket that `longhaul reload`, `drain`, `status` and `upgrade` talk to; where left out,
    /// `control.sock` in the runtime folder.
    pub control_sock: Option<PathBuf>,
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

/// `forwarding`: the word that backends get on where a request came from, beside `X-Forwarded-*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// `forwarded`: default `pass`.
    pub forwarded: Forwarded,
    /// `strangers`: default `append`.
    pub strangers: Strangers,
}

/// Treatment of the `Forwarded` header (RFC 7239) of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// `pass`: the header goes on as it came.
    #[default]
    Pass,
    /// `write`: an element that names this gateway's peer is added to it.
    Write,
}

/// Treatment of what peers that are no trusted proxies say of where a request came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strangers {
    /// `append`: their word goes on, the gateway's own behind it (nginx: `$proxy_add_x_forwarded_for`).
    #[default]
    Append,
    /// `drop`: backends do not get it.
    Drop,
}

/// `metrics`: the Prometheus listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// `address`: IP and port that answers `GET /metrics`.
    pub address: SocketAddr,
}

/// `access_log`: one line per request, one when a tunnel opens and one when it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `to`: `stdout` (the default) or a file's path.
    pub to: LogTarget,
    /// `format`: `text` (the default) or `json`.
    pub format: LogFormat,
}

/// Target of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// A file that is appended to, and opened anew on SIGUSR1.
    File(PathBuf),
}

/// Format of access log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    Text,
    /// One JSON object a line.
    Json,
}

/// One entry of `routes`: a match on host and path that leads to an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `host`: [`HostPattern::Any`] if left out.
    pub host: HostPattern,
    /// `path`: a prefix on segment borders, beginning with `/` and without a `/` at its end (`/` itself if left out).
    pub path: String,
    /// `upstream`: the name of an entry of `upstreams`.
    pub upstream: String,
    /// `affinity`: instead of the upstream's, where given.
    pub affinity: Option<Vec<AffinitySource>>,
    /// `hooks`: asked in this order about what comes from the client, in the reverse order about what comes from the
    /// backend; at most 64, none if left out.
    pub hooks: Vec<HookEntry>,
    /// `compression`: the treatment of permessage-deflate where one of `hooks` sees messages.
    pub compression: Compression,
    /// `handshake`: the rules that a client's WebSocket handshake has to keep.
    pub handshake: Handshake,
}

/// One entry of a route's `hooks`: written `NAME`, or `{ hook: NAME, with: SETTINGS, timeout: DURATION }`.
#[derive(Clone, Debug, PartialEq)]
pub struct HookEntry {
    /// `hook`: the name that the hook is registered under.
    pub name: String,
    /// `with`: the settings, which the hook's type has accepted.
    pub settings: Settings,
    /// `timeout`: the longest time that one call of the hook may take, 1 ms to 1 h, default 5 s.
    pub timeout: Duration,
}

/// Treatment of permessage-deflate (RFC 7692) on a route with hooks that see messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// `inspect`: the gateway negotiates compression itself, and inflates messages for the hooks.
    #[default]
    Inspect,
    /// `strip`: the gateway takes compression out of the offer, and messages are never compressed.
    Strip,
}

/// Rules that a client's WebSocket handshake has to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handshake {
    /// `strict`: RFC 6455 §4.2.1.
    #[default]
    Strict,
    /// `lenient`: `Sec-WebSocket-Key` may be any text without spaces, as with nginx.
    Lenient,
}

/// Hosts that a route matches; names are in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Any host, or none.
    Any,
    /// This host.
    Exact(String),
    /// `*.example.com`, kept as `example.com`: every host that ends in `.example.com`, at any depth, not `example.com`
    /// itself.
    Wildcard(String),
}

/// A source of the ring key of a request; sources are asked in the order written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AffinitySource {
    /// `cookie`: the value of a cookie that the application sets, and that is known before the backend is picked.
    Cookie(String),
    /// `cookie` with `born_on: backend`: the key's place on the ring, which Longhaul puts before the value of this
    /// cookie when the backend sets it.
    BackendCookie(String),
    /// `header`: the value of a request header (its name in lower case).
    Header(String),
    /// `query`: the value of a query argument as the request target has it, not decoded (nginx's `$arg_…`).
    Query(String),
    /// `issue_cookie`: the value of a cookie that Longhaul sets where the client has none.
    IssueCookie(IssueCookie),
    /// `client_certificate`: SHA-256 of the certificate that the client presented (`client_auth`), in hexadecimal
    /// digits.
    ClientCertificate,
    /// `client_ip`: the client's address, cut to a prefix.
    ClientIp {
        /// `ipv4_prefix`: leading bits kept of an IPv4 address, 1 to 32, default 32.
        ipv4_prefix: u8,
        /// `ipv6_prefix`: leading bits kept of an IPv6 address, 1 to 128, default 64.
        ipv6_prefix: u8,
    },
}

/// `issue_cookie`: the cookie that Longhaul sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueCookie {
    /// `name`: default `longhaul`.
    pub name: String,
    /// `max_age`: `None` (the default, `session`) ends it with the browser's session.
    pub max_age: Option<Duration>,
    /// `same_site`: default `lax`.
    pub same_site: SameSite,
    /// `path`: default `/`.
    pub path: String,
    /// `domain`: the host that set the cookie and its subdomains get it; only the host itself where left out.
    pub domain: Option<String>,
    /// `secure`: default `auto`.
    pub secure: Secure,
    /// `partitioned`: the browser keeps a cookie for each site that the answer is embedded in (CHIPS), default `false`.
    pub partitioned: bool,
}

/// The `Secure` attribute of an issued cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// `auto`: set for clients that came by TLS, as far as a trusted proxy says so.
    Auto,
    /// `always`: set for all clients; browsers then keep the cookie only where they see TLS.
    Always,
}

/// The `SameSite` attribute of an issued cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SameSite {
    /// The browser sends the cookie with requests from the same site only.
    Strict,
    /// The browser sends the cookie with top-level navigation from other sites too.
    Lax,
    /// The browser sends the cookie always; it must be `Secure`.
    None,
}

/// One entry of `upstreams`: a named group of backends with one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Upstream {
    /// Its key in `upstreams`.
    pub name: String,
    /// `affinity`: empty where left out; the backend with the fewest open tunnels is then picked.
    pub affinity: Vec<AffinitySource>,
    /// `backends`: at least one with a weight above 0, no address twice.
    pub backends: Vec<Backend>,
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
    /// `tls`: backends are spoken to by TLS; plainly where left out.
    pub tls: Option<UpstreamTls>,
    /// `proxy_protocol`: the version of the PROXY header that begins each connection to a backend; `None` when `off`
    /// (the default).
    pub proxy_protocol: Option<Version>,
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

/// One entry of `backends`: written `ADDRESS`, or `{ address: ADDRESS, weight: N }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// `address`: IP and port.
    pub address: SocketAddr,
    /// `weight`: 0 to 65 535, default 1; a backend of weight 0 is draining and gets nothing new.
    pub weight: u16,
}

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

/// Fate of open tunnels whose route or backend a reload takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// `keep`: the tunnels stay open.
    Keep,
    /// `close`: the tunnels get Close 1012, spread over the upstream's `drain_window`.
    Close,
}

/// `drain`: the end of the process on SIGTERM or `longhaul drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `grace`: time for which readiness answers 503 before the listeners close, default 0 s.
    pub grace: Duration,
    /// `window`: time after `grace` over which the tunnels are closed evenly, default 30 s.
    pub window: Duration,
    /// `code`: the status code of their Close frames, 1001 (the default), 1012 or 1013.
    pub code: u16,
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
}

/// `tunnel`: limits of open tunnels. `None` stands for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TunnelLimits {
    /// `idle`: the longest time without a byte in either direction, default 1 d; then Close 1001.
    pub idle: Option<Duration>,
    /// `max_age`: the longest life (less up to 10 % of jitter), default off; then Close 1001.
    pub max_age: Option<Duration>,
    /// `ping`: silence of a side after which it gets a Ping; after as long again the tunnel is ended. Default off.
    pub ping: Option<Duration>,
    /// `max_message`: bytes of one message's payload, default off; a longer one ends the tunnel with Close 1009.
    pub max_message: Option<u64>,
    /// `tcp_user_timeout`: longest time for which a side's kernel may leave our bytes or keep-alive probes
    /// unacknowledged, default 60 s.
    pub tcp_user_timeout: Option<Duration>,
    /// `stall`: how long a side may take none of the bytes that wait for it, default 60 s; then Close 1001 for both.
    #[serde(default)]
    pub stall: Option<Duration>,
}

impl Route {
    /// Name in logs and answers, and identity: `host path`, with `*` for any host.
    pub fn name(&self) -> String {
        match &self.host {
            HostPattern::Any => format!("* {}", self.path),
            HostPattern::Exact(host) => format!("{host} {}", self.path),
            HostPattern::Wildcard(suffix) => format!("*.{suffix} {}", self.path),
        }
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::ZERO, window: Duration::from_secs(30), code: 1001 }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            handshake: Duration::from_secs(10),
            per_try: Duration::from_secs(3),
            read: Duration::from_secs(60),
            write: Duration::from_secs(60),
        }
    }
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(86_400)),
            max_age: None,
            ping: None,
            max_message: None,
            tcp_user_timeout: Some(Duration::from_secs(60)),
            stall: Some(Duration::from_secs(60)),
        }
    }
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

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: LogTarget::Stdout, format: LogFormat::Text }
    }
}
