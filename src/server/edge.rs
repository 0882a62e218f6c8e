//! The edge: the service that starts everything in its order, opens the listeners last, and runs until the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use log::{error, info, warn};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::mpsc;

use super::acceptor::{Acceptor, Sockets};
use super::operator::Operator;
use super::signals::Signals;
use super::{Ended, OnReady, notify};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::control::{self, About, History, Place};
use crate::drain::Phases;
use crate::metrics::Metrics;
use crate::snapshot::Running;
use crate::tunnel::Tunnels;

/// Everything that serves. Threads and sockets beyond the bound ones are made when it is started, not before: a process
/// that goes into the background keeps none it had.
pub(super) struct Edge {
    pub(super) config: Config,
    pub(super) pingora: Arc<ServerConf>,
    pub(super) sockets: Option<Sockets>,
    pub(super) ended: Ended,
    pub(super) on_ready: Option<OnReady>,
}

#[async_trait]
impl Service for Edge {
    async fn start_service(&mut self, fds: Option<ListenFds>, _shutdown: ShutdownWatch, tasks_per_socket: usize) {
        let lent = fds.expect("Pingora gives every service its table of sockets on Unix");
        let sockets = self.sockets.take().expect("a service is started once");
        let running = match self.start_threads() {
            Ok(running) => Arc::new(running),
            Err(error) => fail(error),
        };
        running.check_health().await;

        let control = self.control_socket();
        let phases = Phases::default();
        let mut acceptor = Acceptor::new(
            Arc::clone(&self.pingora),
            Arc::clone(&running),
            phases.clone(),
            lent,
            sockets,
            tasks_per_socket,
        );
        // Before anyone is told that it runs: a signal that came then would end the process there and then.
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => fail(format_args!("signals cannot be received: {error}")),
        };
        if let Err(error) = acceptor.start() {
            fail(error);
        }
        let addresses = announce(&acceptor);
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(&addresses);
        }
        let history = History::default();
        let (commands, queue) = mpsc::channel(control::QUEUE);
        let about = About {
            running: Arc::clone(&running),
            phases: phases.clone(),
            history: history.clone(),
            listeners: addresses,
            metrics: acceptor.metrics().map(|bound| bound.address),
        };
        let control = control.map(|socket| control::Server::start(socket, about, commands));
        notify::ready();
        let longest = self.pingora.grace_period_seconds.map(Duration::from_secs);
        Operator { running, acceptor, phases, history, commands: queue, control, longest }.run(signals).await;
        self.ended.notify();
    }

    fn name(&self) -> &str {
        super::NAME
    }
}

impl Edge {
    /// The control socket; none, and a warning, where nobody asked for one and there cannot be one.
    fn control_socket(&self) -> Option<control::Socket> {
        let Some(place) = Place::find(self.config.control_sock.as_deref()) else {
            warn!("no control socket: there is no runtime folder for it; name one with control_sock");
            return None;
        };
        match (control::Socket::bind(&place), &place) {
            (Ok(socket), _) => {
                info!("control socket at {}", socket.path().display());
                Some(socket)
            }
            (Err(error), Place::Usual(_)) => {
                warn!("no control socket: {error}");
                None
            }
            (Err(error), Place::Named(_)) => fail(error),
        }
    }

    fn start_threads(&self) -> std::io::Result<Running> {
        let metrics = Arc::new(Metrics::new());
        let log = match &self.config.access_log {
            Some(settings) => AccessLog::start(settings, metrics.access_log_dropped.clone())?,
            None => AccessLog::off(),
        };
        let tunnels = Arc::new(Tunnels::start(self.pingora.threads, &log)?);
        Ok(Running::new(&self.config, metrics, tunnels, log, Instant::now()))
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
    std::process::exit(1)
}
