//! The answer to `status`: what runs, how it is, and what it carries.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::drain::{Phase, Phases};
use crate::reload;
use crate::snapshot::{Destination, Running};

/// How a gateway is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the binary.
    pub version: String,
    /// The process's id.
    pub pid: u32,
    /// What it is at.
    pub phase: Phase,
    /// Which of its configurations is in force, from 1.
    pub generation: u64,
    /// Seconds since it began to run.
    pub uptime_seconds: u64,
    /// Where it listens, in the order of the configuration it started with.
    pub listeners: Vec<SocketAddr>,
    /// Where its metrics are.
    pub metrics: Option<SocketAddr>,
    /// Requests under way.
    pub requests: usize,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels by age, the youngest first.
    pub ages: Vec<Age>,
    /// Open tunnels whose key belongs to another backend by now; `None` where that is not known.
    pub away_from_home: Option<u64>,
    /// The last reload.
    pub last_reload: Option<Event>,
    /// The last upgrade.
    pub last_upgrade: Option<Event>,
    /// The upstreams, in the order of the configuration.
    pub upstreams: Vec<UpstreamStatus>,
}

/// The open tunnels of one span of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// They are younger than so many seconds, and not in the span before; `None` for the oldest.
    pub under_seconds: Option<u64>,
    /// How many there are.
    pub tunnels: u64,
}

/// Something that was done to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in seconds since 1970.
    pub at: u64,
    /// Whether it succeeded.
    pub ok: bool,
    /// What came of it.
    pub message: String,
}

/// One upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamStatus {
    /// Its name.
    pub name: String,
    /// Its backends, in the order of the configuration.
    pub backends: Vec<BackendStatus>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Its address.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u16,
    /// Whether it is taken as up.
    pub up: bool,
    /// Whether its health is checked at all.
    pub checked: bool,
    /// Whether the operator drains it.
    pub draining: bool,
    /// Open tunnels.
    pub tunnels: usize,
    /// Open tunnels and running requests.
    pub load: usize,
}

/// What was last done to a gateway; clones share it.
#[derive(Clone, Debug, Default)]
pub struct History {
    last: Arc<Mutex<Last>>,
}

#[derive(Debug, Default)]
struct Last {
    reload: Option<Event>,
    upgrade: Option<Event>,
}

impl History {
    /// Notes a reload that happened now.
    pub fn reloaded(&self, ok: bool, message: impl Into<String>) {
        self.last().reload = Some(Event::now(ok, message.into()));
    }

    /// Notes an upgrade that happened now.
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

/// What a status is made from.
#[derive(Clone)]
pub struct About {
    /// The gateway.
    pub running: Arc<Running>,
    /// What it is at.
    pub phases: Phases,
    /// What was done to it.
    pub history: History,
    /// Where it listens.
    pub listeners: Vec<SocketAddr>,
    /// Where its metrics are.
    pub metrics: Option<SocketAddr>,
}

impl About {
    /// The status now. Visits every open tunnel.
    pub async fn status(&self) -> Status {
        let snapshot = self.running.snapshot();
        let ages = self.ages().await;
        let away: usize = reload::away_from_home(&self.running).await.values().sum();
        let last = self.history.last();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            phase: self.phases.now(),
            generation: snapshot.generation,
            uptime_seconds: self.running.since.elapsed().as_secs(),
            listeners: self.listeners.clone(),
            metrics: self.metrics,
            requests: self.running.requests(),
            tunnels: self.running.tunnels.count(),
            ages,
            away_from_home: Some(away as u64),
            last_reload: last.reload.clone(),
            last_upgrade: last.upgrade.clone(),
            upstreams: snapshot.destinations().iter().map(|to| UpstreamStatus::of(to)).collect(),
        }
    }

    async fn ages(&self) -> Vec<Age> {
        let counts: Arc<[AtomicU64; SPANS.len() + 1]> = Arc::default();
        let counted = Arc::clone(&counts);
        self.running
            .tunnels
            .visit(Arc::new(move |_, age| {
                counted[span(age)].fetch_add(1, Ordering::Relaxed);
            }))
            .await;
        let age = |(index, count): (usize, &AtomicU64)| Age {
            under_seconds: SPANS.get(index).copied(),
            tunnels: count.load(Ordering::Relaxed),
        };
        counts.iter().enumerate().map(age).collect()
    }
}

impl UpstreamStatus {
    fn of(to: &Destination) -> Self {
        let config = to.upstream.config();
        let backend = |(index, backend): (usize, &crate::config::Backend)| {
            let state = &to.upstream.states()[index];
            BackendStatus {
                address: backend.address,
                weight: backend.weight,
                up: to.upstream.is_up(index),
                checked: config.health.is_some(),
                draining: state.is_draining(),
                tunnels: state.tunnels(),
                load: state.load(),
            }
        };
        Self { name: config.name.clone(), backends: config.backends.iter().enumerate().map(backend).collect() }
    }
}

fn span(age: Duration) -> usize {
    SPANS.iter().position(|under| age.as_secs() < *under).unwrap_or(SPANS.len())
}

/// The spans of age end at a minute, ten minutes, an hour, six hours, a day and a week.
const SPANS: [u64; 6] = [60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_of_age_ends_where_the_next_begins() {
        let seconds = Duration::from_secs;
        assert_eq!([0, 59, 60, 599, 600].map(|age| span(seconds(age))), [0, 0, 1, 1, 2]);
        assert_eq!(span(Duration::from_millis(59_999)), 0);
        assert_eq!([7 * 86_400 - 1, 7 * 86_400, u64::MAX].map(|age| span(seconds(age))), [5, 6, 6]);
    }
}
