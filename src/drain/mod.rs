//! Drain: takes nothing new and ends what is open, gently and by a deadline; of the process, or of one backend.

mod backend;
mod process;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub use backend::{BackendDrain, UnknownBackend};
pub use process::{Outcome, ProcessDrain};

/// What a gateway is at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It serves, and is ready for more.
    #[default]
    Serving,
    /// It says that it is not ready, and still takes what comes.
    Grace,
    /// It takes nothing new, and ends what is open.
    Closing,
}

/// The phase of a running gateway, for everyone who has to know; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    phase: Arc<watch::Sender<Phase>>,
}

impl Phases {
    /// The phase now.
    pub fn now(&self) -> Phase {
        *self.phase.borrow()
    }

    fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}

/// How far a drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What the gateway is at.
    pub phase: Phase,
    /// Open tunnels left.
    pub tunnels: usize,
    /// Requests left.
    pub requests: usize,
    /// Milliseconds until the listeners close; 0 once they have, and for a backend.
    pub grace_ms: u64,
    /// Milliseconds until the deadline.
    pub remaining_ms: u64,
}
