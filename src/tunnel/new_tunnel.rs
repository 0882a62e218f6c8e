//! Tunnels to be opened: both handshakes are done.

use std::sync::Arc;

use super::accept::Socket;
use super::reattach::KeptRequest;
use super::record::Record;
use crate::config::TunnelLimits;
use crate::hook::{self, Chain, Contexts};
use crate::ws::Sides;
use crate::ws::deflate::Agreement;

/// A tunnel to be opened.
pub struct NewTunnel {
    /// Connection to the client.
    pub client: Socket,
    /// Connection to the backend.
    pub backend: Socket,
    /// Bytes that came with the handshake, by the side that sent them.
    pub early: Sides<Vec<u8>>,
    /// Limits of the tunnel.
    pub limits: TunnelLimits,
    /// Identity of the tunnel.
    pub record: Record,
    /// State with which it is re-attached; `None` where it ends with its backend.
    pub kept: Option<Box<KeptRequest>>,
    /// Hooks of its route; `None` on a route without hooks.
    pub hooks: Option<Hooked>,
}

/// The hooks of a tunnel to be opened.
pub struct Hooked {
    /// The hooks, as they were when the request began.
    pub chain: Arc<Chain>,
    /// State that they keep of the request, and of the tunnel from now on.
    pub contexts: Contexts,
    /// The tunnel as they see it, with an id of its own.
    pub tunnel: hook::Tunnel,
    /// The gateway's own agreement about permessage-deflate; `None` where it left that to client and backend (no hook
    /// sees messages), or where messages are never compressed.
    pub agreement: Option<Agreement>,
}
