//! Client networks: the unit in which clients count as different from each other.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The network of a client: the first 24 bits of an IPv4 address, the first 64 of an IPv6 address.
///
/// One person can hold all addresses of such a network, so they count as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientNetwork(u64);

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(IPV4 | u64::from(address.to_bits() >> 8)),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

/// The client networks that came to an upstream lately, as far as it matters: whether there was more than one.
#[derive(Debug, Default)]
pub(super) struct Visitors {
    /// Network of the last visit, to be read without the lock; 0 before the first.
    last: AtomicU64,
    /// The moment since which every visit came from that network.
    since: Mutex<Option<Instant>>,
}

impl Visitors {
    /// Notes a visit. `now` is asked for only when another network came before.
    pub(super) fn visited(&self, network: ClientNetwork, now: impl FnOnce() -> Instant) {
        if self.last.load(Relaxed) == network.0 {
            return;
        }
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if self.last.swap(network.0, Relaxed) != network.0 {
            *since = Some(now());
        }
    }

    /// True when every visit of the last minute, and at least one before it, came from this network.
    pub(super) fn is_alone(&self, network: ClientNetwork, now: Instant) -> bool {
        let since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        self.last.load(Relaxed) == network.0
            && since.is_some_and(|since| now.saturating_duration_since(since) >= ALONE_AFTER)
    }
}

/// A prefix that no IPv6 address on the internet has (::/8 is reserved, RFC 4291 §2.4), for IPv4 networks.
const IPV4: u64 = 0x00ff_0000_0000_0000;

/// Time without a visit from anybody else after which a network counts as the only one.
const ALONE_AFTER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn network(address: &str) -> ClientNetwork {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn clients_of_one_24_or_64_are_one_and_all_others_differ() {
        assert_eq!(network("192.0.2.1"), network("192.0.2.255"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.3.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_ne!(network("0.0.0.0"), network("::1"));
    }

    #[test]
    fn a_network_is_alone_a_minute_after_the_last_visit_of_another() {
        let (visitors, start) = (Visitors::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let (one, other) = (network("192.0.2.1"), network("198.51.100.1"));
        assert!(!visitors.is_alone(one, at(1_000)), "nobody came yet");
        visitors.visited(other, || at(0));
        visitors.visited(one, || at(10));
        visitors.visited(one, || at(20));
        assert!(!visitors.is_alone(one, at(69)));
        assert!(visitors.is_alone(one, at(70)));
        assert!(!visitors.is_alone(other, at(70)));
        visitors.visited(other, || at(71));
        visitors.visited(one, || at(72));
        assert!(!visitors.is_alone(one, at(131)));
        assert!(visitors.is_alone(one, at(132)));
    }
}
