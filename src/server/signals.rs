//! Signals: every one that Longhaul knows, and Pingora's own kept from it.

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
    /// Those that came while only the end was waited for; each kind once.
    kept: Vec<Signal>,
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
            kept: Vec::new(),
        })
    }

    /// The next signal. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Signal {
        match self.kept.pop() {
            Some(kept) => kept,
            None => self.receive().await,
        }
    }

    /// Returns when the process is told to end. Everything else that comes is kept for [`next`](Self::next).
    pub(super) async fn told_to_end(&mut self) {
        loop {
            match self.receive().await {
                Signal::Interrupt | Signal::Terminate => return,
                other if self.kept.contains(&other) => {}
                other => self.kept.push(other),
            }
        }
    }

    async fn receive(&mut self) -> Signal {
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
