//! The phase of a running gateway: serving, or one of the two phases of a drain.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Phase of a running gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The gateway is ready and accepts.
    #[default]
    Serving,
    /// The gateway says that it is not ready, and still accepts (`drain.grace`).
    Grace,
    /// The gateway accepts nothing new, and ends what is open.
    Closing,
}

/// The current phase; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Phases {
    phase: Arc<watch::Sender<Phase>>,
}

impl Phases {
    /// The phase now.
    pub fn now(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }
}
