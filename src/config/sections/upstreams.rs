//! `upstreams`: their backends, and the balance between these.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::affinity::{self, Scope};
use super::drain;
use super::health;
use super::keys;
use super::limits;
use super::matching::wrong_with_upstream_name;
use super::upstream_tls;
use crate::config::model::{Backend, Health, OnChange, Route, Timeouts, TunnelLimits, Upstream};
use crate::config::named_files::NamedFiles;
use crate::config::yaml::address::{Use, socket_address};
use crate::config::yaml::near::nearest;
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Report, Severity, quoted};
use crate::config::yaml::scalar::{boolean, decimal, or_off, whole_in};
use crate::config::yaml::value::{Value, join};

/// Largest sum of an upstream's weights. A unit is 160 points of 8 bytes on the ring (pingora-ketama), so this is 128
/// MB.
const MAX_TOTAL_WEIGHT: u64 = 100_000;

/// One for the backend that is hung or ill, and one for another.
const DEFAULT_TRIES: usize = 2;
const TRIES: RangeInclusive<u64> = 1..=100;

const BACKENDS: &str = "a list of addresses, such as `- 127.0.0.1:9001`";

/// The upstreams that could be read, and the names of all.
pub(crate) struct Named {
    read: Vec<(Mark, Option<Upstream>)>,
    names: HashSet<String>,
    /// Names that messages may show and propose.
    well_formed: Vec<String>,
}

impl Named {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// The upstream's name that `name` was probably meant to be.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        // Bounds the time taken where thousands of routes name thousands of misspelled upstreams.
        const LOOKED_AT: usize = 500;
        nearest(name, self.well_formed.iter().take(LOOKED_AT).map(String::as_str))
    }

    /// The names for a message, which shows the first twelve.
    pub(crate) fn listed(&self) -> String {
        const SHOWN: usize = 12;
        let shown = &self.well_formed[..self.well_formed.len().min(SHOWN)];
        match (shown, self.well_formed.len() - shown.len()) {
            ([], _) => "the name of an entry of `upstreams`".to_owned(),
            ([one], _) => format!("`{one}`, the one entry of `upstreams`"),
            (_, 0) => format!("one of {}", shown.join(", ")),
            (_, more) => format!("one of {}, and {more} more", shown.join(", ")),
        }
    }

    /// Adds a warning for each upstream that no route of `routes` leads to.
    pub(crate) fn warn_of_unused(&self, routes: &[Route], report: &mut Report) {
        let used: HashSet<_> = routes.iter().map(|route| route.upstream.as_str()).collect();
        for (mark, upstream) in &self.read {
            let Some(Upstream { name, .. }) = upstream.as_ref().filter(|one| !used.contains(one.name.as_str())) else {
                continue;
            };
            let path = join("upstreams", name);
            let problem = Problem::new(Severity::Warning, *mark, path, "no route leads to this upstream");
            report.push(problem.remedy(format!("add a route with `upstream: {name}`, or remove the upstream")));
        }
    }

    /// All upstreams; `None` where one could not be read.
    pub(crate) fn all(self) -> Option<Vec<Upstream>> {
        self.read.into_iter().map(|(_, upstream)| upstream).collect()
    }
}

/// Reads `upstreams`.
pub(crate) fn read(value: &Value<'_>, scope: Scope, files: &mut NamedFiles, report: &mut Report) -> Option<Named> {
    const EXPECTED: &str = "a mapping of names to upstreams";
    let entries = value.entries(EXPECTED, report)?;
    if entries.is_empty() {
        return report.refuse(value.error("no upstream: there is nowhere to send a request").expected(EXPECTED));
    }
    let mut named = Named { read: Vec::new(), names: HashSet::new(), well_formed: Vec::new() };
    for (name, mark, entry) in entries {
        match wrong_with_upstream_name(name, mark, entry.path()) {
            Some(problem) => report.push(problem),
            None => named.well_formed.push(name.to_owned()),
        }
        named.names.insert(name.to_owned());
        named.read.push((mark, read_upstream(name, &entry, scope, files, report)));
    }
    Some(named)
}

fn read_upstream(
    name: &str,
    value: &Value<'_>,
    scope: Scope,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Upstream> {
    if value.is_sequence() {
        let problem = value.wrong("a mapping with at least the key backends");
        return report.refuse(problem.remedy("put the list under `backends:`"));
    }
    let mut fields = keys::UPSTREAM.fields(value, report)?;
    let affinity = fields.take_or("affinity", Vec::new(), |v| affinity::read(v, scope, report));
    let backends = fields.required("backends", BACKENDS, report).and_then(|v| read_backends(&v, report));
    let balance_factor = fields.take_or("balance_factor", None, |v| read_balance_factor(v, report));
    let health = fields.take_or("health", Some(Health::default()), |v| health::read(v, report));
    let fail_open = fields.take_or("fail_open", false, |v| boolean(v, report));
    let on_change = fields.take_or("on_change", OnChange::Close, |v| drain::on_change(v, report));
    let drain_window = fields.take_or("drain_window", Duration::from_secs(30), |v| drain::window(v, report));
    let rehome = fields.take_or("rehome", None, |v| drain::rehome(v, report));
    let tries = fields.take_or("tries", DEFAULT_TRIES, |v| read_tries(v, report));
    let timeouts = fields.take_or("timeouts", Timeouts::default(), |v| limits::timeouts(v, report));
    let tunnel = fields.take_or("tunnel", TunnelLimits::default(), |v| limits::tunnel(v, report));
    let tls = fields.take_or("tls", None, |v| upstream_tls::read(v, files, report).map(Some));
    let proxy_protocol = fields.take_or("proxy_protocol", None, |v| upstream_tls::proxy_protocol(v, report));
    Some(Upstream {
        name: name.to_owned(),
        affinity: affinity?,
        backends: backends?,
        balance_factor: balance_factor?,
        health: health?,
        fail_open: fail_open?,
        drain_window: drain_window?,
        on_change: on_change?,
        rehome: rehome?,
        tries: tries?,
        timeouts: timeouts?,
        tunnel: tunnel?,
        tls: tls?,
        proxy_protocol: proxy_protocol?,
    })
}

fn read_tries(value: &Value<'_>, report: &mut Report) -> Option<usize> {
    let tries = whole_in(value, &TRIES).map_err(|problem| report.push(problem)).ok()?;
    usize::try_from(tries).ok()
}

fn read_backends(value: &Value<'_>, report: &mut Report) -> Option<Vec<Backend>> {
    let items = value.items(BACKENDS, report)?;
    if items.is_empty() {
        return report.refuse(value.error("no backend").expected(BACKENDS));
    }
    let mut seen = HashMap::with_capacity(items.len());
    let mut backends = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let backend = read_backend(item, report);
        if let Some(Backend { address, .. }) = backend {
            let key = (address.ip().to_canonical(), address.port());
            let (first, line) = *seen.entry(key).or_insert((index, item.mark().line));
            if first != index {
                let problem = item.error(format!("{address} is a backend twice; the first is on line {line}"));
                report
                    .push(problem.expected("each address once").remedy("remove one; for a larger share use `weight`"));
            }
        }
        backends.push(backend);
    }
    let backends: Vec<Backend> = backends.into_iter().collect::<Option<_>>()?;
    match wrong_with_weights(value, &backends) {
        Some(problem) => report.refuse(problem),
        None => Some(backends),
    }
}

fn read_backend(value: &Value<'_>, report: &mut Report) -> Option<Backend> {
    if !value.is_mapping() {
        return Some(Backend { address: socket_address(value, Use::Connect, report)?, weight: 1 });
    }
    let mut fields = keys::BACKEND.fields(value, report)?;
    let address = fields.required("address", &Use::Connect.expected(), report);
    let address = address.and_then(|v| socket_address(&v, Use::Connect, report));
    let weight = fields.take_or("weight", 1, |v| read_weight(v, report));
    Some(Backend { address: address?, weight: weight? })
}

fn read_weight(value: &Value<'_>, report: &mut Report) -> Option<u16> {
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

fn wrong_with_weights(value: &Value<'_>, backends: &[Backend]) -> Option<Problem> {
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    if total == 0 {
        let problem = value.error("every weight is 0: no backend would get anything");
        return Some(
            problem.expected("at least one weight above 0").remedy("give a backend that is to work a weight of 1"),
        );
    }
    if total <= MAX_TOTAL_WEIGHT {
        return None;
    }
    let divisor = backends.iter().fold(0, |divisor, backend| common_divisor(divisor, u64::from(backend.weight)));
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

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

/// Reads `balance_factor`: the load that a backend may carry, as a multiple of the average.
fn read_balance_factor(value: &Value<'_>, report: &mut Report) -> Option<Option<f64>> {
    let expected = "a number above 1.0 and up to 100, such as `1.25`, or `off`".to_owned();
    or_off(value, expected, report, |value, expected| {
        let Some(text) = value.text() else { return Err(value.wrong(expected)) };
        let problem = |message: &str| value.error(format!("{} {message}", quoted(text))).expected(expected);
        match decimal(text) {
            _ if value.plain_text().is_none() => Err(problem("is text, being in quotes").remedy("remove the quotes")),
            Some(factor) if factor > 1.0 && factor <= 100.0 => Ok(factor),
            Some(factor) if factor > 100.0 => {
                Err(problem("is out of bounds").remedy("125 % of the average load is written `1.25`"))
            }
            Some(_) => Err(problem("is out of bounds")
                .remedy("at 1.0 and below the backends could not carry the load between them; `off` lifts the bound")),
            None => Err(problem("is not a number")),
        }
    })
}
