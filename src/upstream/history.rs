//! The history of backends' health: the last turns, each with its reason.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::health::HealthChange;
use super::state::{BackendState, lock};

/// The last turns of backends' health.
///
/// At most `MOST_EVENTS` are kept, of one backend at most `MOST_OF_ONE`: a backend that flaps does not push the
/// turns of all others out.
#[derive(Debug, Default)]
pub struct HealthHistory {
    /// The oldest first.
    events: Mutex<VecDeque<HealthEvent>>,
    revision: AtomicU64,
}

/// A turn of a backend's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEvent {
    /// Time, in seconds since 1970.
    pub at: u64,
    /// Name of the upstream.
    pub upstream: String,
    /// Name of the backend.
    pub backend: String,
    /// Its address.
    pub address: SocketAddr,
    /// The state that it turned to.
    pub to: Turned,
    /// Reason, for people; at most 300 characters.
    pub reason: String,
}

/// The state that a backend turned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Turned {
    /// Up.
    Up,
    /// Down.
    Down,
    /// Down by its connects before, and now by checks as well.
    Confirmed,
    /// Ejected for a time.
    Ejected,
    /// No longer ejected.
    Returned,
}

impl HealthHistory {
    /// Notes a turn of a backend's health.
    pub fn note(&self, at: SystemTime, backend: &BackendState, change: &HealthChange) {
        let (to, reason) = match change {
            HealthChange::Up { reason } => (Turned::Up, reason.clone()),
            HealthChange::Down { reason, .. } => (Turned::Down, reason.clone()),
            HealthChange::Confirmed { reason } => (Turned::Confirmed, reason.clone()),
            HealthChange::Ejected { reason, length } => {
                (Turned::Ejected, format!("for {}: {reason}", humantime::format_duration(*length)))
            }
            HealthChange::Returned => (Turned::Returned, "a request on trial succeeded".to_owned()),
        };
        self.push(HealthEvent {
            at: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            upstream: backend.upstream().to_owned(),
            backend: backend.name().to_owned(),
            address: backend.address(),
            to,
            reason: reason.chars().take(LONGEST_REASON).collect(),
        });
    }

    /// Puts the events of a process before this one in front, which gives them the newest first.
    pub fn restore(&self, events: Vec<HealthEvent>) {
        let own: Vec<_> = lock(&self.events).drain(..).collect();
        events.into_iter().rev().chain(own).for_each(|event| self.push(event));
    }

    /// The events, the newest first.
    pub fn events(&self) -> Vec<HealthEvent> {
        lock(&self.events).iter().rev().cloned().collect()
    }

    /// Number that grows with each event.
    pub fn revision(&self) -> u64 {
        self.revision.load(Relaxed)
    }

    fn push(&self, event: HealthEvent) {
        let mut events = lock(&self.events);
        let is_same = |other: &HealthEvent| other.backend == event.backend && other.upstream == event.upstream;
        let of_one = events.iter().filter(|other| is_same(other)).count();
        if of_one >= MOST_OF_ONE
            && let Some(oldest) = events.iter().position(is_same)
        {
            events.remove(oldest);
        } else if events.len() >= MOST_EVENTS {
            events.pop_front();
        }
        events.push_back(event);
        self.revision.fetch_add(1, Relaxed);
    }
}

/// A screen of them is some 20; the log has the others.
const MOST_EVENTS: usize = 128;
/// A backend that flaps takes an eighth of the room.
const MOST_OF_ONE: usize = 16;
/// Characters of a reason: errors of systems and of TLS are shorter.
const LONGEST_REASON: usize = 300;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::{DownBy, Registry};

    fn note(history: &HealthHistory, backend: &str, second: u64) {
        let state = Registry::default().backend("u", backend, "127.0.0.1:9001".parse().unwrap());
        let change = HealthChange::Down { reason: format!("reason {second}"), by: DownBy::Checks };
        history.note(UNIX_EPOCH + Duration::from_secs(second), &state, &change);
    }

    #[test]
    fn a_backend_that_flaps_pushes_out_its_own_turns_alone() {
        let history = HealthHistory::default();
        note(&history, "quiet", 1);
        (2..1_000).for_each(|second| note(&history, "flapping", second));
        let events = history.events();
        assert_eq!(events.len(), MOST_OF_ONE + 1);
        assert_eq!((events[0].at, events[0].reason.as_str()), (999, "reason 999"));
        assert_eq!(events[MOST_OF_ONE].backend, "quiet");
        assert_eq!(history.revision(), 999);
    }

    #[test]
    fn many_backends_are_bounded_together() {
        let history = HealthHistory::default();
        (0..1_000).for_each(|second| note(&history, &format!("b{second}"), second));
        let events = history.events();
        assert_eq!(events.len(), MOST_EVENTS);
        assert_eq!((events[0].at, events[MOST_EVENTS - 1].at), (999, 1_000 - MOST_EVENTS as u64));
    }

    #[test]
    fn a_predecessors_turns_come_before_ones_own() {
        let [before, own] = [HealthHistory::default(), HealthHistory::default()];
        note(&before, "a", 1);
        note(&before, "b", 2);
        note(&own, "c", 3);
        own.restore(before.events());
        assert_eq!(own.events().iter().map(|event| event.at).collect::<Vec<_>>(), [3, 2, 1]);
    }

    #[test]
    fn a_long_reason_is_cut() {
        let history = HealthHistory::default();
        let state = Registry::default().backend("u", "a", "127.0.0.1:9001".parse().unwrap());
        history.note(UNIX_EPOCH, &state, &HealthChange::Up { reason: "é".repeat(10_000) });
        assert_eq!(history.events()[0].reason.chars().count(), LONGEST_REASON);
    }
}
