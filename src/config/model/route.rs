//! Values of `routes`: matches on host and path that lead to an upstream.

use std::time::Duration;

use super::affinity::AffinitySource;
use super::limits::RouteLimits;
use super::reattach::Reattach;
use crate::config::settings::Settings;

/// One entry of `routes`: a match on host and path that leads to an upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// `host`: [`HostPattern::Any`] if left out.
    pub host: HostPattern,
    /// `path`: a prefix on segment borders, beginning with `/` and without a `/` at its end (`/` itself if left out).
    pub path: String,
    /// `upstream`: the name of an entry of `upstreams`, or [`Upstream::NOWHERE`](super::Upstream::NOWHERE) of a route
    /// with hooks that names none.
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
    /// `body.size`: most bytes of a request's body, `Some(None)` when `off`; that of `limits.body` where left out.
    pub body_size: Option<Option<u64>>,
    /// `limits`: bounds on what the route has at once.
    pub limits: RouteLimits,
    /// `reattach`: tunnels go on with another backend when theirs goes; `None`: they end.
    pub reattach: Option<Reattach>,
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
