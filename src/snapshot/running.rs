//! What runs: the snapshot in force, and everything that outlives it.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::Mutex;

use super::{Destination, Snapshot};
use crate::access_log::AccessLog;
use crate::config::Config;
use crate::health::{Checkers, Probe, Subject, Target};
use crate::metrics::Metrics;
use crate::tunnel::{Frozen, Passport, Place, Tunnels};
use crate::upstream::Registry;

/// A running gateway, as requests, reloads and operators see it.
pub struct Running {
    snapshot: ArcSwap<Snapshot>,
    registry: Registry,
    checkers: Mutex<Checkers>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Every open tunnel.
    pub tunnels: Arc<Tunnels>,
    /// Where requests and tunnels are logged.
    pub log: AccessLog,
    /// When it began to run.
    pub since: Instant,
    /// Held once by every request under way.
    requests: Arc<()>,
}

impl Running {
    /// Compiles the first snapshot, of generation 1. Nothing is checked yet: see [`check_health`](Self::check_health).
    pub fn new(config: &Config, metrics: Arc<Metrics>, tunnels: Arc<Tunnels>, log: AccessLog, now: Instant) -> Self {
        let registry = Registry::default();
        let snapshot = Snapshot::compile(config, 1, &registry, &metrics);
        metrics.generation.set(snapshot.generation.cast_signed());
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            registry,
            checkers: Mutex::new(Checkers::new()),
            metrics,
            tunnels,
            log,
            since: now,
            requests: Arc::default(),
        }
    }

    /// The snapshot in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Counts a request as under way for as long as what it returns is kept.
    pub fn request(&self) -> UnderWay {
        UnderWay { _counted: Arc::clone(&self.requests) }
    }

    /// How many requests are under way, whatever snapshot they began with.
    pub fn requests(&self) -> usize {
        Arc::strong_count(&self.requests) - 1
    }

    /// Checks every backend once, at most one timeout long, and then goes on checking in each one's rhythm.
    ///
    /// To be called on the Tokio runtime that the checkers are to live on.
    pub async fn check_health(&self) {
        let targets = self.targets(&self.snapshot());
        let mut checkers = self.checkers.lock().await;
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
        let place = Place {
            route: Arc::clone(route),
            guard: self.registry.backend(&passport.upstream, passport.backend).occupy(),
            metrics: self.metrics.upstream(&passport.upstream),
        };
        Frozen::adopt(passport, sockets, place, now)
    }

    /// What is to be checked: every backend of every upstream whose health is not `off`.
    fn targets(&self, snapshot: &Snapshot) -> Vec<Target> {
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
                    subject: Arc::new(Checked { to: Arc::clone(to), index, tunnels: Arc::clone(&self.tunnels) }),
                });
            }
        }
        targets
    }
}

/// One request under way, counted while it lives.
#[must_use = "dropped at once it counts nothing"]
pub struct UnderWay {
    _counted: Arc<()>,
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
