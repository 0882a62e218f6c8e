//! Accepting: Pingora's listening services on sockets of ours, so that accepting can stop and begin again.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use pingora::apps::ServerApp;
use pingora::apps::http_app::HttpServer;
use pingora::server::configuration::ServerConf;
use pingora::server::{Fds, ListenFds};
use pingora::services::Service;
use pingora::services::listening::Service as Listening;
use pingora_proxy::http_proxy;
use socket2::Socket;
use tokio::sync::watch;

use super::connections::Connections;
use super::metrics::Exporter;
use crate::drain::Phases;
use crate::gateway::{Gateway, Handshakes, Runtimes};
use crate::listen::{BindError, Bound};
use crate::snapshot::Running;
use crate::tunnel::Host;

/// The listening sockets, and whoever accepts on them now.
pub(super) struct Acceptor {
    pingora: Arc<ServerConf>,
    running: Arc<Running>,
    phases: Phases,
    listeners: Vec<Bound>,
    metrics: Option<Bound>,
    tasks_per_socket: usize,
    /// Where clients are served.
    runtimes: Arc<Runtimes>,
    connections: Connections,
    /// Tells who accepts now to stop; none while nobody does.
    stop: Option<Stop>,
}

/// What tells those who accept to stop.
struct Stop {
    proxy: watch::Sender<bool>,
    exporter: watch::Sender<bool>,
}

impl Acceptor {
    pub(super) fn new(
        pingora: Arc<ServerConf>,
        running: Arc<Running>,
        phases: Phases,
        sockets: Sockets,
        tasks_per_socket: usize,
        runtimes: Runtimes,
    ) -> Self {
        let Sockets { listeners, metrics } = sockets;
        let (runtimes, connections) = (Arc::new(runtimes), Connections::default());
        Self { pingora, running, phases, listeners, metrics, tasks_per_socket, runtimes, connections, stop: None }
    }

    /// The listeners, in the order of the configuration.
    pub(super) fn listeners(&self) -> &[Bound] {
        &self.listeners
    }

    /// The metrics listener.
    pub(super) fn metrics(&self) -> Option<&Bound> {
        self.metrics.as_ref()
    }

    /// What was accepted and is not closed.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Copies of the sockets for another process, each with the address that the configuration names for it.
    pub(super) fn copies(&self) -> io::Result<Vec<(SocketAddr, Socket)>> {
        self.listeners.iter().chain(&self.metrics).map(Bound::copy).collect()
    }

    /// Begins to accept; does nothing while someone does.
    ///
    /// # Errors
    /// A socket cannot listen.
    pub(super) fn start(&mut self) -> Result<(), BindError> {
        if self.stop.is_some() {
            return Ok(());
        }
        // Where Pingora looks for sockets before it binds its own. It takes each for its own, once: a table that served
        // before holds numbers that may be anything by now.
        let lent: ListenFds = Arc::new(Fds::new().into());
        if let Some(bound) = &self.metrics {
            bound.lend_to(&lent)?;
        }
        let sockets: Vec<_> = self.listeners.iter().map(Bound::listen).collect::<Result<_, _>>()?;
        let [proxy, exporter] = [watch::Sender::new(false), watch::Sender::new(false)];
        self.open(&sockets, proxy.subscribe());
        if let Some(service) = self.exporter() {
            self.serve(service, &lent, &exporter);
        }
        self.stop = Some(Stop { proxy, exporter });
        Ok(())
    }

    fn serve(&self, mut service: Box<dyn Service>, lent: &ListenFds, stop: &watch::Sender<bool>) {
        let (lent, stopped, tasks) = (Arc::clone(lent), stop.subscribe(), self.tasks_per_socket);
        tokio::spawn(async move { service.start_service(Some(lent), stopped, tasks).await });
    }

    /// Accepts no more. New connections wait in the backlog; idle ones are closed, requests under way are served.
    pub(super) fn pause(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.proxy.send_replace(true);
            stop.exporter.send_replace(true);
        }
    }

    /// Accepts no more from clients, and has the system refuse new connections; metrics and readiness are still answered.
    pub(super) fn close_listeners(&mut self) {
        if let Some(stop) = &self.stop {
            stop.proxy.send_replace(true);
        }
        self.listeners.clear();
    }

    /// Accepts no more, and has the system refuse new connections.
    pub(super) fn close(&mut self) {
        self.pause();
        self.listeners.clear();
        self.metrics = None;
    }

    /// Has the tunnels' workers accept clients and carry out their handshakes.
    fn open(&self, sockets: &[Arc<TcpListener>], stopped: watch::Receiver<bool>) {
        let gateway = Gateway::new(Arc::clone(&self.running));
        let app = Arc::new(self.connections.of(http_proxy(&self.pingora, gateway.clone())));
        let runtimes = Arc::clone(&self.runtimes);
        let handshakes: Arc<dyn Host> = Arc::new(Handshakes::new(gateway, Arc::clone(&app), stopped.clone(), runtimes));
        let tunnels = Arc::clone(&self.running.tunnels);
        tunnels.accept(sockets, &handshakes);
        tokio::spawn(async move {
            let mut stopped = stopped;
            // An acceptor that is gone accepts nothing either.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            tunnels.accept_no_more();
            app.cleanup().await;
        });
    }

    fn exporter(&self) -> Option<Box<dyn Service>> {
        let bound = self.metrics.as_ref()?;
        let exporter = Exporter { running: Arc::clone(&self.running), phases: self.phases.clone() };
        let mut service = Listening::new("metrics".into(), self.connections.of(HttpServer::new_app(exporter)));
        service.add_tcp(&bound.address.to_string());
        Some(Box::new(service))
    }
}

/// The sockets of a configuration.
pub(super) struct Sockets {
    pub(super) listeners: Vec<Bound>,
    pub(super) metrics: Option<Bound>,
}
