//! The operator's side: signals and commands, one after the other, until the process is to end.

use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use pingora::server::configuration::ServerConf;

use super::acceptor::Acceptor;
use super::signals::{Signal, Signals};
use crate::reload::{self, Watch};
use crate::snapshot::Running;
use crate::tunnel::{Reason, Scope};

/// Acts on a running gateway.
pub(super) struct Operator {
    running: Arc<Running>,
    acceptor: Acceptor,
    watch: Watch,
    /// How long the end may take.
    grace: Duration,
}

impl Operator {
    pub(super) fn new(running: Arc<Running>, acceptor: Acceptor, pingora: &ServerConf) -> Self {
        let grace = Duration::from_secs(pingora.grace_period_seconds.unwrap_or(PINGORA_GRACE_SECONDS));
        Self { watch: Watch::new(Arc::clone(&running)), running, acceptor, grace }
    }

    /// Returns when the process is to end; nothing that is left has to be waited for then.
    pub(super) async fn run(mut self, mut signals: Signals) {
        self.obey(&mut signals).await;
        self.acceptor.close();
        self.running.tunnels.stop();
        self.running.log.flush();
    }

    async fn obey(&mut self, signals: &mut Signals) {
        loop {
            let signal = tokio::select! {
                signal = signals.next() => signal,
                () = self.watch.changed() => {
                    info!("the configuration file has changed");
                    self.reload().await;
                    continue;
                }
            };
            match signal {
                Signal::Interrupt => return,
                Signal::Terminate => return self.drain(signals).await,
                Signal::Quit => warn!("SIGQUIT is refused: no successor waits to take over (see `longhaul upgrade`)"),
                Signal::Hangup => self.reload().await,
                Signal::Reopen => self.running.log.reopen(),
            }
        }
    }

    /// Reads the configuration file again. What comes of it is logged and counted there.
    async fn reload(&self) {
        let _ = reload::from_file(&self.running).await;
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
            () = told_to_end(signals) => info!("told again to end; what is left is cut off"),
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

async fn told_to_end(signals: &mut Signals) {
    while !matches!(signals.next().await, Signal::Interrupt | Signal::Terminate) {}
}

/// Pingora's own default for `grace_period_seconds`.
const PINGORA_GRACE_SECONDS: u64 = 300;
/// The time over which tunnels are closed at the end, where the grace period leaves as much.
const LONGEST_CLOSING: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
