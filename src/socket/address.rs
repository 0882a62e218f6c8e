//! Addresses as text.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Writes an address as text. Every request writes several, and the standard library's formatter takes six times as
/// long for an IPv4 address.
pub(crate) fn text(address: IpAddr) -> String {
    let mut text = String::with_capacity(LONGEST_IPV4);
    append(&mut text, address);
    text
}

/// Appends an address to a text, as [`text`] writes it.
pub(crate) fn append(to: &mut String, address: IpAddr) {
    let IpAddr::V4(address) = address else { return write!(to, "{address}").expect("a String takes everything") };
    let (mut digits, mut length) = ([b'.'; LONGEST_IPV4], 0);
    let mut put = |digit| {
        digits[length] = digit;
        length += 1;
    };
    for (number, octet) in address.octets().into_iter().enumerate() {
        if number > 0 {
            put(b'.');
        }
        if octet >= 100 {
            put(b'0' + octet / 100);
        }
        if octet >= 10 {
            put(b'0' + octet / 10 % 10);
        }
        put(b'0' + octet % 10);
    }
    to.push_str(std::str::from_utf8(&digits[..length]).expect("digits are text"));
}

/// Appends an address and its port to a text.
pub(crate) fn append_with_port(to: &mut String, address: SocketAddr) {
    let SocketAddr::V4(address) = address else { return write!(to, "{address}").expect("a String takes everything") };
    append(to, IpAddr::V4(*address.ip()));
    to.push(':');
    to.push_str(itoa::Buffer::new().format(address.port()));
}

const LONGEST_IPV4: usize = "255.255.255.255".len();

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
        for address in ["0.0.0.0:0", "203.0.113.107:65535", "[2001:db8::7]:443", "[fe80::1%3]:80"] {
            let mut text = String::from("at ");
            append_with_port(&mut text, address.parse().expect("an address"));
            assert_eq!(text, format!("at {address}"));
        }
    }
}
