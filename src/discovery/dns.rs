//! Members by DNS: the addresses of a name, the targets of SRV records, and the host names among `backends`.
//!
//! Each name is asked for again when the time to live of its answer is over, which is taken within bounds. A failure
//! leaves the last good answer in force. Failures are SERVFAIL, a silent server, and a name that is gone.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType, rdata::SRV};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::SourceReporter;
use crate::config::{DiscoverFrom, DnsName, DnsService, Host, Ipv6, ListedNames, Lookup};
use crate::upstream::{Member, MemberSource};

/// Asks for the names again and again, and reports each outcome.
pub(super) async fn follow(from: DiscoverFrom, reporter: SourceReporter) {
    let Some((mut names, listed, lookup)) = names_of(from, &reporter) else { return };
    let mut resolver = None;
    loop {
        let failed = names.iter().any(|name| name.problem.is_some());
        // The system's configuration may be another by now.
        if resolver.is_none() || failed {
            match resolver_of(&lookup) {
                Ok(made) => resolver = Some(made),
                Err(error) => reporter.failed(&format!("no resolver can be made: {error}")),
            }
        }
        let now = Instant::now();
        if let Some(resolver) = &resolver {
            let due = names.iter_mut().filter(|name| name.next <= now);
            stream::iter(due).for_each_concurrent(AT_ONCE, |name| name.ask(resolver, lookup.ipv6)).await;
            report(&names, listed.as_deref(), &reporter);
        }
        let next = names.iter().map(|name| name.next).min();
        sleep_until(next.unwrap_or(now).max(now + SOONEST)).await;
    }
}

/// The names to ask for, the members that are addresses already, and the servers to ask. The members are `None` where
/// the source is one name and nothing else.
fn names_of(from: DiscoverFrom, reporter: &SourceReporter) -> Option<(Vec<Name>, Option<Vec<Member>>, Lookup)> {
    match from {
        DiscoverFrom::Dns(DnsName { name, port, lookup }) => {
            Some((vec![Name::new(Query::Addresses { name, port })], None, lookup))
        }
        DiscoverFrom::Srv(DnsService { name, lookup }) => {
            Some((vec![Name::new(Query::Services { name })], None, lookup))
        }
        DiscoverFrom::Backends(ListedNames { backends, hosts, lookup }) => {
            let known = reporter.known();
            let host = |host: Host| {
                let is_its = |member: &&Member| *member.on_ring() == *host.text;
                let found: Vec<_> = known.iter().filter(is_its).cloned().collect();
                Name { found: (!found.is_empty()).then_some(found), ..Name::new(Query::Host(host)) }
            };
            let names = hosts.into_iter().map(host).collect();
            Some((names, Some(backends.iter().map(Member::from).collect()), lookup))
        }
        DiscoverFrom::File(_) | DiscoverFrom::Push | DiscoverFrom::Etcd(_) | DiscoverFrom::Kubernetes(_) => None,
    }
}

/// A name to resolve, and its last good answer.
struct Name {
    query: Query,
    /// Members of the last good answer.
    found: Option<Vec<Member>>,
    problem: Option<String>,
    /// Failures in a row.
    failures: u32,
    /// Moment to ask again.
    next: Instant,
}

/// A question, and the way to make members of its answer.
enum Query {
    Addresses { name: String, port: u16 },
    Services { name: String },
    Host(Host),
}

/// An answer that is of no use.
#[derive(Debug)]
enum UselessAnswer {
    NoSuchName(String),
    NoAddress(String),
    Failed(String, NetError),
    Silent,
}

impl Name {
    fn new(query: Query) -> Self {
        Self { query, found: None, problem: None, failures: 0, next: Instant::now() }
    }

    async fn ask(&mut self, resolver: &TokioResolver, ipv6: Ipv6) {
        let asked = timeout(LONGEST, self.query.ask(resolver, ipv6, self.found.as_deref().unwrap_or_default()));
        match asked.await.unwrap_or(Err(UselessAnswer::Silent)) {
            Ok((members, until)) => {
                let now = Instant::now();
                self.next = until.clamp(now + SHORTEST_TTL, now + LONGEST_TTL);
                (self.found, self.problem, self.failures) = (Some(members), None, 0);
            }
            Err(failure) => {
                self.problem = Some(failure.to_string());
                self.next = Instant::now() + AGAIN.saturating_mul(1 << self.failures.min(5)).min(AGAIN_AT_LAST);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }
}

impl Query {
    /// Asks for one name. `before` are the members of its last answer. Returns its members, and the moment at which to
    /// ask again.
    async fn ask(
        &self,
        resolver: &TokioResolver,
        ipv6: Ipv6,
        before: &[Member],
    ) -> Result<(Vec<Member>, Instant), UselessAnswer> {
        match self {
            Self::Addresses { name, port } => {
                let (addresses, until) = match addresses(resolver, name, ipv6).await {
                    // A name that is there and has no address is an answer without members.
                    Err(UselessAnswer::NoAddress(_)) => (BTreeSet::new(), Instant::now()),
                    answer => answer?,
                };
                let member = |ip| {
                    let address = SocketAddr::new(ip, *port);
                    member(address.to_string(), address, 1)
                };
                Ok((addresses.into_iter().map(member).collect(), until))
            }
            Self::Services { name } => services(resolver, name, ipv6).await,
            Self::Host(host) => {
                let (addresses, until) = addresses(resolver, &host.host, ipv6).await?;
                let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, host.port)).collect();
                Ok((members_of_host(host, addresses, before), until))
            }
        }
    }
}

/// The members of a host name. One address is named by the text itself, so that a host with one address keeps its
/// identity when the address changes. Each further address has a name of its own and shares the text's place on the
/// ring. An address that stays keeps its name.
fn members_of_host(host: &Host, mut addresses: BTreeSet<SocketAddr>, before: &[Member]) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for known in before {
        if addresses.remove(&known.address) {
            members.push(Member { weight: host.weight, ..known.clone() });
        }
    }
    for address in addresses {
        let is_free = members.iter().all(|member| member.name != host.text);
        let name = if is_free { host.text.to_string() } else { format!("{}={address}", host.text) };
        let place = (!is_free).then(|| host.text.clone());
        members.push(Member { place, ..member(name, address, host.weight) });
    }
    members.sort_by_key(|member| member.address);
    members
}

/// The targets of the SRV records of the highest priority (the lowest number), each at its addresses.
async fn services(resolver: &TokioResolver, name: &str, ipv6: Ipv6) -> Result<(Vec<Member>, Instant), UselessAnswer> {
    let answer = match resolver.srv_lookup(name).await {
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => return Ok((Vec::new(), Instant::now())),
        answer => answer.map_err(|error| UselessAnswer::of(name, error))?,
    };
    let records = answer.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some(srv.clone()),
        _ => None,
    });
    let records: Vec<SRV> = records.filter(|srv| !srv.target.is_root()).collect();
    let first = records.iter().map(|srv| srv.priority).min();
    let records: Vec<SRV> = records.into_iter().filter(|srv| Some(srv.priority) == first).collect();
    // Weights that are all the same say nothing. Servers that share 100 among them would move keys with each one more.
    let even = records.iter().all(|srv| srv.weight == records[0].weight);
    let target = |srv: SRV| async move {
        let weight = if even { 1 } else { srv.weight.max(1) };
        let target = srv.target.to_ascii();
        let (addresses, until) = match addresses(resolver, &target, ipv6).await {
            // A record that outlived its target is no reason to do without the others.
            Err(UselessAnswer::NoSuchName(_) | UselessAnswer::NoAddress(_)) => {
                (BTreeSet::new(), Instant::now() + LONGEST_TTL)
            }
            answer => answer?,
        };
        let text = format!("{}:{}", target.trim_end_matches('.'), srv.port).into_boxed_str();
        let host = Host { text, host: target.into(), port: srv.port, weight };
        let addresses = addresses.into_iter().map(|ip| SocketAddr::new(ip, host.port)).collect();
        Ok::<_, UselessAnswer>((members_of_host(&host, addresses, &[]), until))
    };
    let found: Vec<_> = stream::iter(records.into_iter().map(target)).buffer_unordered(AT_ONCE).try_collect().await?;
    let until = found.iter().map(|(_, until)| *until).chain([Instant::from_std(answer.valid_until())]).min();
    let mut members: Vec<_> = found.into_iter().flat_map(|(members, _)| members).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((members, until.unwrap_or_else(Instant::now)))
}

/// The addresses of a name; never none.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    ipv6: Ipv6,
) -> Result<(BTreeSet<IpAddr>, Instant), UselessAnswer> {
    let (found, until) = match ipv6 {
        Ipv6::Off => of_family(resolver, name, RecordType::A).await?,
        Ipv6::Only => of_family(resolver, name, RecordType::AAAA).await?,
        Ipv6::Fallback => match of_family(resolver, name, RecordType::A).await? {
            (none, _) if none.is_empty() => of_family(resolver, name, RecordType::AAAA).await?,
            found => found,
        },
        Ipv6::Both => {
            let (mut found, until) = of_family(resolver, name, RecordType::A).await?;
            let (more, until_more) = of_family(resolver, name, RecordType::AAAA).await?;
            let until = match (found.is_empty(), more.is_empty()) {
                (true, _) => until_more,
                (false, true) => until,
                (false, false) => until.min(until_more),
            };
            found.extend(more);
            (found, until)
        }
    };
    if found.is_empty() { Err(UselessAnswer::NoAddress(name.to_owned())) } else { Ok((found, until)) }
}

/// The addresses of one family; none where the name has none of it.
async fn of_family(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
) -> Result<(BTreeSet<IpAddr>, Instant), UselessAnswer> {
    let answer = match resolver.lookup(name, kind).await {
        Err(error) if error.is_no_records_found() && !error.is_nx_domain() => {
            return Ok((BTreeSet::new(), Instant::now()));
        }
        answer => answer.map_err(|error| UselessAnswer::of(name, error))?,
    };
    let address = |data: &RData| match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    };
    let found = answer.answers().iter().filter_map(|record| address(&record.data)).collect();
    Ok((found, Instant::from_std(answer.valid_until())))
}

/// Reports the members of all names to the board. Where one of several names fails, its last good answer is used. Where
/// the only name fails, the failure is reported.
fn report(names: &[Name], listed: Option<&[Member]>, reporter: &SourceReporter) {
    let problem = names.iter().find_map(|name| name.problem.as_deref());
    let found = names.iter().flat_map(|name| name.found.iter().flatten());
    match (listed, problem) {
        (None, Some(problem)) => reporter.failed(problem),
        (listed, problem) => {
            reporter.answer_with(listed.unwrap_or_default().iter().chain(found).cloned().collect(), problem)
        }
    }
}

fn member(name: String, address: SocketAddr, weight: u16) -> Member {
    Member { name: name.into(), place: None, address, weight, leaving: false, closing: None, source: MemberSource::Dns }
}

fn resolver_of(lookup: &Lookup) -> Result<TokioResolver, NetError> {
    let mut builder = if lookup.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let server = |address: &SocketAddr| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            server.connections.iter_mut().for_each(|connection| connection.port = address.port());
            server
        };
        let config = ResolverConfig::from_name_servers(lookup.servers.iter().map(server).collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    let options = builder.options_mut();
    // The resolver's cache is off, because this file decides when to ask again.
    options.cache_size = 0;
    options.timeout = TRY;
    options.attempts = 2;
    options.use_hosts_file = if lookup.servers.is_empty() { ResolveHosts::Always } else { ResolveHosts::Never };
    builder.build()
}

impl UselessAnswer {
    fn of(name: &str, error: NetError) -> Self {
        if error.is_nx_domain() { Self::NoSuchName(name.to_owned()) } else { Self::Failed(name.to_owned(), error) }
    }
}

impl fmt::Display for UselessAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName(name) => write!(f, "there is no name {name} (NXDOMAIN)"),
            Self::NoAddress(name) => write!(f, "{name} has no address"),
            Self::Failed(name, error) => write!(f, "{name} cannot be resolved: {error}"),
            Self::Silent => write!(f, "no server answers"),
        }
    }
}

/// Most names of one upstream that are asked for at the same time.
const AT_ONCE: usize = 16;
/// Bounds of the time to live. With a shorter one the servers would be asked without end. With a longer one clients
/// would be sent to addresses that a backend has left.
const SHORTEST_TTL: Duration = Duration::from_secs(1);
const LONGEST_TTL: Duration = Duration::from_secs(60);
/// Time until a name that failed is asked for again; twice as long each time.
const AGAIN: Duration = Duration::from_secs(1);
const AGAIN_AT_LAST: Duration = Duration::from_secs(30);
/// Pause between two rounds of questions.
const SOONEST: Duration = Duration::from_millis(100);
/// Time that one server has to answer.
const TRY: Duration = Duration::from_secs(2);
/// Time that the answer to a whole question may take.
const LONGEST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
