//! `upstreams`: their backends, and the balance between these.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use pingora_core::server::configuration::ServerConf;

use super::affinity::{self, AffinityScope};
use super::backend_limits;
use super::backends;
use super::discover;
use super::drain;
use super::health;
use super::keys;
use super::limits;
use super::matching::wrong_with_upstream_name;
use super::upstream_tls;
use super::vain;
use crate::config::model::{
    Backend, BackendLimits, Discover, DiscoverFrom, Health, Ipv6, ListedNames, Listener, Lookup, OnChange, Route,
    Timeouts, Upstream,
};
use crate::config::named_files::NamedFiles;
use crate::config::yaml::near::nearest;
use crate::config::yaml::node::Mark;
use crate::config::yaml::problem::{Problem, Report, Severity, quoted};
use crate::config::yaml::scalar::{boolean, decimal, or_off, whole_in};
use crate::config::yaml::value::{Mapping, Value, join};

/// One for the backend that is hung or ill, and one for another.
const DEFAULT_TRIES: usize = 2;
const MAPPING: &str = "a mapping with at least the key backends";
const TRIES: RangeInclusive<u64> = 1..=100;

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

    /// Adds the warnings that the rest of the file decides: of upstreams that no route of `routes` leads to, of
    /// backends that are `listeners`, of limits of keys that no client has, and of members that cannot be reached as
    /// the file wants it.
    pub(crate) fn warn(
        &self,
        routes: &[Route],
        listeners: &[Listener],
        pingora: Option<&ServerConf>,
        report: &mut Report,
    ) {
        self.warn_of_unused(routes, report);
        self.warn_of_circles(listeners, report);
        self.warn_of_reattach(routes, report);
        self.warn_of_vain_waits(routes, report);
        let binds =
            |conf: &ServerConf| [&conf.client_bind_to_ipv4, &conf.client_bind_to_ipv6].map(|list| !list.is_empty());
        let binds = pingora.map(binds).unwrap_or_default();
        for (mark, upstream) in &self.read {
            let Some(upstream) = upstream else { continue };
            vain::of_keys(upstream, *mark, routes, report);
            let Some(discover) = &upstream.discover else { continue };
            let ipv6 = discover.from.lookup().map(|lookup| lookup.ipv6);
            let warning = |key: &str, message: &str| {
                let path = join(&join("upstreams", &upstream.name), key);
                Problem::new(Severity::Warning, *mark, path, message)
            };
            if binds == [false, true] && matches!(ipv6, Some(Ipv6::Off | Ipv6::Fallback | Ipv6::Both)) {
                let message = "IPv4 members are connected to from an address that the system chooses";
                report.push(warning("discover", message).remedy("add `client_bind_to_ipv4`, or write `ipv6: only`"));
            }
            if binds == [true, false] && matches!(ipv6, Some(Ipv6::Only | Ipv6::Both)) {
                let message = "IPv6 members are connected to from an address that the system chooses";
                report.push(warning("discover", message).remedy("add `client_bind_to_ipv6`, or write `ipv6: off`"));
            }
            if upstream.tls.as_ref().is_some_and(|tls| tls.verify && tls.server_name.is_none()) {
                let message = "certificates must be for the members' IP addresses, which change";
                report.push(warning("tls", message).remedy("name what they are for: `server_name: chat.internal`"));
            }
        }
    }

    /// Notes the upstreams whose members are told by commands, where `state_folder` names no folder to keep them in.
    pub(crate) fn noting_unkept(self, state_folder: Option<&Option<PathBuf>>, files: &mut NamedFiles) -> Self {
        for (mark, upstream) in self.read.iter().filter(|_| state_folder == Some(&None)) {
            let Some(upstream) = upstream else { continue };
            if upstream.discover.as_ref().is_some_and(|discover| discover.from == DiscoverFrom::Push) {
                files.unkept(*mark, join(&join("upstreams", &upstream.name), "discover"));
            }
        }
        self
    }

    /// Warns of backends that are listeners of this gateway.
    fn warn_of_circles(&self, listeners: &[Listener], report: &mut Report) {
        for (mark, upstream) in &self.read {
            let Some(upstream) = upstream else { continue };
            let mut addresses = upstream.backends.iter().map(|backend| backend.address);
            let is_own = |to: &SocketAddr| listeners.iter().any(|listener| reaches(*to, listener.address));
            let Some(own) = addresses.find(is_own) else { continue };
            let path = join(&join("upstreams", &upstream.name), "backends");
            let message = format!("{own} is a listener of this gateway: a request may go round in a circle");
            let problem = Problem::new(Severity::Warning, *mark, path, message);
            report.push(problem.remedy("name the address of the application itself"));
        }
    }

    /// Adds warnings of `absent` where nobody would wait, or not for as long as it takes.
    fn warn_of_vain_waits(&self, routes: &[Route], report: &mut Report) {
        for (mark, upstream) in &self.read {
            let Some(upstream) = upstream else { continue };
            let Some(absent) = upstream.absent else { continue };
            let path = join(&join("upstreams", &upstream.name), "absent");
            let mut warn = |message: String, remedy: &str| {
                report.push(Problem::new(Severity::Warning, *mark, path.clone(), message).remedy(remedy));
            };
            let of_routes = routes.iter().filter(|route| route.upstream == upstream.name);
            let has_key = !upstream.affinity.is_empty() || of_routes.into_iter().any(|route| route.affinity.is_some());
            if !has_key {
                warn("clients without a key wait only where no backend is left".to_owned(), "add `affinity`");
            }
            if upstream.health.is_none() {
                let message = "with `health: off` nobody knows that a backend is down, or back";
                warn(message.to_owned(), "have backends checked, or nobody waits for more than what its source says");
            }
            match upstream.discover.as_ref().map(|discover| &discover.from) {
                Some(DiscoverFrom::Dns(_)) => warn(
                    "members by `dns` have no names: one that comes back at another address is another one".to_owned(),
                    "name them by `srv`, or by host names in `backends`",
                ),
                Some(DiscoverFrom::Kubernetes(_)) if upstream.drain_window >= absent.hold => {
                    let [window, hold] = [upstream.drain_window, absent.hold].map(humantime::format_duration);
                    warn(
                        format!(
                            "a pod is away from when it terminates: {hold} are over before `drain_window` ({window}) is"
                        ),
                        "let `hold` cover `drain_window` and the restart, or shorten `drain_window`",
                    );
                }
                _ => {}
            }
        }
    }

    /// Adds a warning for each upstream that no route of `routes` leads to.
    fn warn_of_unused(&self, routes: &[Route], report: &mut Report) {
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

    /// Adds a warning for each upstream that keeps clients of routes with `reattach` from what that promises.
    fn warn_of_reattach(&self, routes: &[Route], report: &mut Report) {
        for (mark, upstream) in &self.read {
            let Some(upstream) = upstream else { continue };
            let policies = routes.iter().filter(|route| route.upstream == upstream.name);
            let Some(within) = policies.filter_map(|route| route.reattach).map(|policy| policy.within).max() else {
                continue;
            };
            let mut warn = |key: &str, message: &str, remedy: &str| {
                let path = join(&join("upstreams", &upstream.name), key);
                report.push(Problem::new(Severity::Warning, *mark, path, message).remedy(remedy));
            };
            if upstream.on_change == OnChange::Keep {
                let message = "tunnels stay with a backend that a reload takes away: they are not re-attached then";
                warn("on_change", message, "write `on_change: close`: with `reattach` it closes no client");
            }
            if upstream.tunnel.idle.is_some_and(|idle| idle <= within) {
                let message = "a client that is held and silent is closed by `idle` before `reattach.within` is over";
                warn("tunnel", message, "make `idle` longer than `reattach.within`");
            }
        }
    }

    /// All upstreams; `None` where one could not be read.
    pub(crate) fn all(self) -> Option<Vec<Upstream>> {
        self.read.into_iter().map(|(_, upstream)| upstream).collect()
    }
}

/// Tells whether who connects to `to` from this machine meets a listener on `on`.
fn reaches(to: SocketAddr, on: SocketAddr) -> bool {
    let [to_ip, on_ip] = [to, on].map(|address| address.ip().to_canonical());
    let takes_it = on_ip.is_unspecified() && to_ip.is_loopback() && (on_ip.is_ipv6() || to_ip.is_ipv4());
    to.port() == on.port() && (to_ip == on_ip || takes_it)
}

/// Reads `upstreams`.
pub(crate) fn read(
    value: &Value<'_>,
    scope: AffinityScope,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Named> {
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
    scope: AffinityScope,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<Upstream> {
    if value.is_sequence() {
        return report.refuse(value.wrong(MAPPING).remedy("put the list under `backends:`"));
    }
    let mut fields = keys::UPSTREAM.fields(value, report)?;
    let affinity = fields.take_or("affinity", Vec::new(), |v| affinity::read(v, scope, report));
    let sources = read_sources(&mut fields, value, files, report);
    let balance_factor = fields.take_or("balance_factor", None, |v| read_balance_factor(v, report));
    let health = fields.take_or("health", Some(Health::default()), |v| health::read(v, report));
    let fail_open = fields.take_or("fail_open", false, |v| boolean(v, report));
    let on_change = fields.take_or("on_change", OnChange::Close, |v| drain::on_change(v, report));
    let drain_window = fields.take_or("drain_window", Duration::from_secs(30), |v| drain::window(v, report));
    let rehome = fields.take_or("rehome", None, |v| drain::rehome(v, report));
    let tries = fields.take_or("tries", DEFAULT_TRIES, |v| read_tries(v, report));
    let timeouts = fields.take_or("timeouts", Timeouts::default(), |v| limits::timeouts(v, report));
    let tunnel = fields.take_or("tunnel", Default::default(), |v| limits::tunnel(v, report));
    let limits = fields.take_or("limits", BackendLimits::default(), |v| backend_limits::limits(v, report));
    let admission = fields.take_or("admission", None, |v| backend_limits::admission(v, limits, report));
    let absent = fields.take_or("absent", None, |v| backend_limits::absent(v, report));
    let tls = fields.take_or("tls", None, |v| upstream_tls::read(v, files, report).map(Some));
    let proxy_protocol = fields.take_or("proxy_protocol", None, |v| upstream_tls::proxy_protocol(v, report));
    let ((backends, discover), (tunnel, rates)) = (sources?, tunnel?);
    Some(Upstream {
        name: name.to_owned(),
        affinity: affinity?,
        backends,
        discover,
        balance_factor: balance_factor?,
        health: health?,
        fail_open: fail_open?,
        drain_window: drain_window?,
        on_change: on_change?,
        rehome: rehome?,
        tries: tries?,
        timeouts: timeouts?,
        tunnel,
        rates,
        limits: limits?,
        admission: admission?,
        absent: absent?,
        tls: tls?,
        proxy_protocol: proxy_protocol?,
    })
}

/// Source of an upstream's backends: its own list, or something else that knows them.
fn read_sources(
    fields: &mut Mapping<'_, '_>,
    upstream: &Value<'_>,
    files: &mut NamedFiles,
    report: &mut Report,
) -> Option<(Vec<Backend>, Option<Discover>)> {
    let lookup = fields.take_or("resolve", Lookup::default(), |v| discover::resolve(v, report));
    match (fields.take("backends"), fields.take("discover")) {
        (Some(listed), None) => match backends::read(&listed, report)? {
            (backends, hosts) if hosts.is_empty() => Some((backends, None)),
            (backends, hosts) => {
                let names = ListedNames { backends, hosts, lookup: lookup? };
                Some((Vec::new(), Some(Discover::of(DiscoverFrom::Backends(names)))))
            }
        },
        (None, Some(value)) => Some((Vec::new(), Some(discover::read(&value, files, report)?))),
        (Some(listed), Some(value)) => {
            backends::read(&listed, report);
            discover::read(&value, files, report);
            let problem = value.error("the backends are listed, and to be discovered as well");
            report.refuse(problem.expected("either `backends` or `discover`").remedy("remove one of the two"))
        }
        (None, None) => {
            let path = join(&upstream.path(), "backends");
            let problem = Problem::new(Severity::Error, upstream.mark(), path, "missing").expected(backends::LIST);
            report.refuse(problem.remedy("where something else knows the backends, name it under `discover:`"))
        }
    }
}

fn read_tries(value: &Value<'_>, report: &mut Report) -> Option<usize> {
    let tries = whole_in(value, &TRIES).map_err(|problem| report.push(problem)).ok()?;
    usize::try_from(tries).ok()
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
