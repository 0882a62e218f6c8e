//! The server: wires a configuration to listeners, gateway, tunnels, checkers and metrics, and runs them.

mod acceptor;
mod background;
mod connections;
mod everywhere;
mod follow;
mod hand_over;
mod members;
mod notify;
mod operator;
mod pid_file;
mod service;
mod signals;
mod speak_tls;
mod take_over;
mod unix_sockets;
mod upgrade;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use log::{debug, warn};
use pingora::server::configuration::{Opt, ServerConf};
use pingora::server::{RunArgs, Server as PingoraServer};

use crate::access_log::AccessLog;
use crate::config::{Config, LogTarget};
use crate::diagnostics::Diagnostics;
use crate::handover::{HandoverError, ToPredecessor, Welcome};
use crate::hook::{HookRegistry, Injector};
use crate::listen::{BindErrors, Inherited};
use acceptor::ListeningSockets;
pub use background::BackgroundError;
use service::{GatewayService, Predecessor};
use signals::NoSignals;

/// Pingora's flags, which the configuration does not hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// `-u`: take listening sockets and live tunnels over from the gateway that runs now.
    pub upgrade: bool,
    /// `-d`: run in the background.
    pub daemon: bool,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Addresses of listeners, of the metrics or of the admin listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindErrors),
    /// The access log cannot be written.
    #[error("cannot write the access log {}: {error}", target(.to))]
    AccessLog {
        /// Target of the log.
        to: LogTarget,
        /// Error of the system.
        error: std::io::Error,
    },
    /// The process cannot go into the background.
    #[error(transparent)]
    Background(#[from] BackgroundError),
    /// The diagnostics' thread cannot be started.
    #[error("cannot start the thread of the diagnostics: {0}")]
    Diagnostics(std::io::Error),
    /// There is no place to look for the gateway that runs.
    #[error("cannot take over: name the running gateway's `upgrade_sock` in the configuration")]
    NoUpgradeSocket,
    /// The gateway that runs did not hand over.
    #[error("cannot take over from the gateway at {}: {failure}", path.display())]
    Handover {
        /// Its upgrade socket.
        path: PathBuf,
        /// The failure of the handover.
        failure: HandoverError,
    },
}

/// Asks the running gateway for its listening sockets.
fn take_over(config: &Config) -> Result<(Option<Predecessor>, Inherited), StartError> {
    let at = unix_sockets::handover_path(config).ok_or(StartError::NoUpgradeSocket)?;
    let failed = |failure| StartError::Handover { path: at.path().to_owned(), failure };
    let Welcome { predecessor: connection, process, sockets, drained, members, ticket_keys, history } =
        ToPredecessor::connect(at.path()).map_err(failed)?;
    let inherited = Inherited::of(sockets).map_err(|error| failed(HandoverError::Gone(error)))?;
    Ok((Some(Predecessor { connection, process, drained, members, ticket_keys, history }), inherited))
}

/// Takes the sockets of a configuration's addresses from the inherited ones, and binds those that are not among them.
fn bind(config: &Config, inherited: &mut Inherited) -> Result<ListeningSockets, BindErrors> {
    let mut refused = Vec::new();
    let mut bind = |address| inherited.find_or_bind(address).map_err(|error| refused.push(error)).ok();
    let listeners = config.listeners.iter().filter_map(|listener| bind(listener.address)).collect();
    let metrics = config.metrics.as_ref().and_then(|metrics| bind(metrics.address));
    let admin = config.admin.as_ref().and_then(|admin| bind(admin.address));
    BindErrors::check(refused)?;
    Ok(ListeningSockets { listeners, metrics, admin })
}

/// A tunnel takes two descriptors; the soft limit is often 1,024 where the hard one is far higher.
fn raise_descriptor_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => debug!("at most {limit} descriptors, which is about {} tunnels", limit / 2),
        Err(error) => warn!("the limit of open descriptors cannot be raised: {error}"),
    }
}

fn target(to: &LogTarget) -> String {
    match to {
        LogTarget::Stdout => "to standard output".into(),
        LogTarget::File(path) => path.display().to_string(),
    }
}

/// A gateway that is ready to run.
pub struct Server {
    config: Config,
    hooks: Arc<HookRegistry>,
    options: Options,
    diagnostics: Option<Diagnostics>,
    on_ready: OnReady,
    on_start: Option<OnStart>,
    on_end: Option<OnEnd>,
}

/// Addresses of a gateway whose listeners are open. In place of port 0 stands the port that the system chose.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    /// Its listeners, in the order of the configuration.
    pub listeners: &'a [SocketAddr],
    /// Its admin listener.
    pub admin: Option<SocketAddr>,
}

/// A function that is called once the listeners are open.
type OnReady = Box<dyn FnOnce(&Ready<'_>) + Send + Sync>;

/// A function that is called on the gateway's Tokio runtime once the listeners are open, with an injector for its
/// tunnels.
pub type OnStart = Box<dyn FnOnce(Injector) + Send + Sync>;

/// A function that is called right before the process ends.
type OnEnd = Box<dyn FnOnce() + Send + Sync>;

impl Server {
    /// A gateway for a configuration, which has named hooks of `hooks` only. A reload reads the file anew that it was
    /// read from ([`Config::source`]); without one there is nothing to reload.
    pub fn new(config: Config, hooks: HookRegistry, options: Options) -> Self {
        Self {
            config,
            hooks: Arc::new(hooks),
            options,
            diagnostics: None,
            on_ready: Box::new(|_| ()),
            on_start: None,
            on_end: None,
        }
    }

    /// Starts the writer of the process's diagnostics with the server; `None` where a program has a logger of its own.
    #[must_use]
    pub fn diagnostics(mut self, diagnostics: Option<Diagnostics>) -> Self {
        self.diagnostics = diagnostics;
        self
    }

    /// Calls `on_ready` once the listeners are open.
    #[must_use]
    pub fn on_ready(mut self, on_ready: impl FnOnce(&Ready<'_>) + Send + Sync + 'static) -> Self {
        self.on_ready = Box::new(on_ready);
        self
    }

    /// Calls `on_start` once the listeners are open, on the Tokio runtime of the gateway.
    #[must_use]
    pub fn on_start(mut self, on_start: OnStart) -> Self {
        self.on_start = Some(on_start);
        self
    }

    /// Calls `on_end` right before the process ends. Where the server does not start, it is dropped uncalled.
    #[must_use]
    pub fn on_end(mut self, on_end: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.on_end = Some(Box::new(on_end));
        self
    }

    /// Runs until the process is told to end, and then ends it: SIGINT at once; SIGTERM after its tunnels were closed
    /// (`drain`) and its requests were served, at `drain.grace` + `drain.window` + 10 s at the latest, or at
    /// `grace_period_seconds` where that is later.
    ///
    /// Threads that were started before do not survive `daemon`.
    ///
    /// # Errors
    /// [`StartError`], before anything is served.
    pub fn run(self) -> Result<Infallible, StartError> {
        let Self { config, hooks, options, diagnostics, on_ready, on_start, on_end } = self;
        let in_background = options.daemon || config.pingora.daemon;
        // The threads of the service itself always share their work, hooks' for the most part; see `Runtimes` for
        // clients.
        let mut pingora = ServerConf { work_stealing: true, ..config.clone().pingora };
        let replaces = options.upgrade;
        let waits = if in_background { background::prepare(&config, &mut pingora, replaces)? } else { None };
        // A fork leaves threads behind: a process that goes into the background starts this one afterwards.
        if let Some(diagnostics) = diagnostics.as_ref().filter(|_| !in_background) {
            diagnostics.start().map_err(StartError::Diagnostics)?;
        }
        if let Some(log) = &config.access_log {
            AccessLog::probe(log).map_err(|error| StartError::AccessLog { to: log.to.clone(), error })?;
        }
        raise_descriptor_limit();
        let (predecessor, mut inherited) =
            if options.upgrade { take_over(&config)? } else { (None, Inherited::take()) };
        let sockets = bind(&config, &mut inherited)?;
        for unused in inherited.left() {
            warn!(
                "the socket {unused} that was passed to this process is no listener of the configuration, and is closed"
            );
        }
        drop(inherited);

        let opt = Opt { daemon: options.daemon, ..Opt::default() };
        let mut server = PingoraServer::new_with_opt_and_conf(opt, pingora);
        server.bootstrap();
        server.add_service(GatewayService {
            config,
            hooks,
            pingora: Arc::clone(&server.configuration),
            sockets: Some(sockets),
            predecessor,
            diagnostics,
            waits,
            on_ready: Some(on_ready),
            on_start,
            on_end,
        });
        server.run(RunArgs { shutdown_signal: Box::new(NoSignals) });
        // The operator ends the process; Pingora returns only where its services cannot be started.
        std::process::exit(1)
    }
}

const NAME: &str = "longhaul";
