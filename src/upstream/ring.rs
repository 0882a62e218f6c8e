//! The ring: nginx's Ketama continuum over an upstream's backends, walked backend by backend.

use std::net::SocketAddr;

use crate::config::Backend;

/// The continuum of nginx's `hash … consistent` (`ngx_http_upstream_init_chash`): 160 points per unit of weight, each
/// the CRC-32 of the address, a zero byte, the port, and the point before; a key belongs to the first point that is not
/// below its CRC-32.
///
/// The ring depends on the addresses and weights alone, not on the order they are listed in: a point that two backends
/// share belongs to the lower address (in nginx to the one listed first). Backends of weight 0 are not on it.
///
/// Pingora's `KetamaHashing` is not used: it hashes IPv6 addresses without the brackets that nginx has them in (it
/// agreed with nginx 1.22 on 360 of 1,000 keys), and an unstable sort decides which backend owns a shared point.
pub struct Ring {
    /// By hash, each hash once.
    points: Vec<Point>,
    /// The backends on the ring, by address.
    members: Vec<usize>,
    /// Number of backends that were listed, on the ring or not.
    listed: usize,
}

/// Ordered by hash, then by address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u32,
    /// Place in `members`; weights above 0 and at most 2³² of them fit, as the list itself would take 120 GB.
    member: u32,
}

impl Ring {
    /// Puts all backends with a weight above 0 on a ring.
    pub fn new(backends: &[Backend]) -> Self {
        let mut members: Vec<usize> = (0..backends.len()).filter(|&index| backends[index].weight > 0).collect();
        members.sort_by_key(|&index| backends[index].address);

        let weights = members.iter().map(|&index| usize::from(backends[index].weight)).sum::<usize>();
        let mut points = Vec::with_capacity(weights * POINTS_PER_WEIGHT);
        for (member, &index) in (0..).zip(&members) {
            let Backend { address, weight } = backends[index];
            let count = usize::from(weight) * POINTS_PER_WEIGHT;
            points.extend(hashes(address).take(count).map(|hash| Point { hash, member }));
        }
        points.sort_unstable();
        points.dedup_by_key(|point| point.hash);
        Self { points, members, listed: backends.len() }
    }

    /// The backends in the order in which `key` would try them, as indices of the list: each one with a weight above 0,
    /// once. The first costs one binary search, and all of them at most one round of the ring.
    pub fn walk(&self, key: &[u8]) -> Walk<'_> {
        self.walk_from(Self::hash(key))
    }

    /// Place of `key` on every ring.
    pub fn hash(key: &[u8]) -> u32 {
        crc32fast::hash(key)
    }

    /// The next point from `near` on of the backend `index`, whose address is given, among the points of its first unit
    /// of weight; `None` where it owns none of them.
    ///
    /// The point stays that backend's when others join or leave, and when its weight changes to any above 0.
    pub(super) fn point_of(&self, index: usize, address: SocketAddr, near: u32) -> Option<u32> {
        let own = hashes(address).take(POINTS_PER_WEIGHT).filter(|hash| self.walk_from(*hash).next() == Some(index));
        own.min_by_key(|hash| hash.wrapping_sub(near))
    }

    /// The owner of each point on one round from `hash`, so most of them many times, and then every backend on the ring
    /// once more: some may own no point.
    ///
    /// Cheaper than [`walk_from`](Self::walk_from) for whoever asks for the first that is fit in some way.
    pub(super) fn points_from(&self, hash: u32) -> impl Iterator<Item = usize> {
        let (before, from) = self.split(hash);
        let owners = from.iter().chain(before).map(|point| self.members[point.member as usize]);
        owners.chain(self.members.iter().copied())
    }

    /// The points below `hash`, and the others.
    fn split(&self, hash: u32) -> (&[Point], &[Point]) {
        self.points.split_at(self.points.partition_point(|point| point.hash < hash))
    }

    /// [`walk`](Self::walk) for the key with this hash.
    pub fn walk_from(&self, hash: u32) -> Walk<'_> {
        let (before, from) = self.split(hash);
        let unseen = self.members.len();
        Walk {
            ring: self,
            points: from.iter().chain(before),
            first: None,
            seen: Vec::new(),
            unseen,
            rest: self.members.iter(),
        }
    }
}

/// The hashes of a backend's points, without end.
fn hashes(address: SocketAddr) -> impl Iterator<Item = u32> {
    let text = match address {
        SocketAddr::V4(address) => format!("{}\0{}", address.ip(), address.port()),
        SocketAddr::V6(address) => format!("[{}]\0{}", address.ip(), address.port()),
    };
    let mut base = crc32fast::Hasher::new();
    base.update(text.as_bytes());
    let after = move |before: &u32| {
        let mut hasher = base.clone();
        hasher.update(&before.to_le_bytes());
        Some(hasher.finalize())
    };
    std::iter::successors(after(&0), after.clone())
}

/// See [`Ring::walk`].
pub struct Walk<'r> {
    ring: &'r Ring,
    points: std::iter::Chain<std::slice::Iter<'r, Point>, std::slice::Iter<'r, Point>>,
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
        while let Some(point) = self.points.next() {
            let index = self.ring.members[point.member as usize];
            if self.see(index) {
                return Some(index);
            }
        }
        // A backend without a single point of its own: all are shared with lower addresses.
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
        f.debug_struct("Ring").field("members", &self.members.len()).field("points", &self.points.len()).finish()
    }
}

/// nginx: `npoints = peer->weight * 160`.
const POINTS_PER_WEIGHT: usize = 160;

#[cfg(test)]
mod tests;
