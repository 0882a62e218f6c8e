//! The ring: nginx's Ketama continuum over an upstream's backends, walked backend by backend.

use std::collections::BTreeSet;
use std::sync::Arc;

use pingora_core::protocols::l4::socket::SocketAddr;
use pingora_load_balancing::selection::consistent::{KetamaHashing, OwnedNodeIterator};
use pingora_load_balancing::selection::{BackendIter, BackendSelection};

use crate::config::Backend;

/// The continuum of nginx's `hash … consistent` (160 points per unit of weight, CRC-32 of address and port).
///
/// It depends on the addresses and weights alone, not on the order they are listed in. Backends of weight 0 are not on
/// it.
///
/// Built by Pingora's `KetamaHashing`, whose edges are kept away from: weight 0 panics there, weights are added up in
/// 32 bits, backends are numbered in 16 bits, and its iterator never ends.
///
/// Where it differs from nginx:
/// - IPv6 addresses are hashed without their brackets, so a ring with IPv6 backends is another one;
/// - a point that two backends share belongs to either (in nginx to the one listed first), and may pass from one to the
///   other when a third leaves: with n points a share of n / 2³³ of the keys, one in 5,000 with 10,000 backends;
/// - weights that add up to more than [`MAX_WEIGHT`] are scaled down.
pub struct Ring {
    ketama: Arc<KetamaHashing>,
    /// The backends on the ring, by address.
    members: Vec<usize>,
    /// How many backends were listed, on the ring or not.
    listed: usize,
    /// No fewer points than the ring has: as many steps see all of it.
    points: usize,
}

/// The sum of weights up to which a ring is exactly nginx's: 16 million points, 128 MB.
///
/// Above it weights are divided by their greatest common divisor, and where that is not enough scaled down in
/// proportion, to no less than 1.
pub const MAX_WEIGHT: u64 = 100_000;

/// Backends are numbered in 16 bits on the ring: those beyond, by address, are no key's first choice.
const MAX_MEMBERS: usize = 1 << 16;

/// A backend's index in the list the ring was made from, which Pingora carries along.
#[derive(Clone, Copy)]
struct Index(usize);

impl Ring {
    /// Puts all backends with a weight above 0 on a ring.
    pub fn new(backends: &[Backend]) -> Self {
        let mut members: Vec<usize> = (0..backends.len()).filter(|&index| backends[index].weight > 0).collect();
        members.sort_by_key(|&index| backends[index].address);
        let weights = ring_weights(members.iter().map(|&index| backends[index].weight));

        let mut on_ring = BTreeSet::new();
        for (&index, &weight) in members.iter().zip(&weights).take(MAX_MEMBERS) {
            let mut ext = pingora_load_balancing::Extensions::new();
            ext.insert(Index(index));
            let addr = SocketAddr::Inet(backends[index].address);
            on_ring.insert(pingora_load_balancing::Backend { addr, weight, ext });
        }
        let points = weights.iter().take(MAX_MEMBERS).sum::<usize>() * POINTS_PER_WEIGHT;
        Self { ketama: Arc::new(KetamaHashing::build(&on_ring)), members, listed: backends.len(), points }
    }

    /// The backends in the order in which `key` would try them, as indices of the list: each one with a weight above 0,
    /// once. The first costs one binary search, and all of them at most one round of the ring.
    pub fn walk(&self, key: &[u8]) -> Walk<'_> {
        Walk {
            ring: self,
            points: self.ketama.iter(key),
            steps_left: self.points,
            first: None,
            seen: Vec::new(),
            unseen: self.members.len(),
            rest: self.members.iter(),
        }
    }
}

/// See [`Ring::walk`].
pub struct Walk<'r> {
    ring: &'r Ring,
    points: OwnedNodeIterator,
    steps_left: usize,
    first: Option<usize>,
    /// By index; made when a second backend is asked for, which is seldom.
    seen: Vec<bool>,
    unseen: usize,
    /// For after the round: who was not on it.
    rest: std::slice::Iter<'r, usize>,
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.unseen == 0 {
            return None;
        }
        while self.steps_left > 0 {
            self.steps_left -= 1;
            let Some(Index(index)) = self.points.next().and_then(|backend| backend.ext.get().copied()) else { break };
            if self.see(index) {
                return Some(index);
            }
        }
        // A backend without a single point of its own (all taken by others' equal hashes, or one too many for 16 bits).
        while let Some(&index) = self.rest.next() {
            if self.see(index) {
                return Some(index);
            }
        }
        None
    }
}

impl Walk<'_> {
    /// Notes a backend as seen; false if it was already.
    fn see(&mut self, index: usize) -> bool {
        let new = match self.first {
            None => {
                self.first = Some(index);
                true
            }
            Some(first) if first == index => false,
            Some(_) => {
                if self.seen.is_empty() {
                    self.seen = vec![false; self.ring.listed];
                }
                !std::mem::replace(&mut self.seen[index], true)
            }
        };
        self.unseen -= usize::from(new);
        new
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("members", &self.members.len()).field("points", &self.points).finish()
    }
}

/// nginx: `npoints = peer->weight * 160`.
const POINTS_PER_WEIGHT: usize = 160;

/// The weights as the ring takes them: unchanged unless their sum is above [`MAX_WEIGHT`].
fn ring_weights(weights: impl Iterator<Item = u16>) -> Vec<usize> {
    let mut weights: Vec<u64> = weights.map(u64::from).collect();
    if weights.iter().sum::<u64>() > MAX_WEIGHT {
        let divisor = weights.iter().copied().fold(0, greatest_common_divisor);
        weights.iter_mut().for_each(|weight| *weight /= divisor.max(1));
    }
    let total = weights.iter().sum::<u64>();
    if total > MAX_WEIGHT {
        weights.iter_mut().for_each(|weight| *weight = (*weight * MAX_WEIGHT / total).max(1));
    }
    // Each is at most 65 535, so `as` loses nothing.
    weights.into_iter().map(|weight| weight as usize).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests;
