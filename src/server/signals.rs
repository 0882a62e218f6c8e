//! Signals: which end of the process was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch};

/// Pingora's signals (SIGINT, SIGTERM, SIGQUIT), with a note of whether a successor takes the clients over.
pub(super) struct Signals {
    ending: Ending,
}

/// What is known of the end that was asked for.
#[derive(Clone, Default)]
pub(super) struct Ending {
    to_successor: Arc<AtomicBool>,
}

impl Ending {
    /// Whether a new process has the listening sockets (SIGQUIT), so that open tunnels may live out the grace period.
    pub(super) fn to_successor(&self) -> bool {
        self.to_successor.load(Ordering::Acquire)
    }
}

impl Signals {
    pub(super) fn new() -> Self {
        Self { ending: Ending::default() }
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signal = UnixShutdownSignalWatch.recv().await;
        if matches!(signal, ShutdownSignal::GracefulUpgrade) {
            self.ending.to_successor.store(true, Ordering::Release);
        }
        signal
    }
}
