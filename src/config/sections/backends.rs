//! `backends`: addresses, names and weights.

use std::collections::HashMap;
use std::net::IpAddr;

use super::host_names;
use super::keys;
use super::matching::backend_name;
use crate::config::model::{Backend, Host};
use crate::config::yaml::address::{AddressUse, socket_address};
use crate::config::yaml::problem::{Problem, Report, quoted};
use crate::config::yaml::scalar::{decimal, whole_in};
use crate::config::yaml::value::{Mapping, Value};

/// Largest sum of an upstream's weights. A unit is 160 points of 8 bytes on the ring (pingora-ketama), so this is 128
/// MB.
pub(crate) const MAX_TOTAL_WEIGHT: u64 = 100_000;
/// Most backends of an upstream.
pub(crate) const MAX_BACKENDS: usize = 65_535;

/// Words for such a list.
pub(crate) const LIST: &str = "a list of addresses, such as `- 127.0.0.1:9001`";

/// Reads `backends`: the entries with addresses, and those with host names.
pub(crate) fn read(value: &Value<'_>, report: &mut Report) -> Option<(Vec<Backend>, Vec<Host>)> {
    let items = value.items(LIST, report)?;
    if items.is_empty() {
        return report.refuse(value.error("no backend").expected(LIST));
    }
    let mut seen = SeenBackends::default();
    let (mut backends, mut hosts) = (Vec::with_capacity(items.len()), Vec::new());
    for (index, item) in items.iter().enumerate() {
        if host_names::is_host(item) {
            let host = host_names::read(item, report);
            if let Some(host) = &host {
                seen.note_name(&host.text, index, item, report);
            }
            hosts.push(host);
            continue;
        }
        let backend = read_backend(item, report);
        seen.note(backend.as_ref(), index, item, report);
        backends.push(backend);
    }
    let backends: Vec<Backend> = backends.into_iter().collect::<Option<_>>()?;
    let hosts: Vec<Host> = hosts.into_iter().collect::<Option<_>>()?;
    let weights = backends.iter().map(|backend| backend.weight).chain(hosts.iter().map(|host| host.weight));
    match wrong_with_weights(value, &weights.collect::<Vec<_>>()) {
        Some(problem) => report.refuse(problem),
        None => Some((backends, hosts)),
    }
}

/// Backends that were read, by what no two may share: place in the list, and line.
#[derive(Default)]
pub(super) struct SeenBackends {
    addresses: HashMap<(IpAddr, u16), (usize, usize)>,
    names: HashMap<String, (usize, usize)>,
}

impl SeenBackends {
    /// Notes a backend, and reports one that has the name or the address of another.
    pub(super) fn note(&mut self, backend: Option<&Backend>, index: usize, item: &Value<'_>, report: &mut Report) {
        let twice = backend.and_then(|backend| self.twice(backend, index, item.mark().line));
        if let Some((message, expected)) = twice {
            let problem = item.error(message).expected(expected);
            report.push(problem.remedy("remove one; for a larger share use `weight`"));
        }
    }

    /// Notes a host name, and reports one that is the name of another backend.
    pub(super) fn note_name(&mut self, name: &str, index: usize, item: &Value<'_>, report: &mut Report) {
        let line = item.mark().line;
        let (first, at) = *self.names.entry(name.to_owned()).or_insert((index, line));
        if first != index {
            report.push(item.error(name_twice(name, at)).expected(NAME_ONCE));
        }
    }

    /// The message, and what is expected, where another backend has the same name or the same address.
    fn twice(&mut self, backend: &Backend, index: usize, line: usize) -> Option<(String, &'static str)> {
        let Backend { address, .. } = backend;
        let key = (address.ip().to_canonical(), address.port());
        let (first, at) = *self.addresses.entry(key).or_insert((index, line));
        let by_address = first != index;
        let name = backend.identity();
        let (first, named_at) = *self.names.entry(name.clone().into_owned()).or_insert((index, line));
        match (by_address, first != index) {
            (true, _) => {
                Some((format!("{address} is a backend twice; the first is on line {at}"), "each address once"))
            }
            (false, true) => Some((name_twice(&name, named_at), NAME_ONCE)),
            (false, false) => None,
        }
    }
}

fn name_twice(name: &str, line: usize) -> String {
    format!("{} is the name of two backends; the first is on line {line}", quoted(name))
}

const NAME_ONCE: &str = "each name once: it stands on the ring in the address's place";

fn read_backend(value: &Value<'_>, report: &mut Report) -> Option<Backend> {
    if !value.is_mapping() {
        return Some(Backend { name: None, address: socket_address(value, AddressUse::Connect, report)?, weight: 1 });
    }
    take_backend(&mut keys::BACKEND.fields(value, report)?, report)
}

/// Takes a backend out of the keys of a mapping.
pub(super) fn take_backend(fields: &mut Mapping<'_, '_>, report: &mut Report) -> Option<Backend> {
    let name = fields.take_or("name", None, |v| backend_name(v, report).map(|name| Some(name.into())));
    let address = fields.required("address", &AddressUse::Connect.expected(), report);
    let address = address.and_then(|v| socket_address(&v, AddressUse::Connect, report));
    let weight = fields.take_or("weight", 1, |v| read_weight(v, report));
    Some(Backend { name: name?, address: address?, weight: weight? })
}

pub(super) fn read_weight(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    let weight = whole_in(value, &(0..=u64::from(u16::MAX))).map_err(|problem| {
        let written = value.plain_text().and_then(|text| text.strip_prefix('-').or(Some(text))).and_then(decimal);
        let negative = value.text().is_some_and(|text| text.starts_with('-'));
        report.push(match written {
            _ if problem.remedy.is_some() => problem,
            None => problem,
            Some(_) if negative => problem.remedy("0 takes a backend out: it gets nothing new"),
            Some(weight) if weight.fract() != 0.0 => {
                problem.remedy("multiply all weights of the upstream alike until they are whole")
            }
            Some(_) => problem.remedy("divide all weights of the upstream alike: only their ratio matters"),
        });
    });
    u16::try_from(weight.ok()?).ok()
}

pub(super) fn wrong_with_weights(value: &Value<'_>, weights: &[u16]) -> Option<Problem> {
    if weights.len() > MAX_BACKENDS {
        let problem = value.error(format!("{} backends in one upstream", weights.len()));
        return Some(problem.expected(format!("at most {MAX_BACKENDS}")));
    }
    let total: u64 = weights.iter().copied().map(u64::from).sum();
    if total == 0 {
        let problem = value.error("every weight is 0: no backend would get anything");
        return Some(
            problem.expected("at least one weight above 0").remedy("give a backend that is to work a weight of 1"),
        );
    }
    if total <= MAX_TOTAL_WEIGHT {
        return None;
    }
    let divisor = weights.iter().fold(0, |divisor, weight| common_divisor(divisor, u64::from(*weight)));
    let problem = value.error(format!("the weights add up to {total}"));
    let problem = problem.expected(format!(
        "at most {MAX_TOTAL_WEIGHT} in one upstream: each unit takes 160 points on the ring, 1,280 bytes"
    ));
    Some(if divisor > 1 {
        problem.remedy(format!("divide every weight by {divisor}: the shares stay the same"))
    } else {
        problem.remedy("write smaller weights: only their ratio matters")
    })
}

/// Reads a weight that is a label's value: a number, in quotes or not.
pub(super) fn weight_of_label(value: &Value<'_>, report: &mut Report) -> Option<u16> {
    let weight = value.text().and_then(|text| text.parse().ok());
    weight.or_else(|| report.refuse(value.wrong("a weight from 0 to 65535")))
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}
