//! The operator: carries out signals and commands, one after the other, until the process must end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use log::{error, info, warn};
use tokio::sync::{mpsc, watch};

use super::acceptor::Acceptor;
use super::everywhere::Everywhere;
use super::follow::{self, REPORT, Whereabouts};
use super::members;
use super::notify;
use super::signals::{Signal, Signals};
use super::take_over::HandoverEnd;
use super::unix_sockets::{UnixSocketConfig, UnixSockets};
use crate::config;
use crate::control::{Command, CommandFailure, ControlRequest, Reply, Responder};
use crate::counted::counted;
use crate::discovery::{self, MembersAction, NotPushed, PushedMember, Sources};
use crate::drain::{BackendDrain, DrainEnd, ProcessDrain, UnknownBackend};
use crate::reload::{self, TlsFiles, Watch};
use crate::snapshot::{GatewayPhase, Running};
use crate::status::History;

/// Carries out signals and commands on a running gateway.
pub(super) struct Operator {
    pub(super) running: Arc<Running>,
    pub(super) sources: Arc<Sources>,
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
        let code = self.obey_whatever_panics(&mut signals).await;
        self.acceptor.close();
        self.running.tunnels.stop();
        self.running.tunnels.hooks_told().await;
        self.running.log.flush();
        self.running.tracer.flush().await;
        // Whoever asked for the end by the admin API is answered. The server gives its last requests a bounded time.
        self.acceptor.connections().operators_gone().await;
        if let Some(control) = self.unix_sockets.control.take() {
            control.stop().await;
        }
        code
    }

    /// Obeys until the process must end. A panic ends what it happened in, and nothing else: a gateway that hears no
    /// command and no signal any more could only be killed, with every tunnel.
    async fn obey_whatever_panics(&mut self, signals: &mut Signals) -> i32 {
        loop {
            // The panic hook has said where it happened.
            match AssertUnwindSafe(self.obey(signals)).catch_unwind().await {
                Ok(code) => return code,
                Err(_) if self.is_on_the_way_out() => {
                    error!("the gateway panicked while it was about to end: what is left is drained");
                    let drained = AssertUnwindSafe(self.drain(signals, None)).catch_unwind().await;
                    if drained.is_err() {
                        error!("the gateway panicked again, and ends");
                    }
                    return 1;
                }
                Err(_) => {
                    error!("the gateway panicked over a command or a signal, and goes on; this is a bug in Longhaul")
                }
            }
            // A handover that broke off has stopped it.
            self.whereabouts.send_replace(Whereabouts::Here);
            if let Err(error) = self.acceptor.start() {
                error!("{error}");
            }
        }
    }

    /// Tells whether the gateway drains, or has given way to a successor.
    fn is_on_the_way_out(&self) -> bool {
        let has_given_way = matches!(*self.whereabouts.borrow(), Whereabouts::There(_));
        has_given_way || self.running.phases.now() != GatewayPhase::Serving
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
                    ControlRequest::Drain => {
                        self.drain(signals, Some(responder)).await;
                        return 0;
                    }
                    ControlRequest::Upgrade { binary } => if self.upgrade(binary, responder, signals).await {
                        return 0;
                    },
                    request => self.execute(request, responder).await,
                },
                () = self.watch.changed() => {
                    info!("the configuration file has changed");
                    self.reload().await;
                }
                () = self.sources.due() => members::put_in_force(&self.running, &self.sources, &self.history).await,
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
    async fn execute(&mut self, request: ControlRequest, responder: Responder) {
        match request {
            ControlRequest::Reload => responder.finish(self.reload().await),
            ControlRequest::Plan { file, text } => responder.finish(self.plan(&file, &text).await),
            ControlRequest::DrainBackend { upstream, backend, over_ms, undo, follow, everywhere: true } => {
                let over = over_ms.map(Duration::from_millis);
                let (running, sources) = (Arc::clone(&self.running), Arc::clone(&self.sources));
                let (everywhere, whereabouts) =
                    (Everywhere { running, sources, upstream, backend }, self.whereabouts.subscribe());
                // etcd may take its time, and other commands are not to wait for it.
                tokio::spawn(async move {
                    match (undo, follow) {
                        (true, _) => everywhere.undo(responder).await,
                        (false, true) => everywhere.follow(over.unwrap_or_default(), whereabouts, responder).await,
                        (false, false) => everywhere.drain(over, whereabouts, responder).await,
                    }
                });
            }
            ControlRequest::DrainBackend { upstream, backend, over_ms, undo: false, follow, .. } => {
                let over = over_ms.map(Duration::from_millis);
                match self.drain_of(&upstream, &backend, over, follow) {
                    Ok(drain) => drop(tokio::spawn(follow::follow(drain, self.whereabouts.subscribe(), responder))),
                    Err(unknown) => {
                        responder.finish(Reply::failed(CommandFailure::WrongConfiguration, unknown.to_string()))
                    }
                }
            }
            ControlRequest::DrainBackend { upstream, backend, undo: true, .. } => {
                responder.finish(match BackendDrain::undo(&self.running, &upstream, &backend) {
                    Ok(true) => {
                        let message = format!("backend {upstream}/{backend} is no longer drained");
                        info!("{message}");
                        self.history.drained(message);
                        Reply::done(format!("{upstream}/{backend} takes its share again"))
                    }
                    Ok(false) => Reply::done(format!("{upstream}/{backend} was not drained")),
                    Err(unknown) => Reply::failed(CommandFailure::WrongConfiguration, unknown.to_string()),
                });
            }
            ControlRequest::Members { upstream, action, members } => {
                responder.finish(self.push_members(&upstream, action, &members).await);
            }
            // The desk answers the first four, and `obey` carries out the others.
            ControlRequest::Status
            | ControlRequest::Tunnels(_)
            | ControlRequest::Close(_)
            | ControlRequest::Where(_) => {}
            ControlRequest::Drain | ControlRequest::Upgrade { .. } => {}
        }
    }

    /// Begins the drain of a backend, or finds the one that a predecessor began.
    fn drain_of(
        &self,
        upstream: &str,
        backend: &str,
        over: Option<Duration>,
        under_way: bool,
    ) -> Result<BackendDrain, UnknownBackend> {
        let now = Instant::now();
        if under_way {
            return BackendDrain::under_way(&self.running, upstream, backend, over.unwrap_or_default(), now);
        }
        let drain = BackendDrain::begin(&self.running, upstream, backend, over, now)?;
        let message =
            format!("backend {} is drained: nothing new goes to it, and its tunnels are closed", drain.name());
        info!("{message}");
        self.history.drained(message);
        Ok(drain)
    }

    /// Reads the configuration anew. `reload` logs and counts the result.
    async fn reload(&mut self) -> Reply {
        notify::reloading();
        let reply = match reload::from_file(&self.running, &self.sources).await {
            Ok(reloaded) => {
                self.history.reloaded(true, reloaded.to_string(), Some(reloaded.changes.to_string()));
                Reply::done_with(reloaded.to_string(), &reloaded)
            }
            Err(error) => {
                self.history.reloaded(false, error.to_string(), None);
                Reply::failed(CommandFailure::WrongConfiguration, format!("nothing has changed: {error}"))
            }
        };
        notify::ready();
        reply
    }

    /// Changes the members of an upstream that are told by commands, and puts them in force.
    async fn push_members(&self, upstream: &str, action: MembersAction, members: &[PushedMember]) -> Reply {
        let refused = |reason: String| Reply::failed(CommandFailure::WrongConfiguration, reason);
        let snapshot = self.running.snapshot();
        let Some(to) = snapshot.destination(upstream) else {
            return refused(UnknownBackend::Upstream(upstream.to_owned()).to_string());
        };
        let elsewhere = || NotPushed::Elsewhere(upstream.to_owned());
        let discover = to.upstream.config().discover.as_ref().ok_or_else(elsewhere);
        if let Err(error) = discover.and_then(|discover| self.sources.push(upstream, discover, action, members)) {
            return refused(error.to_string());
        }
        let members = self.sources.known(&snapshot.config).await;
        match reload::put_members_in_force(&self.running, members).await {
            Ok(None) => Reply::done("nothing to change"),
            Ok(Some(changed)) => {
                self.history.members_changed(true, changed.to_string());
                Reply::done_with(changed.to_string(), &changed)
            }
            Err(error) => {
                self.history.members_changed(false, error.to_string());
                Reply::failed(CommandFailure::Failed, error.to_string())
            }
        }
    }

    /// Plans a reload of the configuration `text`.
    async fn plan(&self, file: &str, text: &str) -> Reply {
        let new = match config::parse(text, &**self.running.hooks()) {
            Ok(loaded) => loaded.config,
            Err(problems) => {
                return Reply::failed(CommandFailure::WrongConfiguration, problems.in_file(file).to_string());
            }
        };
        let mut members = discovery::known(&new);
        // What the gateway knows is newer than what it kept.
        self.running.snapshot().members.iter().for_each(|(upstream, known)| members.set(upstream, Arc::clone(known)));
        match reload::plan_running(&self.running, new, members).await {
            Ok(plan) => Reply::done_with(plan.to_string(), &plan),
            Err(error) => Reply::failed(CommandFailure::Failed, error.to_string()),
        }
    }

    /// Drains the process: returns as soon as nothing is left to serve, at the deadline, or when told again.
    pub(super) async fn drain(&mut self, signals: &mut Signals, responder: Option<Responder>) {
        let drain = ProcessDrain::begin(Arc::clone(&self.running), self.longest, Instant::now());
        notify::stopping();
        let begun = drain.progress(Instant::now());
        info!(
            "draining: {} and {} are left, for {} at the most",
            counted(begun.tunnels, "tunnel"),
            counted(begun.requests, "request"),
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
                    // Clients that wait for their turn at a backend go on by it.
                    () = self.sources.due() => members::put_in_force(&self.running, &self.sources, &self.history).await,
                    signal = signals.next() => match signal {
                        Signal::Interrupt | Signal::Terminate => break None,
                        Signal::Reopen => self.running.log.reopen(),
                        Signal::Quit => refuse_quit(),
                        Signal::Hangup => warn!("SIGHUP is refused: the gateway is draining"),
                    },
                    Some(Command { request, responder }) = self.commands.recv() => match request {
                        ControlRequest::Drain => followers.push(responder),
                        _ => {
                            let reason = "the gateway is draining, and ends";
                            responder.finish(Reply::failed(CommandFailure::Refused, reason));
                        }
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
        let message = format!("{why}: {} and {} are cut off", counted(tunnels, "tunnel"), counted(requests, "request"));
        warn!("{message}");
        Reply::failed(CommandFailure::Failed, message)
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

#[cfg(test)]
mod tests;
