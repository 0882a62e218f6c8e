//! Accepting: tunnel workers accept clients, and a server of ours accepts operators, on sockets that the gateway keeps.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use pingora::apps::ServerApp;
use pingora::server::configuration::ServerConf;
use pingora_proxy::http_proxy;
use socket2::Socket;
use tokio::sync::watch;

use super::connections::Connections;
use crate::admin::{self, Admin};
use crate::control::Desk;
use crate::gateway::requests::Requests;
use crate::gateway::{Gateway, HandshakeHost, Runtimes};
use crate::listen::{BindError, BoundSocket};
use crate::snapshot::Running;
use crate::socket::descriptors::Descriptors;
use crate::tunnel::{Host, Listener, ListeningSocket};

/// The listening sockets, and the switch that stops accepting on them.
pub(super) struct Acceptor {
    pingora: Arc<ServerConf>,
    running: Arc<Running>,
    listeners: Vec<BoundSocket>,
    metrics: Option<BoundSocket>,
    admin: Option<BoundSocket>,
    /// Takes what is asked by the admin API; `None` until there is one.
    desk: Option<Desk>,
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
        runtimes: Runtimes,
    ) -> Self {
        let ListeningSockets { listeners, metrics, admin } = sockets;
        running.admission.bound_to(listeners.iter().map(|bound| bound.address));
        let connections = Connections::new(running.tunnels.changes().clone());
        let runtimes = Arc::new(runtimes);
        Self { pingora, running, listeners, metrics, admin, desk: None, runtimes, connections, stop: None }
    }

    /// The listeners, in the order of the configuration.
    pub(super) fn listeners(&self) -> &[BoundSocket] {
        &self.listeners
    }

    /// The metrics listener.
    pub(super) fn metrics(&self) -> Option<&BoundSocket> {
        self.metrics.as_ref()
    }

    /// The admin listener.
    pub(super) fn admin(&self) -> Option<&BoundSocket> {
        self.admin.as_ref()
    }

    /// Takes what is asked by the admin API to `desk`, once it accepts.
    pub(super) fn take_to(&mut self, desk: Desk) {
        self.desk = Some(desk);
    }

    /// The connections that were accepted and are not closed.
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Copies of the sockets for another process, each with the address that the configuration names for it.
    pub(super) fn copies(&self) -> io::Result<Vec<(SocketAddr, Socket)>> {
        self.listeners.iter().chain(&self.metrics).chain(&self.admin).map(BoundSocket::copy).collect()
    }

    /// Starts accepting; does nothing where it has started.
    ///
    /// # Errors
    /// A socket cannot listen.
    pub(super) fn start(&mut self) -> Result<(), BindError> {
        if self.stop.is_some() {
            return Ok(());
        }
        let listen = |(number, bound): (usize, &BoundSocket)| {
            let metrics = self.running.metrics.listener(&bound.address.to_string());
            let listener = Arc::new(Listener { address: bound.address, number, metrics });
            Ok(ListeningSocket { socket: bound.listen()?, listener })
        };
        let sockets: Vec<_> = self.listeners.iter().enumerate().map(listen).collect::<Result<_, _>>()?;
        let [clients, admin] = [watch::Sender::new(false), watch::Sender::new(false)];
        self.open(&sockets, clients.subscribe());
        if let Some(bound) = &self.metrics {
            self.serve(bound, Admin::of_metrics(Arc::clone(&self.running)), &admin)?;
        }
        if let (Some(bound), Some(desk)) = (&self.admin, &self.desk) {
            self.serve(bound, Admin::with_api(Arc::clone(&self.running), desk.clone()), &admin)?;
        }
        self.stop = Some(Stop { clients, admin });
        Ok(())
    }

    fn serve(&self, bound: &BoundSocket, admin: Admin, stop: &watch::Sender<bool>) -> Result<(), BindError> {
        // Half of what is kept, for both listeners: the other half is for control and checks.
        let connections = Descriptors::kept_by_process() / 4;
        let bounds = self.connections.for_operators(connections);
        let listener = bound.listen()?;
        admin::serve(&listener, admin, bounds, stop.subscribe())
            .map_err(|error| BindError { address: bound.address, error })
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
        self.admin = None;
    }

    /// Lets the tunnel workers accept clients and carry out their handshakes.
    fn open(&self, sockets: &[ListeningSocket], stopped: watch::Receiver<bool>) {
        let gateway = Gateway::new(Arc::clone(&self.running));
        self.running.tunnels.reattach_by(&gateway.asker());
        let app =
            Arc::new(self.connections.of(Requests::new(gateway.clone(), http_proxy(&self.pingora, gateway.clone()))));
        let runtimes = Arc::clone(&self.runtimes);
        let handshakes: Arc<dyn Host> =
            Arc::new(HandshakeHost::new(gateway, Arc::clone(&app), stopped.clone(), runtimes));
        self.running.tunnels.accept(sockets, &handshakes);
        tokio::spawn(async move {
            let mut stopped = stopped;
            // An acceptor that is gone accepts nothing either.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            app.cleanup().await;
        });
    }
}

/// The listening sockets of a configuration.
pub(super) struct ListeningSockets {
    pub(super) listeners: Vec<BoundSocket>,
    pub(super) metrics: Option<BoundSocket>,
    pub(super) admin: Option<BoundSocket>,
}
