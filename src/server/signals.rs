//! Signals: every one that Longhaul knows, and Pingora's own kept from it.

use std::collections::VecDeque;
use std::io;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// What the process was told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: end at once.
    Interrupt,
    /// SIGTERM: drain, then end.
    Terminate,
    /// SIGQUIT: Pingora's word for handing over to a successor.
    Quit,
    /// SIGHUP: reload.
    Hangup,
    /// SIGUSR1: open the access log anew.
    Reopen,
}

/// The signals as they come.
pub(super) struct Signals {
    streams: [(Signal, Stream); 5],
    /// Came at a moment when they could not be acted on.
    kept: VecDeque<Signal>,
}

impl Signals {
    /// From now on signals come here, and do not end the process.
    pub(super) fn listen() -> io::Result<Self> {
        let stream = |name, kind| Ok::<_, io::Error>((name, signal(kind)?));
        Ok(Self {
            streams: [
                stream(Signal::Interrupt, SignalKind::interrupt())?,
                stream(Signal::Terminate, SignalKind::terminate())?,
                stream(Signal::Quit, SignalKind::quit())?,
                stream(Signal::Hangup, SignalKind::hangup())?,
                stream(Signal::Reopen, SignalKind::user_defined1())?,
            ],
            kept: VecDeque::new(),
        })
    }

    /// The next signal, those that were kept first. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Signal {
        match self.kept.pop_front() {
            Some(signal) => signal,
            None => self.received().await,
        }
    }

    /// Returns when the process is told to end (SIGINT, SIGTERM); that signal and all others are kept for
    /// [`next`](Self::next).
    pub(super) async fn told_to_end(&mut self) {
        let ends = |signal: &Signal| matches!(signal, Signal::Interrupt | Signal::Terminate);
        while !self.kept.iter().any(ends) {
            let signal = self.received().await;
            // The same signal twice is one, as it is for the system.
            if !self.kept.contains(&signal) {
                self.kept.push_back(signal);
            }
        }
    }

    async fn received(&mut self) -> Signal {
        let received = self.streams.iter_mut().map(|(name, stream)| {
            Box::pin(async move {
                match stream.recv().await {
                    Some(()) => *name,
                    None => std::future::pending().await,
                }
            })
        });
        futures::future::select_all(received).await.0
    }
}

/// What Pingora waits for instead of signals: nothing. The operator ends the process.
pub(super) struct NoSignals;

#[async_trait]
impl ShutdownSignalWatch for NoSignals {
    async fn recv(&self) -> ShutdownSignal {
        std::future::pending().await
    }
}
