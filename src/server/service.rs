//! The Pingora service that is the gateway: starts everything in order, opens the listeners last, runs until the end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use log::{error, info};
use pingora::server::configuration::ServerConf;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use tokio::sync::{mpsc, watch};

use super::acceptor::{Acceptor, ListeningSockets};
use super::background::WaitingCommand;
use super::operator::Operator;
use super::signals::Signals;
use super::take_over::{self, HandoverEnd};
use super::unix_sockets::{self, UnixSocketConfig, UnixSockets};
use super::{OnEnd, OnReady, OnStart, Ready, StartError, notify};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::control::{self, Command, Desk};
use crate::diagnostics::Diagnostics;
use crate::discovery::{self, SavedMembers, Sources};
use crate::drain::{self, DrainedBackend};
use crate::gateway::Runtimes;
use crate::handover::{PeerProcess, ToPredecessor};
use crate::hook::HookRegistry;
use crate::metrics::Metrics;
use crate::reload::{TlsFiles, Watch};
use crate::snapshot::{Running, SnapshotOrigin};
use crate::socket::descriptors;
use crate::status::{History, StatusSource};
use crate::tls::tickets::{SavedTicketKeys, TicketKeys};
use crate::trace::{SpanCounts, Tracer};
use crate::tunnel::Tunnels;
use crate::unix_socket::SocketPath;

/// The gateway as a service. It makes its threads, and all sockets but the listening ones, when it is started: a
/// process that Pingora sends into the background keeps none of the threads it had.
pub(super) struct GatewayService {
    pub(super) config: Config,
    pub(super) hooks: Arc<HookRegistry>,
    pub(super) pingora: Arc<ServerConf>,
    pub(super) sockets: Option<ListeningSockets>,
    /// Connection to the process that this one takes over from.
    pub(super) predecessor: Option<Predecessor>,
    pub(super) diagnostics: Option<Diagnostics>,
    /// The command that waits until this daemon serves.
    pub(super) waits: Option<WaitingCommand>,
    pub(super) on_ready: Option<OnReady>,
    pub(super) on_start: Option<OnStart>,
    pub(super) on_end: Option<OnEnd>,
}

/// The process that this one takes over from.
pub(super) struct Predecessor {
    pub(super) connection: ToPredecessor,
    pub(super) process: PeerProcess,
    /// Backends that its operator drains.
    pub(super) drained: Vec<DrainedBackend>,
    /// Members of upstreams that have them from a source of their own.
    pub(super) members: Vec<SavedMembers>,
    /// Keys of session tickets that it drew.
    pub(super) ticket_keys: Option<SavedTicketKeys>,
    /// Its last events.
    pub(super) history: Option<serde_json::Value>,
}

#[async_trait]
impl Service for GatewayService {
    async fn start_service(&mut self, _fds: Option<ListenFds>, _shutdown: ShutdownWatch, _tasks_per_socket: usize) {
        let start = Start;
        let sockets = self.sockets.take().expect("a service is started once");
        let (running, sources) = match self.start_threads().await {
            Ok((running, sources)) => (Arc::new(running), Arc::new(sources)),
            Err(error) => fail(error),
        };
        if let Some(predecessor) = &self.predecessor {
            drain::restore_drained(&running, &predecessor.drained);
        }
        running.start_hooks();
        running.check_health().await;

        let runtimes = Runtimes::start(&self.config.pingora)
            .unwrap_or_else(|error| fail(format_args!("no threads for clients can be started: {error}")));
        let pingora = Arc::clone(&self.pingora);
        let mut acceptor = Acceptor::new(pingora, Arc::clone(&running), sockets, runtimes);
        // Signals are taken before anybody is told that the gateway runs: until then a signal ends the process at once.
        let signals = match Signals::listen() {
            Ok(signals) => signals,
            Err(error) => fail(format_args!("signals cannot be received: {error}")),
        };
        let (socket_config, commands) = self.unix_sockets(&running, &sources, &mut acceptor);
        // A predecessor keeps its Unix sockets until it has handed over.
        let sockets = if self.predecessor.is_none() { socket_config.open(false) } else { Ok(UnixSockets::default()) };
        let unix_sockets = sockets.unwrap_or_else(|error| fail(error));
        self.open_listeners(&mut acceptor, &running);
        let handed_over = self.predecessor.take().map(|predecessor| begin_to_take_over(predecessor, &running));
        let history = socket_config.history().clone();
        let longest = self.pingora.grace_period_seconds.map(Duration::from_secs);
        let operator = Operator {
            watch: Watch::new(Arc::clone(&running)),
            tls_files: TlsFiles::new(Arc::clone(&running)),
            running,
            sources,
            acceptor,
            history,
            commands,
            socket_config,
            unix_sockets,
            handed_over,
            longest,
            whereabouts: watch::Sender::default(),
        };
        drop(start);
        let end = Ending;
        let code = operator.run(signals).await;
        drop(end);
        self.end(code);
    }

    fn name(&self) -> &str {
        super::NAME
    }
}

impl GatewayService {
    /// Ends the process.
    fn end(&mut self, code: i32) -> ! {
        if let Some(on_end) = self.on_end.take() {
            on_end();
        }
        info!("ended");
        log::logger().flush();
        std::process::exit(code)
    }

    /// Starts accepting, where a predecessor has not given this process up, and says so.
    fn open_listeners(&mut self, acceptor: &mut Acceptor, running: &Running) {
        if let Some(predecessor) = &mut self.predecessor
            && let Err(reason) = predecessor.connection.enter()
        {
            fail(format_args!("the predecessor goes on, this process ends: {reason}"));
        }
        if let Err(error) = acceptor.start() {
            fail(error);
        }
        let addresses = announce(acceptor);
        if let Some(on_ready) = self.on_ready.take() {
            on_ready(&Ready { listeners: &addresses, admin: acceptor.admin().map(|bound| bound.address) });
        }
        if let Some(on_start) = self.on_start.take() {
            on_start(running.injector.clone());
        }
        notify::ready();
        if let Some(command) = self.waits.take() {
            tokio::spawn(command.tell());
        }
    }

    /// The configuration of the Unix sockets, and the queue of the commands that come by the control socket and by the
    /// admin API.
    fn unix_sockets(
        &self,
        running: &Arc<Running>,
        sources: &Arc<Sources>,
        acceptor: &mut Acceptor,
    ) -> (UnixSocketConfig, mpsc::Receiver<Command>) {
        let (commands, queue) = mpsc::channel(control::QUEUE);
        let history = History::default();
        if let Some(before) = self.predecessor.as_ref().and_then(|predecessor| predecessor.history.clone()) {
            history.restore(before, running);
        }
        let status = StatusSource {
            running: Arc::clone(running),
            sources: Arc::clone(sources),
            history,
            listeners: acceptor.listeners().iter().map(|bound| bound.address).collect(),
            metrics: acceptor.metrics().map(|bound| bound.address),
            admin: acceptor.admin().map(|bound| bound.address),
        };
        let control = SocketPath::of_control(self.config.control_sock.as_deref());
        let handover = unix_sockets::handover_path(&self.config);
        let desk = Desk::new(status, commands);
        acceptor.take_to(desk.clone());
        (UnixSocketConfig { control, handover, desk }, queue)
    }

    /// Starts the threads, asks the sources of members, and compiles the configuration.
    async fn start_threads(&self) -> Result<(Running, Sources), String> {
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
        let export = self.config.tracing.as_ref().and_then(|tracing| tracing.export.as_ref());
        let tracer = match export {
            Some(export) => Tracer::start(export, SpanCounts::of(|outcome| metrics.spans(outcome)))?,
            None => Tracer::off(),
        };
        // Here, because a fork into the background gives unused room back.
        descriptors::make_room(std::io::stderr());
        let tunnels = Arc::new(
            Tunnels::start_by(self.config.engine, self.pingora.threads, &log).map_err(|error| error.to_string())?,
        );
        tunnels.metrics().collectors().into_iter().for_each(|family| metrics.include(family));
        let hooks = Arc::clone(&self.hooks);
        let saved = self.predecessor.as_ref().and_then(|predecessor| predecessor.ticket_keys.as_ref());
        let sources = Sources::new(discovery::state_folder(&self.config), &metrics);
        let before = self.predecessor.as_ref().map_or(&[][..], |predecessor| &predecessor.members);
        sources.take_over(&self.config, before);
        sources.first_answers(&self.config).await;
        let members = sources.known(&self.config).await;
        let now = SystemTime::now();
        let ticket_keys = saved.map_or_else(|| TicketKeys::draw(now), |saved| TicketKeys::restore(saved, now));
        let running = Running::new(
            SnapshotOrigin { config: &self.config, members, hooks },
            metrics,
            tunnels,
            log,
            ticket_keys,
            Instant::now(),
        );
        let mut running = running.map_err(|problems| {
            let file =
                self.config.source.as_ref().map_or_else(Default::default, |source| source.path.to_string_lossy());
            problems.in_file(&file).to_string()
        })?;
        running.tracer = tracer;
        Ok((running, sources))
    }
}

/// Logs the addresses that the gateway listens on.
fn announce(acceptor: &Acceptor) -> Vec<SocketAddr> {
    let addresses: Vec<_> = acceptor.listeners().iter().map(|bound| bound.address).collect();
    for address in &addresses {
        info!("listening on {address}");
    }
    if let Some(bound) = acceptor.metrics() {
        info!("metrics on http://{}/metrics", bound.address);
    }
    if let Some(bound) = acceptor.admin() {
        info!("admin API on {}, under /api/v1; a dashboard at /", bound.address);
    }
    addresses
}

/// Ends the process where its start panics. Pingora would go on without the service: sockets on which nobody accepts,
/// and signals that nobody takes.
struct Start;

impl Drop for Start {
    fn drop(&mut self) {
        if std::thread::panicking() {
            fail("it panicked");
        }
    }
}

/// Ends the process where its end panics. Panics before that are the operator's.
struct Ending;

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            error!("the gateway panicked at its end");
            log::logger().flush();
            std::process::exit(1)
        }
    }
}

/// Ends the process before it serves anyone.
fn fail(error: impl std::fmt::Display) -> ! {
    error!("cannot start: {error}");
    log::logger().flush();
    std::process::exit(1)
}

/// Tells the predecessor that this process serves, and takes its tunnels over.
fn begin_to_take_over(predecessor: Predecessor, running: &Arc<Running>) -> mpsc::UnboundedReceiver<HandoverEnd> {
    let (ended, ends) = mpsc::unbounded_channel();
    let Predecessor { mut connection, process, .. } = predecessor;
    // A predecessor that is gone by now is noticed when the next message is read.
    let _ = connection.serving();
    let begun = take_over::begin(connection, process, Arc::clone(running), ended.clone());
    let begun = begun.map_err(|error| error.to_string());
    if let Err(reason) = begun {
        // The receiver is at hand: it cannot have gone.
        let _ = ended.send(HandoverEnd::Aborted(reason));
    }
    ends
}
