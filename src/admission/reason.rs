//! Reasons for which a connection, a request or a handshake is not admitted.

use http::StatusCode;

/// Why one more is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum RefusalReason {
    /// The listener's `allow` and `deny` keep the address out. The connection is closed without an answer.
    #[error("this address may not connect")]
    Address,
    /// The process has as many connections as `limits.connections` allows.
    #[error("the gateway has as many connections as it may have")]
    Connections,
    /// The listener has as many connections as its `limits.connections` allows.
    #[error("this port has as many connections as it may have")]
    ListenerConnections,
    /// The route has as many tunnels as its `limits.tunnels` allows.
    #[error("there are as many tunnels here as there may be")]
    RouteTunnels,
    /// The route has as many requests under way as its `limits.requests` allows.
    #[error("there are as many requests here as there may be")]
    RouteRequests,
    /// Hardly any file descriptor is left.
    #[error("the gateway is at its limit")]
    Descriptors,
    /// More bytes are kept for clients than `limits.memory` allows.
    #[error("the gateway keeps as much for its clients as it may")]
    Memory,
    /// The client's network has as many connections as `limits.per_client.connections` allows.
    #[error("there are too many connections from this address")]
    ClientConnections,
    /// The client's network has as many tunnels as `limits.per_client.tunnels` allows.
    #[error("there are too many tunnels from this address")]
    ClientTunnels,
    /// Handshakes came faster than `limits.per_client.handshakes` allows.
    #[error("there were too many handshakes from this address")]
    ClientHandshakes,
}

impl RefusalReason {
    /// The reason's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Connections => "connections",
            Self::ListenerConnections => "listener_connections",
            Self::RouteTunnels => "route_tunnels",
            Self::RouteRequests => "route_requests",
            Self::Descriptors => "descriptors",
            Self::Memory => "memory",
            Self::ClientConnections => "client_connections",
            Self::ClientTunnels => "client_tunnels",
            Self::ClientHandshakes => "client_handshakes",
        }
    }

    /// The status of the answer; `None` where the connection is closed without one.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Self::Address => None,
            Self::Connections
            | Self::ListenerConnections
            | Self::RouteTunnels
            | Self::RouteRequests
            | Self::Descriptors
            | Self::Memory => Some(StatusCode::SERVICE_UNAVAILABLE),
            Self::ClientConnections | Self::ClientTunnels | Self::ClientHandshakes => {
                Some(StatusCode::TOO_MANY_REQUESTS)
            }
        }
    }

    /// The seconds that `Retry-After` asks the client to wait: drawn anew for each, so that clients which were refused
    /// together do not come back together.
    pub fn retry_after(self) -> u64 {
        rand::random_range(RETRY_AFTER)
    }
}

/// A second at least, because a refusal is cheaper than what was refused; few, because what is full empties quickly.
const RETRY_AFTER: std::ops::RangeInclusive<u64> = 1..=8;
