//! The edge: the service that starts everything in its order, opens the listeners last, and keeps them open.

use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use log::{error, info, warn};
use pingora::apps::http_app::HttpServer;
use pingora::connectors::{ConnectorOptions, TransportConnector};
use pingora::listeners::ListenerConfig;
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use pingora::services::listening::Service as Listening;
use pingora_proxy::http_proxy_service_with_name;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::OnReady;
use super::metrics::Exporter;
use super::running::Running;
use super::signals::Ending;
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::gateway::Gateway;
use crate::health::{Checkers, Probe, Subject, Target};
use crate::listen::{BindError, Bound};
use crate::metrics::Metrics;
use crate::snapshot::{Destination, Snapshot};
use crate::tunnel::Tunnels;
use crate::upstream::Registry;

/// Everything that serves. Threads and sockets beyond the bound ones are made when it is started, not before: a process
/// that goes into the background keeps none it had.
pub(super) struct Edge {
    pub(super) config: Config,
    pub(super) pingora: Arc<ServerConf>,
    pub(super) listeners: Vec<Bound>,
    pub(super) metrics: Option<Bound>,
    pub(super) running: Arc<Running>,
    pub(super) ending: Ending,
    pub(super) on_ready: Option<OnReady>,
}

#[async_trait]
impl Service for Edge {
    async fn start_service(&mut self, fds: Option<ListenFds>, shutdown: ShutdownWatch, tasks_per_fd: usize) {
        // First of all: a signal that nobody takes ends the process.
        let signals = [SignalKind::user_defined1(), SignalKind::hangup()].map(signal);
        let registry = Registry::default();
        let metrics = Arc::new(Metrics::new());
        let (log, tunnels) = match self.start_threads(&metrics) {
            Ok(started) => started,
            Err(error) => {
                error!("cannot start: {error}");
                std::process::exit(1);
            }
        };
        self.running.begin(&tunnels, &log);
        let snapshot = Snapshot::compile(&self.config, 1, &registry, &metrics);
        metrics.generation.set(snapshot.generation.cast_signed());
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));

        let targets = targets(&snapshot.load(), &tunnels);
        let mut checkers = Checkers::new();
        checkers.first_round(&targets).await;
        checkers.sync(targets);

        let mut exporter = self.exporter(&metrics, &snapshot);
        let gateway = Gateway {
            snapshot: Arc::clone(&snapshot),
            tunnels,
            metrics,
            log: log.clone(),
            connector: TransportConnector::new(Some(ConnectorOptions::from_server_conf(&self.pingora))),
        };
        let mut proxy = http_proxy_service_with_name(&self.pingora, gateway, NAME);
        for bound in &mut self.listeners {
            // Without a read buffer of Pingora's, what it has not read of an upgraded connection is still in the socket.
            let buffers = L4BufferSettings::default().read(0);
            proxy.add_listener(ListenerConfig::tcp(bound.address.to_string()).l4_buffer(buffers));
        }
        self.ending.signals_are_taken().await;
        if let Err(error) = self.listen(fds.as_ref()) {
            error!("{error}");
            std::process::exit(1);
        }
        if let Some(on_ready) = self.on_ready.take() {
            let addresses: Vec<_> = self.listeners.iter().map(|bound| bound.address).collect();
            on_ready(&addresses);
        }
        let serve_metrics = async {
            if let Some(exporter) = &mut exporter {
                exporter.start_service(fds.clone(), shutdown.clone(), 1).await;
            }
        };
        tokio::join!(
            proxy.start_service(fds.clone(), shutdown.clone(), tasks_per_fd),
            serve_metrics,
            obey(signals, &log),
            self.end_after(shutdown.clone(), &snapshot),
        );
    }

    fn name(&self) -> &str {
        NAME
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(self.listeners.iter().chain(&self.metrics).map(|bound| bound.address.to_string()).collect())
    }
}

impl Edge {
    fn start_threads(&self, metrics: &Metrics) -> std::io::Result<(AccessLog, Arc<Tunnels>)> {
        let log = match &self.config.access_log {
            Some(settings) => AccessLog::start(settings, metrics.access_log_dropped.clone())?,
            None => AccessLog::off(),
        };
        let tunnels = Tunnels::start(self.pingora.threads, &log)?;
        Ok((log, Arc::new(tunnels)))
    }

    fn exporter(
        &self,
        metrics: &Arc<Metrics>,
        snapshot: &Arc<ArcSwap<Snapshot>>,
    ) -> Option<Listening<HttpServer<Exporter>>> {
        let bound = self.metrics.as_ref()?;
        let exporter = Exporter { metrics: Arc::clone(metrics), snapshot: Arc::clone(snapshot) };
        let mut service = Listening::new("metrics".into(), HttpServer::new_app(exporter));
        service.add_tcp(&bound.address.to_string());
        Some(service)
    }

    fn listen(&mut self, fds: Option<&ListenFds>) -> Result<(), BindError> {
        for bound in self.listeners.iter_mut().chain(&mut self.metrics) {
            fds.map_or(Ok(()), |fds| bound.hand_to(fds))?;
        }
        for bound in &self.listeners {
            info!("listening on {}", bound.address);
        }
        if let Some(bound) = &self.metrics {
            info!("metrics on http://{}/metrics", bound.address);
        }
        Ok(())
    }

    async fn end_after(&self, mut shutdown: ShutdownWatch, snapshot: &ArcSwap<Snapshot>) {
        // An error means that the server is gone, which ends the process anyway.
        if shutdown.wait_for(|ending| *ending).await.is_ok() {
            self.running.drain(&snapshot.load_full(), &self.ending).await;
        }
    }
}

/// The outcome of a backend's checks, told to the backend's upstream.
struct Checked {
    to: Arc<Destination>,
    index: usize,
    tunnels: Arc<Tunnels>,
}

impl Subject for Checked {
    fn report(&self, outcome: Result<(), String>, _first: bool) {
        self.to.checked(self.index, outcome, &self.tunnels);
    }
}

/// What is to be checked: every backend of every upstream whose health is not `off`.
fn targets(snapshot: &Snapshot, tunnels: &Arc<Tunnels>) -> Vec<Target> {
    let mut targets = Vec::new();
    for to in snapshot.destinations() {
        let config = to.upstream.config();
        let Some(health) = &config.health else { continue };
        let upstream: Arc<str> = config.name.as_str().into();
        let probe = Arc::new(Probe::new(health));
        for (index, backend) in config.backends.iter().enumerate() {
            targets.push(Target {
                upstream: Arc::clone(&upstream),
                address: backend.address,
                probe: Arc::clone(&probe),
                interval: health.interval,
                subject: Arc::new(Checked { to: Arc::clone(to), index, tunnels: Arc::clone(tunnels) }),
            });
        }
    }
    targets
}

/// SIGUSR1 opens the access log anew. SIGHUP, which would end the process, is answered with a word.
async fn obey(signals: [std::io::Result<Signal>; 2], log: &AccessLog) {
    let [Ok(mut reopen), Ok(mut reload)] = signals else {
        return error!("SIGUSR1 and SIGHUP cannot be received");
    };
    loop {
        tokio::select! {
            _ = reopen.recv() => log.reopen(),
            _ = reload.recv() => warn!("SIGHUP: this version reads its configuration at the start only; restart it"),
        }
    }
}

const NAME: &str = "longhaul";
