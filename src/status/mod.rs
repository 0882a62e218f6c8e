//! Status of a running gateway, for people and programs: configuration, backends, tunnels, past reloads and upgrades.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::snapshot::{Destination, Phase, Running};
use crate::upstream::Member;

/// Status of a gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the binary.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Phase of the process: serving or draining.
    pub phase: Phase,
    /// Number of the configuration in force, from 1.
    pub generation: u64,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Addresses of its listeners, in the order of the configuration it started with.
    pub listeners: Vec<SocketAddr>,
    /// Address of its metrics.
    pub metrics: Option<SocketAddr>,
    /// Requests under way.
    pub requests: usize,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels that speak TLS on one side or both.
    #[serde(default)]
    pub tls: TlsTunnels,
    /// Open tunnels by age, the youngest first.
    pub ages: Vec<Age>,
    /// Open tunnels whose key belongs to another backend by now; `None` where that is not known.
    pub away_from_home: Option<u64>,
    /// The last reload.
    pub last_reload: Option<Event>,
    /// The last upgrade: one by which this process took over, that failed, or that left tunnels here.
    pub last_upgrade: Option<Event>,
    /// The upstreams, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
}

/// Number of open tunnels that speak TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsTunnels {
    /// Number of tunnels that an upgrade moves: the record layer seals them.
    pub record: u64,
    /// Number of tunnels that it does not move: rustls seals them.
    pub rustls: u64,
}

/// Number of open tunnels within one range of ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// Upper end of the range in seconds, exclusive; the range before it ends where this one begins. `None` for the
    /// last.
    pub under_seconds: Option<u64>,
    /// Open tunnels of such an age.
    pub tunnels: u64,
}

/// A reload or an upgrade, and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Time, in seconds since 1970.
    pub at: u64,
    /// Success.
    pub ok: bool,
    /// Summary for people.
    pub message: String,
}

/// Status of one upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// Status of one backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u16,
    /// Set while it counts as up.
    pub up: bool,
    /// Set where its health is checked at all.
    pub checked: bool,
    /// Set while the operator drains it.
    pub draining: bool,
    /// True while doubt keeps it out for a time.
    #[serde(default)]
    pub ejected: bool,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels and running requests.
    pub load: usize,
}

/// The last reload and the last upgrade of this process; clones share them.
#[derive(Clone, Debug, Default)]
pub struct History {
    last: Arc<Mutex<Last>>,
}

#[derive(Clone, Debug, Default)]
struct Last {
    reload: Option<Event>,
    upgrade: Option<Event>,
}

impl History {
    /// Notes a reload that ended now.
    pub fn reloaded(&self, ok: bool, message: impl Into<String>) {
        self.last().reload = Some(Event::now(ok, message.into()));
    }

    /// Notes an upgrade that ended now.
    pub fn upgraded(&self, ok: bool, message: impl Into<String>) {
        self.last().upgrade = Some(Event::now(ok, message.into()));
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        // Nothing under this lock panics half-way.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Event {
    fn now(ok: bool, message: String) -> Self {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self { at, ok, message }
    }
}

/// Everything that a status is taken from.
#[derive(Clone)]
pub struct StatusSource {
    /// The gateway.
    pub running: Arc<Running>,
    /// The last reload and the last upgrade.
    pub history: History,
    /// Addresses of the listeners.
    pub listeners: Vec<SocketAddr>,
    /// Address of the metrics.
    pub metrics: Option<SocketAddr>,
}

impl StatusSource {
    /// Takes the status. Visits every open tunnel.
    pub async fn status(&self) -> Status {
        let snapshot = self.running.snapshot();
        let ages = self.ages().await;
        let away: usize = self.running.away_from_home().await.values().sum();
        let last = self.history.last().clone();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: self.running.phases.now(),
            generation: snapshot.generation,
            uptime_seconds: self.running.since.elapsed().as_secs(),
            listeners: self.listeners.clone(),
            metrics: self.metrics,
            requests: self.running.requests(),
            tunnels: self.running.tunnels.count(),
            tls: self.tls(),
            ages,
            away_from_home: Some(away as u64),
            last_reload: last.reload,
            last_upgrade: last.upgrade,
            upstreams: snapshot.destinations().iter().map(|to| UpstreamStatus::of(to)).collect(),
        }
    }

    fn tls(&self) -> TlsTunnels {
        let [_, record, rustls] = self.running.metrics.tunnels_open();
        TlsTunnels { record, rustls }
    }

    async fn ages(&self) -> Vec<Age> {
        let counts: Arc<[AtomicU64; RANGES.len() + 1]> = Arc::default();
        let counted = Arc::clone(&counts);
        self.running
            .tunnels
            .visit(Arc::new(move |_, age| {
                counted[range(age)].fetch_add(1, Ordering::Relaxed);
            }))
            .await;
        let age = |(index, count): (usize, &AtomicU64)| Age {
            under_seconds: RANGES.get(index).copied(),
            tunnels: count.load(Ordering::Relaxed),
        };
        counts.iter().enumerate().map(age).collect()
    }
}

impl UpstreamStatus {
    fn of(to: &Destination) -> Self {
        let config = to.upstream.config();
        let backend = |(index, member): (usize, &Member)| {
            let state = &to.upstream.states()[index];
            BackendStatus {
                address: member.address,
                weight: member.weight,
                up: to.upstream.is_up(index),
                checked: config.health.is_some(),
                draining: state.is_draining(),
                ejected: state.is_ejected(),
                tunnels: state.tunnels(),
                load: state.load(),
            }
        };
        Self { name: config.name.clone(), backends: to.upstream.members().iter().enumerate().map(backend).collect() }
    }
}

/// Index of the range that an age falls in.
fn range(age: Duration) -> usize {
    RANGES.iter().position(|under| age.as_secs() < *under).unwrap_or(RANGES.len())
}

/// Ends of the ranges of age in seconds: a minute, ten minutes, an hour, six hours, a day, a week.
const RANGES: [u64; 6] = [60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ages_ends_where_the_next_begins() {
        let seconds = Duration::from_secs;
        assert_eq!([0, 59, 60, 599, 600].map(|age| range(seconds(age))), [0, 0, 1, 1, 2]);
        assert_eq!(range(Duration::from_millis(59_999)), 0);
        assert_eq!([7 * 86_400 - 1, 7 * 86_400, u64::MAX].map(|age| range(seconds(age))), [5, 6, 6]);
    }
}
