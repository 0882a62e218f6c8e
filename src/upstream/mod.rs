//! Upstreams: which backend a request goes to, and what is known of each backend while the gateway runs.

mod blame;
mod health;
mod member;
mod pick;
mod ring;
mod state;
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config;

pub use self::blame::{Blame, FailedTry, FailureKind};
pub use self::health::{Change, HealthState, Thresholds};
pub use self::member::Member;
pub use self::pick::{Pick, Picked, Unavailable};
pub use self::ring::{Ring, Walk};
pub use self::state::{BackendState, LoadGuard, Registry};
use self::tally::{Eligible, Tally};

/// One upstream of a snapshot: its configuration, its ring, and the live state of its backends.
///
/// Backends are named by their index in the configuration's list.
#[derive(Debug)]
pub struct Upstream {
    config: config::Upstream,
    ring: Ring,
    members: Vec<Member>,
    /// In the order of the members.
    states: Vec<Arc<BackendState>>,
    by_address: HashMap<SocketAddr, usize>,
    /// What the states come to.
    tally: Arc<Tally>,
    /// Which of equally loaded backends is next; see `pick`.
    turn: AtomicU64,
}

impl Upstream {
    /// Builds the ring and finds the backends' live state, which is all that outlives a reload. Changes nothing there.
    pub fn compile(config: &config::Upstream, registry: &Registry) -> Self {
        let members = Member::of(config);
        let state = |member: &Member| registry.backend(&config.name, member.address);
        let states: Vec<_> = members.iter().map(state).collect();
        let tally = Arc::new(Tally::new(states.len()));
        for (index, (state, member)) in states.iter().zip(&members).enumerate() {
            if member.weight > 0 {
                state.join(&tally, index, member.weight);
            }
        }
        Self {
            ring: Ring::new(&config.backends),
            states,
            tally,
            by_address: members.iter().enumerate().map(|(index, member)| (member.address, index)).collect(),
            members,
            turn: AtomicU64::new(0),
            config: config.clone(),
        }
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// The backends as their source names them.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The live state of each backend, in the order of the members.
    pub fn states(&self) -> &[Arc<BackendState>] {
        &self.states
    }

    /// The index of the backend with this address.
    pub fn index_of(&self, address: SocketAddr) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// Whether a backend counts as up. With health `off` every one does, whatever was once found out about it.
    ///
    /// # Panics
    /// When `index` is not one of the configuration's list.
    pub fn is_up(&self, index: usize) -> bool {
        self.config.health.is_none() || self.states[index].is_up()
    }

    /// Notes that real traffic reached a backend and was answered as it should be.
    ///
    /// # Panics
    /// When `index` is not one of the configuration's list.
    pub fn traffic_succeeded(&self, index: usize) {
        self.states[index].traffic_succeeded();
    }

    /// Notes that real traffic failed by a backend's fault (connecting to it, or its handshake). With health `off` it
    /// changes nothing.
    ///
    /// # Panics
    /// When `index` is not one of the configuration's list.
    pub fn traffic_failed(&self, index: usize, reason: &str) -> Option<Change> {
        let thresholds = self.config.health.as_ref()?.into();
        self.states[index].traffic_failed(thresholds, reason)
    }

    /// All backends with a weight above 0 in the order in which `key` would try them, were they all up and free.
    pub fn order(&self, key: &[u8]) -> Vec<usize> {
        self.ring.walk(key).collect()
    }

    /// The first backend on the ring for the key with this hash ([`Ring::hash`]), up or not.
    pub fn first(&self, key_hash: u32) -> Option<usize> {
        self.ring.walk_from(key_hash).next()
    }

    /// Where the key with this hash ([`Ring::hash`]) is at home: the first backend on the ring that is up and not being
    /// drained, however loaded. `None` while there is none.
    pub fn home(&self, key_hash: u32) -> Option<usize> {
        let eligible = self.eligible();
        if eligible.weight() == 0 {
            return None;
        }
        self.ring.points_from(key_hash).find(|&index| eligible.holds(index))
    }

    /// The backends that may be picked: of some weight, up, and not being drained.
    fn eligible(&self) -> &Eligible {
        if self.config.health.is_some() { &self.tally.up } else { &self.tally.up_or_down }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.states.iter().for_each(|state| state.leave(&self.tally));
    }
}

#[cfg(test)]
mod tests;
