//! The operator's side: signals and successors, one after the other, until the process is to end.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use log::{error, info, warn};
use pingora::server::configuration::ServerConf;
use tokio::net::UnixListener;
use tokio::sync::mpsc::UnboundedReceiver;

use super::acceptor::Acceptor;
use super::signals::{Signal, Signals};
use super::succession::Succession;
use crate::handover::{admits, open_door, upgrade_socket};
use crate::snapshot::Running;
use crate::tunnel::{Reason, Scope};

/// Acts on a running gateway.
pub(super) struct Operator {
    pub(super) running: Arc<Running>,
    pub(super) acceptor: Acceptor,
    /// How long the end may take.
    pub(super) grace: Duration,
    upgrade_socket: Option<PathBuf>,
}

/// What the operator is to act on next.
enum Event {
    Signal(Signal),
    /// A process asks to take over.
    Successor(UnixStream),
    /// The process that this one takes over from has parted.
    Succession(Succession),
}

impl Operator {
    pub(super) fn new(running: Arc<Running>, acceptor: Acceptor, pingora: &ServerConf) -> Self {
        let grace = Duration::from_secs(pingora.grace_period_seconds.unwrap_or(PINGORA_GRACE_SECONDS));
        Self { running, acceptor, grace, upgrade_socket: upgrade_socket(pingora) }
    }

    /// Returns when the process is to end, with its exit code; nothing that is left has to be waited for then.
    ///
    /// `predecessor` is there while this process takes over from another.
    pub(super) async fn run(mut self, predecessor: Option<UnboundedReceiver<Succession>>) -> i32 {
        let code = match Signals::listen() {
            Ok(mut signals) => self.obey(&mut signals, predecessor).await,
            Err(error) => {
                error!("signals cannot be received, the gateway ends: {error}");
                1
            }
        };
        self.acceptor.close();
        self.running.tunnels.stop();
        self.running.log.flush();
        code
    }

    async fn obey(&mut self, signals: &mut Signals, mut predecessor: Option<UnboundedReceiver<Succession>>) -> i32 {
        // A predecessor's door stays its own until it has parted.
        let mut door = if predecessor.is_none() { self.open_door(false) } else { None };
        loop {
            let event = tokio::select! {
                signal = signals.next() => Event::Signal(signal),
                stream = knock(door.as_ref()) => Event::Successor(stream),
                word = parted(&mut predecessor) => Event::Succession(word),
            };
            match event {
                Event::Signal(Signal::Interrupt) => return 0,
                Event::Signal(Signal::Terminate) => {
                    self.drain(signals).await;
                    return 0;
                }
                Event::Signal(Signal::Quit) => {
                    warn!("SIGQUIT is refused: no successor waits to take over (start one with `-u`)");
                }
                Event::Signal(Signal::Hangup) => {
                    warn!("SIGHUP: this version reads its configuration at the start only; restart it");
                }
                Event::Signal(Signal::Reopen) => self.running.log.reopen(),
                Event::Successor(stream) => {
                    tokio::select! {
                        ended = self.hand_over(stream) => if ended {
                            return 0;
                        },
                        // A successor that has begun finds this process gone, and goes on alone.
                        signal = told_to_end(signals) => {
                            if signal == Signal::Terminate {
                                self.drain(signals).await;
                            }
                            return 0;
                        }
                    }
                }
                Event::Succession(Succession::Done) => {
                    predecessor = None;
                    door = self.open_door(true);
                }
                Event::Succession(Succession::Aborted(reason)) => {
                    error!("the predecessor goes on, this process ends: {reason}");
                    self.drain(signals).await;
                    return 1;
                }
            }
        }
    }

    /// Waits for successors from now on; `replace` takes the place of a predecessor.
    fn open_door(&self, replace: bool) -> Option<UnixListener> {
        let path = self.upgrade_socket.as_ref()?;
        let opened = open_door(path, replace).and_then(UnixListener::from_std);
        opened
            .inspect_err(|error| warn!("no upgrade in place is possible: {}: {error}", path.display()))
            .inspect(|_| info!("successors are awaited at {}", path.display()))
            .ok()
    }

    /// Takes nothing new, ends the tunnels, and returns as soon as nothing is left to serve, or when told again.
    async fn drain(&mut self, signals: &mut Signals) {
        self.acceptor.close();
        let over = (self.grace / 2).min(LONGEST_CLOSING);
        info!(
            "ending: {} tunnels get Close 1001 within {}",
            self.running.tunnels.count(),
            humantime::format_duration(over)
        );
        self.running.tunnels.end(&Scope::All, Reason::Shutdown, over);
        tokio::select! {
            () = idle(&self.running) => info!("nothing is left to serve"),
            () = tokio::time::sleep(self.grace) => warn!("the grace period is over; what is left is cut off"),
            _ = told_to_end(signals) => info!("told again to end; what is left is cut off"),
        }
    }
}

/// Returns once no request runs and no tunnel is open.
async fn idle(running: &Running) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    loop {
        ticks.tick().await;
        let snapshot = running.snapshot();
        let mut states = snapshot.destinations().iter().flat_map(|to| to.upstream.states());
        if running.tunnels.count() == 0 && states.all(|state| state.load() == 0) {
            return;
        }
    }
}

/// The next process that asks to take over, if there is a door.
async fn knock(door: Option<&UnixListener>) -> UnixStream {
    let Some(door) = door else { return std::future::pending().await };
    loop {
        match door.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) if admits(&stream) => return stream,
            Ok(_) => warn!("a process of another user asked to take over, and was turned away"),
            Err(error) => {
                error!("a successor was not heard: {error}");
                // No descriptor may be left; asking again at once would find none either.
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        }
    }
}

async fn parted(predecessor: &mut Option<UnboundedReceiver<Succession>>) -> Succession {
    match predecessor {
        Some(words) => match words.recv().await {
            Some(word) => word,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn told_to_end(signals: &mut Signals) -> Signal {
    loop {
        let signal = signals.next().await;
        if matches!(signal, Signal::Interrupt | Signal::Terminate) {
            return signal;
        }
    }
}

/// Pingora's own default for `grace_period_seconds`.
const PINGORA_GRACE_SECONDS: u64 = 300;
/// The time over which tunnels are closed at the end, where the grace period leaves as much.
const LONGEST_CLOSING: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
