//! The edge: the service that starts everything in its order, opens the listeners last, and runs until the end.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use log::{error, info};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::OnReady;
use super::acceptor::{Acceptor, Sockets};
use super::operator::Operator;
use super::succession::{self, Succession};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::handover::Taker;
use crate::metrics::Metrics;
use crate::snapshot::Running;
use crate::tunnel::Tunnels;

/// Everything that serves. Threads and sockets beyond the bound ones are made when it is started, not before: a process
/// that goes into the background keeps none it had.
pub(super) struct Edge {
    pub(super) config: Config,
    pub(super) pingora: Arc<ServerConf>,
    pub(super) sockets: Option<Sockets>,
    /// Whom this process takes over from.
    pub(super) taker: Option<Taker>,
    pub(super) on_ready: Option<OnReady>,
}

#[async_trait]
impl Service for Edge {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, tasks_per_socket: usize) {
        let sockets = self.sockets.take().expect("a service is started once");
        let running = match self.start_threads() {
            Ok(running) => Arc::new(running),
            Err(error) => {
                error!("cannot start: {error}");
                std::process::exit(1);
            }
        };
        running.check_health().await;

        let mut acceptor = Acceptor::new(Arc::clone(&self.pingora), Arc::clone(&running), sockets, tasks_per_socket);
        if let Err(error) = acceptor.start() {
            error!("{error}");
            std::process::exit(1);
        }
        let addresses: Vec<_> = acceptor.listeners().iter().map(|bound| bound.address).collect();
        for address in &addresses {
            info!("listening on {address}");
        }
        if let Some(bound) = acceptor.metrics() {
            info!("metrics on http://{}/metrics", bound.address);
        }
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(&addresses);
        }
        let predecessor = self.taker.take().map(|taker| begin_succession(taker, &running));
        let code = Operator::new(running, acceptor, &self.pingora).run(predecessor).await;
        info!("ended");
        std::process::exit(code);
    }

    fn name(&self) -> &str {
        super::NAME
    }
}

impl Edge {
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

/// Tells the predecessor that this process serves, and takes its tunnels over.
fn begin_succession(mut taker: Taker, running: &Arc<Running>) -> UnboundedReceiver<Succession> {
    let (parted, predecessor) = unbounded_channel();
    // Where the predecessor is gone already, its last word, or that there is none, is met when it is listened to.
    let _ = taker.serving();
    let begun = succession::begin(taker, Arc::clone(running), parted.clone()).map_err(|error| error.to_string());
    if let Err(reason) = begun {
        // The receiver is at hand: it cannot have gone.
        let _ = parted.send(Succession::Aborted(reason));
    }
    predecessor
}
