//! `listeners`, `metrics` and `admin`: the sockets to accept on; `trusted_proxies` and `forwarding`; `control_sock`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;

use super::{admin, client_limits, keys, listener_tls, vain};
use crate::config::model::{Admin, Forwarded, Forwarding, Listener, Metrics, ProxyProtocol, Strangers};
use crate::config::named_files::NamedFiles;
use crate::config::yaml::address::{AddressUse, network, socket_address};
use crate::config::yaml::problem::{Problem, Report};
use crate::config::yaml::scalar::{choice, text};
use crate::config::yaml::value::{Mapping, Value};

/// Values of the three keys; `None` for one with a problem.
type Sockets = (Option<Vec<Listener>>, Option<Option<Metrics>>, Option<Option<Admin>>);

/// Reads `listeners`, `metrics` and `admin` of the top level's `fields`. Addresses that cannot be bound beside each
/// other are refused. `are_proxies_trusted` says that `trusted_proxies` names some.
pub(crate) fn read(
    fields: &mut Mapping<'_, '_>,
    are_proxies_trusted: bool,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Sockets {
    let listeners = fields.required("listeners", "a list such as `- address: 0.0.0.0:8080`", report);
    let mut taken = TakenAddresses::default();
    let mut readers = Readers { taken: &mut taken, files, are_proxies_trusted };
    let listeners = listeners.and_then(|value| readers.listeners(&value, report));
    let (metrics, admin) = (fields.take("metrics"), fields.take("admin"));
    let metrics = match metrics {
        None => Some(None),
        Some(value) => read_metrics(&value, &mut taken, report).map(|address| Some(Metrics { address })),
    };
    let admin = admin.map_or(Some(None), |value| admin::read(&value, &mut taken, files, report).map(Some));
    (listeners, metrics, admin)
}

/// Reads `trusted_proxies`.
pub(crate) fn trusted_proxies(value: &Value<'_>, report: &mut Report) -> Option<Vec<IpNet>> {
    let items = value.items("a list of address ranges, such as `[10.0.0.0/8]`", report)?;
    let ranges: Vec<_> = items.iter().map(|item| network(item, report)).collect();
    ranges.into_iter().collect()
}

/// Reads `forwarding`.
pub(crate) fn forwarding(value: &Value<'_>, report: &mut Report) -> Option<Forwarding> {
    const FORWARDED: [(&str, Forwarded); 2] = [("pass", Forwarded::Pass), ("write", Forwarded::Write)];
    const STRANGERS: [(&str, Strangers); 2] = [("append", Strangers::Append), ("drop", Strangers::Drop)];
    let mut fields = keys::FORWARDING.fields(value, report)?;
    let forwarded = fields.take_or("forwarded", Forwarded::default(), |v| choice(v, &FORWARDED, report));
    let strangers = fields.take_or("strangers", Strangers::default(), |v| choice(v, &STRANGERS, report));
    Some(Forwarding { forwarded: forwarded?, strangers: strangers? })
}

/// Reads `control_sock` and `state_folder`.
pub(crate) fn paths(
    fields: &mut Mapping<'_, '_>,
    report: &mut Report,
) -> (Option<Option<PathBuf>>, Option<Option<PathBuf>>) {
    let control_sock = fields.take_or("control_sock", None, |v| control_sock(v, report).map(Some));
    let state_folder = fields.take_or("state_folder", None, |v| state_folder(v, report).map(Some));
    (control_sock, state_folder)
}

/// Reads `state_folder`.
fn state_folder(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let expected = "the absolute path of a folder, such as `/var/lib/longhaul`";
    let path = text(value, expected, report)?;
    if Path::new(path).is_absolute() && !path.contains('\0') {
        Some(path.into())
    } else {
        report.refuse(value.wrong(expected))
    }
}

/// Reads `control_sock`.
fn control_sock(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    const EXPECTED: &str = "the path of a Unix socket, such as `/run/longhaul/control.sock`";
    /// Bytes of a path in the kernel's `sockaddr_un`, without the zero at its end (unix(7)).
    const LONGEST: usize = 107;
    let path = text(value, EXPECTED, report)?;
    if path.len() > LONGEST {
        let problem = value.error(format!("the path has {} bytes", path.len()));
        return report.refuse(problem.expected(format!("at most {LONGEST}: the system's bound for Unix sockets")));
    }
    if path.contains('\0') || path == "off" {
        return report.refuse(value.wrong(EXPECTED));
    }
    Some(path.into())
}

/// State that the readers of all listeners share.
struct Readers<'r> {
    taken: &'r mut TakenAddresses,
    files: &'r mut NamedFiles,
    are_proxies_trusted: bool,
}

impl Readers<'_> {
    fn listeners(&mut self, value: &Value<'_>, report: &mut Report) -> Option<Vec<Listener>> {
        const EXPECTED: &str = "a list such as `- address: 0.0.0.0:8080`";
        let items = value.items(EXPECTED, report)?;
        if items.is_empty() {
            return report.refuse(value.error("no listener: nothing would be accepted").expected(EXPECTED));
        }
        let listeners: Vec<_> = items.iter().map(|item| self.listener(item, report)).collect();
        listeners.into_iter().collect()
    }

    fn listener(&mut self, value: &Value<'_>, report: &mut Report) -> Option<Listener> {
        if let Some(text) = value.text() {
            let problem = value.wrong("a mapping such as `address: 0.0.0.0:8080`");
            return report.refuse(problem.remedy(format!("write `address: {}`", text.escape_debug())));
        }
        let mut fields = keys::LISTENER.fields(value, report)?;
        let address = fields.required("address", &AddressUse::Listen.expected(), report);
        let address = address.and_then(|v| listen_address(&v, self.taken, report));
        let proxy_protocol = fields.take_or("proxy_protocol", ProxyProtocol::Off, |v| self.proxy_protocol(v, report));
        // A PROXY header names a client of either family.
        let of_clients = match proxy_protocol {
            Some(ProxyProtocol::Off) => address.map(|address| address.ip()),
            _ => address.map(|_| Ipv6Addr::UNSPECIFIED.into()),
        };
        let (allow, deny) = networks(&mut fields, of_clients, report);
        let connections = fields.take_or("limits", None, |v| client_limits::of_listener(v, report));
        let tls = fields.take("tls");
        let speaks_tls = tls.is_some();
        let tls = tls.map_or(Some(None), |v| listener_tls::read(&v, self.files, report).map(Some));
        let redirect = fields.take_or("redirect", None, |v| {
            if speaks_tls {
                let problem = v.error("clients of this listener come by TLS already");
                return report.refuse(problem.remedy("put `redirect` on the plain listener"));
            }
            listener_tls::redirect(v, report).map(Some)
        });
        let hsts = fields.take_or("hsts", None, |v| {
            if !speaks_tls {
                let problem = v.error("browsers heed HSTS on TLS connections only (RFC 6797 §8.1)");
                return report.refuse(problem.remedy("put `hsts` on a listener with `tls`"));
            }
            listener_tls::hsts(v, report).map(Some)
        });
        Some(Listener {
            address: address?,
            allow: allow?,
            deny: deny?,
            connections: connections?,
            proxy_protocol: proxy_protocol?,
            tls: tls?,
            redirect: redirect?,
            hsts: hsts?,
        })
    }

    fn proxy_protocol(&self, value: &Value<'_>, report: &mut Report) -> Option<ProxyProtocol> {
        const WORDS: [(&str, ProxyProtocol); 3] =
            [("off", ProxyProtocol::Off), ("optional", ProxyProtocol::Optional), ("required", ProxyProtocol::Required)];
        let expected = choice(value, &WORDS, report)?;
        if expected != ProxyProtocol::Off && !self.are_proxies_trusted {
            let problem = value.error("PROXY headers are believed from `trusted_proxies` only, and there are none");
            return report.refuse(problem.remedy("name the proxies that send them: `trusted_proxies: [10.0.0.0/8]`"));
        }
        Some(expected)
    }
}

/// Reads `allow` and `deny` of a listener whose clients have addresses of the family of `address`.
fn networks(
    fields: &mut Mapping<'_, '_>,
    address: Option<IpAddr>,
    report: &mut Report,
) -> (Option<Vec<IpNet>>, Option<Vec<IpNet>>) {
    let allow = fields.take_or("allow", Vec::new(), |v| match trusted_proxies(v, report)? {
        none if none.is_empty() => {
            let problem = v.error("an empty list lets nobody in").expected("a list such as `[203.0.113.0/24]`");
            report.refuse(problem.remedy("leave `allow` out: every network may connect then"))
        }
        some => Some(some),
    });
    let deny = fields.take_or("deny", Vec::new(), |v| {
        let denied = trusted_proxies(v, report)?;
        match denied.iter().find(|network| allow.as_ref().is_some_and(|allow| allow.contains(network))) {
            Some(both) => {
                let problem = v.error(format!("{both} stands in `allow`, too"));
                report.refuse(problem.expected("each network in one of the two lists").remedy("remove it from one"))
            }
            None => {
                if let (Some([]), Some(address)) = (allow.as_deref(), address) {
                    vain::of_denial(v, address, &denied, report);
                }
                Some(denied)
            }
        }
    });
    (allow, deny)
}

fn read_metrics(value: &Value<'_>, taken: &mut TakenAddresses, report: &mut Report) -> Option<SocketAddr> {
    const EXPECTED: &str = "a mapping such as `address: 127.0.0.1:9090`";
    match value.text() {
        Some("off") => {
            let problem = value.wrong(EXPECTED);
            return report.refuse(problem.remedy("leave `metrics` out to have no metrics listener"));
        }
        Some(address) if address.parse::<SocketAddr>().is_ok() => {
            return report.refuse(value.wrong(EXPECTED).remedy(format!("write `{{ address: \"{address}\" }}`")));
        }
        _ => {}
    }
    let mut fields = keys::METRICS.fields(value, report)?;
    let address = fields.required("address", "an IP address and a port, such as `127.0.0.1:9090`", report)?;
    listen_address(&address, taken, report)
}

pub(super) fn listen_address(value: &Value<'_>, taken: &mut TakenAddresses, report: &mut Report) -> Option<SocketAddr> {
    let address = socket_address(value, AddressUse::Listen, report)?;
    match taken.claim(address, value) {
        Some(problem) => report.refuse(problem),
        None => Some(address),
    }
}

/// The addresses of the listeners read so far, each with its line.
///
/// Linux refuses an address where another socket listens on it, or on every address of its family; and an IPv6
/// socket on `[::]` takes IPv4 connections too unless told otherwise (ipv6(7), `IPV6_V6ONLY`).
#[derive(Default)]
pub(super) struct TakenAddresses {
    addresses: HashMap<(IpAddr, u16), usize>,
    /// First address of each port and family.
    ports: HashMap<(u16, Family), (IpAddr, usize)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Family {
    V4,
    V6,
}

impl TakenAddresses {
    /// Records `address`, and returns the problem where it clashes with an earlier one. Port 0 never clashes.
    fn claim(&mut self, address: SocketAddr, value: &Value<'_>) -> Option<Problem> {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if port == 0 {
            return None;
        }
        let line = value.mark().line;
        let family = if ip.is_ipv4() { Family::V4 } else { Family::V6 };
        let problem = self.in_the_way(ip, port, family, value);
        self.addresses.entry((ip, port)).or_insert(line);
        self.ports.entry((port, family)).or_insert((ip, line));
        problem
    }

    fn in_the_way(&self, ip: IpAddr, port: u16, family: Family, value: &Value<'_>) -> Option<Problem> {
        let shown = SocketAddr::new(ip, port);
        if let Some(line) = self.addresses.get(&(ip, port)) {
            let problem = value.error(format!("{shown} is listened on twice; the first is on line {line}"));
            return Some(problem.expected("each address once").remedy("remove one, or change its port"));
        }
        let all_v4 = IpAddr::from([0, 0, 0, 0]);
        let all = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let wider = [all, all_v4].into_iter().filter(|wide| *wide == all || family == Family::V4);
        for wide in wider {
            if let Some(line) = self.addresses.get(&(wide, port)) {
                return Some(clash(value, shown, SocketAddr::new(wide, port), *line, "this one"));
            }
        }
        let narrower: &[Family] = match ip {
            _ if ip == all => &[Family::V4, Family::V6],
            _ if ip == all_v4 => &[Family::V4],
            _ => &[],
        };
        let (narrow, line) = narrower.iter().find_map(|family| self.ports.get(&(port, *family)))?;
        Some(clash(value, shown, SocketAddr::new(*narrow, port), *line, "the other"))
    }
}

fn clash(value: &Value<'_>, address: SocketAddr, other: SocketAddr, line: usize, narrow: &str) -> Problem {
    let wide = if narrow == "this one" { other } else { address };
    let reach = if wide.is_ipv4() { "every IPv4 address" } else { "every address, IPv4 included" };
    value
        .error(format!("{address} and {other} on line {line} cannot both be listened on"))
        .expected(format!("one of them: {wide} takes {reach}"))
        .remedy(format!("remove {narrow}, or give it another port"))
}
