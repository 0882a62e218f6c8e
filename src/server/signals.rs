//! Signals: which end of the process was asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures::FutureExt;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch, UnixShutdownSignalWatch};
use tokio::sync::watch;

/// Pingora's signals (SIGINT, SIGTERM, SIGQUIT), with a note of whether a successor takes the clients over.
pub(super) struct Signals {
    ending: Ending,
    taken: watch::Sender<bool>,
}

/// What is known of the end that was asked for.
#[derive(Clone)]
pub(super) struct Ending {
    to_successor: Arc<AtomicBool>,
    taken: watch::Receiver<bool>,
}

impl Ending {
    /// Whether a new process has the listening sockets (SIGQUIT), so that open tunnels may live out the grace period.
    pub(super) fn to_successor(&self) -> bool {
        self.to_successor.load(Ordering::Acquire)
    }

    /// Returns once signals are taken: until then the system ends the process for them.
    pub(super) async fn signals_are_taken(&self) {
        // An error means that the server is gone, which ends the process anyway.
        let _ = self.taken.clone().wait_for(|taken| *taken).await;
    }
}

impl Signals {
    pub(super) fn new() -> Self {
        let (taken, is_taken) = watch::channel(false);
        Self { ending: Ending { to_successor: Arc::default(), taken: is_taken }, taken }
    }

    pub(super) fn ending(&self) -> Ending {
        self.ending.clone()
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let mut received = UnixShutdownSignalWatch.recv();
        // The first poll has the signals taken.
        let first = (&mut received).now_or_never();
        self.taken.send_replace(true);
        let signal = match first {
            Some(signal) => signal,
            None => received.await,
        };
        if matches!(signal, ShutdownSignal::GracefulUpgrade) {
            self.ending.to_successor.store(true, Ordering::Release);
        }
        signal
    }
}
