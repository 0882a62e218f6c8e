//! Addresses as text.

use std::net::IpAddr;

/// Writes an address as text. Every request writes several, and the standard library's formatter takes six times as
/// long for an IPv4 address.
pub(crate) fn text(address: IpAddr) -> String {
    let IpAddr::V4(address) = address else { return address.to_string() };
    let mut text = String::with_capacity("255.255.255.255".len());
    for octet in address.octets() {
        if !text.is_empty() {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn an_address_reads_as_the_standard_library_has_it() {
        for octets in [[0, 0, 0, 0], [1, 20, 99, 100], [127, 0, 0, 1], [255; 4], [10, 9, 199, 200]] {
            assert_eq!(text(Ipv4Addr::from(octets).into()), Ipv4Addr::from(octets).to_string());
        }
        for address in ["::", "::1", "2001:db8::7", "::ffff:10.0.0.1"] {
            assert_eq!(text(address.parse().expect("an address")), address);
        }
    }
}
