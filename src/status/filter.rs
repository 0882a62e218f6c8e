//! Filters of open tunnels, as operators write them.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::affinity::Digest;
use crate::config::canonical_network;
use crate::hook::TunnelId;
use crate::snapshot::Snapshot;
use crate::tunnel::Seen;
use crate::upstream::{BackendState, Ring};

/// Selection of open tunnels: those that match every field that is given. Without any field it is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelFilter {
    /// Ids, of 16 hexadecimal digits each: tunnels that have one of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// Name of the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The backend: its name or its address, with `UPSTREAM/` before it or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// The route, as `host path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The client's address, or a network (CIDR) that it is in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The affinity key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Milliseconds: tunnels that have been open for as long, or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub older_ms: Option<u64>,
    /// Milliseconds: tunnels on which no byte has come for as long, or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_ms: Option<u64>,
    /// Name of a hook that the tunnel has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
}

/// Fault of a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// An id that no tunnel can have.
    #[error("`{0}` is no id of a tunnel: it has 16 hexadecimal digits")]
    Id(String),
    /// Neither an address nor a network.
    #[error("`{0}` is no address and no network of clients: write 203.0.113.7 or 203.0.113.0/24")]
    Client(String),
    /// Bits set behind the prefix of a network.
    #[error("`{0}` has bits set behind its prefix: write `{1}` for the network")]
    HostBits(String, IpNet),
}

/// A filter that was read, to be held against tunnels.
#[derive(Clone, Debug)]
pub(super) struct CompiledFilter {
    ids: Vec<TunnelId>,
    upstream: Option<String>,
    backend: Option<NamedBackend>,
    route: Option<String>,
    client: Option<IpNet>,
    key: Option<(Digest, u32)>,
    older: Duration,
    idle: Duration,
    hook: Option<String>,
}

/// A backend as an operator names it: by name or address, with its upstream or without.
#[derive(Clone, Debug)]
struct NamedBackend {
    text: String,
    /// Address that the text ends with.
    address: Option<SocketAddr>,
}

impl NamedBackend {
    fn of(text: &str) -> Self {
        let end = text.rsplit('/').next().unwrap_or(text);
        Self { text: text.to_owned(), address: end.parse().ok().map(canonical) }
    }

    fn is(&self, state: &BackendState) -> bool {
        let within = self.text.strip_prefix(state.upstream()).and_then(|rest| rest.strip_prefix('/'));
        let backend = within.unwrap_or(&self.text);
        backend == state.name() || (!backend.contains('/') && self.address == Some(canonical(state.address())))
    }
}

impl TunnelFilter {
    /// True for a filter that every tunnel fits.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the filter.
    pub(super) fn read(&self) -> Result<CompiledFilter, FilterError> {
        Ok(CompiledFilter {
            ids: self.ids.iter().map(|text| id(text)).collect::<Result<_, _>>()?,
            upstream: self.upstream.clone(),
            backend: self.backend.as_deref().map(NamedBackend::of),
            route: self.route.clone(),
            client: self.client.as_deref().map(client).transpose()?,
            key: self.key.as_deref().map(|key| (Digest::of(key.as_bytes()), Ring::hash(key.as_bytes()))),
            older: Duration::from_millis(self.older_ms.unwrap_or(0)),
            idle: Duration::from_millis(self.idle_ms.unwrap_or(0)),
            hook: self.hook.clone(),
        })
    }

    /// The filter without the key's value, which may be a client's secret: its digest stands for it.
    #[must_use]
    pub fn for_logs(&self) -> Self {
        let digest = self.key.as_ref().map(|key| Digest::of(key.as_bytes()).to_string());
        Self { key: digest, ..self.clone() }
    }

    /// Reason for which no tunnel fits, for people.
    pub(super) fn why_nothing(&self, snapshot: &Snapshot) -> String {
        self.unknown(snapshot).unwrap_or_else(|| "no tunnel matches".to_owned())
    }

    /// Name in the filter that nothing has, for people.
    pub(super) fn unknown(&self, snapshot: &Snapshot) -> Option<String> {
        let backend = self.backend.as_deref().map(NamedBackend::of);
        let states = || snapshot.destinations().iter().flat_map(|to| to.upstream.states());
        Some(match (&*self.ids, &self.upstream, &backend, self.route.as_deref()) {
            ([id], ..) => format!("no tunnel has the id {id}: it has ended, or another process has it"),
            (_, Some(upstream), ..) if snapshot.destination(upstream).is_none() => {
                format!("no tunnel leads to an upstream `{upstream}`, and the configuration has none of that name")
            }
            (_, _, Some(backend), _) if !states().any(|state| backend.is(state)) => {
                format!("no tunnel leads to a backend `{}`, and the configuration has none of that name", backend.text)
            }
            (_, _, _, Some(route)) if snapshot.route_named(route).is_none() => {
                format!(
                    "no tunnel came by a route `{route}`, and there is none: write it as `host path`, such as `* /`"
                )
            }
            _ => return None,
        })
    }
}

impl CompiledFilter {
    /// Tells whether a tunnel fits.
    pub(super) fn holds(&self, seen: &Seen<'_>) -> bool {
        let record = seen.record();
        let backend = record.backend();
        let is = |name: &Option<String>, value: &str| name.as_ref().is_none_or(|name| name == value);
        (self.ids.is_empty() || self.ids.contains(&record.id))
            && is(&self.upstream, backend.upstream())
            && self.backend.as_ref().is_none_or(|named| named.is(backend))
            && is(&self.route, &record.route)
            && self.client.is_none_or(|network| network.contains(&record.client().to_canonical()))
            && self
                .key
                .is_none_or(|(digest, place)| (record.key.digest(), record.key.hash()) == (Some(digest), Some(place)))
            && (self.older.is_zero() || seen.age() >= self.older)
            && (self.idle.is_zero() || seen.idle() >= self.idle)
            && self
                .hook
                .as_ref()
                .is_none_or(|hook| seen.hooks().is_some_and(|chain| chain.names().any(|name| name == hook)))
    }
}

/// The address without the IPv6 form of an IPv4 one.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn id(text: &str) -> Result<TunnelId, FilterError> {
    let digits = text.len() == 16 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
    digits.then(|| text.parse().ok()).flatten().ok_or_else(|| FilterError::Id(text.to_owned()))
}

fn client(text: &str) -> Result<IpNet, FilterError> {
    let network: Result<IpNet, _> = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| FilterError::Client(text.to_owned()))?;
    match network.trunc() {
        masked if masked == network => Ok(canonical_network(network)),
        masked => Err(FilterError::HostBits(text.to_owned(), masked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_tunnel_can_have_is_refused_with_the_way_to_write_it() {
        let filter = |change: fn(&mut TunnelFilter)| {
            let mut filter = TunnelFilter::default();
            change(&mut filter);
            filter.read().map(|_| ()).unwrap_err().to_string()
        };
        for (said, part) in [
            (filter(|f| f.ids = vec!["4711".into()]), "16 hexadecimal digits"),
            (filter(|f| f.ids = vec!["+123456789abcdef".into()]), "16 hexadecimal digits"),
            (filter(|f| f.client = Some("127.0.0.1/8".into())), "write `127.0.0.0/8` for the network"),
            (filter(|f| f.client = Some("203.0.113.0/33".into())), "write 203.0.113.7 or 203.0.113.0/24"),
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_field_that_there_is_not_is_refused_and_widens_nothing() {
        let read = serde_json::from_str::<TunnelFilter>(r#"{"upstrem":"chat"}"#);
        assert!(read.unwrap_err().to_string().contains("unknown field `upstrem`"));
    }

    #[test]
    fn logs_do_not_see_the_key() {
        let filter = TunnelFilter { key: Some("abc".into()), ..TunnelFilter::default() };
        assert_eq!(filter.for_logs().key.as_deref(), Some("a9993e36"));
    }

    #[test]
    fn an_address_is_a_network_of_one_and_mapped_ones_are_ipv4() {
        for (text, network) in [
            ("203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ] {
            assert_eq!(client(text).unwrap().to_string(), network);
        }
    }
}
