//! `discover`: what knows the members of an upstream.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::etcd;
use super::host_names::is_host_name;
use super::keys;
use super::kubernetes;
use crate::config::model::{Discover, DiscoverFrom, DnsName, DnsService, Ipv6, Lookup};
use crate::config::named_files::NamedFiles;
use crate::config::yaml::address::{AddressUse, socket_address};
use crate::config::yaml::problem::{Report, quoted};
use crate::config::yaml::scalar::{DurationBounds, choice, duration, text, whole};
use crate::config::yaml::value::{Mapping, Value};

/// Changes that come together are applied together; a minute is longer than any deployment leaves between two.
const SETTLE: DurationBounds = DurationBounds { least: Duration::ZERO, most: Duration::from_secs(60), example: "1s" };
const KEEP_EMPTY: DurationBounds =
    DurationBounds { least: Duration::ZERO, most: Duration::from_secs(86_400), example: "5m" };
/// A process that takes over is waited for, for a minute at the most.
const WAIT: DurationBounds = DurationBounds { least: Duration::ZERO, most: Duration::from_secs(30), example: "5s" };

const EXPECTED: &str = "a mapping such as `file: /etc/longhaul/members.yaml`, or `push`";
const SOURCES: &str = "one of file, dns, srv, etcd, kubernetes";
const SERVICE: &str = "the name of SRV records, such as `_ws._tcp.chat.internal`";
const SERVERS: &str = "a list of addresses, such as `- 10.0.0.2:53`";
/// As many as a system's own configuration may name, and a few more.
const MOST_SERVERS: usize = 8;

const FAMILIES: [(&str, Ipv6); 4] =
    [("fallback", Ipv6::Fallback), ("off", Ipv6::Off), ("only", Ipv6::Only), ("both", Ipv6::Both)];

/// Reads `discover`.
pub(crate) fn read(value: &Value<'_>, files: &mut NamedFiles, report: &mut Report) -> Option<Discover> {
    if value.text() == Some("push") {
        return Some(Discover::of(DiscoverFrom::Push));
    }
    if !value.is_mapping() {
        return report.refuse(value.wrong(EXPECTED));
    }
    let mut fields = keys::DISCOVER.fields(value, report)?;
    let file = fields.take("file").map(|v| (v, file(&v, report).map(DiscoverFrom::File)));
    let dns = fields.take("dns").map(|v| (v, dns(&v, report).map(DiscoverFrom::Dns)));
    let srv = fields.take("srv").map(|v| (v, srv(&v, report).map(DiscoverFrom::Srv)));
    let etcd = fields.take("etcd").map(|v| (v, etcd::read(&v, files, report).map(DiscoverFrom::Etcd)));
    let kubernetes = fields.take("kubernetes").map(|v| (v, kubernetes::read(&v, report).map(DiscoverFrom::Kubernetes)));
    let defaults = Discover::of(DiscoverFrom::Push);
    let settle = fields.take_or("settle", defaults.settle, |v| duration(v, &SETTLE, report));
    let keep_empty = fields.take_or("keep_empty", defaults.keep_empty, |v| duration(v, &KEEP_EMPTY, report));
    let wait = fields.take_or("wait", defaults.wait, |v| duration(v, &WAIT, report));
    let mut sources = [file, dns, srv, etcd, kubernetes].into_iter().flatten();
    let Some((_, from)) = sources.next() else {
        return report.refuse(value.error("no source of members").expected(SOURCES));
    };
    if let Some((second, _)) = sources.next() {
        return report.refuse(second.error("a second source of members").expected(format!("{SOURCES}, and one only")));
    }
    Some(Discover { from: from?, settle: settle?, keep_empty: keep_empty?, wait: wait? })
}

fn file(value: &Value<'_>, report: &mut Report) -> Option<PathBuf> {
    let expected = "an absolute path, such as `/etc/longhaul/members.yaml`";
    let path = text(value, expected, report)?;
    if Path::new(path).is_absolute() {
        return Some(path.into());
    }
    report.refuse(value.error("the path is relative, and it is not said to what").expected(expected))
}

fn dns(value: &Value<'_>, report: &mut Report) -> Option<DnsName> {
    let mut fields = keys::DNS.fields(value, report)?;
    let name = fields.required("name", "a host name, such as `chat.internal`", report);
    let name = name.and_then(|v| host_name(&v, "a host name, such as `chat.internal`", report));
    let port = fields.required("port", "the port of every member", report);
    let port = port.and_then(|v| whole(&v, 1..=65_535, report)).and_then(|port| u16::try_from(port).ok());
    let lookup = lookup(&mut fields, report);
    Some(DnsName { name: name?, port: port?, lookup: lookup? })
}

fn srv(value: &Value<'_>, report: &mut Report) -> Option<DnsService> {
    if !value.is_mapping() {
        return Some(DnsService { name: host_name(value, SERVICE, report)?, lookup: Lookup::default() });
    }
    let mut fields = keys::SRV.fields(value, report)?;
    let name = fields.required("name", SERVICE, report).and_then(|v| host_name(&v, SERVICE, report));
    let lookup = lookup(&mut fields, report);
    Some(DnsService { name: name?, lookup: lookup? })
}

/// Reads `resolve`: the servers that are asked for the host names in `backends`.
pub(crate) fn resolve(value: &Value<'_>, report: &mut Report) -> Option<Lookup> {
    lookup(&mut keys::RESOLVE.fields(value, report)?, report)
}

fn lookup(fields: &mut Mapping<'_, '_>, report: &mut Report) -> Option<Lookup> {
    let servers = fields.take_or("servers", Vec::new(), |v| servers(v, report));
    let ipv6 = fields.take_or("ipv6", Ipv6::Fallback, |v| choice(v, &FAMILIES, report));
    Some(Lookup { servers: servers?, ipv6: ipv6? })
}

fn servers(value: &Value<'_>, report: &mut Report) -> Option<Vec<SocketAddr>> {
    let items = value.items(SERVERS, report)?;
    if items.is_empty() || items.len() > MOST_SERVERS {
        let problem = value.error(format!("{} servers", items.len()));
        return report.refuse(problem.expected(format!("1 to {MOST_SERVERS}; without this key those of the system")));
    }
    let read: Vec<_> = items.iter().map(|item| socket_address(item, AddressUse::Connect, report)).collect();
    read.into_iter().collect()
}

fn host_name(value: &Value<'_>, expected: &str, report: &mut Report) -> Option<String> {
    let name = text(value, expected, report)?;
    if is_host_name(name) {
        return Some(name.to_owned());
    }
    report.refuse(value.error(format!("{} is no host name", quoted(name))).expected(expected))
}
