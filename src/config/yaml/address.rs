//! Readers of IP addresses with ports, and of address ranges.

use std::net::{IpAddr, SocketAddr};

use ipnet::{IpNet, Ipv4Net};

use super::problem::{Problem, Report, quoted};
use super::value::Value;
use super::wrong_address::{self, wrong_network, wrong_socket_address};

/// Use of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressUse {
    /// Accepting: port 0 takes a free port, and `0.0.0.0` stands for all addresses of the machine.
    Listen,
    /// Connecting: both are refused.
    Connect,
}

impl AddressUse {
    fn example(self) -> &'static str {
        match self {
            Self::Listen => "0.0.0.0:8080",
            Self::Connect => "10.0.0.7:9001",
        }
    }

    pub(crate) fn expected(self) -> String {
        format!("an IP address and a port, such as `{}`", self.example())
    }
}

/// Reads an IP address and a port.
pub(crate) fn socket_address(value: &Value<'_>, purpose: AddressUse, report: &mut Report) -> Option<SocketAddr> {
    let expected = purpose.expected();
    let Some(text) = value.text() else {
        let problem = value.wrong(expected);
        return report.refuse(if value.is_sequence() || value.is_mapping() {
            problem.remedy("an address that begins with `[` must be in quotes, such as `\"[::1]:8080\"`")
        } else {
            problem
        });
    };
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => return report.refuse(wrong_socket_address(text, purpose).of(value).expected(expected)),
    };
    if purpose == AddressUse::Connect && address.port() == 0 {
        return report.refuse(value.error("port 0 cannot be connected to").expected("a port from 1 to 65535"));
    }
    if purpose == AddressUse::Connect && address.ip().to_canonical().is_unspecified() {
        let problem = value.error(format!("{} is for listening, not for connecting", quoted(text))).expected(expected);
        return report.refuse(problem.remedy(format!("on the same machine write `127.0.0.1:{}`", address.port())));
    }
    Some(address)
}

/// The problem of a `port` in `value` that is no number from 0 or 1 to 65535.
pub(crate) fn wrong_port(value: &Value<'_>, port: &str, purpose: AddressUse) -> Problem {
    wrong_address::wrong_port(port, purpose).of(value)
}

/// Reads a range of addresses, as [`canonical_network`] has it; a single address stands for itself alone.
pub(crate) fn network(value: &Value<'_>, report: &mut Report) -> Option<IpNet> {
    const EXPECTED: &str = "a range of addresses in CIDR notation, such as `10.0.0.0/8`, or one IP address";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(canonical_network(ip.into()));
    }
    match text.parse::<IpNet>() {
        Ok(range) if range.trunc() == range => Some(canonical_network(range)),
        Ok(range) => {
            let problem = value.error(format!("{} has bits set beyond its prefix", quoted(text))).expected(EXPECTED);
            let single = IpNet::from(range.addr());
            report.refuse(
                problem.remedy(format!("write `{}` for the range, or `{single}` for the one address", range.trunc())),
            )
        }
        Err(_) => report.refuse(wrong_network(text).of(value).expected(EXPECTED)),
    }
}

/// The IPv4 network that is meant by a network of IPv4-mapped addresses (`::ffff:0:0/96`, RFC 4291 §2.5.5.2); every
/// other network as it is.
///
/// Clients are compared by their canonical addresses, so a mapped network would match nobody. An IPv6 network that is
/// wider than all mapped addresses, such as `::/0`, stays one of IPv6 and says nothing of IPv4 clients, as in nginx.
pub(crate) fn canonical_network(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = network else { return network };
    let ipv4 = mapped.addr().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(MAPPED_BITS));
    ipv4.and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_of_mapped_addresses_is_the_ipv4_network() {
        for (written, meant) in [
            ("::ffff:127.0.0.1/128", "127.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::ffff:0:0/95", "::ffff:0:0/95"),
            ("::/0", "::/0"),
            ("::127.0.0.1/128", "::7f00:1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let network: IpNet = written.parse().unwrap();
            assert_eq!(canonical_network(network), meant.parse().unwrap(), "{written}");
        }
    }
}
