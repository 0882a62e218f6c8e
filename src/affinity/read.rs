//! Reads the value of each source from a request: raw, and `None` where it is absent or empty.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::COOKIE;

use crate::http1::HeaderFields;
use crate::socket::address;

/// The value of the first cookie of this name that is not empty.
///
/// The value is the raw text up to the next `;`, quotes and all (nginx `ngx_http_parse_multi_header_lines`). Other than
/// in nginx, names are told apart by letter case and a `,` begins no new cookie (RFC 6265 §5.4 and §4.2.1).
pub(super) fn cookie(headers: &(impl HeaderFields + ?Sized), name: &str) -> Option<Vec<u8>> {
    cookies(headers, name).next().map(<[u8]>::to_vec)
}

/// The values of all cookies of this name that are not empty.
pub(super) fn cookies<'h>(headers: &'h (impl HeaderFields + ?Sized), name: &str) -> impl Iterator<Item = &'h [u8]> {
    let lines = headers.values_of(&COOKIE);
    lines.flat_map(|line| line.split(|&byte| byte == b';')).filter_map(move |pair| value_of(pair, name))
}

/// The value of one `name=value`, where it has this name and a value.
pub(super) fn value_of<'a>(pair: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let after_name = skip_spaces(pair).strip_prefix(name.as_bytes())?;
    let value = skip_spaces(skip_spaces(after_name).strip_prefix(b"=")?);
    (!value.is_empty()).then_some(value)
}

/// The value of a header; several lines of one name are joined by `, ` as nginx does since 1.23 (`; ` for `Cookie`).
pub(super) fn header(headers: &(impl HeaderFields + ?Sized), name: &str) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.values_named(name).collect();
    if lines.iter().all(|line| line.is_empty()) {
        return None;
    }
    let separator: &[u8] = if name.eq_ignore_ascii_case("cookie") { b"; " } else { b", " };
    Some(lines.join(separator))
}

/// The value of the first query argument of this name that is not empty, not decoded (nginx `ngx_http_arg`).
pub(super) fn query(query: Option<&str>, name: &str) -> Option<Vec<u8>> {
    let arguments = query?.split('&').filter_map(|argument| argument.split_once('='));
    let mut values = arguments.filter(|(argument, _)| argument.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    values.find(|value| !value.is_empty()).map(|value| value.as_bytes().to_vec())
}

/// The text of the client's address, cut to a prefix; with nothing cut it is nginx's `$remote_addr`.
///
/// An IPv4 address mapped into IPv6 counts as that IPv4 address, so that a client keeps its backend whichever listener
/// accepted it.
pub(super) fn client_ip(client: IpAddr, ipv4_prefix: u8, ipv6_prefix: u8) -> Vec<u8> {
    let cut = match client.to_canonical() {
        IpAddr::V4(address) => {
            let host_bits = 32_u32.saturating_sub(ipv4_prefix.into());
            let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let host_bits = 128_u32.saturating_sub(ipv6_prefix.into());
            let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    };
    address::text(cut).into_bytes()
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|&&byte| byte == b' ').count();
    &text[spaces..]
}
