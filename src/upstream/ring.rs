//! The ring: nginx's Ketama continuum over an upstream's backends, walked backend by backend.

use std::net::SocketAddr;

use super::Member;

/// The continuum of nginx's `hash … consistent` (`ngx_http_upstream_init_chash`): 160 points per unit of weight, each
/// the CRC-32 of the name up to its port, a zero byte, the port, and the point before; a key belongs to the first point
/// that is not below its CRC-32. The name is what nginx has behind `server`: an address or another text.
///
/// The ring depends on the names and weights alone, not on the order they are listed in: a point that two backends
/// share belongs to the lower name, addresses before other names (in nginx to the one listed first). Backends of weight
/// 0 are not on it.
///
/// Pingora's `KetamaHashing` is not used: it hashes IPv6 addresses without the brackets that nginx has them in (it
/// agreed with nginx 1.22 on 360 of 1,000 keys), and an unstable sort decides which backend owns a shared point.
pub struct Ring {
    /// By hash, each hash once.
    points: Vec<Point>,
    /// The points that belong to another backend, which has the same hash, in order.
    shared: Vec<Point>,
    /// The backends on the ring, by name.
    members: Vec<usize>,
    /// Number of backends that were listed, on the ring or not.
    listed: usize,
}

/// Ordered by hash, then by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    hash: u32,
    /// Place in `members`; weights above 0 and at most 2³² of them fit, as the list itself would take 120 GB.
    member: u32,
}

impl Ring {
    /// Puts all backends with a weight above 0 on a ring.
    pub fn new(listed: &[Member]) -> Self {
        let named = by_name(listed);
        let weights = named.iter().map(|&(_, _, index)| usize::from(listed[index].weight)).sum::<usize>();
        let mut points = Vec::with_capacity(weights * POINTS_PER_WEIGHT);
        let mut first = 0;
        for group in named.chunk_by(|one, other| one.0 == other.0) {
            // They have one place together, and the weight of one of them.
            let weight = listed[group[0].2].weight;
            points.extend(points_of(group[0].0, weight, first).map(|point| match group {
                [_] => point,
                _ => Point { member: first + winner(group, point.hash), ..point },
            }));
            first += group.len() as u32;
        }
        points.sort_unstable();
        let mut ring = Self::empty(&named, listed.len(), points.len());
        points.into_iter().for_each(|point| ring.put(point));
        ring
    }

    /// The ring of `after`, where this one is that of `before`. Where few members differ it takes one pass over the
    /// points, without hashing or sorting those that stay.
    #[must_use]
    pub(super) fn with_members(&self, before: &[Member], after: &[Member]) -> Self {
        // Members that share a place own other points whenever one of them comes or goes.
        if before.iter().chain(after).any(|member| member.place.is_some()) {
            return Self::new(after);
        }
        let named = by_name(after);
        // The place in `named` of each member that stays as it is; both are in the order of names.
        let mut stays: Vec<Option<u32>> = vec![None; self.members.len()];
        let (mut fresh, mut old) = (Vec::new(), self.members.iter().enumerate().peekable());
        for (member, (name, _, index)) in (0..).zip(&named) {
            while old.next_if(|(_, old)| Name::of(&before[**old].name) < *name).is_some() {}
            let same = |old: &Member| old.name == after[*index].name && old.weight == after[*index].weight;
            match old.next_if(|(_, old)| same(&before[**old])) {
                Some((place, _)) => stays[place] = Some(member),
                None => fresh.extend(points_of(*name, after[*index].weight, member)),
            }
        }
        if fresh.len() > self.points.len() / MANY {
            return Self::new(after);
        }
        let place = |point: &Point| Some(Point { hash: point.hash, member: stays[point.member as usize]? });
        fresh.extend(self.shared.iter().filter_map(place));
        fresh.sort_unstable();
        let mut ring = Self::empty(&named, after.len(), self.points.len() + fresh.len());
        let mut fresh = fresh.into_iter().peekable();
        for point in self.points.iter().filter_map(place) {
            while let Some(before) = fresh.next_if(|fresh| *fresh < point) {
                ring.put(before);
            }
            ring.put(point);
        }
        fresh.for_each(|point| ring.put(point));
        ring
    }

    fn empty(named: &[Named<'_>], listed: usize, points: usize) -> Self {
        let members = named.iter().map(|(_, _, index)| *index).collect();
        Self { points: Vec::with_capacity(points), shared: Vec::new(), members, listed }
    }

    /// Adds the next point in order.
    fn put(&mut self, point: Point) {
        match self.points.last() {
            Some(last) if last.hash == point.hash => self.shared.push(point),
            _ => self.points.push(point),
        }
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

    /// The next point from `near` on of the backend `index`, whose text on the ring is given, among the points of its
    /// first unit of weight; `None` where it owns none of them.
    ///
    /// The point stays that backend's when others join or leave, and when its weight changes to any above 0.
    pub(super) fn point_of(&self, index: usize, name: &str, near: u32) -> Option<u32> {
        let own = hashes(Name::of(name)).take(POINTS_PER_WEIGHT);
        let own = own.filter(|hash| self.walk_from(*hash).next() == Some(index));
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

/// A member on the ring: what stands there, its name, its index.
type Named<'m> = (Name<'m>, &'m str, usize);

/// The members with a weight above 0, in the order of what stands on the ring.
fn by_name(listed: &[Member]) -> Vec<Named<'_>> {
    let on_ring = listed.iter().enumerate().filter(|(_, member)| member.weight > 0);
    let mut named: Vec<_> = on_ring.map(|(index, member)| (Name::of(member.on_ring()), &*member.name, index)).collect();
    named.sort_unstable();
    named
}

/// Number of the member, of those that share a place, that owns a point there: the one whose name goes with it best
/// (rendezvous hashing). Who else shares the place decides nothing between two of them.
fn winner(group: &[Named<'_>], hash: u32) -> u32 {
    let score = |name: &str| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(name.as_bytes());
        // A CRC is linear: without a step that is not, the order of two names would be the same for half of all points.
        u64::from(hasher.finalize() ^ hash)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32)
            .wrapping_mul(0xD6E8_FEB8_6659_FD93)
    };
    (0..).zip(group).max_by_key(|(_, (_, name, _))| (score(name), *name)).map_or(0, |(number, _)| number)
}

/// The points of the backend at this place among those on the ring.
fn points_of(name: Name<'_>, weight: u16, member: u32) -> impl Iterator<Item = Point> + use<> {
    hashes(name).take(usize::from(weight) * POINTS_PER_WEIGHT).map(move |hash| Point { hash, member })
}

/// A backend's name as the ring has it. Addresses are ordered as numbers, and before other names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Name<'n> {
    Address(SocketAddr),
    Text(&'n str),
}

impl<'n> Name<'n> {
    fn of(name: &'n str) -> Self {
        name.parse().map_or(Self::Text(name), Self::Address)
    }

    /// The text that points are hashes of: host and port, parted by a zero byte. The port is empty where the name ends
    /// in none.
    fn hashed(self) -> String {
        match self {
            Self::Address(SocketAddr::V4(address)) => format!("{}\0{}", address.ip(), address.port()),
            Self::Address(SocketAddr::V6(address)) => format!("[{}]\0{}", address.ip(), address.port()),
            Self::Text(name) => match name.rsplit_once(':') {
                Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{host}\0{port}"),
                _ => format!("{name}\0"),
            },
        }
    }
}

/// The hashes of a backend's points, without end.
fn hashes(name: Name<'_>) -> impl Iterator<Item = u32> + use<> {
    let text = name.hashed();
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
        // A backend without a single point of its own: all are shared with lower names.
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

/// A ring is made anew when more than one in this many of its points is new.
const MANY: usize = 4;

/// nginx: `npoints = peer->weight * 160`.
const POINTS_PER_WEIGHT: usize = 160;

#[cfg(test)]
mod tests;
