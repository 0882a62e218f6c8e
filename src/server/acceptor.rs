//! Accepting: tunnel workers accept clients, and a Pingora service accepts for metrics, on sockets that the gateway
//! keeps.

use std::io;
use std::net::SocketAddr;
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
use super::newest::Newest;
use crate::admin::Admin;
use crate::gateway::requests::Requests;
use crate::gateway::{Gateway, Handshakes, Runtimes};
use crate::listen::{BindError, Bound};
use crate::snapshot::Running;
use crate::socket::descriptors::Descriptors;
use crate::tunnel::{Host, Listener, ListeningSocket};

/// The listening sockets, and the switch that stops accepting on them.
pub(super) struct Acceptor {
    pingora: Arc<ServerConf>,
    running: Arc<Running>,
    listeners: Vec<Bound>,
    metrics: Option<Bound>,
    tasks_per_socket: usize,
    /// Threads that serve plain HTTP.
    runtimes: Arc<Runtimes>,
    connections: Connections,
    /// Stops accepting; `None` while nothing accepts.
    stop: Option<Stop>,
}

/// Switches that stop accepting.
struct Stop {
    clients: watch::Sender<bool>,
    admin: watch::Sender<bool>,
}

impl Acceptor {
    pub(super) fn new(
        pingora: Arc<ServerConf>,
        running: Arc<Running>,
        sockets: ListeningSockets,
        tasks_per_socket: usize,
        runtimes: Runtimes,
    ) -> Self {
        let ListeningSockets { listeners, metrics } = sockets;
        let connections = Connections::new(running.tunnels.changes().clone());
        let runtimes = Arc::new(runtimes);
        Self { pingora, running, listeners, metrics, tasks_per_socket, runtimes, connections, stop: None }
    }

    /// The listeners, in the order of the configuration.
    pub(super) fn listeners(&self) -> &[Bound] {
        &self.listeners
    }

    /// The metrics listener.
    pub(super) fn metrics(&self) -> Option<&Bound> {
        self.metrics.as_ref()
    }

    /// The connections that were accepted and are not closed.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Copies of the sockets for another process, each with the address that the configuration names for it.
    pub(super) fn copies(&self) -> io::Result<Vec<(SocketAddr, Socket)>> {
        self.listeners.iter().chain(&self.metrics).map(Bound::copy).collect()
    }

    /// Starts accepting; does nothing where it has started.
    ///
    /// # Errors
    /// A socket cannot listen.
    pub(super) fn start(&mut self) -> Result<(), BindError> {
        if self.stop.is_some() {
            return Ok(());
        }
        // Pingora looks for sockets in this table before it binds its own. It closes each that it took from there, so a
        // table that was used before holds descriptors that may be anything by now.
        let lent: ListenFds = Arc::new(Fds::new().into());
        if let Some(bound) = &self.metrics {
            bound.lend_to(&lent)?;
        }
        let listen = |(number, bound): (usize, &Bound)| {
            let metrics = self.running.metrics.listener(&bound.address.to_string());
            let listener = Arc::new(Listener { address: bound.address, number, metrics });
            Ok(ListeningSocket { socket: bound.listen()?, listener })
        };
        let sockets: Vec<_> = self.listeners.iter().enumerate().map(listen).collect::<Result<_, _>>()?;
        let [clients, admin] = [watch::Sender::new(false), watch::Sender::new(false)];
        self.open(&sockets, clients.subscribe());
        if let Some(service) = self.admin() {
            self.serve(service, &lent, &admin);
        }
        self.stop = Some(Stop { clients, admin });
        Ok(())
    }

    fn serve(&self, mut service: Box<dyn Service>, lent: &ListenFds, stop: &watch::Sender<bool>) {
        let (lent, stopped, tasks) = (Arc::clone(lent), stop.subscribe(), self.tasks_per_socket);
        tokio::spawn(async move { service.start_service(Some(lent), stopped, tasks).await });
    }

    /// Stops accepting. New connections wait in the backlog; idle ones are closed, requests under way are served.
    pub(super) fn pause(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.clients.send_replace(true);
            stop.admin.send_replace(true);
            // At once, and not where the switch is seen: workers may be told to accept again, or to end, right after
            // this.
            self.running.tunnels.accept_no_more();
        }
    }

    /// Stops accepting clients and closes their listeners, so that the system refuses new connections. Metrics and
    /// readiness are still answered.
    pub(super) fn close_listeners(&mut self) {
        if let Some(stop) = &self.stop {
            stop.clients.send_replace(true);
            self.running.tunnels.accept_no_more();
        }
        self.listeners.clear();
    }

    /// Stops accepting and closes every listener, so that the system refuses new connections.
    pub(super) fn close(&mut self) {
        self.pause();
        self.listeners.clear();
        self.metrics = None;
    }

    /// Lets the tunnel workers accept clients and carry out their handshakes.
    fn open(&self, sockets: &[ListeningSocket], stopped: watch::Receiver<bool>) {
        let gateway = Gateway::new(Arc::clone(&self.running));
        let app =
            Arc::new(self.connections.of(Requests::new(gateway.clone(), http_proxy(&self.pingora, gateway.clone()))));
        let runtimes = Arc::clone(&self.runtimes);
        let handshakes: Arc<dyn Host> = Arc::new(Handshakes::new(gateway, Arc::clone(&app), stopped.clone(), runtimes));
        self.running.tunnels.accept(sockets, &handshakes);
        tokio::spawn(async move {
            let mut stopped = stopped;
            // An acceptor that is gone accepts nothing either.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            app.cleanup().await;
        });
    }

    fn admin(&self) -> Option<Box<dyn Service>> {
        let bound = self.metrics.as_ref()?;
        let admin = Admin::new(Arc::clone(&self.running));
        // Half of what is kept: the other half is for control and checks.
        let app = Newest::of(HttpServer::new_app(admin), Descriptors::kept_by_process() / 2);
        let mut service = Listening::new("metrics".into(), self.connections.of(app));
        service.add_tcp(&bound.address.to_string());
        Some(Box::new(service))
    }
}

/// The listening sockets of a configuration.
pub(super) struct ListeningSockets {
    pub(super) listeners: Vec<Bound>,
    pub(super) metrics: Option<Bound>,
}
