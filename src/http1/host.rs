//! The `Host` header: which values name a host.

use std::net::Ipv6Addr;

/// Tells whether `text` is the value of a `Host` header (RFC 9112 §3.2): a host name or address, with or without a
/// port. Other values are answered 400.
///
/// An empty value is right where the target has no authority. Names have letters, digits, `-`, `_` and single dots; of
/// the further characters that RFC 3986 §3.2.2 allows, no name in DNS has any, and programs disagree on where the name
/// ends in `example.com,x`, `example.com;x` or `example.com%2f`.
pub fn is_valid(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("", port),
        Some(_) => return false,
        None => text.split_at(text.bytes().position(|byte| byte == b':').unwrap_or(text.len())),
    };
    let port = port.strip_prefix(':').unwrap_or(if port.is_empty() { "" } else { "x" });
    let is_port = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    is_port && (name.is_empty() || is_name(name.strip_suffix('.').unwrap_or(name).as_bytes()))
}

/// Tells whether a text is labels with single dots between them.
fn is_name(text: &[u8]) -> bool {
    let mut before = b'.';
    let is_right = |byte: &u8| {
        let is_label = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_dot = *byte == b'.' && before != b'.';
        before = *byte;
        is_label || is_dot
    };
    text.iter().all(is_right) && text.last().is_some_and(|last| *last != b'.')
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn names_and_addresses_with_or_without_a_port_are_hosts() {
        for host in [
            "example.com",
            "EXAMPLE.com.",
            "example.com:8080",
            "my_host-1",
            "127.0.0.1:80",
            "[::1]",
            "[2001:db8::1]:443",
            "example.com:",
            "",
            "xn--bcher-kva.example",
        ] {
            assert!(is_valid(host), "{host}");
        }
    }

    #[test]
    fn whatever_could_be_read_as_another_host_is_not_one() {
        for host in [
            "admin.example.com/",
            "admin.example.com?",
            "admin.example.com#",
            "admin.example.com\\",
            "admin.example.com, x",
            "admin..example.com",
            "admin.example.com..",
            ".example.com",
            ".",
            "user@example.com",
            "example.com:80:80",
            "example.com:http",
            "example.com:123456",
            "example.com:-1",
            "example.com%2f",
            "exa mple.com",
            "b\u{fc}cher.example",
            "[::1",
            "::1",
            "[::1]x",
            "[127.0.0.1]",
            "[]",
            "http://example.com",
            "*.example.com",
        ] {
            assert!(!is_valid(host), "{host}");
        }
    }
}
