//! Signals: the ones that Longhaul acts on, in the place of Pingora's own.

use std::collections::VecDeque;
use std::io;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

/// A signal to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: end at once.
    Interrupt,
    /// SIGTERM: drain, then end.
    Terminate,
    /// SIGQUIT: with Pingora, hand over to a successor.
    Quit,
    /// SIGHUP: reload.
    Hangup,
    /// SIGUSR1: open the access log anew.
    Reopen,
}

/// Receives signals.
pub(super) struct Signals {
    streams: [(Signal, Stream); 5],
    /// Signals that came when they could not be acted on, each kind at most once.
    kept: VecDeque<Signal>,
}

impl Signals {
    /// Starts to receive signals, which do not end the process any more.
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

    /// Waits for the next signal; those that were kept come first. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Signal {
        match self.kept.pop_front() {
            Some(signal) => signal,
            None => self.received().await,
        }
    }

    /// Waits for SIGINT or SIGTERM. Keeps that signal, and all others that come, for [`next`](Self::next).
    pub(super) async fn told_to_end(&mut self) {
        let ends = |signal: &Signal| matches!(signal, Signal::Interrupt | Signal::Terminate);
        while !self.kept.iter().any(ends) {
            let signal = self.received().await;
            // Two pending signals of one kind are one, as they are in the kernel.
            if !self.kept.contains(&signal) {
                self.kept.push_back(signal);
            }
        }
    }

    /// Takes a kept SIGTERM out; `false` where none is kept.
    pub(super) fn take_terminate(&mut self) -> bool {
        let kept = self.kept.len();
        self.kept.retain(|signal| *signal != Signal::Terminate);
        self.kept.len() < kept
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

/// Keeps Pingora from waiting for signals of its own: the operator ends the process.
pub(super) struct NoSignals;

#[async_trait]
impl ShutdownSignalWatch for NoSignals {
    async fn recv(&self) -> ShutdownSignal {
        std::future::pending().await
    }
}
