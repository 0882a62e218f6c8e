//! Keys of etcd as members: the last part of a key is a member's name, its value is the member as JSON.
//!
//! Keys below `.drain/` are drains that hold for every gateway. A drain holds for one registration of a backend: a
//! backend that registers anew is not drained.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::messages::KeyValue;
use crate::config::{printable, quoted};
use crate::upstream::{Closing, Member, MemberSource};

/// Every key under a prefix.
#[derive(Debug)]
pub(super) struct Registered {
    prefix: Box<str>,
    keys: BTreeMap<Vec<u8>, Entry>,
    /// By the name of the backend. Values that are no drain are among them, as errors.
    drains: BTreeMap<Vec<u8>, Result<Drain, String>>,
}

/// A key that is to be a member.
#[derive(Debug)]
struct Entry {
    created: u64,
    lease: Option<Value>,
    member: Result<Member, String>,
}

/// A member's key, for a drain that is to be put beside it.
#[derive(Debug)]
pub(super) struct MemberKey<'r> {
    pub(super) key: &'r [u8],
    pub(super) created: u64,
    pub(super) lease: Option<&'r Value>,
}

/// The value of a member's key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    address: SocketAddr,
    #[serde(default = "one")]
    weight: u16,
    #[serde(default)]
    leaving: bool,
}

/// The value of a drain's key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// Revision at which the member's key was created.
    of: u64,
    begun_ms: u64,
    over_ms: u64,
}

impl Registered {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into(), keys: BTreeMap::new(), drains: BTreeMap::new() }
    }

    /// Notes a key with its value.
    ///
    /// # Errors
    /// There are more keys than members can be.
    pub(super) fn put(&mut self, pair: KeyValue) -> Result<(), String> {
        if let Some(name) = self.drained(&pair.key) {
            let drain = serde_json::from_slice(&pair.value).map_err(|error| printable(&error.to_string()));
            self.drains.insert(name, drain);
        } else {
            let member = member(&pair);
            self.keys.insert(pair.key, Entry { created: pair.create_revision, lease: pair.lease, member });
        }
        if self.keys.len() > MOST || self.drains.len() > MOST {
            return Err(format!("more than {MOST} keys begin with {}", quoted(&self.prefix)));
        }
        Ok(())
    }

    /// Notes that a key is gone.
    pub(super) fn remove(&mut self, key: &[u8]) {
        match self.drained(key) {
            Some(name) => drop(self.drains.remove(&name)),
            None => drop(self.keys.remove(key)),
        }
    }

    /// The members, and the reason for which keys are left out, where any are. Of two keys with one name or one address
    /// the first in the order of the keys counts, so that all gateways choose alike.
    pub(super) fn members(&self) -> (Vec<Member>, Option<String>) {
        let (mut names, mut addresses) = (HashSet::new(), HashSet::new());
        let (mut members, mut passed_over) = (Vec::with_capacity(self.keys.len()), Vec::new());
        for (key, entry) in &self.keys {
            let member = match &entry.member {
                Err(reason) => Err(reason.clone()),
                Ok(member) if names.contains(&*member.name) => {
                    Err(format!("{} is the name of another key's backend, too", quoted(&member.name)))
                }
                Ok(member) if !addresses.insert(canonical(member.address)) => {
                    Err(format!("{} is another key's address, too", member.address))
                }
                Ok(member) => Ok(member),
            };
            match member {
                Ok(member) => {
                    names.insert(&*member.name);
                    members.push(self.drained_by(member, entry.created));
                }
                Err(reason) => passed_over.push((key.as_slice(), reason)),
            }
        }
        let drains = self.drains.iter().filter_map(|(name, drain)| Some((self.drain_key(name), drain.as_ref().err()?)));
        let drains: Vec<_> = drains.collect();
        passed_over.extend(drains.iter().map(|(key, reason)| (key.as_slice(), (*reason).clone())));
        (members, in_words(&passed_over))
    }

    /// The key of the member with this name.
    pub(super) fn place(&self, name: &str) -> Option<MemberKey<'_>> {
        let named = |(_, entry): &(_, &Entry)| entry.member.as_ref().is_ok_and(|member| *member.name == *name);
        let (key, entry) = self.keys.iter().find(named)?;
        Some(MemberKey { key, created: entry.created, lease: entry.lease.as_ref() })
    }

    /// Key of the drain of a backend.
    pub(super) fn drain_key(&self, name: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), DRAIN.as_bytes(), name].concat()
    }

    /// Name of the backend whose drain is told under this key.
    fn drained(&self, key: &[u8]) -> Option<Vec<u8>> {
        let rest = key.strip_prefix(self.prefix.as_bytes())?.strip_prefix(DRAIN.as_bytes())?;
        Some(rest.to_vec())
    }

    /// The member. It is leaving where a drain holds for the key that was created at this revision.
    fn drained_by(&self, member: &Member, created: u64) -> Member {
        match self.drains.get(member.name.as_bytes()) {
            Some(Ok(Drain { of, begun_ms, over_ms })) if *of == created => {
                let closing = Closing { begun_ms: *begun_ms, over_ms: *over_ms };
                Member { leaving: true, closing: Some(closing), ..member.clone() }
            }
            _ => member.clone(),
        }
    }
}

/// The value by which a drain is told.
pub(super) fn drain_value(of: u64, Closing { begun_ms, over_ms }: Closing) -> String {
    serde_json::to_string(&Drain { of, begun_ms, over_ms }).expect("a drain is made of numbers alone")
}

fn member(pair: &KeyValue) -> Result<Member, String> {
    let key = std::str::from_utf8(&pair.key).map_err(|_| "the key is not UTF-8".to_owned())?;
    let name = key.rsplit('/').next().unwrap_or_default();
    if name.is_empty() {
        return Err("the key has no last part for a name".to_owned());
    }
    let told = serde_json::from_slice(&pair.value).map_err(|error| printable(&error.to_string()))?;
    let Told { address, weight, leaving } = told;
    let member =
        Member { name: name.into(), place: None, address, weight, leaving, closing: None, source: MemberSource::Etcd };
    member.check_alone().map_err(|wrong| wrong.to_string())?;
    Ok(member)
}

fn in_words(passed_over: &[(&[u8], String)]) -> Option<String> {
    let one = |(key, reason): &(&[u8], String)| format!("{}: {reason}", quoted(&String::from_utf8_lossy(key)));
    let named: Vec<_> = passed_over.iter().take(NAMED).map(one).collect();
    let more = passed_over.len() - named.len();
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    (!named.is_empty()).then(|| format!("{}{more}", named.join("; ")))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn one() -> u16 {
    1
}

/// Begin of the keys of drains, behind the prefix.
const DRAIN: &str = ".drain/";
/// Most keys: as many as an upstream can have backends.
const MOST: usize = 65_535;
/// Most keys that a message for people names.
const NAMED: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, created: u64, value: &str) -> KeyValue {
        KeyValue { key: key.into(), create_revision: created, value: value.into(), ..KeyValue::default() }
    }

    fn of(pairs: &[(&str, &str)]) -> Registered {
        let mut registered = Registered::new("/s/");
        for (place, (key, value)) in pairs.iter().enumerate() {
            registered.put(pair(key, place as u64 + 1, value)).unwrap();
        }
        registered
    }

    fn shown(registered: &Registered) -> Vec<String> {
        let shown = |member: &Member| format!("{member} {} {}", member.weight, member.leaving);
        registered.members().0.iter().map(shown).collect()
    }

    #[test]
    fn the_last_part_of_a_key_names_the_member_of_its_value() {
        let mut registered = of(&[
            ("/s/a", r#"{"address":"10.0.0.1:9001"}"#),
            ("/s/eu/b", r#"{"address":"[::1]:9001","weight":3,"leaving":true}"#),
        ]);
        assert_eq!(shown(&registered), ["a (10.0.0.1:9001) 1 false", "b ([::1]:9001) 3 true"]);
        assert_eq!(registered.members().1, None);
        registered.remove(b"/s/a");
        assert_eq!(shown(&registered), ["b ([::1]:9001) 3 true"]);
    }

    #[test]
    fn values_that_are_none_are_passed_over_and_named_with_their_keys() {
        for (key, value, part) in [
            ("/s/x", "", "EOF while parsing"),
            ("/s/x", "10.0.0.1:9001", "`/s/x`: "),
            ("/s/x", r#"{"weight":1}"#, "missing field `address`"),
            ("/s/x", r#"{"address":"chat.internal:9001"}"#, "invalid socket address"),
            ("/s/x", r#"{"address":"10.0.0.1:0"}"#, "port 0 cannot be connected to"),
            ("/s/x", r#"{"address":"0.0.0.0:1"}"#, "for listening"),
            ("/s/x", r#"{"address":"10.0.0.1:1","weight":70000}"#, "u16"),
            ("/s/x", r#"{"address":"10.0.0.1:1","wieght":2}"#, "unknown field `wieght`"),
            ("/s/x\u{1b}[2J", r#"{"address":"10.0.0.1:1"}"#, "`/s/x\\u{1b}[2J`"),
            ("/s/", r#"{"address":"10.0.0.1:1"}"#, "no last part"),
            ("/s/z", r#"{"address":"[::ffff:10.0.0.9]:9001"}"#, "is another key's address"),
            ("/s/z/y", r#"{"address":"10.0.0.1:1"}"#, "`y` is the name of another key's backend"),
            ("/s/.drain/y", "{}", "`/s/.drain/y`: missing field `of`"),
        ] {
            let registered = of(&[("/s/y", r#"{"address":"10.0.0.9:9001"}"#), (key, value)]);
            assert_eq!(shown(&registered), ["y (10.0.0.9:9001) 1 false"], "{key} {value}");
            let said = registered.members().1.unwrap_or_default();
            assert!(said.contains(part), "{key} {value}: {said}");
            assert!(!said.contains('\u{1b}'), "{said}");
        }
        let many: Vec<_> = (0..20).map(|number| (format!("/s/{number:02}"), "x")).collect();
        let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let said = of(&many).members().1.unwrap();
        assert!(said.contains("`/s/07`") && !said.contains("`/s/08`") && said.ends_with("and 12 more"), "{said}");
    }

    #[test]
    fn a_drain_holds_for_the_key_that_it_was_told_for() {
        let closing = Closing { begun_ms: 5, over_ms: 60_000 };
        let mut registered = of(&[("/s/a", r#"{"address":"10.0.0.1:9001"}"#)]);
        let created = registered.place("a").unwrap().created;
        assert!(registered.place("b").is_none());
        let key = registered.drain_key(b"a");
        registered.put(pair(std::str::from_utf8(&key).unwrap(), 9, &drain_value(created, closing))).unwrap();
        let (members, wrong) = registered.members();
        assert_eq!((members[0].leaving, members[0].closing, wrong), (true, Some(closing), None));
        // Another value is put; then the key goes and comes back.
        registered.put(pair("/s/a", created, r#"{"address":"10.0.0.2:9001"}"#)).unwrap();
        assert_eq!(shown(&registered), ["a (10.0.0.2:9001) 1 true"]);
        registered.remove(b"/s/a");
        registered.put(pair("/s/a", 10, r#"{"address":"10.0.0.2:9001"}"#)).unwrap();
        assert_eq!(shown(&registered), ["a (10.0.0.2:9001) 1 false"]);
        registered.put(pair("/s/a", created, r#"{"address":"10.0.0.2:9001"}"#)).unwrap();
        registered.remove(&key);
        assert_eq!(shown(&registered), ["a (10.0.0.2:9001) 1 false"]);
    }
}
