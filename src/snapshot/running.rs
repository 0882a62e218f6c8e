//! The running gateway: the snapshot in force, and everything that outlives it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use rustix::net::getsockname;
use tokio::sync::{Mutex, MutexGuard, Notify};

use super::{Destination, Phases, Snapshot, usher};
use crate::access_log::AccessLog;
use crate::admission::Admission;
use crate::client::is_trusted;
use crate::config::{self, Config, Limits, OnChange, Problems};
use crate::health::{CheckError, CheckedBackend, Checkers, Probe, Subject};
use crate::hook::{self, Chain, Injector};
use crate::metrics::Metrics;
use crate::socket::descriptors::Descriptors;
use crate::tls::certificates::Lapsed;
use crate::tls::tickets::TicketKeys;
use crate::trace::Tracer;
use crate::tunnel::{Activity, Frozen, Passport, RateTable, Surroundings, Tunnels, UnderWay};
use crate::upstream::{HealthHistory, MemberLists, Registry};
use crate::ws::Side;

/// A running gateway, as requests, reloads and operators see it.
pub struct Running {
    snapshot: ArcSwap<Snapshot>,
    /// Told when another snapshot takes force.
    swapped: Notify,
    hooks: Arc<hook::HookRegistry>,
    registry: Registry,
    turn: Mutex<Turn>,
    /// Metrics of the gateway.
    pub metrics: Arc<Metrics>,
    /// Decides on connections, requests, handshakes and tunnels, and counts them.
    pub admission: Arc<Admission>,
    /// Every open tunnel.
    pub tunnels: Arc<Tunnels>,
    /// Sends messages into open tunnels from outside.
    pub injector: Injector,
    /// Access log of requests and tunnels.
    pub log: AccessLog,
    /// Exporter of spans; off unless the gateway was started with one.
    pub tracer: Tracer,
    /// Moment at which the gateway began to run.
    pub since: Instant,
    /// Phase: serving or draining.
    pub phases: Phases,
    /// Counts the requests under way.
    requests: Arc<Activity>,
    /// Keys of session tickets, for listeners without a file of them.
    pub ticket_keys: Arc<TicketKeys>,
}

/// Origin of the first snapshot.
pub struct SnapshotOrigin<'c> {
    /// The configuration.
    pub config: &'c Config,
    /// Members of upstreams that have them from elsewhere.
    pub members: MemberLists,
    /// The hooks that the configuration may name.
    pub hooks: Arc<hook::HookRegistry>,
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
        SnapshotOrigin { config, members, hooks }: SnapshotOrigin<'_>,
        metrics: Arc<Metrics>,
        tunnels: Arc<Tunnels>,
        log: AccessLog,
        ticket_keys: TicketKeys,
        now: Instant,
    ) -> Result<Self, Problems> {
        let registry = Registry::default();
        let requests = Activity::new(tunnels.changes().clone());
        let kept = tunnels.metrics().kept().clone();
        let admission = Admission::new(Descriptors::of_process(), kept, config.listeners.len(), now);
        let mut snapshot = Snapshot::compile(config, members, 1, &registry, &metrics);
        snapshot.count_routes_by(&admission);
        snapshot.make_hooks(&hooks, None, &metrics)?;
        let ticket_keys = Arc::new(ticket_keys);
        snapshot.make_listeners(None, &ticket_keys, &Lapsed::Taken)?;
        snapshot.load_files_of_upstreams(&Lapsed::Taken)?;
        metrics.unverified(snapshot.unverified());
        metrics.generation.set(snapshot.generation.cast_signed());
        tunnels.limit_hook_memory(config.hook_memory);
        tunnels.limit_rates(rates_of(config));
        tunnels.limit_memory(config.limits.memory);
        Ok(Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            swapped: Notify::new(),
            hooks,
            injector: Injector::new(Arc::clone(&tunnels) as Arc<dyn hook::Outlet>),
            registry,
            turn: Mutex::new(Turn { checkers: Checkers::new(), former_policies: HashMap::new() }),
            metrics,
            admission,
            tunnels,
            log,
            tracer: Tracer::off(),
            since: now,
            phases: Phases::default(),
            requests,
            ticket_keys,
        })
    }

    /// The hooks that a configuration may name.
    pub fn hooks(&self) -> &Arc<hook::HookRegistry> {
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

    /// The snapshot in force, for a look that is over soon.
    pub fn snapshot_now(&self) -> Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Limits of what clients send, as they are in force.
    pub fn limits(&self) -> Limits {
        self.snapshot.load().config.limits
    }

    /// The last turns of backends' health.
    pub fn health_history(&self) -> &HealthHistory {
        self.registry.health_history()
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
        let now = Instant::now();
        self.snapshot().destinations().iter().for_each(|to| to.upstream.settle(now));
        self.enforce_admission(&self.snapshot());
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
        let snapshot = self.snapshot();
        let hooks = snapshot.route_named(route).map(|target| Arc::clone(&target.hooks));
        let client = Some(passport.client).filter(|client| !is_trusted(*client, &snapshot.trusted_proxies));
        let local = getsockname(&sockets[Side::Client as usize]).ok().and_then(|local| local.try_into().ok());
        let place = Surroundings {
            hooks: hooks.unwrap_or_else(|| Arc::new(Chain::empty())),
            injector: self.injector.clone(),
            route: Arc::clone(route),
            guard: self.registry.backend(&passport.upstream, &passport.backend_name(), passport.backend).occupy(),
            admitted: Some(self.admission.adopt(&snapshot.config.limits, client, local, route)),
            metrics: self.metrics.upstream(&passport.upstream),
        };
        self.tunnels.adopt(passport, sockets, place, now)
    }

    /// Waits for the turn to change the snapshot.
    pub async fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().await
    }

    /// Compiles the snapshot that would follow the one in force, with these members. Keys that a process takes at its
    /// start only keep their values.
    ///
    /// # Errors
    /// Every problem that hooks found with their settings, or that there is with files of listeners.
    pub fn compile(&self, config: Config, members: MemberLists) -> Result<Snapshot, Problems> {
        let before = self.snapshot();
        let config = config.with_fixed_keys_of(&before.config);
        let mut snapshot = before.successor(&config, members, &self.registry, &self.metrics);
        snapshot.count_routes_by(&self.admission);
        snapshot.make_hooks(&self.hooks, Some(&before), &self.metrics)?;
        let lapsed = before.lapsed();
        snapshot.make_listeners(Some(&before), &self.ticket_keys, &lapsed)?;
        snapshot.load_files_of_upstreams(&lapsed)?;
        Ok(snapshot)
    }

    /// Compiles a snapshot to look at: its backends' live state is that of the gateway, but nothing shows outside that
    /// it was there. Its routes are without hooks.
    pub fn rehearse(&self, config: &Config, members: MemberLists) -> Snapshot {
        self.snapshot().successor(config, members, &self.registry, &Metrics::new())
    }

    /// Compiles the snapshot in force with other members; `None` where none differ.
    pub fn with_members(&self, members: MemberLists) -> Option<Snapshot> {
        self.snapshot().with_members(members, &self.registry)
    }

    /// Puts a snapshot in force: requests that begin from now on see it, and its backends are checked, new ones at
    /// once.
    ///
    /// To be called on the Tokio runtime that the checkers live on.
    pub fn put_in_force(&self, snapshot: Snapshot, turn: &mut Turn) -> Arc<Snapshot> {
        let snapshot = self.swap(snapshot, turn);
        self.metrics.generation.set(snapshot.generation.cast_signed());
        self.metrics.unverified(snapshot.unverified());
        self.tunnels.limit_hook_memory(snapshot.config.hook_memory);
        self.tunnels.limit_memory(snapshot.config.limits.memory);
        self.tunnels.limit_rates(rates_of(&snapshot.config));
        snapshot.start_hooks(&self.injector);
        snapshot
    }

    /// Puts the snapshot in force with other members, as [`with_members`](Self::with_members) compiled it; hooks and
    /// settings stay as they are.
    ///
    /// To be called on the Tokio runtime that the checkers live on.
    pub fn put_members_in_force(&self, snapshot: Snapshot, turn: &mut Turn) -> Arc<Snapshot> {
        self.swap(snapshot, turn)
    }

    fn swap(&self, snapshot: Snapshot, turn: &mut Turn) -> Arc<Snapshot> {
        let snapshot = Arc::new(snapshot);
        let now = Instant::now();
        snapshot.destinations().iter().for_each(|to| to.upstream.settle(now));
        self.snapshot.store(Arc::clone(&snapshot));
        self.enforce_admission(&snapshot);
        turn.checkers.sync(self.targets(&snapshot));
        turn.former_policies.retain(|upstream, _| self.registry.has(upstream));
        self.swapped.notify_waiters();
        snapshot
    }

    /// Waits until something holds of the snapshot in force.
    pub async fn wait_until(&self, holds: impl Fn(&Snapshot) -> bool) {
        loop {
            let swapped = self.swapped.notified();
            tokio::pin!(swapped);
            // Before the look, so that no change between the two is missed.
            swapped.as_mut().enable();
            if holds(&self.snapshot()) {
                return;
            }
            swapped.await;
        }
    }

    /// Puts the snapshot's rules of admission in force: clients that wait go on by them, and those of backends that are
    /// gone are sent to others.
    fn enforce_admission(&self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (upstream, admission) in self.registry.admissions() {
            match snapshot.destination(&upstream) {
                Some(to) => to.upstream.enforce_admission(now),
                None => admission.lift(now),
            }
            usher::attend(&admission);
        }
    }

    /// Answers all clients that wait for their turn at a backend, and admits no more.
    pub fn close_admission(&self) {
        self.registry.admissions().iter().for_each(|(_, admission)| admission.close());
    }

    /// Targets of checks: every backend of every upstream whose health is not `off`.
    fn targets(&self, snapshot: &Snapshot) -> Vec<CheckedBackend> {
        let mut targets = Vec::new();
        let dialer = snapshot.dialer();
        for to in snapshot.destinations() {
            let config = to.upstream.config();
            let Some(health) = &config.health else { continue };
            let upstream: Arc<str> = config.name.as_str().into();
            let probe = Arc::new(Probe::new(health, &dialer, &to.layers));
            let members = to.upstream.members().iter().enumerate();
            for (index, member) in members.filter(|(_, member)| !member.is_absent()) {
                targets.push(CheckedBackend {
                    upstream: Arc::clone(&upstream),
                    name: member.name.clone(),
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

/// Rates that clients are held to.
fn rates_of(config: &Config) -> RateTable {
    RateTable::new(config.upstreams.iter().map(|upstream| (upstream.name.as_str(), upstream.rates)))
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
