//! Networks of clients, as they are counted.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU64;

use crate::config::PerClient;

/// A network of clients: the first bits of their addresses, as `limits.per_client` says. IPv4 networks stand in
/// `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network {
    /// The first 64 bits, inverted: all ones is multicast (RFC 4291 §2.7), which no client comes from. So a tunnel that
    /// belongs to no network takes no more room than one that does.
    high: NonZeroU64,
    low: u64,
}

impl Network {
    /// The network that an address is in.
    pub(super) fn of(address: IpAddr, limits: &PerClient) -> Self {
        let (bits, length) = match address.to_canonical() {
            IpAddr::V4(address) => (address.to_ipv6_mapped().to_bits(), 96 + u32::from(limits.ipv4_prefix)),
            IpAddr::V6(address) => (address.to_bits(), u32::from(limits.ipv6_prefix)),
        };
        let bits = bits & u128::MAX.checked_shl(128 - length).unwrap_or(0);
        Self { high: NonZeroU64::new(!((bits >> 64) as u64)).unwrap_or(NonZeroU64::MIN), low: bits as u64 }
    }
}

impl Hash for Network {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.high.get());
        hasher.write_u64(self.low);
    }
}

/// Hashes networks with keys that the process draws: nobody outside can choose networks that collide.
///
/// Three multiplications, because this is a part of every handshake, and the standard library's hasher is three times
/// as dear for 16 bytes.
#[derive(Clone, Debug)]
pub(super) struct Seed([u64; 2]);

impl Seed {
    pub(super) fn draw() -> Self {
        let drawn = RandomState::new();
        // Odd, so that no multiplication by it loses a bit.
        Self([drawn.hash_one(1_u8), drawn.hash_one(2_u8) | 1])
    }
}

impl BuildHasher for Seed {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding { state: self.0[0], key: self.0[1] }
    }
}

/// A hasher that multiplies to 128 bits and folds the halves.
pub(super) struct Folding {
    state: u64,
    key: u64,
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, word: u64) {
        self.state = folded(self.state ^ word, self.key);
        self.key = self.key.rotate_left(23) | 1;
    }

    fn finish(&self) -> u64 {
        folded(self.state, LAST)
    }
}

fn folded(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    (product as u64) ^ (product >> 64) as u64
}

/// The fraction of the golden ratio: odd, and half of its bits are set.
const LAST: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn network(address: &str, ipv4_prefix: u8, ipv6_prefix: u8) -> Network {
        Network::of(address.parse().unwrap(), &PerClient { ipv4_prefix, ipv6_prefix, ..PerClient::default() })
    }

    #[test]
    fn addresses_with_the_same_first_bits_are_one_network() {
        assert_eq!(network("203.0.113.7", 32, 64), network("::ffff:203.0.113.7", 32, 64));
        assert_ne!(network("203.0.113.7", 32, 64), network("203.0.113.8", 32, 64));
        assert_eq!(network("203.0.113.7", 24, 64), network("203.0.113.8", 24, 64));
        assert_ne!(network("203.0.113.7", 24, 64), network("203.0.114.7", 24, 64));
        assert_eq!(network("2001:db8::1", 32, 64), network("2001:db8::ffff:1", 32, 64));
        assert_ne!(network("2001:db8::1", 32, 64), network("2001:db8:0:1::1", 32, 64));
        assert_ne!(network("2001:db8::1", 32, 128), network("2001:db8::2", 32, 128));
        assert_ne!(network("::1", 32, 64), network("0.0.0.1", 1, 64));
    }

    #[test]
    fn neighbouring_networks_have_hashes_that_spread() {
        let seed = Seed::draw();
        let hash = |n: u32| seed.hash_one(network(&std::net::Ipv4Addr::from_bits(n << 4).to_string(), 32, 64));
        for shift in [0, 57] {
            let places: HashSet<u64> = (0..4_000).map(|n| (hash(n) >> shift) & 0x7f).collect();
            assert_eq!(places.len(), 128, "4,000 networks leave none of 128 places empty");
        }
    }
}
