//! Values of `limits`: what clients may take of the gateway.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use super::rate::Rate;

/// `limits`: bounds on what clients take, on what they send, and on how long they are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `connections`: most connections of clients that are open in the process, tunnels among them; 1 to 4,294,967,295.
    /// `None` when `auto`, the default: as many as there are file descriptors for.
    pub connections: Option<NonZeroU32>,
    /// `memory`: most bytes that are kept for clients, 1 B to 1 TiB; `None` when `off`, the default. Above it new work
    /// is answered 503; a tenth above it the tunnels whose unfinished messages are the largest are no longer read.
    pub memory: Option<u64>,
    /// `per_client`: bounds on what one network of clients takes.
    pub per_client: PerClient,
    /// `head`: the head of a request.
    pub head: HeadLimits,
    /// `body`: the body of a request.
    pub body: BodyLimits,
    /// `answer`: the pace at which a client takes an answer.
    pub answer: Pace,
    /// `keep_alive`: connections between two requests.
    pub keep_alive: KeepAlive,
}

/// `limits.head`: bounds on the head of one request, its first line and its header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// `time`: longest time for the whole head, 100 ms to 1 h, default 10 s. It begins when a connection is accepted,
    /// and on a kept connection with the head's first byte. A head that takes longer is answered 408.
    pub time: Duration,
    /// `size`: most bytes of the head, 1 KiB to 1 MiB, default 32 KiB; a longer one is answered 431.
    pub size: usize,
    /// `lines`: most header lines, 1 to 256, default 128; one more is answered 431.
    pub lines: usize,
    /// `target`: most bytes of the request target, 64 B to 1 MiB, default 8 KiB; a longer one is answered 414.
    pub target: usize,
}

/// `limits.body`: bounds on the body of one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyLimits {
    /// `idle`, `min_rate`: the pace at which a client sends it. A slower one is answered 408.
    pub pace: Pace,
    /// `size`: most bytes of the body, default `off` (`None`); a longer one is answered 413. A route may have its own
    /// limit.
    pub size: Option<u64>,
}

/// The least pace at which a client sends a body or takes an answer. Only time in which the client is waited for
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// `idle`: longest time without a byte, 1 s to 1 d, default 60 s; `None` when `off`.
    pub idle: Option<Duration>,
    /// `min_rate`: least bytes a second as an average over the time of `idle` (60 s where that is off), 1 B to 1 GiB,
    /// default 100 B; `None` when `off`.
    pub min_rate: Option<NonZeroU64>,
}

/// `limits.per_client`: bounds on what one network of clients takes. Clients of one network count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PerClient {
    /// `connections`: most connections that are open and are no tunnel, and most requests under way of clients that a
    /// trusted proxy names; default 1,000; `None` when `off`. One more is answered 429.
    pub connections: Option<NonZeroU32>,
    /// `tunnels`: most tunnels that are open or about to open; `None` when `off`, the default. The handshake for one
    /// more is answered 429.
    pub tunnels: Option<NonZeroU32>,
    /// `handshakes`: WebSocket handshakes in a time; `None` when `off`, the default. One more is answered 429.
    pub handshakes: Option<Rate>,
    /// `ipv4_prefix`: bits of an IPv4 address that name the network, 1 to 32, default 32.
    pub ipv4_prefix: u8,
    /// `ipv6_prefix`: bits of an IPv6 address that name the network, 1 to 128, default 64: a host is given so many
    /// addresses (RFC 6177).
    pub ipv6_prefix: u8,
}

/// `routes[].limits`: bounds on what one route has at once. `None` stands for `off`, the default of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteLimits {
    /// `tunnels`: most open tunnels, handshakes that may become some included; 1 to 4,294,967,295. The handshake for
    /// one more is answered 503.
    pub tunnels: Option<NonZeroU32>,
    /// `requests`: most plain requests under way, 1 to 4,294,967,295. One more is answered 503.
    pub requests: Option<NonZeroU32>,
}

/// `limits.keep_alive`: bounds on connections between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `idle`: longest time without a byte between two requests, 1 s to 1 d, default 75 s (nginx's); `None` when `off`.
    pub idle: Option<Duration>,
    /// `requests`: most requests on one connection, 1 to 4,294,967,295; `None` when `off`, the default. The last answer
    /// says `Connection: close` (nginx: `keepalive_requests`).
    pub requests: Option<NonZeroU32>,
}

impl Default for PerClient {
    fn default() -> Self {
        let connections = NonZeroU32::new(1_000);
        Self { connections, tunnels: None, handshakes: None, ipv4_prefix: 32, ipv6_prefix: 64 }
    }
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), size: 32 * 1024, lines: 128, target: 8 * 1024 }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { idle: Some(Duration::from_secs(60)), min_rate: NonZeroU64::new(100) }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Some(Duration::from_secs(75)), requests: None }
    }
}
