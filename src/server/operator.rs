//! The operator: carries out signals and commands, one after the other, until the process must end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, info, warn};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use super::acceptor::Acceptor;
use super::follow::{self, REPORT, Whereabouts};
use super::notify;
use super::signals::{Signal, Signals};
use super::take_over::HandoverEnd;
use super::unix_sockets::{UnixSocketConfig, UnixSockets};
use crate::config;
use crate::control::{Command, Done, FailureKind, Reply, Request, Responder};
use crate::drain::{BackendDrain, DrainEnd, ProcessDrain, UnknownBackend};
use crate::reload::{self, TlsFiles, Watch};
use crate::snapshot::Running;
use crate::status::History;

/// Carries out signals and commands on a running gateway.
pub(super) struct Operator {
    pub(super) running: Arc<Running>,
    pub(super) acceptor: Acceptor,
    pub(super) history: History,
    /// Commands that come by the control socket.
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) socket_config: UnixSocketConfig,
    pub(super) unix_sockets: UnixSockets,
    /// The end of the handover by which this process takes over; `None` once it has come, or where there is no
    /// handover.
    pub(super) handed_over: Option<mpsc::UnboundedReceiver<HandoverEnd>>,
    /// `grace_period_seconds`: the longest time that a drain may take, where it is set.
    pub(super) longest: Option<Duration>,
    pub(super) watch: Watch,
    pub(super) tls_files: TlsFiles,
    /// Told to clients that follow the drain of a backend.
    pub(super) whereabouts: watch::Sender<Whereabouts>,
}

impl Operator {
    /// Works until the process must end, and returns its exit code.
    pub(super) async fn run(mut self, mut signals: Signals) -> i32 {
        let code = self.obey(&mut signals).await;
        self.acceptor.close();
        self.running.tunnels.stop();
        self.running.tunnels.hooks_told().await;
        self.running.log.flush();
        if let Some(control) = self.unix_sockets.control.take() {
            control.stop().await;
        }
        code
    }

    async fn obey(&mut self, signals: &mut Signals) -> i32 {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Interrupt => return 0,
                    Signal::Terminate => {
                        self.drain(signals, None).await;
                        return 0;
                    }
                    Signal::Quit => refuse_quit(),
                    Signal::Hangup => drop(self.reload().await),
                    Signal::Reopen => self.running.log.reopen(),
                },
                Some(Command { request, responder }) = self.commands.recv() => match request {
                    Request::Drain => {
                        self.drain(signals, Some(responder)).await;
                        return 0;
                    }
                    Request::Upgrade { binary } => if self.upgrade(binary, responder, signals).await {
                        return 0;
                    },
                    request => self.execute(request, responder).await,
                },
                () = self.watch.changed() => {
                    info!("the configuration file has changed");
                    self.reload().await;
                }
                changed = self.tls_files.changed() => reload::renew(&self.running, changed).await,
                successor = self.unix_sockets.successor() => if self.give_way(successor, signals).await.is_ok() {
                    return 0;
                },
                end = handed_over(&mut self.handed_over) => if let Some(code) = self.succeed(end, signals).await {
                    return code;
                },
            }
        }
    }

    /// Acts on the end of the handover by which this process takes over. Returns the exit code where this process must
    /// end.
    async fn succeed(&mut self, end: HandoverEnd, signals: &mut Signals) -> Option<i32> {
        self.handed_over = None;
        match end {
            HandoverEnd::Done(summary) => {
                self.history.upgraded(true, summary);
                // Routes and backends of tunnels that came over may not be in this process's configuration.
                reload::enforce(&self.running).await;
                match self.socket_config.open(true) {
                    Ok(sockets) => self.unix_sockets = sockets,
                    Err(error) => error!("no control socket: {error}"),
                }
                None
            }
            HandoverEnd::Aborted(reason) => {
                error!("the predecessor goes on, this process ends: {reason}");
                self.drain(signals, None).await;
                Some(1)
            }
        }
    }

    /// Carries out a command after which the gateway goes on.
    async fn execute(&mut self, request: Request, responder: Responder) {
        match request {
            Request::Reload => responder.finish(self.reload().await),
            Request::Plan { file, text } => responder.finish(self.plan(&file, &text).await),
            Request::DrainBackend { upstream, address, over_ms, undo: false, follow } => {
                let over = over_ms.map(Duration::from_millis);
                match self.drain_of(&upstream, address, over, follow) {
                    Ok(drain) => drop(tokio::spawn(follow::follow(drain, self.whereabouts.subscribe(), responder))),
                    Err(unknown) => {
                        responder.finish(Reply::failed(FailureKind::WrongConfiguration, unknown.to_string()))
                    }
                }
            }
            Request::DrainBackend { upstream, address, undo: true, .. } => {
                responder.finish(match BackendDrain::undo(&self.running, &upstream, address) {
                    Ok(true) => {
                        info!("backend {upstream}/{address} is no longer drained");
                        Reply::done(format!("{upstream}/{address} takes its share again"))
                    }
                    Ok(false) => Reply::done(format!("{upstream}/{address} was not drained")),
                    Err(unknown) => Reply::failed(FailureKind::WrongConfiguration, unknown.to_string()),
                });
            }
            // The control socket's server answers the first, and `obey` carries out the others.
            Request::Status | Request::Drain | Request::Upgrade { .. } => {}
        }
    }

    /// Begins the drain of a backend, or finds the one that a predecessor began.
    fn drain_of(
        &self,
        upstream: &str,
        address: SocketAddr,
        over: Option<Duration>,
        under_way: bool,
    ) -> Result<BackendDrain, UnknownBackend> {
        let now = Instant::now();
        if under_way {
            return BackendDrain::under_way(&self.running, upstream, address, over.unwrap_or_default(), now);
        }
        let drain = BackendDrain::begin(&self.running, upstream, address, over, now)?;
        info!("backend {} is drained: nothing new goes to it, and its tunnels are closed", drain.name());
        Ok(drain)
    }

    /// Reads the configuration anew. `reload` logs and counts the result.
    async fn reload(&mut self) -> Reply {
        notify::reloading();
        let reply = match reload::from_file(&self.running).await {
            Ok(reloaded) => {
                self.history.reloaded(true, reloaded.to_string());
                Reply::Done(Done { message: reloaded.to_string(), details: details(&reloaded) })
            }
            Err(error) => {
                self.history.reloaded(false, error.to_string());
                Reply::failed(FailureKind::WrongConfiguration, format!("nothing has changed: {error}"))
            }
        };
        notify::ready();
        reply
    }

    /// Plans a reload of the configuration `text`.
    async fn plan(&self, file: &str, text: &str) -> Reply {
        let new = match config::parse(text, &**self.running.hooks()) {
            Ok(loaded) => loaded.config,
            Err(problems) => return Reply::failed(FailureKind::WrongConfiguration, problems.in_file(file).to_string()),
        };
        match reload::plan_running(&self.running, new).await {
            Ok(plan) => Reply::Done(Done { message: plan.to_string(), details: details(&plan) }),
            Err(error) => Reply::failed(FailureKind::Failed, error.to_string()),
        }
    }

    /// Drains the process: returns as soon as nothing is left to serve, at the deadline, or when told again.
    pub(super) async fn drain(&mut self, signals: &mut Signals, responder: Option<Responder>) {
        let drain = ProcessDrain::begin(Arc::clone(&self.running), self.longest, Instant::now());
        notify::stopping();
        let begun = drain.progress(Instant::now());
        info!(
            "draining: {} tunnels and {} requests are left, for {} at the most",
            begun.tunnels,
            begun.requests,
            humantime::format_duration(Duration::from_secs(begun.remaining_ms.div_ceil(1000)))
        );
        let mut followers: Vec<Responder> = responder.into_iter().collect();
        let mut reports = tokio::time::interval(REPORT);
        let end = {
            let run = drain.run(|| self.acceptor.close_listeners());
            tokio::pin!(run);
            loop {
                tokio::select! {
                    end = &mut run => break Some(end),
                    _ = reports.tick(), if !followers.is_empty() => {
                        followers.retain(|follower| !follower.is_gone());
                        followers.iter().for_each(|follower| follower.progress(drain.progress(Instant::now())));
                    }
                    signal = signals.next() => match signal {
                        Signal::Interrupt | Signal::Terminate => break None,
                        Signal::Reopen => self.running.log.reopen(),
                        Signal::Quit => refuse_quit(),
                        Signal::Hangup => warn!("SIGHUP is refused: the gateway is draining"),
                    },
                    Some(Command { request, responder }) = self.commands.recv() => match request {
                        Request::Drain => followers.push(responder),
                        _ => responder.finish(Reply::failed(FailureKind::Refused, "the gateway is draining, and ends")),
                    },
                }
            }
        };
        let reply = self.drained(end);
        followers.into_iter().for_each(|follower| follower.finish(reply.clone()));
    }

    /// Logs the end of a drain, and makes the reply to the clients that follow it.
    fn drained(&self, outcome: Option<DrainEnd>) -> Reply {
        let (why, tunnels, requests) = match outcome {
            Some(DrainEnd::Empty) => {
                info!("nothing is left to serve");
                return Reply::done("nothing is left to serve; the gateway ends");
            }
            Some(DrainEnd::Late { tunnels, requests }) => ("the deadline has come", tunnels, requests),
            None => ("told again to end", self.running.tunnels.count(), self.running.requests()),
        };
        let message = format!("{why}: {tunnels} tunnels and {requests} requests are cut off");
        warn!("{message}");
        Reply::failed(FailureKind::Failed, message)
    }
}

fn refuse_quit() {
    warn!("SIGQUIT is refused: no successor waits to take over (see `longhaul upgrade`)");
}

async fn handed_over(ends: &mut Option<mpsc::UnboundedReceiver<HandoverEnd>>) -> HandoverEnd {
    match ends {
        Some(ends) => match ends.recv().await {
            Some(end) => end,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

fn details(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("it is text, numbers, and lists and maps of them")
}
