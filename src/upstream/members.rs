//! Members: the backends of upstreams as their sources name them.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::state::Listed;
use crate::config::{self, DiscoverFrom, MAX_BACKENDS, MAX_TOTAL_WEIGHT, quoted, wrong_with_backend_name};

/// A backend as its source names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Name within the upstream: the backend's identity, which stands on the ring. The address as text for a backend
    /// that is given none.
    pub name: Box<str>,
    /// Text that stands on the ring, where it is another than the name: the addresses of one host name share a place,
    /// and each has its part of the points there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<str>>,
    /// Address that connections go to.
    pub address: SocketAddr,
    /// Share of the ring; 0 takes the backend off it.
    pub weight: u16,
    /// The source is about to take the backend away: it gets nothing new and keeps its place on the ring, and its
    /// tunnels are closed over `drain_window`. Backends of the configuration never leave in this way.
    pub leaving: bool,
    /// Time over which the tunnels of a leaving member are closed, where its source says so; else `drain_window`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<Closing>,
    /// The source.
    pub source: MemberSource,
}

/// A time over which tunnels are closed, by the clock: every gateway that is told of it closes its own until its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Closing {
    /// Milliseconds from 1970 to its begin.
    pub begun_ms: u64,
    /// Milliseconds from its begin to its end.
    pub over_ms: u64,
}

impl Closing {
    /// Time that is left of it. Never more than the whole: the clock of whoever began it may be ahead.
    pub fn left(self, now: SystemTime) -> Duration {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let gone = u64::try_from(now).unwrap_or(u64::MAX).saturating_sub(self.begun_ms);
        Duration::from_millis(self.over_ms.saturating_sub(gone))
    }
}

/// Kind of a source of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberSource {
    /// `backends` of the configuration.
    Config,
    /// `discover.file`.
    File,
    /// Commands on the control socket.
    Push,
    /// `discover.dns`, and host names in `backends`.
    Dns,
    /// `discover.srv`.
    Srv,
    /// `discover.etcd`.
    Etcd,
    /// `discover.kubernetes`.
    Kubernetes,
    /// None: its source names the member no longer, and clients wait for it for a while (`absent`).
    Absent,
}

/// A list of members that cannot be taken as an upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongMembers {
    /// A name that a backend of a configuration could not have.
    #[error("{0}")]
    Name(String),
    /// Two members have one name.
    #[error("{} is the name of two backends", quoted(.0))]
    Twice(Box<str>),
    /// Two members have one address.
    #[error("{0} is a backend twice")]
    AddressTwice(SocketAddr),
    /// More members than an upstream can have.
    #[error("{0} backends in one upstream, and at most {MAX_BACKENDS} can be")]
    TooMany(usize),
    /// There are members, and none of them has a weight.
    #[error("every weight is 0: no backend would get anything")]
    NoWeight,
    /// The weights add up to more than a ring can hold.
    #[error("the weights add up to {0}, and at most {MAX_TOTAL_WEIGHT} have room on a ring")]
    TooHeavy(u64),
    /// An address without a port.
    #[error("{0}: port 0 cannot be connected to")]
    NoPort(SocketAddr),
    /// An address that means every one of a machine.
    #[error("`{0}` is for listening, not for connecting")]
    Listening(SocketAddr),
}

/// The members of every upstream that has them from a source of its own, by the name of the upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemberLists {
    by_upstream: HashMap<String, Arc<[Member]>>,
}

impl Member {
    /// The members that a configuration lists, in its order.
    pub fn of(upstream: &config::Upstream) -> Vec<Self> {
        upstream.backends.iter().map(Self::from).collect()
    }

    /// Text that stands on the ring.
    pub fn on_ring(&self) -> &str {
        self.place.as_ref().unwrap_or(&self.name)
    }

    /// True when new requests and tunnels may go to the backend, as far as its source decides.
    pub fn takes_new(&self) -> bool {
        self.weight > 0 && !self.leaving && !self.is_absent()
    }

    /// True where its source names the member no longer, and it only keeps its place on the ring.
    pub fn is_absent(&self) -> bool {
        self.source == MemberSource::Absent
    }

    /// True where the member may come back under its name at another address: it has a name of its own, and shares it
    /// with no other address.
    pub fn may_return(&self) -> bool {
        self.place.is_none() && *self.name != *self.address.to_string()
    }

    /// The same member, named by its source no longer.
    #[must_use]
    pub fn gone(&self) -> Self {
        Self { source: MemberSource::Absent, leaving: false, closing: None, ..self.clone() }
    }

    pub(super) fn listed(&self) -> Listed {
        match () {
            () if self.is_absent() => Listed::Gone,
            // Nobody waits for what an operator drains, here or everywhere.
            () if self.leaving && self.closing.is_none() && self.may_return() => Listed::Leaving,
            () => Listed::Here,
        }
    }

    /// Checks what a configuration would be refused for. Names in DNS may be as long as DNS lets them be, and two of
    /// them may lead to one address: a name that is gone keeps the address that another has by now.
    ///
    /// # Errors
    /// [`WrongMembers`]
    pub fn check(members: &[Self]) -> Result<(), WrongMembers> {
        if members.len() > MAX_BACKENDS {
            return Err(WrongMembers::TooMany(members.len()));
        }
        let mut names = HashSet::with_capacity(members.len());
        let mut addresses = HashSet::with_capacity(members.len());
        let by_dns = members.iter().any(|member| member.source == MemberSource::Dns);
        for member in members {
            member.check_alone()?;
            let (ip, port) = (member.address.ip().to_canonical(), member.address.port());
            if !names.insert(&*member.name) {
                return Err(WrongMembers::Twice(member.name.clone()));
            }
            if !addresses.insert((ip, port)) && !by_dns {
                return Err(WrongMembers::AddressTwice(member.address));
            }
        }
        match members.iter().map(|member| u64::from(member.weight)).sum() {
            // The weights of names are those of the configuration, where names may be missing from an answer.
            0 if !members.is_empty() && !by_dns => Err(WrongMembers::NoWeight),
            total if total > MAX_TOTAL_WEIGHT => Err(WrongMembers::TooHeavy(total)),
            _ => Ok(()),
        }
    }

    /// Checks what the other members have no part in: name and address.
    ///
    /// # Errors
    /// [`WrongMembers`]
    pub fn check_alone(&self) -> Result<(), WrongMembers> {
        if let Some(wrong) = self.wrong_with_name() {
            return Err(WrongMembers::Name(wrong));
        }
        if self.address.port() == 0 {
            return Err(WrongMembers::NoPort(self.address));
        }
        if self.address.ip().to_canonical().is_unspecified() {
            return Err(WrongMembers::Listening(self.address));
        }
        Ok(())
    }

    fn wrong_with_name(&self) -> Option<String> {
        let most = (self.source == MemberSource::Dns).then_some(MAX_DNS_NAME);
        let wrong = wrong_with_backend_name(self.on_ring(), most);
        wrong.or_else(|| match &self.place {
            Some(place) if *self.name != *format!("{place}={}", self.address) => {
                wrong_with_backend_name(&self.name, most)
            }
            _ => None,
        })
    }
}

impl From<&config::Backend> for Member {
    fn from(backend: &config::Backend) -> Self {
        let config::Backend { name: _, address, weight } = *backend;
        let name = backend.identity().as_ref().into();
        Self { name, place: None, address, weight, leaving: false, closing: None, source: MemberSource::Config }
    }
}

impl MemberSource {
    /// The `source` label of metrics, and the word in logs and status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::File => "file",
            Self::Push => "push",
            Self::Dns => "dns",
            Self::Srv => "srv",
            Self::Etcd => "etcd",
            Self::Kubernetes => "kubernetes",
            Self::Absent => "absent",
        }
    }
}

impl From<&DiscoverFrom> for MemberSource {
    fn from(from: &DiscoverFrom) -> Self {
        match from {
            DiscoverFrom::File(_) => Self::File,
            DiscoverFrom::Push => Self::Push,
            DiscoverFrom::Dns(_) | DiscoverFrom::Backends(_) => Self::Dns,
            DiscoverFrom::Srv(_) => Self::Srv,
            DiscoverFrom::Etcd(_) => Self::Etcd,
            DiscoverFrom::Kubernetes(_) => Self::Kubernetes,
        }
    }
}

impl MemberLists {
    /// The members of an upstream: those that its configuration lists, or those that are known of its source.
    pub fn of(&self, upstream: &config::Upstream) -> Arc<[Member]> {
        if upstream.discover.is_none() {
            return Member::of(upstream).into();
        }
        self.by_upstream.get(&upstream.name).cloned().unwrap_or_default()
    }

    /// Puts the members of the upstream with this name in place of those that were known of it.
    pub fn set(&mut self, upstream: &str, members: Arc<[Member]>) {
        self.by_upstream.insert(upstream.to_owned(), members);
    }

    /// The members that are known of the upstream with this name.
    pub fn get(&self, upstream: &str) -> Option<&Arc<[Member]>> {
        self.by_upstream.get(upstream)
    }

    /// Every upstream with its members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<[Member]>)> {
        self.by_upstream.iter().map(|(upstream, members)| (upstream.as_str(), members))
    }
}

impl fmt::Display for Member {
    /// The name, and the address where the name is another text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if *self.name == *self.address.to_string() { Ok(()) } else { write!(f, " ({})", self.address) }
    }
}

/// Longest name in DNS, its last dot, and a port.
const MAX_DNS_NAME: usize = 254 + ":65535".len();

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, last: u8, weight: u16) -> Member {
        let address = ([10, 0, 0, last], 9001).into();
        Member {
            name: name.into(),
            place: None,
            address,
            weight,
            leaving: false,
            closing: None,
            source: MemberSource::Push,
        }
    }

    fn wrong(members: &[Member]) -> String {
        Member::check(members).map_or_else(|wrong| wrong.to_string(), |()| "right".to_owned())
    }

    #[test]
    fn members_of_every_source_obey_the_rules_of_a_configuration() {
        for (name, part) in [
            ("", "empty text"),
            ("a=b", "`a=b` has `=` in it"),
            ("a b", "has a space in it"),
            ("a\nb", "has a space in it"),
            ("a\u{1b}[2J", "`a\\u{1b}[2J` has `\\u{1b}` in it"),
            ("ü", "`ü` has `ü` in it"),
            ("../x", "has `/` in it"),
            (&"x".repeat(200), "the name is longer than 128 bytes"),
        ] {
            let said = wrong(&[member(name, 1, 1)]);
            assert!(said.contains(part), "{name:?}: {said}");
        }
        assert_eq!(wrong(&[member("a", 1, 1), member("a", 2, 1)]), "`a` is the name of two backends");
        assert_eq!(wrong(&[member("a", 1, 1), member("b", 1, 1)]), "10.0.0.1:9001 is a backend twice");
        let mapped = Member { address: "[::ffff:10.0.0.1]:9001".parse().unwrap(), ..member("b", 1, 1) };
        assert_eq!(wrong(&[member("a", 1, 1), mapped]), "[::ffff:10.0.0.1]:9001 is a backend twice");
        assert_eq!(wrong(&[member("a", 1, 0)]), "every weight is 0: no backend would get anything");
        assert_eq!(wrong(&vec![member("a", 1, 0); 65_536]), "65536 backends in one upstream, and at most 65535 can be");
        let heavy = wrong(&[member("a", 1, u16::MAX), member("b", 2, u16::MAX)]);
        assert!(heavy.starts_with("the weights add up to 131070"), "{heavy}");
        assert_eq!(wrong(&[]), "right");
        assert_eq!(wrong(&[member("[::1]:90", 1, 1), member("shard_0.x-y", 2, 0)]), "right");
    }

    #[test]
    fn names_of_dns_are_longer_share_a_place_and_may_lead_to_one_address() {
        let by_dns = |name: &str| Member { source: MemberSource::Dns, ..member(name, 1, 1) };
        let second = Member { place: Some("a.b:1".into()), ..by_dns("a.b:1=10.0.0.1:9001") };
        assert_eq!(wrong(&[by_dns("a.b:1"), second.clone(), by_dns(&"x".repeat(200))]), "right");
        assert!(wrong(&[Member { name: "a.b:1=c".into(), ..second }]).contains("has `=` in it"));
        assert!(wrong(&[by_dns("a\\032b:1")]).contains("has `\\` in it"));
    }
}
