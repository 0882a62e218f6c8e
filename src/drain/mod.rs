//! Drain: takes nothing new and ends what is open, gently and by a deadline; of the process, or of one backend.

mod backend;
mod process;

use serde::{Deserialize, Serialize};

use crate::snapshot::GatewayPhase;

pub use backend::{BackendDrain, DrainedBackend, UnknownBackend, drained_backends, name_of, restore_drained};
pub use process::{DrainEnd, ProcessDrain};

/// Progress of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Phase of the gateway.
    pub phase: GatewayPhase,
    /// Open tunnels left.
    pub tunnels: usize,
    /// Requests left.
    pub requests: usize,
    /// Milliseconds until the listeners close; 0 once they have, and for a backend.
    pub grace_ms: u64,
    /// Milliseconds until the deadline.
    pub remaining_ms: u64,
}
