//! Previews of picks: the backend that a request would get now, without counting one.

use super::super::{BackendState, Demand, KeyId, Room, Upstream};
use super::{Choice, Picked, load_limit};

/// Reason for which a request does not get a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Its weight is 0.
    NoWeight,
    /// The backend is down.
    Down,
    /// The operator drains it.
    Draining,
    /// Its source is about to take it away.
    Leaving,
    /// Its source names it no longer.
    Absent,
    /// Doubt keeps it out for a time.
    Ejected,
    /// The backend carries its share of the load, by `balance_factor`, or as many tunnels as `limits` allow.
    Full,
}

/// Reason for which a handshake is not given its backend at once, while requests without an upgrade are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its key has as many tunnels as `limits.per_key` allows: it is answered 429.
    KeyFull,
    /// Every backend has as many tunnels as `limits.tunnels` allows: it waits for one.
    Waits,
    /// The same, without a queue: it is answered 503.
    Full,
}

impl Obstacle {
    /// Name of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::KeyFull => "key_full",
            Self::Waits => "waits",
            Self::Full => "full",
        }
    }
}

impl Hindrance {
    /// Name of the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoWeight => "no_weight",
            Self::Down => "down",
            Self::Draining => "draining",
            Self::Leaving => "leaving",
            Self::Absent => "absent",
            Self::Ejected => "ejected",
            Self::Full => "full",
        }
    }
}

impl Upstream {
    /// The backend, and the rule, that [`pick_within`](Self::pick_within) would choose now for a tunnel with this key.
    /// Without a key it is one of the least loaded. `None` where there is none to choose.
    pub fn preview(&self, key: Option<&[u8]>) -> Option<(usize, Picked)> {
        let key = key.filter(|key| !key.is_empty());
        let within = |room| self.select(key, &[], room, |choice| choice.preview(key));
        let unbounded = || within(Room::unbounded(Demand::Tunnel));
        match self.config.limits.tunnels {
            None => unbounded(),
            // Where all are full, clients may wait for one.
            Some(most) => within(Room { demand: Demand::Tunnel, most })
                .or_else(|| self.admission.is_on().then(unbounded).flatten()),
        }
    }

    /// Reason for which a handshake with this key would not get its backend at once; `None` where it would, or where no
    /// request would. `id` is the key's identity.
    pub fn obstacle(&self, key: Option<&[u8]>, id: Option<KeyId>) -> Option<Obstacle> {
        let limits = &self.config.limits;
        if let (Some(most), Some(id)) = (limits.per_key, id)
            && self.admission.keys().is_full(id, most)
        {
            return Some(Obstacle::KeyFull);
        }
        let within = |room| self.select(key, &[], room, |choice| choice.preview(key));
        let most = limits.tunnels?;
        if within(Room { demand: Demand::Tunnel, most }).is_some() {
            return None;
        }
        within(Room::unbounded(Demand::Tunnel))?;
        Some(if self.admission.is_on() { Obstacle::Waits } else { Obstacle::Full })
    }

    /// Reason for which a request would not get the backend now; `None` where it might.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn hindrance(&self, index: usize) -> Option<Hindrance> {
        let state: &BackendState = &self.states[index];
        match () {
            () if self.members[index].weight == 0 => Some(Hindrance::NoWeight),
            () if self.members[index].is_absent() => Some(Hindrance::Absent),
            () if !self.is_up(index) => Some(Hindrance::Down),
            () if state.is_draining() => Some(Hindrance::Draining),
            () if self.members[index].leaving => Some(Hindrance::Leaving),
            () if state.is_ejected() && !state.admits() => Some(Hindrance::Ejected),
            () => self.is_full(index).then_some(Hindrance::Full),
        }
    }

    fn is_full(&self, index: usize) -> bool {
        let eligible = self.eligible();
        let is_loaded = self.config.balance_factor.is_some_and(|factor| {
            let limit = load_limit(factor, eligible.load(), self.members[index].weight, eligible.weight());
            self.states[index].load() >= limit
        });
        is_loaded || self.config.limits.tunnels.is_some_and(|most| self.states[index].carries(Demand::Tunnel) >= most)
    }
}

impl Choice<'_> {
    fn preview(self, key: Option<&[u8]>) -> Option<(usize, Picked)> {
        if self.is_empty() {
            return None;
        }
        key.and_then(|key| self.first_in_order(key)).or_else(|| self.one_of_the_least_loaded())
    }

    fn first_in_order(self, key: &[u8]) -> Option<(usize, Picked)> {
        let (load, weight) = (self.eligible.load(), self.eligible.weight());
        let limit = |index: usize| match self.upstream.config.balance_factor {
            Some(factor) => load_limit(factor, load, self.weight(index), weight),
            None => usize::MAX,
        };
        let has_room = |index: usize| self.upstream.states[index].load() < limit(index);
        let mut order = self.upstream.ring.walk(key).enumerate();
        let (place, index) = order.find(|&(_, index)| self.allows(index) && has_room(index))?;
        Some((index, if place == 0 { Picked::Ring } else { Picked::NextOnRing }))
    }

    fn one_of_the_least_loaded(self) -> Option<(usize, Picked)> {
        let allowed = self.all().filter(|&index| self.allows(index));
        let least = allowed.min_by(|&one, &other| self.burden(one).against(self.burden(other)))?;
        Some((least, Picked::LeastLoaded))
    }
}
