//! What runs beside Pingora's services and outlives them: tunnels and the access log.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use log::info;
use pingora::server::configuration::ServerConf;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::signals::Ending;
use crate::access_log::AccessLog;
use crate::snapshot::Snapshot;
use crate::tunnel::{Reason, Scope, Tunnels};

/// The parts that end last. Filled once the process has its final shape (after `daemon` forked).
pub(super) struct Running {
    parts: OnceLock<Parts>,
    grace: Duration,
}

struct Parts {
    tunnels: Arc<Tunnels>,
    log: AccessLog,
}

impl Running {
    pub(super) fn new(pingora: &ServerConf) -> Self {
        let grace = Duration::from_secs(pingora.grace_period_seconds.unwrap_or(PINGORA_GRACE_SECONDS));
        Self { parts: OnceLock::new(), grace }
    }

    pub(super) fn begin(&self, tunnels: &Arc<Tunnels>, log: &AccessLog) {
        // Begun once: an edge is started once.
        let _ = self.parts.set(Parts { tunnels: Arc::clone(tunnels), log: log.clone() });
    }

    /// Ends what is left, with a log line for every tunnel that is cut off.
    pub(super) fn stop(&self) {
        if let Some(Parts { tunnels, log }) = self.parts.get() {
            tunnels.stop();
            log.flush();
        }
    }

    /// After the listeners closed: ends the tunnels, and the process as soon as nothing is left to serve.
    pub(super) async fn drain(&self, snapshot: &Snapshot, ending: &Ending) {
        let Some(Parts { tunnels, .. }) = self.parts.get() else { return };
        if !ending.to_successor() {
            let count = tunnels.count();
            let paced = CLOSING_PACE.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX));
            let over = paced.min(self.grace / 2).min(LONGEST_CLOSING);
            info!("ending: {count} tunnels get Close 1001 within {}", humantime::format_duration(over));
            tunnels.end(&Scope::All, Reason::Shutdown, over);
        }
        let mut again = [SignalKind::terminate(), SignalKind::interrupt()].map(|kind| signal(kind).ok());
        let [terminate, interrupt] = &mut again;
        tokio::select! {
            () = idle(snapshot, tunnels) => info!("nothing is left to serve"),
            () = received(terminate) => info!("told again to end"),
            () = received(interrupt) => info!("told again to end"),
        }
        self.stop();
        std::process::exit(0);
    }
}

/// Returns once no request runs and no tunnel is open.
async fn idle(snapshot: &Snapshot, tunnels: &Tunnels) {
    let mut ticks = tokio::time::interval(LOOK_AGAIN);
    let busy = || snapshot.destinations().iter().flat_map(|to| to.upstream.states()).any(|state| state.load() > 0);
    while tunnels.count() > 0 || busy() {
        ticks.tick().await;
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Pingora's own default for `grace_period_seconds`.
const PINGORA_GRACE_SECONDS: u64 = 300;
/// Tunnels are closed at this pace at the end, so that their clients do not come back all at once; a few are closed
/// within the ten seconds that container runtimes leave.
const CLOSING_PACE: Duration = Duration::from_millis(10);
/// The time over which many tunnels are closed at the end, where the grace period leaves as much.
const LONGEST_CLOSING: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
