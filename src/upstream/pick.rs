//! The pick: the choice of one backend for one request.
//!
//! With a key the ring decides: the first backend on it that is up and was not tried yet. With a `balance_factor` c it
//! must also have room: no backend may carry more than c times its share, by weight, of the load of all backends that
//! are up (consistent hashing with bounded loads, Mirrokni et al. 2016; HAProxy's `hash-balance-factor`). Without a key
//! the least loaded backend by weight is taken; those that are idle take turns by weight.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::{BackendState, LoadGuard, Upstream};

/// One backend, chosen for one request and already counted as loaded with it.
#[derive(Debug)]
pub struct Pick {
    /// Its index in the configuration's list.
    pub index: usize,
    /// Its live state.
    pub state: Arc<BackendState>,
    /// Counts the request, and the tunnel it may become, for as long as it is kept.
    pub guard: LoadGuard,
    /// Which rule chose it.
    pub how: Picked,
}

/// Which rule chose a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Picked {
    /// The first on the ring for the key.
    Ring,
    /// A later one on the ring: those before it are down, full or were tried.
    NextOnRing,
    /// The least loaded: there was no key, or every backend was full.
    LeastLoaded,
}

/// Why no backend was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// None is up (and `fail_open` is not set), or all that are up are being drained: answered 503.
    #[error("no backend is up")]
    AllDown,
    /// At least one was tried for this request, and there is none left to try: answered 502.
    #[error("every backend that could be tried has failed")]
    AllTried,
}

impl Pick {
    fn new(index: usize, guard: LoadGuard, how: Picked) -> Self {
        Self { index, state: Arc::clone(guard.state()), guard, how }
    }
}

impl Picked {
    /// Its name in metric labels and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::NextOnRing => "next_on_ring",
            Self::LeastLoaded => "least_loaded",
        }
    }
}

impl Upstream {
    /// Chooses a backend for a request, leaving out those of `tried` (indices, from picks before for the same request).
    ///
    /// An empty key is no key. Backends of weight 0 and those being drained are never chosen. With every backend down and `fail_open` set, all
    /// are taken as up. Without `balance_factor` a pick with a key looks at the first few backends on the ring only;
    /// otherwise it looks at all of them once.
    ///
    /// # Errors
    /// [`Unavailable`], where there is no backend left to choose.
    pub fn pick(&self, key: Option<&[u8]>, tried: &[usize]) -> Result<Pick, Unavailable> {
        let key = key.filter(|key| !key.is_empty());
        let choice = Choice { upstream: self, tried, all_up: false };
        choice
            .pick(key)
            .or_else(|| (self.config.fail_open && !choice.any_up()).then(|| choice.failing_open().pick(key)).flatten())
            .ok_or(if tried.is_empty() { Unavailable::AllDown } else { Unavailable::AllTried })
    }
}

/// What may be chosen from.
#[derive(Clone, Copy)]
struct Choice<'a> {
    upstream: &'a Upstream,
    tried: &'a [usize],
    all_up: bool,
}

impl Choice<'_> {
    fn failing_open(self) -> Self {
        Self { all_up: true, ..self }
    }

    fn pick(self, key: Option<&[u8]>) -> Option<Pick> {
        match (key, self.upstream.config.balance_factor) {
            (Some(key), None) => self.first_on_ring(key),
            (Some(key), Some(factor)) => {
                let mut rounds = (0..ROUNDS).filter_map(|_| self.first_with_room(key, factor));
                rounds.next().or_else(|| self.least_loaded())
            }
            (None, _) => self.least_loaded(),
        }
    }

    fn first_on_ring(self, key: &[u8]) -> Option<Pick> {
        self.along_ring(key, |index| Some(self.upstream.states[index].occupy()))
    }

    fn first_with_room(self, key: &[u8], factor: f64) -> Option<Pick> {
        let (load, weight) = self.all().filter(|&index| self.is_up(index)).fold((0, 0), |(load, weight), index| {
            (load + self.upstream.states[index].load(), weight + u64::from(self.weight(index)))
        });
        // Requests that came in since can only have made the limit higher: together they never pass it.
        let limit = |index| load_limit(factor, load, self.weight(index), weight);
        self.along_ring(key, |index| self.upstream.states[index].occupy_within(limit(index)))
    }

    /// The first backend on the ring that may be chosen and lets itself be occupied.
    fn along_ring(self, key: &[u8], occupy: impl Fn(usize) -> Option<LoadGuard>) -> Option<Pick> {
        for (place, index) in self.upstream.ring.walk(key).enumerate() {
            if self.allows(index)
                && let Some(guard) = occupy(index)
            {
                let how = if place == 0 { Picked::Ring } else { Picked::NextOnRing };
                return Some(Pick::new(index, guard, how));
            }
            // A whole round costs far more than looking at each backend: first see whether it can lead anywhere.
            if place == FAR && !self.all().any(|index| self.allows(index)) {
                return None;
            }
        }
        None
    }

    /// Of the idle ones, or else of those that would be the least loaded by weight, the one whose turn it is.
    ///
    /// Two requests at the same moment may choose the same one: loads are looked at first and counted after.
    fn least_loaded(self) -> Option<Pick> {
        let burden = |index: usize| Burden::of(self.upstream.states[index].load(), self.weight(index));
        let mut least: Option<(usize, Burden)> = None;
        let mut weight_of_least = 0;
        for index in self.all().filter(|&index| self.allows(index)) {
            let burden = burden(index);
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
        let mut turn = self.take_turn(weight_of_least);
        let is_its_turn = |index: &usize| {
            let weight = u64::from(self.weight(*index));
            let reached = turn < weight;
            turn = turn.saturating_sub(weight);
            reached
        };
        let mut among = self.all().filter(|&index| self.allows(index) && burden(index).against(least).is_le());
        let index = among.find(is_its_turn).unwrap_or(first);
        Some(Pick::new(index, self.upstream.states[index].occupy(), Picked::LeastLoaded))
    }

    /// A number below `total`: multiples of the golden ratio, which over any stretch are spread evenly.
    fn take_turn(self, total: u64) -> u64 {
        let step = self.upstream.turn.fetch_add(1, Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        // The upper half of a product of two 64-bit numbers fits 64 bits.
        ((u128::from(step) * u128::from(total)) >> 64) as u64
    }

    fn all(self) -> impl Iterator<Item = usize> {
        0..self.upstream.states.len()
    }

    fn any_up(self) -> bool {
        self.all().any(|index| self.is_up(index))
    }

    /// Up, and given anything new at all.
    fn is_up(self, index: usize) -> bool {
        let state = &self.upstream.states[index];
        self.weight(index) > 0 && !state.is_draining() && (self.all_up || self.upstream.is_up(index))
    }

    fn allows(self, index: usize) -> bool {
        self.is_up(index) && !self.tried.contains(&index)
    }

    fn weight(self, index: usize) -> u16 {
        self.upstream.config.backends[index].weight
    }
}

/// After so many backends in a row that cannot be chosen, a walk pauses to see whether any can.
const FAR: usize = 16;

/// With a factor above 1 somebody always has room, unless others took it since loads were added up: then add up again.
/// Where those that have room were all tried, this is in vain, and bounded.
const ROUNDS: usize = 4;

/// How loaded a backend would be with one request more, by weight; all idle ones are equal, so that each gets its turn.
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
    // What is a whole number on paper may come out a hair above it.
    (share - 1e-9).ceil().max(1.0) as usize
}
