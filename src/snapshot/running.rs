//! The running gateway: the snapshot in force, and everything that outlives it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, MutexGuard};

use super::{Destination, Phases, Snapshot};
use crate::access_log::AccessLog;
use crate::config::{self, Config, Limits, OnChange, Problems};
use crate::health::{CheckError, Checkers, Probe, Subject, Target};
use crate::hook::{self, Chain, Injector};
use crate::metrics::Metrics;
use crate::tls::tickets::TicketKeys;
use crate::tunnel::{Activity, Frozen, Passport, Place, Tunnels, UnderWay};
use crate::upstream::Registry;

/// A running gateway, as requests, reloads and operators see it.
pub struct Running {
    snapshot: ArcSwap<Snapshot>,
    hooks: Arc<hook::Registry>,
    registry: Registry,
    turn: Mutex<Turn>,
    /// Metrics of the gateway.
    pub metrics: Arc<Metrics>,
    /// Every open tunnel.
    pub tunnels: Arc<Tunnels>,
    /// Sends messages into open tunnels from outside.
    pub injector: Injector,
    /// Access log of requests and tunnels.
    pub log: AccessLog,
    /// Moment at which the gateway began to run.
    pub since: Instant,
    /// Phase: serving or draining.
    pub phases: Phases,
    /// Counts the requests under way.
    requests: Arc<Activity>,
    /// Keys of session tickets, for listeners without a file of them.
    pub ticket_keys: Arc<TicketKeys>,
}

/// State of those who change the snapshot, one after the other.
pub struct Turn {
    checkers: Checkers,
    /// Policies of upstreams that left the configuration, by name, as long as any backend of theirs is in use.
    pub former_policies: HashMap<String, TunnelPolicy>,
}

/// Policy of an upstream for open tunnels that a reload touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelPolicy {
    /// `on_change`
    pub on_change: OnChange,
    /// `drain_window`
    pub drain_window: Duration,
}

impl TunnelPolicy {
    /// The policy that an upstream's configuration gives.
    pub fn of(upstream: &config::Upstream) -> Self {
        Self { on_change: upstream.on_change, drain_window: upstream.drain_window }
    }
}

impl Running {
    /// Compiles the first snapshot, of generation 1. Nothing is checked yet, and no hook is told: see
    /// [`check_health`](Self::check_health) and [`start_hooks`](Self::start_hooks).
    ///
    /// # Errors
    /// Every problem that hooks found with their settings, or that there is with files of listeners.
    pub fn new(
        config: &Config,
        hooks: Arc<hook::Registry>,
        metrics: Arc<Metrics>,
        tunnels: Arc<Tunnels>,
        log: AccessLog,
        ticket_keys: TicketKeys,
        now: Instant,
    ) -> Result<Self, Problems> {
        let registry = Registry::default();
        let requests = Activity::new(tunnels.changes().clone());
        let mut snapshot = Snapshot::compile(config, 1, &registry, &metrics);
        snapshot.make_hooks(&hooks, None, &metrics)?;
        let ticket_keys = Arc::new(ticket_keys);
        snapshot.make_listeners(None, &ticket_keys)?;
        snapshot.load_files_of_upstreams()?;
        metrics.unverified(snapshot.unverified());
        metrics.generation.set(snapshot.generation.cast_signed());
        tunnels.limit_hook_memory(config.hook_memory);
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            hooks,
            injector: Injector::new(Arc::clone(&tunnels) as Arc<dyn hook::Outlet>),
            registry,
            turn: Mutex::new(Turn { checkers: Checkers::new(), former_policies: HashMap::new() }),
            metrics,
            tunnels,
            log,
            since: now,
            phases: Phases::default(),
            requests,
            ticket_keys,
        })
    }

    /// The hooks that a configuration may name.
    pub fn hooks(&self) -> &Arc<hook::Registry> {
        &self.hooks
    }

    /// Tells the first snapshot's hooks that they are in force. To be called on the Tokio runtime that they are to live
    /// on.
    pub fn start_hooks(&self) {
        self.snapshot().start_hooks(&self.injector);
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Limits of what clients send, as they are in force.
    pub fn limits(&self) -> Limits {
        self.snapshot.load().config.limits
    }

    /// Counts a request as under way for as long as what it returns is kept.
    pub fn request(&self) -> UnderWay {
        self.requests.begin()
    }

    /// Number of requests under way, whatever snapshot they began with.
    pub fn requests(&self) -> usize {
        self.requests.count()
    }

    /// Waits until no tunnel is open and no request is under way.
    pub async fn idle(&self) {
        // Requests first: a request whose tunnel opens meanwhile must be seen as the one or the other.
        self.tunnels.changes().wait_until(|| self.requests() == 0 && self.tunnels.count() == 0).await;
    }

    /// Checks every backend once, at most one timeout long, and then goes on checking in each one's rhythm.
    ///
    /// To be called on the Tokio runtime that the checkers are to live on.
    pub async fn check_health(&self) {
        let targets = self.targets(&self.snapshot());
        let checkers = &mut self.turn.lock().await.checkers;
        checkers.first_round(&targets).await;
        checkers.sync(targets);
    }

    /// A tunnel of a predecessor's, to go on here; `routes` shares the names among tunnels.
    pub fn adopt(
        &self,
        passport: Passport,
        sockets: [OwnedFd; 2],
        routes: &mut HashMap<Box<str>, Arc<str>>,
        now: Instant,
    ) -> Frozen {
        let route = routes.entry(passport.route.clone()).or_insert_with(|| (&*passport.route).into());
        // A tunnel whose route is gone, or has no hooks any more, goes on without calls.
        let hooks = self.snapshot().route_named(route).map(|target| Arc::clone(&target.hooks));
        let place = Place {
            hooks: hooks.unwrap_or_else(|| Arc::new(Chain::empty())),
            injector: self.injector.clone(),
            route: Arc::clone(route),
            guard: self.registry.backend(&passport.upstream, passport.backend).occupy(),
            metrics: self.metrics.upstream(&passport.upstream),
        };
        self.tunnels.adopt(passport, sockets, place, now)
    }

    /// Waits for the turn to change the snapshot.
    pub async fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().await
    }

    /// Compiles the snapshot that would follow the one in force. Keys that a process takes at its start only keep their
    /// values.
    ///
    /// # Errors
    /// Every problem that hooks found with their settings, or that there is with files of listeners.
    pub fn compile(&self, config: Config) -> Result<Snapshot, Problems> {
        let before = self.snapshot();
        let config = config.with_fixed_keys_of(&before.config);
        let mut snapshot = before.successor(&config, &self.registry, &self.metrics);
        snapshot.make_hooks(&self.hooks, Some(&before), &self.metrics)?;
        snapshot.make_listeners(Some(&before), &self.ticket_keys)?;
        snapshot.load_files_of_upstreams()?;
        Ok(snapshot)
    }

    /// Compiles a snapshot to look at: its backends' live state is that of the gateway, but nothing shows outside that
    /// it was there. Its routes are without hooks.
    pub fn rehearse(&self, config: &Config) -> Snapshot {
        self.snapshot().successor(config, &self.registry, &Metrics::new())
    }

    /// Puts a snapshot in force: requests that begin from now on see it, and its backends are checked, new ones at
    /// once.
    ///
    /// To be called on the Tokio runtime that the checkers live on.
    pub fn put_in_force(&self, snapshot: Snapshot, turn: &mut Turn) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        self.snapshot.store(Arc::clone(&snapshot));
        self.metrics.generation.set(snapshot.generation.cast_signed());
        self.metrics.unverified(snapshot.unverified());
        self.tunnels.limit_hook_memory(snapshot.config.hook_memory);
        snapshot.start_hooks(&self.injector);
        turn.checkers.sync(self.targets(&snapshot));
        turn.former_policies.retain(|upstream, _| self.registry.has(upstream));
        snapshot
    }

    /// Targets of checks: every backend of every upstream whose health is not `off`.
    fn targets(&self, snapshot: &Snapshot) -> Vec<Target> {
        let mut targets = Vec::new();
        let dialer = snapshot.dialer();
        for to in snapshot.destinations() {
            let config = to.upstream.config();
            let Some(health) = &config.health else { continue };
            let upstream: Arc<str> = config.name.as_str().into();
            let probe = Arc::new(Probe::new(health, &dialer, &to.layers));
            for (index, member) in to.upstream.members().iter().enumerate() {
                targets.push(Target {
                    upstream: Arc::clone(&upstream),
                    address: member.address,
                    probe: Arc::clone(&probe),
                    interval: health.interval,
                    check_wanted: Arc::clone(to.upstream.states()[index].check_wanted()),
                    subject: Arc::new(Checked { to: Arc::clone(to), index, tunnels: Arc::clone(&self.tunnels) }),
                });
            }
        }
        targets
    }
}

/// The outcome of a backend's checks, told to the backend's upstream.
struct Checked {
    to: Arc<Destination>,
    index: usize,
    tunnels: Arc<Tunnels>,
}

impl Subject for Checked {
    fn report(&self, outcome: Result<(), CheckError>) {
        if let Some(failure) = outcome.as_ref().err().and_then(CheckError::tls) {
            self.to.metrics.tls_failure(failure);
        }
        match outcome.as_ref().err().and_then(CheckError::local) {
            Some(failure) => self.to.metrics.local_failure(failure),
            None => self.to.checked(self.index, outcome.map_err(|failure| failure.to_string()), &self.tunnels),
        }
    }

    fn attend(&self) -> Option<Instant> {
        self.to.upstream.states()[self.index].attend(Instant::now())
    }
}
