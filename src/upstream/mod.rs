//! Upstreams: which backend a request goes to, and what is known of each backend while the gateway runs.

mod admission;
mod blame;
mod doubt;
mod health;
mod history;
mod members;
mod network;
mod pick;
mod registry;
mod ring;
mod state;
mod tally;

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::{self, TrafficHealth};

pub use self::admission::{
    Absences, Awaited, Entered, Held, HeldEnd, HeldKey, KeyId, KeySlot, NotAdmitted, PlaceInLine, Presence, QueueRules,
    QueuedBackend, TimedHandshake, TurnVerdict, UpstreamAdmission, Waiting,
};
pub use self::blame::{Blame, FailedStep, FailedTry};
pub use self::doubt::{Doubt, FailedRequest};
pub use self::health::{DownBy, HealthChange, HealthState, Thresholds};
pub use self::history::{HealthEvent, HealthHistory, Turned};
pub use self::members::{Closing, Member, MemberLists, MemberSource, WrongMembers};
pub use self::network::ClientNetwork;
use self::network::Visitors;
pub use self::pick::{Hindrance, Obstacle, Picked, PickedBackend, Unavailable};
pub use self::registry::Registry;
pub use self::ring::{Ring, Walk};
pub use self::state::{BackendState, Demand, LoadGuard, Room};
use self::tally::{Eligible, Tally};

/// One upstream of a snapshot: its configuration, its ring, and the live state of its backends.
///
/// A backend is named by its index among the members.
#[derive(Debug)]
pub struct Upstream {
    config: config::Upstream,
    ring: Ring,
    members: Arc<[Member]>,
    /// In the order of the members.
    states: Vec<Arc<BackendState>>,
    by_name: HashMap<Box<str>, usize>,
    /// Moments at which members came, in their order; `None` for those that were there from the beginning.
    came: Vec<Option<Instant>>,
    /// Sums over the states.
    tally: Arc<Tally>,
    /// Counter that takes equally loaded backends in turn; see `pick`.
    turn: AtomicU64,
    visitors: Visitors,
    admission: Arc<UpstreamAdmission>,
    /// Held while a backend is ejected, so that no two ejections together pass the bound.
    ejecting: Mutex<()>,
}

impl Upstream {
    /// An upstream of the backends that its configuration lists; see [`with`](Self::with).
    pub fn compile(config: &config::Upstream, registry: &Registry) -> Self {
        Self::with(config, Member::of(config).into(), registry)
    }

    /// Builds the ring and finds the backends' live state, which is all that outlives a reload. Changes nothing there.
    pub fn with(config: &config::Upstream, members: Arc<[Member]>, registry: &Registry) -> Self {
        let states = members.iter().map(|member| registry.backend(&config.name, &member.name, member.address));
        let came = vec![None; members.len()];
        let (ring, states) = (Ring::new(&members), states.collect());
        Self::of(config.clone(), ring, states, (members, came, None), registry.admission(&config.name))
    }

    /// The same upstream with other members from `now` on. Costs little where most are the same.
    #[must_use]
    pub fn with_members(&self, members: Arc<[Member]>, registry: &Registry, now: Instant) -> Self {
        let known = |member: &Member| {
            let state = &self.states[self.index_of(&member.name)?];
            (state.address() == member.address).then(|| Arc::clone(state))
        };
        let state = |member: &Member| {
            known(member).unwrap_or_else(|| registry.backend(&self.config.name, &member.name, member.address))
        };
        let states = members.iter().map(state).collect();
        let ring = self.ring.with_members(&self.members, &members);
        // The first answer of a source names those that were there before.
        let comes = (!self.members.is_empty()).then_some(now);
        let came = |member: &Member| self.index_of(&member.name).map_or(comes, |index| self.came[index]);
        let came = members.iter().map(came).collect();
        Self::of(self.config.clone(), ring, states, (members, came, Some(now)), Arc::clone(&self.admission))
    }

    fn of(
        config: config::Upstream,
        ring: Ring,
        states: Vec<Arc<BackendState>>,
        (members, came, now): (Arc<[Member]>, Vec<Option<Instant>>, Option<Instant>),
        admission: Arc<UpstreamAdmission>,
    ) -> Self {
        let is_new = |index: usize| came[index].zip(now).is_some_and(|(came, now)| now - came < NEW);
        let replaces = members.iter().any(|member| member.leaving) && (0..came.len()).any(is_new);
        let tally = Arc::new(Tally::new(states.len(), replaces));
        for (index, (state, member)) in states.iter().zip(&*members).enumerate() {
            if member.takes_new() {
                state.join(&tally, index, member.weight, replaces && is_new(index));
            }
        }
        Self {
            ring,
            states,
            tally,
            by_name: members.iter().enumerate().map(|(index, member)| (member.name.clone(), index)).collect(),
            members,
            came,
            turn: AtomicU64::new(0),
            visitors: Visitors::default(),
            admission,
            ejecting: Mutex::default(),
            config,
        }
    }

    /// The configuration it was made from.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// Puts the configuration's rules of admission in force, for clients that wait, too.
    pub fn enforce_admission(&self, now: Instant) {
        let config = &self.config;
        let rules = QueueRules {
            admission: config.admission,
            tunnels: config.limits.tunnels,
            is_checked: config.health.is_some(),
            counts_keys: config.limits.per_key.is_some(),
        };
        let listed = self.members.iter().zip(&self.states).filter(|(member, _)| member.takes_new());
        self.admission.enforce(rules, listed.map(|(_, state)| Arc::clone(state) as Arc<dyn QueuedBackend>), now);
        self.admission.absent().enforce(config.absent, self.members.iter().map(|member| Arc::from(&*member.name)));
    }

    /// The admission to its backends.
    pub fn admission(&self) -> &Arc<UpstreamAdmission> {
        &self.admission
    }

    /// The backends as their source names them.
    pub fn members(&self) -> &Arc<[Member]> {
        &self.members
    }

    /// The live state of each backend, in the order of the members.
    pub fn states(&self) -> &[Arc<BackendState>] {
        &self.states
    }

    /// The index of the backend with this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Makes the health of each backend the one at its address here, and notes what its source says of it. To be called
    /// when the upstream is put in force: until then its backends may have other addresses.
    pub fn settle(&self, now: Instant) {
        let checked = self.config.health.is_some();
        for (member, state) in self.members.iter().zip(&self.states) {
            state.settle();
            state.stand(member.listed(), checked, now);
        }
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
    pub fn traffic_succeeded(
        &self,
        index: usize,
        network: ClientNetwork,
        now: impl Fn() -> Instant,
    ) -> Option<HealthChange> {
        self.visitors.visited(network, &now);
        self.states[index].traffic_succeeded(now)
    }

    /// Notes that traffic could not connect to a backend. With health or its `traffic` off it changes nothing.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn connect_failed(&self, index: usize, reason: &str) -> Option<HealthChange> {
        let health = self.config.health.as_ref().filter(|health| health.traffic != TrafficHealth::Off)?;
        self.states[index].connect_failed(health.into(), reason)
    }

    /// Notes that a request from `network` failed after it was sent to a backend. Only with `traffic: full` it changes
    /// anything.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn request_failed(
        &self,
        index: usize,
        request: FailedRequest,
        reason: &str,
        now: Instant,
    ) -> Option<HealthChange> {
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
        self.may_eject(index).then(|| state.eject(reason, now))?
    }

    /// True when the backend may be ejected: with it no more than a third of the backends, rounded up, would be, and at
    /// least one other is left that takes traffic.
    fn may_eject(&self, index: usize) -> bool {
        let on_ring = |index: &usize| self.members[*index].takes_new();
        let others = || (0..self.members.len()).filter(on_ring).filter(|other| *other != index);
        let ejected = others().filter(|&other| self.states[other].is_ejected()).count();
        let is_left = |other: usize| {
            let state = &self.states[other];
            state.is_up() && !state.is_ejected() && !state.is_draining()
        };
        ejected < (others().count() + 1).div_ceil(3) && others().any(is_left)
    }

    /// The backend that a request with this key is to wait for, because it is away and would get the request: the first
    /// on the ring, but for those of `tried` and those that nobody waits for any more. `None` where another one comes
    /// before it, or without `absent`. Without a key clients wait only where no backend is left: for the last to go.
    pub fn awaited(&self, key: Option<&[u8]>, tried: &[usize], now: Instant) -> Option<usize> {
        let hold = self.config.absent?.hold;
        let until = |index: usize| self.states[index].awaited_until(hold, now);
        let Some(key) = key.filter(|key| !key.is_empty()) else {
            let anyone = self.eligible().weight() > 0 || self.tally.has_ejected();
            let all = (0..self.members.len()).filter(|index| !anyone && !tried.contains(index));
            let on_ring = all.filter(|&index| self.members[index].weight > 0);
            return on_ring.filter_map(|index| Some((until(index)?, index))).max().map(|(_, index)| index);
        };
        let mut candidates = self.ring.walk(key).filter(|index| !tried.contains(index));
        let first = candidates.find_map(|index| match until(index) {
            Some(_) => Some((index, true)),
            None => (self.eligible().holds(index) || self.may_return(index)).then_some((index, false)),
        });
        first.and_then(|(index, is_away)| is_away.then_some(index))
    }

    /// All backends with a weight above 0 in the order in which `key` would try them, were they all up and free.
    pub fn order(&self, key: &[u8]) -> Vec<usize> {
        self.ring.walk(key).collect()
    }

    /// The next point on the ring from `near` on that belongs to this backend, whatever other backends join or leave;
    /// `None` for a backend that is not on the ring.
    pub fn point_of(&self, index: usize, near: u32) -> Option<u32> {
        self.ring.point_of(index, self.members.get(index)?.on_ring(), near)
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

    /// The backends that have come in place of those that leave, where the first on the ring for this key is one of the
    /// latter. Its clients go to one of them, not to the next on the ring, which may be the next to leave.
    fn replacing(&self, key: Option<&[u8]>) -> Option<&Eligible> {
        let replacing = self.tally.replacing.as_ref()?;
        let first = self.ring.walk(key?).next()?;
        self.members[first].leaving.then_some(replacing)
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

/// Time for which a member that came counts as new. A deployment is over by then, or pauses for longer than its clients
/// are moved by it.
const NEW: Duration = Duration::from_secs(900);

impl Drop for Upstream {
    fn drop(&mut self) {
        self.states.iter().for_each(|state| state.leave(&self.tally));
    }
}

#[cfg(test)]
mod tests;
