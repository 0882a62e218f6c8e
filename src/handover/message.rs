//! What the two processes say to each other.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::snapshot::SavedHooks;
use crate::tunnel::Passport;

/// The newest protocol that this release speaks. Fields may be added to its messages, with defaults; anything else makes a
/// new protocol.
pub const PROTOCOL: u32 = 1;

/// The oldest protocol that this release speaks.
pub(super) const OLDEST_PROTOCOL: u32 = 1;

/// What a successor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum FromSuccessor {
    /// The first word: which protocols it speaks, and who it is.
    Hello { oldest: u32, newest: u32, version: String, pid: u32 },
    /// It accepts on the listening sockets.
    Serving,
    /// It could go on with the batch.
    Ready,
    /// It goes on with the batch; said before the first byte is moved.
    Taken,
}

/// What a predecessor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum FromPredecessor {
    /// Its listening sockets come along, in this order.
    Welcome { protocol: u32, version: String, sockets: Vec<ListeningSocket> },
    /// It hands nothing over.
    Refused { reason: String },
    /// A batch of tunnels; two sockets for each come along, the client's first. And the states of hooks, which come before all
    /// tunnels.
    Tunnels {
        passports: Vec<Passport>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        hooks: Vec<SavedHooks>,
    },
    /// The batch is the successor's.
    Commit,
    /// The successor answers for everything from here on; requests under way end where they are.
    Done,
    /// The handover has failed, and the predecessor goes on.
    Abort { reason: String },
}

/// A listening socket on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ListeningSocket {
    /// The address that the configuration names for it.
    pub(super) configured: SocketAddr,
}
