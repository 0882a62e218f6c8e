//! Readers of IP addresses with ports, and of address ranges.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::problem::{Problem, Report, quoted};
use super::value::Value;

/// Use of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Accepting: port 0 takes a free port, and `0.0.0.0` stands for all addresses of the machine.
    Listen,
    /// Connecting: both are refused.
    Connect,
}

impl Use {
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
pub(crate) fn socket_address(value: &Value<'_>, purpose: Use, report: &mut Report) -> Option<SocketAddr> {
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
        Err(_) => return report.refuse(not_an_address(value, text, purpose).expected(expected)),
    };
    if purpose == Use::Connect && address.port() == 0 {
        return report.refuse(value.error("port 0 cannot be connected to").expected("a port from 1 to 65535"));
    }
    if purpose == Use::Connect && address.ip().to_canonical().is_unspecified() {
        let problem = value.error(format!("{} is for listening, not for connecting", quoted(text))).expected(expected);
        return report.refuse(problem.remedy(format!("on the same machine write `127.0.0.1:{}`", address.port())));
    }
    Some(address)
}

/// Reads a range of addresses; a single address stands for itself alone.
pub(crate) fn network(value: &Value<'_>, report: &mut Report) -> Option<IpNet> {
    const EXPECTED: &str = "a range of addresses in CIDR notation, such as `10.0.0.0/8`, or one IP address";
    let Some(text) = value.text() else { return report.refuse(value.wrong(EXPECTED)) };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(IpNet::from(ip));
    }
    match text.parse::<IpNet>() {
        Ok(range) if range.trunc() == range => Some(range),
        Ok(range) => {
            let problem = value.error(format!("{} has bits set beyond its prefix", quoted(text))).expected(EXPECTED);
            let single = IpNet::from(range.addr());
            report.refuse(
                problem.remedy(format!("write `{}` for the range, or `{single}` for the one address", range.trunc())),
            )
        }
        Err(_) => {
            let problem = value.error(format!("{} is not a range of addresses", quoted(text))).expected(EXPECTED);
            let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':');
            report.refuse(if is_name {
                problem.remedy("host names are not resolved: write IP addresses")
            } else {
                problem
            })
        }
    }
}

/// The problem of a text that is not an address, by a guess at what was meant.
fn not_an_address(value: &Value<'_>, text: &str, purpose: Use) -> Problem {
    let shown = quoted(text);
    if text.starts_with("unix:") || text.starts_with('/') {
        return value.error(format!("{shown} names a unix socket, which is not supported")).remedy(match purpose {
            Use::Listen => "listen on an IP address and a port",
            Use::Connect => "let the backend listen on an IP address and a port, such as `127.0.0.1:9001`",
        });
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let rest = quoted(rest.split('/').next().unwrap_or_default());
        return value
            .error(format!("{shown} is a URL"))
            .remedy(format!("without the `{}://`: {rest}", scheme.escape_debug()));
    }
    if let Some(address) = ipv6_without_brackets(text) {
        return value
            .error(format!("the port is missing in {shown}, or the brackets"))
            .remedy(format!("such as `\"{address}\"`"));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let example = SocketAddr::new(ip, if purpose == Use::Listen { 8080 } else { 9001 });
        let quotes = if ip.is_ipv6() { "\"" } else { "" };
        return value
            .error(format!("the port is missing in {shown}"))
            .remedy(format!("such as `{quotes}{example}{quotes}`"));
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.error(format!("the IP address is missing in {shown}")).remedy(with_ip(text, purpose));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return host_name_or_garbage(value, text).unwrap_or_else(|| value.error(format!("{shown} is not an address")));
    };
    if host.is_empty() || host == "*" {
        return value.error(format!("the IP address is missing in {shown}")).remedy(with_ip(port, purpose));
    }
    let is_ip = host.parse::<IpAddr>().is_ok() || host.trim_matches(['[', ']']).parse::<Ipv6Addr>().is_ok();
    if is_ip && port.bytes().all(|byte| byte.is_ascii_digit()) {
        return value.error(format!("{} is no port", quoted(port))).remedy("ports are whole numbers from 0 to 65535");
    }
    if is_ip && port.contains(char::is_whitespace) {
        let problem = value.error(format!("{shown} has more in it than an address"));
        return match purpose {
            Use::Listen => problem,
            Use::Connect => problem.remedy("a weight is written `{ address: 10.0.0.7:9001, weight: 2 }`"),
        };
    }
    host_name_or_garbage(value, host).unwrap_or_else(|| value.error(format!("{shown} is not an address")))
}

/// The address that was meant by a text such as `::1:9001`, which is a whole IPv6 address but hardly meant as one.
fn ipv6_without_brackets(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    let port = if port.len() >= 4 { port.parse().ok()? } else { return None };
    Some(SocketAddr::new(IpAddr::V6(ip.parse().ok()?), port))
}

fn host_name_or_garbage(value: &Value<'_>, host: &str) -> Option<Problem> {
    let is_name = host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !is_name || host.is_empty() {
        return None;
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Some(value.error(format!("{} is not an IP address", quoted(host))));
    }
    let problem = value.error(format!("{} is a host name, and names are not resolved", quoted(host)));
    Some(problem.remedy(match host {
        "localhost" => "write `127.0.0.1` instead of it".to_owned(),
        _ => format!("write the IP address that `getent hosts {host}` prints"),
    }))
}

fn with_ip(port: &str, purpose: Use) -> String {
    let port = port.parse::<u16>().map_or_else(|_| "PORT".to_owned(), |port| port.to_string());
    match purpose {
        Use::Listen => {
            format!("`0.0.0.0:{port}` listens on every IPv4 address, `127.0.0.1:{port}` on the machine's own alone")
        }
        Use::Connect => format!("such as `127.0.0.1:{port}`"),
    }
}
