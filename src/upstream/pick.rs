//! The pick: the choice of one backend for one request.
//!
//! With a key the ring decides: the first backend on it that is up and was not tried yet. With a `balance_factor` c it
//! must also have room: no backend may carry more than c times its share, by weight, of the load of all backends that
//! are up (consistent hashing with bounded loads, Mirrokni et al. 2016; HAProxy's `hash-balance-factor`). Without a key
//! the least loaded backend by weight is taken; those that are idle take turns by weight. Of more than [`FEW`] backends
//! two are drawn by weight and the less loaded one is taken (the power of two choices, Mitzenmacher 2001; Envoy's
//! `LEAST_REQUEST`): nearly as even, and it need not look at every backend.
//!
//! The upstream's tally keeps sums over all backends. So a pick takes time logarithmic in the number of backends, times
//! the number of backends it passes until one is up: ten where nine in ten are down.

mod preview;

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{BackendState, Demand, Eligible, LoadGuard, Ring, Room, Upstream};
pub use preview::{Hindrance, Obstacle};

/// One backend, chosen for one request and already counted as loaded with it.
#[derive(Debug)]
pub struct PickedBackend {
    /// Index of the backend among the members.
    pub index: usize,
    /// Live state of the backend.
    pub state: Arc<BackendState>,
    /// Counts the request, and the tunnel it may become, for as long as it is kept.
    pub guard: LoadGuard,
    /// Rule that chose the backend.
    pub how: Picked,
}

/// Rule that chose a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Picked {
    /// The first on the ring for the key.
    Ring,
    /// A later one on the ring: those before it are down, full or were tried.
    NextOnRing,
    /// The least loaded, of all or of two: there was no key, or every backend was full.
    LeastLoaded,
}

/// Reason for which no backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// None is up (and `fail_open` is not set), or all that are up are being drained: answered 503.
    #[error("no backend is up")]
    AllDown,
    /// At least one was tried for this request, and there is none left to try: answered 502.
    #[error("every backend that could be tried has failed")]
    AllTried,
    /// Every backend that could be chosen carries as much as it may (`limits`): answered 503.
    #[error("every backend carries as much as it may")]
    AllFull,
}

impl PickedBackend {
    fn new(index: usize, guard: LoadGuard, how: Picked) -> Self {
        Self { index, state: Arc::clone(guard.state()), guard, how }
    }
}

impl Picked {
    /// Name of the rule in metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::NextOnRing => "next_on_ring",
            Self::LeastLoaded => "least_loaded",
        }
    }
}

impl Upstream {
    /// Chooses a backend as [`pick_within`](Self::pick_within) does, whatever `limits` say.
    ///
    /// # Errors
    /// [`Unavailable`], where there is no backend left to choose.
    pub fn pick(&self, key: Option<&[u8]>, tried: &[usize]) -> Result<PickedBackend, Unavailable> {
        self.choose(key, tried, Room::unbounded(Demand::Request))
    }

    /// Chooses a backend for a request of this kind, within the upstream's `limits`: one that is full is passed over.
    /// Where all are full and the upstream has a queue, clients wait for one: it is chosen as if none were.
    ///
    /// # Errors
    /// [`Unavailable`], where there is no backend left to choose.
    pub fn pick_within(
        &self,
        demand: Demand,
        key: Option<&[u8]>,
        tried: &[usize],
    ) -> Result<PickedBackend, Unavailable> {
        let limits = &self.config.limits;
        let (limit, may_wait) = match demand {
            Demand::Request => (limits.requests, false),
            Demand::Tunnel => (limits.tunnels, self.admission.is_on()),
        };
        let unbounded = || self.choose(key, tried, Room::unbounded(demand));
        let Some(most) = limit else { return unbounded() };
        match self.choose(key, tried, Room { demand, most }) {
            Err(_) if may_wait => unbounded(),
            // Full is what stands in the way if there would be one without the limit.
            Err(_) => Err(unbounded().map_or_else(|unavailable| unavailable, |_| Unavailable::AllFull)),
            picked => picked,
        }
    }

    /// Chooses a backend for a request, leaving out those of `tried` (indices, from picks before for the same request)
    /// and those without `room`.
    ///
    /// An empty key is no key. Backends of weight 0 and those being drained are never chosen. With every backend down
    /// and `fail_open` set, all are taken as up.
    fn choose(&self, key: Option<&[u8]>, tried: &[usize], room: Room) -> Result<PickedBackend, Unavailable> {
        let key = key.filter(|key| !key.is_empty());
        let unavailable = if tried.is_empty() { Unavailable::AllDown } else { Unavailable::AllTried };
        self.select(key, tried, room, |choice| choice.pick(key)).ok_or(unavailable)
    }

    /// Asks for a backend among those that have come in place of the key's, where that leaves, then among all that may
    /// be chosen, then among those that are wrongly or all left out.
    fn select<T>(
        &self,
        key: Option<&[u8]>,
        tried: &[usize],
        room: Room,
        ask: impl Fn(Choice<'_>) -> Option<T>,
    ) -> Option<T> {
        let choice = Choice { upstream: self, tried, room, eligible: self.eligible(), only_ejected: false };
        let failing_open = Choice { eligible: &self.tally.up_or_down, ..choice };
        // Doubt never leaves a request without a backend.
        let doubted = || ask(Choice { only_ejected: true, ..failing_open });
        let replacing = self.replacing(key).map(|eligible| Choice { eligible, ..choice });
        replacing
            .and_then(&ask)
            .or_else(|| ask(choice))
            .or_else(|| self.tally.has_ejected().then(doubted).flatten())
            .or_else(|| (self.config.fail_open && choice.is_empty()).then(|| ask(failing_open)).flatten())
    }
}

/// Candidates: backends that are eligible and were not tried for the same request.
#[derive(Clone, Copy)]
struct Choice<'a> {
    upstream: &'a Upstream,
    tried: &'a [usize],
    room: Room,
    eligible: &'a Eligible,
    /// Of those, only backends that are kept out by an ejection alone.
    only_ejected: bool,
}

impl Choice<'_> {
    fn pick(self, key: Option<&[u8]>) -> Option<PickedBackend> {
        if self.is_empty() {
            return None;
        }
        match (key, self.upstream.config.balance_factor) {
            (Some(key), None) => self.first_within(key, |_| usize::MAX),
            (Some(key), Some(factor)) => {
                let rounds = if self.tried.is_empty() { ROUNDS } else { 1 };
                let mut rounds = (0..rounds).filter_map(|_| self.first_with_room(key, factor));
                rounds.next().or_else(|| self.least_loaded())
            }
            (None, _) => self.least_loaded(),
        }
    }

    fn first_with_room(self, key: &[u8], factor: f64) -> Option<PickedBackend> {
        let (load, weight) = (self.eligible.load(), self.eligible.weight());
        // Requests that came in since can only have made the limit higher: together they never pass it.
        self.first_within(key, |index| load_limit(factor, load, self.weight(index), weight))
    }

    /// The first backend on the ring that may be chosen and carries less than `limit` allows it.
    fn first_within(self, key: &[u8], limit: impl Fn(usize) -> usize) -> Option<PickedBackend> {
        let mut first = None;
        for (place, index) in self.upstream.ring.points_from(Ring::hash(key)).enumerate() {
            let first = *first.get_or_insert(index);
            if self.allows(index)
                && let Some(guard) = self.upstream.states[index].occupy_within(limit(index), self.room)
            {
                let how = if index == first { Picked::Ring } else { Picked::NextOnRing };
                return Some(PickedBackend::new(index, guard, how));
            }
            // A whole round costs far more than looking at each backend: first see whether it can lead anywhere.
            if place == FAR {
                let has_room = |index: usize| self.upstream.states[index].load() < limit(index);
                self.all().find(|&index| self.allows(index) && has_room(index))?;
            }
        }
        None
    }

    fn least_loaded(self) -> Option<PickedBackend> {
        for _ in 0..ROUNDS {
            let of_two = if self.upstream.states.len() > FEW { self.less_loaded_of_two() } else { None };
            let index = of_two.or_else(|| self.least_loaded_of_all())?;
            // Others may have taken its last room meanwhile.
            if let Some(guard) = self.upstream.states[index].occupy_within(usize::MAX, self.room) {
                return Some(PickedBackend::new(index, guard, Picked::LeastLoaded));
            }
        }
        None
    }

    /// The less loaded of two that are drawn by weight; `None` where the draws met none that may be chosen.
    ///
    /// The first is drawn in turn, so that idle backends get an even share, the second at random.
    fn less_loaded_of_two(self) -> Option<usize> {
        let drawn = |share: u64| self.eligible.at(part(share, self.eligible.weight()));
        let shares = std::iter::once_with(|| self.take_turn()).chain(std::iter::repeat_with(rand::random));
        let mut drawn = shares.take(DRAWS).filter_map(drawn).filter(|&index| self.allows(index));
        let first = drawn.next()?;
        let second = drawn.next().unwrap_or(first);
        Some(if self.burden(second).against(self.burden(first)).is_lt() { second } else { first })
    }

    /// Of the idle ones, or else of those that would be the least loaded by weight, the one whose turn it is.
    ///
    /// Two requests at the same moment may choose the same one: loads are looked at first and counted after.
    fn least_loaded_of_all(self) -> Option<usize> {
        let mut least: Option<(usize, Burden)> = None;
        let mut weight_of_least = 0;
        for index in self.all().filter(|&index| self.allows(index)) {
            let burden = self.burden(index);
            let ordering = least.map_or(Ordering::Less, |(_, least)| burden.against(least));
            if ordering.is_lt() {
                least = Some((index, burden));
                weight_of_least = 0;
            }
            if ordering.is_le() {
                weight_of_least += u64::from(self.weight(index));
            }
        }
        let (first, least) = least?;
        let mut turn = part(self.take_turn(), weight_of_least);
        let is_its_turn = |index: &usize| {
            let weight = u64::from(self.weight(*index));
            let reached = turn < weight;
            turn = turn.saturating_sub(weight);
            reached
        };
        let mut among = self.all().filter(|&index| self.allows(index) && self.burden(index).against(least).is_le());
        Some(among.find(is_its_turn).unwrap_or(first))
    }

    /// Multiples of the golden ratio, as parts of 2⁶⁴: over any stretch they are spread evenly.
    fn take_turn(self) -> u64 {
        self.upstream.turn.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    fn all(self) -> impl Iterator<Item = usize> {
        0..self.upstream.states.len()
    }

    fn is_empty(self) -> bool {
        self.eligible.weight() == 0
    }

    fn allows(self, index: usize) -> bool {
        self.eligible.holds(index)
            && !self.tried.contains(&index)
            && (!self.only_ejected || self.upstream.may_return(index))
            && (self.room.most == usize::MAX || self.upstream.states[index].carries(self.room.demand) < self.room.most)
    }

    fn burden(self, index: usize) -> Burden {
        Burden::of(self.upstream.states[index].load(), self.weight(index))
    }

    fn weight(self, index: usize) -> u16 {
        self.upstream.members[index].weight
    }
}

/// `total` times `share`, which is a part of 2⁶⁴: a number below `total`.
fn part(share: u64, total: u64) -> u64 {
    // The upper half of a product of two 64-bit numbers fits 64 bits.
    ((u128::from(share) * u128::from(total)) >> 64) as u64
}

/// Of no more backends than these, all are compared: the loads are as even as can be, in well under a microsecond.
const FEW: usize = 32;

/// Only backends that were tried are drawn in vain. Where so many draws meet nobody else, all are compared.
const DRAWS: usize = 16;

/// After so many points in a row whose backends cannot be chosen, a walk pauses to see whether any can.
const FAR: usize = 1024;

/// With a factor above 1 somebody always has room, unless others took it since loads were added up: then add up again.
/// Backends that were tried already may be the only ones with room; another round would then be in vain.
const ROUNDS: usize = 4;

/// Load of a backend with one request more, by weight; all idle ones are equal, so that each gets its turn.
///
/// HAProxy's `leastconn` reckons in the same way.
#[derive(Clone, Copy, Debug)]
struct Burden {
    requests: u64,
    weight: u64,
}

impl Burden {
    fn of(load: usize, weight: u16) -> Self {
        let requests = if load == 0 { 0 } else { load as u64 + 1 };
        Self { requests, weight: weight.into() }
    }

    fn against(self, other: Self) -> Ordering {
        (self.requests * other.weight).cmp(&(other.requests * self.weight))
    }
}

/// The highest load a backend may reach: the ceiling of its share, by weight, of `factor` times the load there would
/// be.
pub(super) fn load_limit(factor: f64, total_load: usize, weight: u16, total_weight: u64) -> usize {
    let share = factor * (total_load as f64 + 1.0) * f64::from(weight) / total_weight as f64;
    // A product that is a whole number on paper may come out a hair above it.
    (share - 1e-9).ceil().max(1.0) as usize
}
