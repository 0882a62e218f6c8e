//! `listen`: the sockets of a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::lex::Directive;
use crate::convert::place::Note;

/// A socket of a server, and how it is used.
#[derive(Clone, Debug)]
pub(super) struct Listen {
    pub(super) address: SocketAddr,
    pub(super) tls: bool,
    pub(super) proxy_protocol: bool,
    pub(super) is_default: bool,
}

/// Most ports of one range.
const MAX_PORTS: u16 = 64;

/// Reads a `listen`; what has no equivalent goes to `notes`.
pub(super) fn read(directive: &Directive, notes: &mut Vec<Note>) -> Vec<Listen> {
    let line = directive.line();
    let words: Vec<&str> = directive.arguments.iter().skip(1).map(String::as_str).collect();
    let has = |word: &str| words.contains(&word);
    let Some(addresses) = addresses(directive.argument(0)) else {
        notes.push(line.left_out("no IP address and port: Unix sockets and host names are not listened on"));
        return Vec::new();
    };
    if has("quic") {
        notes.push(line.left_out("HTTP/3 is not spoken"));
        return Vec::new();
    }
    if has("http2") || has("spdy") {
        notes.push(line.changed("the only protocol is HTTP/1.1, and with it every WebSocket"));
    }
    let known = |word: &str| {
        let name = word.split('=').next().unwrap_or_default();
        let tuning = ["backlog", "rcvbuf", "sndbuf", "fastopen", "setfib", "so_keepalive", "accept_filter", "ipv6only"];
        let read =
            ["ssl", "http2", "spdy", "proxy_protocol", "default_server", "default", "reuseport", "deferred", "bind"];
        tuning.contains(&name) || read.contains(&word)
    };
    for word in words.iter().filter(|word| !known(word)) {
        notes.push(line.left_out(format!("`{word}` is not known here")));
    }
    let listen = |address| Listen {
        address,
        tls: has("ssl"),
        proxy_protocol: has("proxy_protocol"),
        is_default: has("default_server") || has("default"),
    };
    addresses.into_iter().map(listen).collect()
}

/// The addresses that the first argument stands for.
fn addresses(text: &str) -> Option<Vec<SocketAddr>> {
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let (host, port) = match text.rsplit_once(':') {
        _ if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => ("", text),
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (text, "80"),
    };
    let ip = match host {
        "" | "*" => any,
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "[::]" => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        host => {
            let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
            bare.parse().ok()?
        }
    };
    let (first, last) = port.split_once('-').unwrap_or((port, port));
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (first, last) = (number(first)?, number(last)?);
    (first <= last && last - first < MAX_PORTS).then(|| (first..=last).map(|port| SocketAddr::new(ip, port)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        let read = |text| addresses(text).map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
        for (text, expected) in [
            ("80", "0.0.0.0:80"),
            ("*:8080", "0.0.0.0:8080"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("localhost:81", "127.0.0.1:81"),
            ("[::]:443", "[::]:443"),
            ("[::1]", "[::1]:80"),
            ("8080-8082", "0.0.0.0:8080 0.0.0.0:8081 0.0.0.0:8082"),
        ] {
            assert_eq!(read(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["", "unix:/run/n.sock", "example.com:80", "0", "99999", "9-8", "1-9999", "[::1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
