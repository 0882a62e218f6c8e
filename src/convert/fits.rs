//! Values of a source that a Longhaul file takes: hosts, paths, names, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::canonical_network;

/// A host as a route has it, in lower case and without a port: a name, or `*.` and a name.
pub(super) fn host(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let lower = lower.strip_suffix('.').unwrap_or(&lower);
    let name = lower.strip_prefix("*.").unwrap_or(lower);
    if name.len() < lower.len() && name.parse::<IpAddr>().is_ok() {
        return None;
    }
    is_name(name).then(|| lower.to_owned())
}

/// The name of a host that is looked up, or that a certificate is for; an IPv4 address is one, too.
pub(super) fn host_name(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<Ipv4Addr>() {
        return Some(ip.to_string());
    }
    let name = host(text).filter(|name| !name.contains('*'))?;
    let dashed = name.split('.').any(|label| label.starts_with('-') || label.ends_with('-'));
    let last = name.rsplit('.').next().unwrap_or_default();
    (!dashed && !last.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// A host without the port behind it.
pub(super) fn without_port(text: &str) -> &str {
    match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => text,
    }
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// A path as a route has it: without a `/` at its end, but for the root.
pub(super) fn path(text: &str) -> Option<String> {
    let fits = text.starts_with('/')
        && text.len() <= 2_048
        && !text.contains("://")
        && !text.contains("//")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#*%\\;\"<>`".contains(&byte))
        && !text.split('/').any(|segment| segment == "." || segment == "..");
    let trimmed = text.trim_end_matches('/');
    fits.then(|| if trimmed.is_empty() { "/" } else { trimmed }.to_owned())
}

/// Tells whether the source's prefix also takes paths that go on within its last segment: `/admin` takes `/adminx`.
pub(super) fn ends_within_a_segment(prefix: &str) -> bool {
    !prefix.ends_with('/')
}

/// The words about a way that the source closes by such a prefix.
pub(super) const OPEN_BESIDE: &str =
    "a path with an `x` more at its end is closed by it, too; here such paths go by other routes, which are open";

/// The target of a health check.
pub(super) fn target(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 2_048
        && !text.contains("://")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

/// The name of a cookie or header (RFC 9110 §5.6.2).
pub(super) fn token(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// The name of a header that the hook `headers` may change in requests, or in answers: none of one connection, of the
/// framing or of the handshake, and in requests none that Longhaul writes after the hook.
pub(super) fn changed_by_hook(name: &str, in_requests: bool) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_of_the_connection = OF_THE_CONNECTION.contains(&lower.as_str()) || lower.starts_with("sec-websocket-");
    token(name) && !is_of_the_connection && !(in_requests && WRITTEN_BY_LONGHAUL.contains(&lower.as_str()))
}

const OF_THE_CONNECTION: [&str; 8] =
    ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length"];
const WRITTEN_BY_LONGHAUL: [&str; 4] = ["x-request-id", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-for"];

/// The name of a query argument.
pub(super) fn argument(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"&=#?".contains(&byte))
}

/// The value of a header: visible ASCII and spaces.
pub(super) fn header_value(text: &str) -> bool {
    text.len() <= 2_048 && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// A text as the name of an upstream: what does not fit becomes `-`.
pub(super) fn upstream_name(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = text.chars().map(fits).take(120).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "upstream".to_owned() } else { name.to_owned() }
}

/// Address of a backend, `HOST:PORT`, where `text` may leave the port out.
pub(super) fn address(text: &str, port: u16) -> Option<String> {
    let with_port = match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ if text.starts_with('[') && text.ends_with(']') => format!("{text}:{port}"),
        _ if text.contains(':') => text.to_owned(),
        _ => format!("{text}:{port}"),
    };
    if let Ok(address) = with_port.parse::<SocketAddr>() {
        let usable = address.port() != 0 && !address.ip().to_canonical().is_unspecified();
        return usable.then(|| address.to_string());
    }
    let (name, port) = with_port.rsplit_once(':')?;
    let port = port.parse::<u16>().ok().filter(|port| *port != 0)?;
    let name = host_name(name).filter(|name| name.parse::<Ipv4Addr>().is_err())?;
    Some(format!("{name}:{port}"))
}

/// A text that may be a backend's name on the ring.
pub(super) fn backend_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte))
}

/// The name of a file.
pub(super) fn file(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_control)
}

/// A network as `trusted_proxies` and filters have it, without bits beyond its prefix.
pub(super) fn network(text: &str) -> Option<String> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical().to_string());
    }
    let network = text.parse::<IpNet>().ok()?.trunc();
    Some(canonical_network(network).to_string())
}
