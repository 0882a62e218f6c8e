//! The event that an endpoint is told: one JSON object.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::hook::{Closed, Direction, Tunnel};

/// The kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EventKind {
    /// A tunnel has opened.
    Open,
    /// A tunnel has ended.
    Close,
}

impl EventKind {
    /// The `event` label in metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
        }
    }
}

/// An event, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebhookEvent {
    pub(super) kind: EventKind,
    /// Id of the event. Every try to send the event has the same id.
    pub(super) id: String,
    pub(super) body: Vec<u8>,
}

/// The event as JSON. Its fields are named as in the access log.
#[derive(Serialize)]
struct Body<'t> {
    event: EventKind,
    time: String,
    tunnel: String,
    request_id: &'t str,
    client: IpAddr,
    route: &'t str,
    upstream: &'t str,
    backend: SocketAddr,
    #[serde(flatten)]
    end: Option<End>,
}

#[derive(Serialize)]
struct End {
    reason: &'static str,
    close_code: u16,
    duration_ms: u64,
    bytes_from_client: u64,
    bytes_from_backend: u64,
    messages_from_client: u64,
    messages_from_backend: u64,
}

impl WebhookEvent {
    /// A tunnel has opened.
    pub(super) fn open(tunnel: &Tunnel) -> Self {
        Self::of(tunnel, EventKind::Open, None)
    }

    /// A tunnel has ended.
    pub(super) fn close(tunnel: &Tunnel, closed: &Closed) -> Self {
        let (client, backend) = (Direction::ToBackend as usize, Direction::ToClient as usize);
        let end = End {
            reason: closed.reason,
            close_code: closed.code,
            duration_ms: u64::try_from(closed.lasted.as_millis()).unwrap_or(u64::MAX),
            bytes_from_client: closed.bytes[client],
            bytes_from_backend: closed.bytes[backend],
            messages_from_client: closed.messages[client],
            messages_from_backend: closed.messages[backend],
        };
        Self::of(tunnel, EventKind::Close, Some(end))
    }

    fn of(tunnel: &Tunnel, kind: EventKind, end: Option<End>) -> Self {
        let body = Body {
            event: kind,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            tunnel: tunnel.id.to_string(),
            request_id: &tunnel.request_id,
            client: tunnel.client,
            route: &tunnel.route,
            upstream: &tunnel.upstream,
            backend: tunnel.backend,
            end,
        };
        let id = format!("{}-{}", tunnel.id, kind.as_str());
        Self { kind, id, body: serde_json::to_vec(&body).expect("texts and numbers can be written as JSON") }
    }
}
