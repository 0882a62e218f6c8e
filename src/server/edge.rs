//! The edge: the service that starts everything in its order, opens the listeners last, and runs until the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{error, info};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::mpsc;

use super::acceptor::{Acceptor, Sockets};
use super::operator::Operator;
use super::reception::{self, Desk, Reception};
use super::signals::Signals;
use super::succession::{self, Succession};
use super::{OnReady, OnStart, StartError, notify};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::control::{self, About, Command, History, Place};
use crate::diagnostics::Diagnostics;
use crate::drain::Phases;
use crate::gateway::Runtimes;
use crate::handover::Taker;
use crate::hook::Registry;
use crate::metrics::Metrics;
use crate::reload::Watch;
use crate::snapshot::Running;
use crate::tunnel::Tunnels;

/// Everything that serves. Threads and sockets beyond the bound ones are made when it is started, not before: a process
/// that goes into the background keeps none it had.
pub(super) struct Edge {
    pub(super) config: Config,
    pub(super) hooks: Arc<Registry>,
    pub(super) pingora: Arc<ServerConf>,
    pub(super) sockets: Option<Sockets>,
    /// Whom this process takes over from.
    pub(super) taker: Option<Taker>,
    pub(super) diagnostics: Option<Diagnostics>,
    pub(super) on_ready: Option<OnReady>,
    pub(super) on_start: Option<OnStart>,
}

#[async_trait]
impl Service for Edge {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, tasks_per_socket: usize) {
        let sockets = self.sockets.take().expect("a service is started once");
        let running = match self.start_threads() {
            Ok(running) => Arc::new(running),
            Err(error) => fail(error),
        };
        running.start_hooks();
        running.check_health().await;

        let phases = Phases::default();
        let runtimes = Runtimes::start(&self.config.pingora)
            .unwrap_or_else(|error| fail(format_args!("no threads for clients can be started: {error}")));
        let pingora = Arc::clone(&self.pingora);
        let mut acceptor =
            Acceptor::new(pingora, Arc::clone(&running), phases.clone(), sockets, tasks_per_socket, runtimes);
        // Before anyone is told that it runs: a signal that came then would end the process there and then.
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => fail(format_args!("signals cannot be received: {error}")),
        };
        let (reception, commands) = self.reception(&running, &phases, &acceptor);
        // A predecessor keeps its own sockets for operators and successors until it has parted.
        let desk = if self.taker.is_none() { reception.open(false) } else { Ok(Desk::default()) };
        let desk = desk.unwrap_or_else(|error| fail(error));
        if let Err(error) = acceptor.start() {
            fail(error);
        }
        let addresses = announce(&acceptor);
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(&addresses);
        }
        if let Some(on_start) = self.on_start.take() {
            on_start(running.injector.clone());
        }
        notify::ready();
        let predecessor = self.taker.take().map(|taker| begin_succession(taker, &running));
        let history = reception.history().clone();
        let longest = self.pingora.grace_period_seconds.map(Duration::from_secs);
        let watch = Watch::new(Arc::clone(&running));
        let operator =
            Operator { running, acceptor, phases, history, commands, reception, desk, predecessor, longest, watch };
        let code = operator.run(signals).await;
        info!("ended");
        log::logger().flush();
        std::process::exit(code);
    }

    fn name(&self) -> &str {
        super::NAME
    }
}

impl Edge {
    /// Where operators and successors are received.
    fn reception(
        &self,
        running: &Arc<Running>,
        phases: &Phases,
        acceptor: &Acceptor,
    ) -> (Reception, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(control::QUEUE);
        let about = About {
            running: Arc::clone(running),
            phases: phases.clone(),
            history: History::default(),
            listeners: acceptor.listeners().iter().map(|bound| bound.address).collect(),
            metrics: acceptor.metrics().map(|bound| bound.address),
        };
        let control = Place::find(self.config.control_sock.as_deref());
        let door = reception::door(&self.pingora);
        (Reception { control, door, about, commands }, queue)
    }

    fn start_threads(&self) -> Result<Running, String> {
        let metrics = Arc::new(Metrics::new());
        if let Some(diagnostics) = &self.diagnostics {
            diagnostics.start().map_err(|error| StartError::Diagnostics(error).to_string())?;
            diagnostics.counters().into_iter().for_each(|counter| metrics.include(counter));
        }
        let log = match &self.config.access_log {
            Some(settings) => {
                AccessLog::start(settings, metrics.access_log_dropped.clone()).map_err(|error| error.to_string())?
            }
            None => AccessLog::off(),
        };
        let tunnels = Arc::new(Tunnels::start(self.pingora.threads, &log).map_err(|error| error.to_string())?);
        let hooks = Arc::clone(&self.hooks);
        Running::new(&self.config, hooks, metrics, tunnels, log, Instant::now()).map_err(|problems| {
            let file =
                self.config.source.as_ref().map_or_else(Default::default, |source| source.path.to_string_lossy());
            problems.in_file(&file).to_string()
        })
    }
}

/// Says where the gateway listens.
fn announce(acceptor: &Acceptor) -> Vec<SocketAddr> {
    let addresses: Vec<_> = acceptor.listeners().iter().map(|bound| bound.address).collect();
    for address in &addresses {
        info!("listening on {address}");
    }
    if let Some(bound) = acceptor.metrics() {
        info!("metrics on http://{}/metrics", bound.address);
    }
    addresses
}

/// Ends the process before it serves anyone.
fn fail(error: impl std::fmt::Display) -> ! {
    error!("cannot start: {error}");
    log::logger().flush();
    std::process::exit(1)
}

/// Tells the predecessor that this process serves, and takes its tunnels over.
fn begin_succession(mut taker: Taker, running: &Arc<Running>) -> mpsc::UnboundedReceiver<Succession> {
    let (parted, predecessor) = mpsc::unbounded_channel();
    // Where the predecessor is gone already, its last word, or that there is none, is met when it is listened to.
    let _ = taker.serving();
    let begun = succession::begin(taker, Arc::clone(running), parted.clone()).map_err(|error| error.to_string());
    if let Err(reason) = begun {
        // The receiver is at hand: it cannot have gone.
        let _ = parted.send(Succession::Aborted(reason));
    }
    predecessor
}
