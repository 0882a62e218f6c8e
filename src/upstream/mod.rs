//! Upstreams: which backend a request goes to, and what is known of each backend while the gateway runs.

mod blame;
mod doubt;
mod health;
mod member;
mod network;
mod pick;
mod ring;
mod state;
mod tally;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::config::{self, TrafficHealth};

pub use self::blame::{Blame, FailedTry, FailureKind};
pub use self::doubt::{Doubt, FailedRequest};
pub use self::health::{Change, DownBy, HealthState, Thresholds};
pub use self::member::Member;
pub use self::network::ClientNetwork;
use self::network::Visitors;
pub use self::pick::{Pick, Picked, Unavailable};
pub use self::ring::{Ring, Walk};
pub use self::state::{BackendState, LoadGuard, Registry};
use self::tally::{Eligible, Tally};

/// One upstream of a snapshot: its configuration, its ring, and the live state of its backends.
///
/// A backend is named by its index among the members.
#[derive(Debug)]
pub struct Upstream {
    config: config::Upstream,
    ring: Ring,
    members: Vec<Member>,
    /// In the order of the members.
    states: Vec<Arc<BackendState>>,
    by_address: HashMap<SocketAddr, usize>,
    /// Sums over the states.
    tally: Arc<Tally>,
    /// Counter that takes equally loaded backends in turn; see `pick`.
    turn: AtomicU64,
    visitors: Visitors,
    /// Held while a backend is ejected, so that no two ejections together pass the bound.
    ejecting: Mutex<()>,
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
            visitors: Visitors::default(),
            ejecting: Mutex::default(),
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

    /// True when a backend counts as up. With health `off` every backend does, whatever checks once found.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn is_up(&self, index: usize) -> bool {
        self.config.health.is_none() || self.states[index].is_up()
    }

    /// Notes that a backend answered a request from `network` as it should. `now` is asked for only where that matters.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn traffic_succeeded(&self, index: usize, network: ClientNetwork, now: impl Fn() -> Instant) -> Option<Change> {
        self.visitors.visited(network, &now);
        self.states[index].traffic_succeeded(now)
    }

    /// Notes that traffic could not connect to a backend. With health or its `traffic` off it changes nothing.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn connect_failed(&self, index: usize, reason: &str) -> Option<Change> {
        let health = self.config.health.as_ref().filter(|health| health.traffic != TrafficHealth::Off)?;
        self.states[index].connect_failed(health.into(), reason)
    }

    /// Notes that a request from `network` failed after it was sent to a backend. Only with `traffic: full` it changes
    /// anything.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn request_failed(&self, index: usize, request: FailedRequest, reason: &str, now: Instant) -> Option<Change> {
        let state = &self.states[index];
        self.visitors.visited(request.network, || now);
        let health = self.config.health.as_ref()?;
        if health.traffic != TrafficHealth::Full {
            state.connected();
            return None;
        }
        if !state.request_failed(request, self.visitors.is_alone(request.network, now), health.fall, now) {
            return None;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        self.may_eject(index).then(|| state.eject(reason, now))
    }

    /// True when the backend may be ejected: with it no more than a third of the backends, rounded up, would be, and at
    /// least one other is left that takes traffic.
    fn may_eject(&self, index: usize) -> bool {
        let on_ring = |index: &usize| self.members[*index].weight > 0;
        let others = || (0..self.members.len()).filter(on_ring).filter(|other| *other != index);
        let ejected = others().filter(|&other| self.states[other].is_ejected()).count();
        let is_left = |other: usize| {
            let state = &self.states[other];
            state.is_up() && !state.is_ejected() && !state.is_draining()
        };
        ejected < (others().count() + 1).div_ceil(3) && others().any(is_left)
    }

    /// All backends with a weight above 0 in the order in which `key` would try them, were they all up and free.
    pub fn order(&self, key: &[u8]) -> Vec<usize> {
        self.ring.walk(key).collect()
    }

    /// The next point on the ring from `near` on that belongs to this backend, whatever other backends join or leave;
    /// `None` for a backend that is not on the ring.
    pub fn point_of(&self, index: usize, near: u32) -> Option<u32> {
        self.ring.point_of(index, self.members.get(index)?.address, near)
    }

    /// The first backend on the ring for the key with this hash ([`Ring::hash`]), up or not.
    pub fn first(&self, key_hash: u32) -> Option<usize> {
        self.ring.walk_from(key_hash).next()
    }

    /// Home of the key with this hash ([`Ring::hash`]): the first backend on the ring that is up and not being
    /// drained, however loaded. `None` while there is none.
    pub fn home(&self, key_hash: u32) -> Option<usize> {
        let eligible = self.eligible();
        let ejected = |index: usize| self.tally.has_ejected() && self.may_return(index);
        if eligible.weight() == 0 && !self.tally.has_ejected() {
            return None;
        }
        self.ring.points_from(key_hash).find(|&index| eligible.holds(index) || ejected(index))
    }

    /// True when nothing but an ejection keeps the backend out.
    fn may_return(&self, index: usize) -> bool {
        let state = &self.states[index];
        self.tally.up_or_down.holds(index) && state.is_ejected() && state.is_up()
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
