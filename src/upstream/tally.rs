//! The tally: which backends of an upstream may be picked, their weights and their loads together, kept as they change.
//!
//! A pick asks it instead of every backend. It is brought up to date by whatever changes a backend's live state, under
//! that backend's lock; readers take no lock, and may for a moment see a change half made.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Sums over one upstream's backends. Backends of weight 0 are not in it.
#[derive(Debug)]
pub(super) struct Tally {
    /// Up, not kept out by an ejection, and not being drained.
    pub(super) up: Eligible,
    /// Not being drained, whether up or not: what counts where health is off or picks fail open.
    pub(super) up_or_down: Eligible,
    /// Up as above, and come in place of members that leave; only while there are such.
    pub(super) replacing: Option<Eligible>,
    /// Number of backends that are ejected, on trial or not.
    ejected: AtomicUsize,
}

/// The part of a backend's live state that decides where it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TalliedState {
    pub(super) up: bool,
    pub(super) ejected: bool,
    /// Not ejected, or waiting for a request on trial.
    pub(super) admits: bool,
    pub(super) draining: bool,
}

impl Tally {
    /// A tally of so many backends, none of them counted yet; `replacing` where some have come in place of others.
    pub(super) fn new(backends: usize, replacing: bool) -> Self {
        Self {
            up: Eligible::new(backends),
            up_or_down: Eligible::new(backends),
            replacing: replacing.then(|| Eligible::new(backends)),
            ejected: AtomicUsize::new(0),
        }
    }

    /// Counts a backend that stood `before` (`None`: not at all) as it stands `after`.
    pub(super) fn change(&self, share: Share, before: Option<TalliedState>, after: Option<TalliedState>) {
        let is_up = |standing: TalliedState| standing.up && standing.admits && !standing.draining;
        self.up.change(share, before.is_some_and(is_up), after.is_some_and(is_up));
        if let Some(replacing) = self.replacing.as_ref().filter(|_| share.replaces) {
            replacing.change(share, before.is_some_and(is_up), after.is_some_and(is_up));
        }
        let is_there = |standing: TalliedState| !standing.draining;
        self.up_or_down.change(share, before.is_some_and(is_there), after.is_some_and(is_there));
        let is_ejected = |standing: Option<TalliedState>| standing.is_some_and(|standing| standing.ejected);
        match (is_ejected(before), is_ejected(after)) {
            (false, true) => _ = self.ejected.fetch_add(1, Relaxed),
            (true, false) => _ = self.ejected.fetch_sub(1, Relaxed),
            (true, true) | (false, false) => {}
        }
    }

    /// True while any backend is ejected.
    pub(super) fn has_ejected(&self) -> bool {
        self.ejected.load(Relaxed) > 0
    }

    /// A request more on a backend.
    pub(super) fn occupied(&self, place: usize) {
        self.counting(place).for_each(|eligible| _ = eligible.load.fetch_add(1, Relaxed));
    }

    /// A request less on a backend.
    pub(super) fn released(&self, place: usize) {
        self.counting(place).for_each(|eligible| _ = eligible.load.fetch_sub(1, Relaxed));
    }

    fn counting(&self, place: usize) -> impl Iterator<Item = &Eligible> {
        let all = [&self.up, &self.up_or_down].into_iter().chain(&self.replacing);
        all.filter(move |eligible| eligible.holds(place))
    }
}

/// Contribution of one backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Index of the backend among the members.
    pub(super) place: usize,
    pub(super) weight: u16,
    pub(super) load: usize,
    /// Set where it has come in place of members that leave.
    pub(super) replaces: bool,
}

/// Backends that may be picked.
#[derive(Debug)]
pub(super) struct Eligible {
    /// A bit a backend, so that a walk past many that are down stays within a few cache lines.
    members: Vec<AtomicU64>,
    /// Sums of weights (a Fenwick tree): the n-th, from 1, over as many places before place n as the lowest bit of n
    /// says. Its length is a power of two and one more, so that the last sums up everything.
    sums: Vec<AtomicU32>,
    load: AtomicUsize,
}

impl Eligible {
    fn new(backends: usize) -> Self {
        let sums = backends.next_power_of_two() + 1;
        Self {
            members: (0..backends.div_ceil(64)).map(|_| AtomicU64::new(0)).collect(),
            sums: (0..sums).map(|_| AtomicU32::new(0)).collect(),
            load: AtomicUsize::new(0),
        }
    }

    /// True when the backend with this index is one of them.
    pub(super) fn holds(&self, place: usize) -> bool {
        self.members[place / 64].load(Relaxed) >> (place % 64) & 1 == 1
    }

    /// Their weights together; 0 when there are none.
    pub(super) fn weight(&self) -> u64 {
        self.sum(self.sums.len() - 1).into()
    }

    /// Their loads together.
    pub(super) fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// The one that comes to `weight`, below [`weight`](Self::weight), when their weights are laid end to end by index.
    ///
    /// Takes time logarithmic in the number of backends. While a change is being made it may be none, or one that is
    /// not eligible any more.
    pub(super) fn at(&self, weight: u64) -> Option<usize> {
        let mut left = u32::try_from(weight).ok()?;
        let mut place = 0;
        let mut step = self.sums.len() - 1;
        while step > 0 {
            let sum = self.sums.get(place + step).map_or(u32::MAX, |sum| sum.load(Relaxed));
            if sum <= left {
                left -= sum;
                place += step;
            }
            step /= 2;
        }
        (place / 64 < self.members.len()).then_some(place)
    }

    fn sum(&self, node: usize) -> u32 {
        self.sums[node].load(Relaxed)
    }

    fn change(&self, share: Share, was: bool, is: bool) {
        let Share { place, weight, load, replaces: _ } = share;
        let (word, bit) = (&self.members[place / 64], 1 << (place % 64));
        match (was, is) {
            (false, true) => {
                self.add(place, weight.into());
                self.load.fetch_add(load, Relaxed);
                word.fetch_or(bit, Relaxed);
            }
            (true, false) => {
                word.fetch_and(!bit, Relaxed);
                self.load.fetch_sub(load, Relaxed);
                self.add(place, u32::from(weight).wrapping_neg());
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Adds to the weight at a place, in every sum that it is part of.
    fn add(&self, place: usize, weight: u32) {
        let mut node = place + 1;
        while node < self.sums.len() {
            self.sums[node].fetch_add(weight, Relaxed);
            node += node & node.wrapping_neg();
        }
    }
}

#[cfg(test)]
mod tests;
