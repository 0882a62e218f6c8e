//! The keys that limits count by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::settings::{By, Prefixes};
use crate::hook::Request;

/// A key that a limit counts by: the first 16 bytes of a SHA-1, so that neither long keys nor secret ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct LimitKey(u128);

impl LimitKey {
    /// The key of a request. The client's address takes the place of a value that `by` asks for and the request lacks,
    /// so that no client escapes a limit by leaving the value out.
    pub(super) fn of(by: &By, request: &Request<'_>) -> Self {
        let named = match by {
            By::ClientIp(prefixes) => return Self::of_address(request.client(), *prefixes),
            By::Route => return Self::of_route(),
            By::Tunnel => return Self::random(),
            By::Header(name) => request.headers().get(name).map(|value| value.as_bytes().to_vec()),
            By::Cookie(name) => request.cookie(name).map(|value| value.as_bytes().to_vec()),
            By::Query(name) => request.query_value(name).map(String::into_bytes),
        };
        match named.filter(|value| !value.is_empty()) {
            Some(value) => Self::digest(b"value", &value),
            None => Self::of_address(request.client(), Prefixes::default()),
        }
    }

    /// The key of a tunnel of which only the client's address is known.
    pub(super) fn of_client(by: &By, client: IpAddr) -> Self {
        match by {
            By::ClientIp(prefixes) => Self::of_address(client, *prefixes),
            By::Route => Self::of_route(),
            By::Tunnel => Self::random(),
            By::Header(_) | By::Cookie(_) | By::Query(_) => Self::of_address(client, Prefixes::default()),
        }
    }

    fn of_address(address: IpAddr, prefixes: Prefixes) -> Self {
        let network = match address.to_canonical() {
            IpAddr::V4(address) => {
                let host_bits = 32_u32.saturating_sub(prefixes.ipv4_prefix.into());
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                Ipv4Addr::from_bits(address.to_bits() & mask).to_ipv6_mapped()
            }
            IpAddr::V6(address) => {
                let host_bits = 128_u32.saturating_sub(prefixes.ipv6_prefix.into());
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                Ipv6Addr::from_bits(address.to_bits() & mask)
            }
        };
        Self::digest(b"address", &network.octets())
    }

    fn of_route() -> Self {
        Self(0)
    }

    fn random() -> Self {
        Self(rand::random())
    }

    /// Hashes a value. `kind` tells an address from a header's value that looks like an address.
    fn digest(kind: &[u8], value: &[u8]) -> Self {
        let digest = Sha1::new().chain_update(kind).chain_update(b" ").chain_update(value).finalize();
        Self(u128::from_be_bytes(*digest.first_chunk().expect("SHA-1 has 20 bytes")))
    }
}
