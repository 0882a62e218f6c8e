//! State that a tunnel keeps for its next backend.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::heads::KeptHead;
use crate::config::Reattach;
use crate::ws::deflate::Agreement;

/// State with which the next backend is asked for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRequest {
    /// Settings of the route when the tunnel opened.
    pub policy: Reattach,
    /// Head of the request as the first backend was sent it, `Longhaul-Session` included; at most [`MOST_HEAD`] bytes.
    pub head: KeptHead,
    /// The affinity key; `None` when the tunnel was picked without one.
    pub key: Option<Vec<u8>>,
    /// Source and destination of the client's connection, for backends that are sent a PROXY header.
    pub passed_on: Option<(SocketAddr, SocketAddr)>,
    /// The subprotocol that was agreed on.
    pub protocol: Option<Box<str>>,
    /// The compression that was agreed on.
    pub compression: Option<Agreement>,
}

/// Longest head that is kept. A tunnel whose request was longer is not re-attached.
pub const MOST_HEAD: usize = 16 * 1024;
