//! The phase of a running gateway: serving, or one of the two phases of a drain.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// Phase of a running gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GatewayPhase {
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
    phase: Arc<watch::Sender<GatewayPhase>>,
}

impl Phases {
    /// The phase now.
    pub fn now(&self) -> GatewayPhase {
        *self.phase.borrow()
    }

    /// Enters a phase.
    pub fn enter(&self, phase: GatewayPhase) {
        self.phase.send_replace(phase);
    }
}
