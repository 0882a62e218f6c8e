//! Networks and what is said of them, asked by address.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

/// Decision about connections from a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkRule {
    /// Connections from it are accepted.
    Allow,
    /// Connections from it are refused.
    Deny,
}

/// Decisions about networks. A lookup costs one probe for each length of prefix, however many networks there are.
#[derive(Clone, Debug, Default)]
pub struct Networks {
    ipv4: Family,
    ipv6: Family,
}

/// By length, the longest first, and then by what stands before it.
type Family = BTreeMap<Reverse<u8>, HashMap<u128, NetworkRule>>;

impl Networks {
    /// Says something of a network, in place of what was said before.
    pub fn add(&mut self, network: IpNet, rule: NetworkRule) {
        let length = network.prefix_len();
        let (family, bits) = match network {
            IpNet::V4(network) => (&mut self.ipv4, head(network.network().to_bits().into(), 32, length)),
            IpNet::V6(network) => (&mut self.ipv6, head(network.network().to_bits(), 128, length)),
        };
        family.entry(Reverse(length)).or_default().insert(bits, rule);
    }

    /// Decision about the most specific network that an address is in.
    pub fn rule(&self, address: IpAddr) -> Option<NetworkRule> {
        let (family, bits, width) = match address.to_canonical() {
            IpAddr::V4(address) => (&self.ipv4, address.to_bits().into(), 32),
            IpAddr::V6(address) => (&self.ipv6, address.to_bits(), 128),
        };
        family.iter().find_map(|(Reverse(length), rules)| rules.get(&head(bits, width, *length)).copied())
    }
}

/// The first `length` of the `width` bits of an address.
fn head(bits: u128, width: u8, length: u8) -> u128 {
    bits.checked_shr(u32::from(width.saturating_sub(length))).unwrap_or(0)
}
