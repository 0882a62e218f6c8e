//! A gateway as every reader describes it, and the writer writes it down: values of a Longhaul file with notes beside
//! them.

use std::net::SocketAddr;

use super::place::{Note, SourcePlace};

/// The configuration of a source, in Longhaul's terms.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) listeners: Vec<Listener>,
    pub(super) routes: Vec<Route>,
    pub(super) upstreams: Vec<Upstream>,
    pub(super) process: Process,
    /// Notes that belong to no part of the file.
    pub(super) notes: Vec<Note>,
    /// Number of lines of the source.
    pub(super) lines: usize,
    /// Differences that hold for everything that comes from such a source.
    pub(super) defaults: Vec<&'static str>,
}

/// Settings of the whole process. Durations are milliseconds.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) notes: Vec<Note>,
    pub(super) threads: Option<u64>,
    pub(super) trusted_proxies: Vec<String>,
    pub(super) drop_strangers: bool,
    pub(super) write_forwarded: bool,
    pub(super) keep_underscores: bool,
    pub(super) access_log: Option<AccessLog>,
    pub(super) connections: Option<u64>,
    pub(super) client_connections: Option<u64>,
    pub(super) client_tunnels: Option<u64>,
    pub(super) head_time: Option<u64>,
    pub(super) body_idle: Option<u64>,
    pub(super) body_size: Option<Bytes>,
    pub(super) answer_idle: Option<u64>,
    pub(super) keep_alive: Option<u64>,
    pub(super) keep_alive_requests: Option<u64>,
    pub(super) drain_window: Option<u64>,
}

/// Target of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AccessLog {
    Off,
    File(String),
}

/// A size that may be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bytes {
    Off,
    At(u64),
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) notes: Vec<Note>,
    pub(super) allow: Vec<String>,
    pub(super) deny: Vec<String>,
    pub(super) connections: Option<u64>,
    pub(super) proxy_protocol: bool,
    pub(super) tls: Option<Tls>,
    /// The port of `https` that plain clients are sent to.
    pub(super) redirect: Option<u16>,
    pub(super) hsts: Option<Hsts>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hsts {
    pub(super) max_age: u64,
    pub(super) subdomains: bool,
    pub(super) preload: bool,
}

/// TLS of a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    /// Certificate and key, in the order of their servers; the first is the default.
    pub(super) certificates: Vec<(String, String)>,
    pub(super) only_1_3: bool,
    /// Authorities of clients' certificates, and whether each client needs one.
    pub(super) client_auth: Option<(String, bool)>,
}

#[derive(Clone, Debug)]
pub(super) struct Route {
    /// In lower case; `None` for any.
    pub(super) host: Option<String>,
    pub(super) path: String,
    /// Name of the upstream.
    pub(super) upstream: String,
    pub(super) affinity: Option<Vec<Source>>,
    pub(super) hooks: Vec<Hook>,
    pub(super) body_size: Option<Bytes>,
    pub(super) notes: Vec<Note>,
    pub(super) place: SourcePlace,
}

/// A stock hook with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    IpFilter {
        allow: Vec<String>,
        deny: Vec<String>,
        otherwise_deny: bool,
    },
    /// Refuses every client, because a protection of the source could not be carried.
    Closed,
    RateLimit {
        requests: Option<String>,
        tunnels: Option<u64>,
    },
    Headers(Headers),
}

/// Settings of the hook `headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Headers {
    pub(super) set: Vec<(String, String)>,
    pub(super) add: Vec<(String, String)>,
    pub(super) remove: Vec<String>,
    pub(super) answer_set: Vec<(String, String)>,
    pub(super) answer_add: Vec<(String, String)>,
    pub(super) answer_remove: Vec<String>,
}

impl Headers {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A source of affinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Cookie(String),
    BackendCookie(String),
    Header(String),
    Query(String),
    IssueCookie(IssuedCookie),
    ClientIp { ipv4_prefix: u8, ipv6_prefix: u8 },
    ClientCertificate,
}

/// A cookie of the gateway's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct IssuedCookie {
    pub(super) name: String,
    pub(super) max_age: Option<u64>,
    pub(super) path: Option<String>,
    pub(super) domain: Option<String>,
    pub(super) same_site: Option<&'static str>,
    pub(super) secure: bool,
}

/// Answer to whether clients have the same backend afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keeps {
    /// Nothing ties clients to backends.
    Untied,
    Yes(String),
    /// Some clients change their backend, for this reason.
    No(String),
}

#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) name: String,
    pub(super) backends: Vec<Backend>,
    pub(super) discover: Option<Discover>,
    pub(super) affinity: Vec<Source>,
    pub(super) keeps: Keeps,
    /// Hundredths.
    pub(super) balance_factor: Option<u64>,
    pub(super) policy: Policy,
    pub(super) health: Option<Health>,
    pub(super) fail_open: bool,
    pub(super) tries: Option<u64>,
    pub(super) tunnels: Option<u64>,
    pub(super) requests: Option<u64>,
    pub(super) wait: Option<u64>,
    pub(super) proxy_protocol: Option<&'static str>,
    pub(super) notes: Vec<Note>,
    pub(super) place: SourcePlace,
}

/// Settings that a source may state for each way to the same backends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub(super) connect: Option<u64>,
    pub(super) handshake: Option<u64>,
    pub(super) read: Option<u64>,
    pub(super) write: Option<u64>,
    pub(super) idle: Option<u64>,
    pub(super) max_age: Option<u64>,
    pub(super) tls: Option<UpstreamTls>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct UpstreamTls {
    pub(super) server_name: Option<String>,
    pub(super) ca: Option<String>,
    pub(super) certificate: Option<(String, String)>,
    pub(super) unverified: bool,
}

/// Members by DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Discover {
    Dns { name: String, port: u16 },
    Srv(String),
}

#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) name: Option<String>,
    pub(super) address: String,
    pub(super) weight: u32,
    pub(super) notes: Vec<Note>,
}

/// Health checks; [`Upstream::health`] is `None` where Longhaul's own defaults hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) off: bool,
    /// `tcp` where left out.
    pub(super) check: Option<&'static str>,
    pub(super) path: Option<String>,
    pub(super) host: Option<String>,
    pub(super) expect: Option<String>,
    pub(super) headers: Vec<(String, String)>,
    pub(super) origin: Option<String>,
    pub(super) subprotocols: Vec<String>,
    pub(super) interval: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) rise: Option<u64>,
    pub(super) fall: Option<u64>,
    pub(super) traffic: Option<&'static str>,
    pub(super) close_when_down: bool,
}

/// Networks that proxies of one's own stand in (RFC 1918, RFC 4193, loopback), where a source names none.
pub(super) const PRIVATE: [&str; 6] =
    ["127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1", "fc00::/7"];

impl Upstream {
    pub(super) fn new(name: impl Into<String>, place: &SourcePlace) -> Self {
        Self {
            name: name.into(),
            backends: Vec::new(),
            discover: None,
            affinity: Vec::new(),
            keeps: Keeps::Untied,
            balance_factor: None,
            policy: Policy::default(),
            health: None,
            fail_open: false,
            tries: None,
            tunnels: None,
            requests: None,
            wait: None,
            proxy_protocol: None,
            notes: Vec::new(),
            place: place.clone(),
        }
    }
}

impl Listener {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            notes: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
            connections: None,
            proxy_protocol: false,
            tls: None,
            redirect: None,
            hsts: None,
        }
    }
}
