//! Faults of addresses: which part of a text keeps it from being an address, and what was probably meant.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::address::AddressUse;
use super::problem::{Problem, quoted};
use super::value::Value;

/// A fault in words, with the remedy where one can be guessed.
#[derive(Debug)]
pub(super) struct AddressFault {
    message: String,
    remedy: Option<String>,
}

impl AddressFault {
    fn new(message: String) -> Self {
        Self { message, remedy: None }
    }

    fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The problem of `value`, which has this fault.
    pub(super) fn of(self, value: &Value<'_>) -> Problem {
        let problem = value.error(self.message);
        match self.remedy {
            Some(remedy) => problem.remedy(remedy),
            None => problem,
        }
    }
}

/// The fault of a text that is not an IP address with a port.
pub(super) fn wrong_socket_address(text: &str, purpose: AddressUse) -> AddressFault {
    not_an_ip_address_at_all(text, purpose)
        .or_else(|| more_than_an_address(text, purpose))
        .or_else(|| without_port(text, purpose))
        .unwrap_or_else(|| wrong_part(text, purpose))
}

/// The fault of a text that is not a range of addresses.
pub(super) fn wrong_network(text: &str) -> AddressFault {
    let shown = quoted(text);
    if text.is_empty() {
        return AddressFault::new("empty text".to_owned());
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return url(text, scheme, rest);
    }
    if text.contains(',') {
        return AddressFault::new(format!("{shown} names several ranges")).remedy("write each as an item of its own");
    }
    if text.contains(char::is_whitespace) {
        return spaces(text, |trimmed| network(trimmed).is_some());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        let ip = address.ip();
        return AddressFault::new(format!("{shown} has a port in it")).remedy(format!("without the port: `{ip}`"));
    }
    let (ip, prefix) = text.split_once('/').map_or((text, None), |(ip, prefix)| (ip, Some(prefix)));
    if let Some(inner) = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).filter(|ip| is_ip(ip)) {
        let written = prefix.map_or_else(|| inner.to_owned(), |prefix| format!("{inner}/{prefix}"));
        return AddressFault::new(format!("{shown} has brackets in it"))
            .remedy(format!("without them: {}", quoted(&written)));
    }
    if let Some((first, last)) = ip.split_once('-').filter(|(first, last)| is_ip(first) && !last.is_empty()) {
        let message = format!("{} is a range without a prefix length", quoted(&format!("{first}-{last}")));
        return AddressFault::new(message)
            .remedy("write the range in CIDR notation, or each address as an item of its own");
    }
    match (ip.parse::<IpAddr>(), prefix) {
        (Ok(ip), Some(prefix)) => wrong_prefix(ip, prefix),
        _ => wrong_host(ip),
    }
}

fn network(text: &str) -> Option<ipnet::IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(ipnet::IpNet::from))
}

fn wrong_prefix(ip: IpAddr, prefix: &str) -> AddressFault {
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let fault = AddressFault::new(match prefix {
        "" => "the prefix length is missing".to_owned(),
        _ => format!("{} is not a prefix length", quoted(prefix)),
    });
    match prefix.parse::<Ipv4Addr>().ok().filter(|_| ip.is_ipv4()).map(|mask| mask.to_bits()) {
        Some(mask) if mask.leading_ones() + mask.trailing_zeros() == 32 => {
            fault.remedy(format!("write the mask as `/{}`", mask.leading_ones()))
        }
        _ => fault.remedy(format!("lengths are whole numbers from 0 to {most}")),
    }
}

/// Texts that name something else than an IP address and a port.
fn not_an_ip_address_at_all(text: &str, purpose: AddressUse) -> Option<AddressFault> {
    if text.is_empty() {
        return Some(AddressFault::new("empty text".to_owned()));
    }
    if text.starts_with("unix:") || text.starts_with('/') {
        let fault = AddressFault::new(format!("{} names a unix socket, which is not supported", quoted(text)));
        return Some(fault.remedy(match purpose {
            AddressUse::Listen => "listen on an IP address and a port",
            AddressUse::Connect => "let the backend listen on an IP address and a port, such as `127.0.0.1:9001`",
        }));
    }
    let (scheme, rest) = text.split_once("://")?;
    Some(url(text, scheme, rest))
}

fn url(text: &str, scheme: &str, rest: &str) -> AddressFault {
    let rest = quoted(rest.split(['/', '?', '#']).next().unwrap_or_default());
    AddressFault::new(format!("{} is a URL", quoted(text)))
        .remedy(format!("without the `{}://`: {rest}", scheme.escape_debug()))
}

/// Texts with something before or behind the address: spaces, a path, a range, further addresses.
fn more_than_an_address(text: &str, purpose: AddressUse) -> Option<AddressFault> {
    let shown = quoted(text);
    let is_address = |text: &str| text.parse::<SocketAddr>().is_ok();
    if let Some((first, _)) = text.split_once([',', ';']).filter(|(first, _)| is_address(first)) {
        let fault = AddressFault::new(format!("{shown} names several addresses, {} first", quoted(first)));
        return Some(fault.remedy("write each as an item of its own"));
    }
    if text.contains(char::is_whitespace) {
        let first = text.split_whitespace().next().unwrap_or_default();
        if !is_address(first) || is_address(text.trim()) {
            return Some(spaces(text, is_address));
        }
        let fault = AddressFault::new(format!("{shown} has more in it than an address"));
        return Some(match purpose {
            AddressUse::Listen => fault,
            AddressUse::Connect => fault.remedy("a weight is written `{ address: 10.0.0.7:9001, weight: 2 }`"),
        });
    }
    let (address, path) = text.split_once('/')?;
    if is_ip(address) && !path.is_empty() && path.bytes().all(|byte| byte.is_ascii_digit()) {
        let fault = AddressFault::new(format!("{shown} is a range of addresses"));
        return Some(fault.remedy("write one address with its port"));
    }
    Some(AddressFault::new(format!("{shown} has a path in it")).remedy(match purpose {
        AddressUse::Listen => format!("leave out the `/` and what follows: {}", quoted(address)),
        AddressUse::Connect => format!("write {}: the backend gets the path that the client asks for", quoted(address)),
    }))
}

fn spaces(text: &str, fits: impl Fn(&str) -> bool) -> AddressFault {
    let fault = AddressFault::new(format!("{} has a space in it", quoted(text)));
    let joined: String = text.split_whitespace().collect();
    if fits(&joined) { fault.remedy(format!("without it: {}", quoted(&joined))) } else { fault }
}

/// Texts that lack the port, the colon before it, or the IP address.
fn without_port(text: &str, purpose: AddressUse) -> Option<AddressFault> {
    let shown = quoted(text);
    if let Some(fault) = ipv6_without_brackets(text, purpose) {
        return Some(fault);
    }
    let bare = text.strip_suffix(':').unwrap_or(text);
    let bare = bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(bare);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let fault = AddressFault::new(format!("the port is missing in {shown}"));
        return Some(fault.remedy(format!("such as {}", with_port(ip, example_port(purpose)))));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(AddressFault::new(format!("the IP address is missing in {shown}")).remedy(with_ip(text, purpose)));
    }
    let (host, port) = text.rsplit_once(':')?;
    if matches!(host, "" | "*" | "[]") {
        return Some(AddressFault::new(format!("the IP address is missing in {shown}")).remedy(with_ip(port, purpose)));
    }
    None
}

/// The fault of `::1:9001`, which is a whole IPv6 address but was hardly meant as one.
fn ipv6_without_brackets(text: &str, purpose: AddressUse) -> Option<AddressFault> {
    let (ip, port) = text.rsplit_once(':')?;
    let (ip, port) = (ip.parse::<Ipv6Addr>().ok()?, port.parse::<u16>().ok().filter(|_| port.len() > 1)?);
    let fault = AddressFault::new(format!("the port is missing in {}, or the brackets", quoted(text)));
    let meant = with_port(ip.into(), port);
    // Ports have four digits more often than not, groups of an address fewer.
    Some(match text.parse::<Ipv6Addr>() {
        Ok(whole) if port < 1_000 => {
            fault.remedy(format!("such as {meant}, or {}", with_port(whole.into(), example_port(purpose))))
        }
        _ => fault.remedy(format!("such as {meant}")),
    })
}

/// The fault of a text with a host and a port, one of which is wrong.
fn wrong_part(text: &str, purpose: AddressUse) -> AddressFault {
    let shown = quoted(text);
    if let Some((_, port)) = text.split_once(':').filter(|(host, _)| host.parse::<Ipv4Addr>().is_ok()) {
        return wrong_port(port, purpose);
    }
    if let Some(fault) = wrong_brackets(text) {
        return fault;
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong_host(text);
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<Ipv4Addr>().is_ok() && bare != host {
        let fault = AddressFault::new(format!("{shown} has brackets around an IPv4 address"));
        return fault.remedy(format!("without them: {}", quoted(&format!("{bare}:{port}"))));
    }
    if let Some((_, zone)) = bare.split_once('%').filter(|(ip, _)| ip.parse::<Ipv6Addr>().is_ok()) {
        let fault = AddressFault::new(format!("{} is not the number of a network interface", quoted(zone)));
        return fault.remedy("write the number that `ip link` shows before the name");
    }
    if bare.parse::<IpAddr>().is_ok() {
        return wrong_port(port, purpose);
    }
    wrong_host(bare)
}

/// The fault of a text in which a bracket has no partner, or no colon behind it.
fn wrong_brackets(text: &str) -> Option<AddressFault> {
    let shown = quoted(text);
    let example = "brackets go around an IPv6 address: `\"[::1]:9001\"`";
    match (text.find('['), text.find(']')) {
        (None, None) => None,
        (Some(0), None) => Some(AddressFault::new(format!("`]` is missing in {shown}")).remedy(example)),
        (None, Some(_)) => Some(AddressFault::new(format!("`[` is missing in {shown}")).remedy(example)),
        (Some(0), Some(end)) if text[end + 1..].starts_with(':') => None,
        (Some(0), Some(end)) if text[end + 1..].bytes().all(|byte| byte.is_ascii_digit()) => {
            let (ip, port) = text.split_at(end + 1);
            let fault = AddressFault::new(format!("`:` is missing before the port in {shown}"));
            Some(fault.remedy(format!("write {}", quoted(&format!("{ip}:{port}")))))
        }
        _ => Some(AddressFault::new(format!("{shown} has a bracket where none belongs")).remedy(example)),
    }
}

/// The fault of a text that is not a port.
pub(super) fn wrong_port(port: &str, purpose: AddressUse) -> AddressFault {
    let fault = AddressFault::new(format!("{} is not a port", quoted(port)));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((first, last)) = port.split_once('-').filter(|(first, last)| is_number(first) && is_number(last)) {
        return AddressFault::new(format!("{} is a range of ports", quoted(&format!("{first}-{last}"))))
            .remedy("write one item for each port");
    }
    let least = if purpose == AddressUse::Listen { 0 } else { 1 };
    let known = match port {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    };
    match known {
        Some(number) => fault.remedy(format!("names of services are not resolved: write `{number}`")),
        None => fault.remedy(format!("ports are whole numbers from {least} to 65535")),
    }
}

/// The fault of a host that is not an IP address.
fn wrong_host(host: &str) -> AddressFault {
    let shown = quoted(host);
    let fault = AddressFault::new(format!("{shown} is not an IP address"));
    if host.is_empty() {
        return AddressFault::new("the IP address is missing".to_owned());
    }
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return wrong_ipv4(host, fault);
    }
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if let Some((_, port)) = host.split_once(':').filter(|(name, _)| !name.is_empty() && name.bytes().all(is_name))
        && port.parse::<u16>().is_ok()
    {
        return AddressFault::new(format!("{shown} has a port already, and another is behind it"))
            .remedy("write one port");
    }
    if !host.bytes().all(is_name) {
        return fault;
    }
    let (first, last) = host.split_once('-').unwrap_or_default();
    if is_ip(first) && last.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return AddressFault::new(format!("{shown} is a range of addresses")).remedy("write one item for each address");
    }
    let fault = AddressFault::new(format!("{shown} is a host name, and names are not resolved"));
    fault.remedy(match host {
        "localhost" => "write `127.0.0.1` instead of it".to_owned(),
        _ => format!("write the IP address that `getent hosts {host}` prints"),
    })
}

/// Adds to `fault` the number that keeps `host`, digits and dots, from being an IPv4 address.
fn wrong_ipv4(host: &str, fault: AddressFault) -> AddressFault {
    let numbers: Vec<&str> = host.split('.').collect();
    if numbers.len() != 4 {
        return fault.remedy(format!("an IPv4 address has four numbers, and this has {}", numbers.len()));
    }
    let wrong = |number: &&&str| !number.parse::<u8>().is_ok_and(|value| value.to_string() == **number);
    match numbers.iter().find(wrong) {
        Some(&"") => fault.remedy("a number is missing between two dots"),
        Some(number) if number.starts_with('0') => {
            fault.remedy(format!("`{number}` begins with a zero, which some read as octal"))
        }
        Some(number) => fault.remedy(format!("{} is above 255", quoted(number))),
        None => fault,
    }
}

fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn example_port(purpose: AddressUse) -> u16 {
    if purpose == AddressUse::Listen { 8080 } else { 9001 }
}

/// An address as it is written in the file: in quotes where it begins with `[`.
fn with_port(ip: IpAddr, port: u16) -> String {
    let quotes = if ip.is_ipv6() { "\"" } else { "" };
    format!("`{quotes}{}{quotes}`", SocketAddr::new(ip, port))
}

fn with_ip(port: &str, purpose: AddressUse) -> String {
    let port = port.parse::<u16>().map_or_else(|_| "PORT".to_owned(), |port| port.to_string());
    match purpose {
        AddressUse::Listen => {
            format!("`0.0.0.0:{port}` listens on every IPv4 address, `127.0.0.1:{port}` on the machine's own alone")
        }
        AddressUse::Connect => format!("such as `127.0.0.1:{port}`"),
    }
}
