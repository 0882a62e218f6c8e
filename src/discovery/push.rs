//! Members that a program or an operator pushes, by commands on the control socket.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::config::{ListedMember, quoted};
use crate::upstream::{Member, MemberSource, WrongMembers};

/// A change of an upstream's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MembersAction {
    /// The members of the command take the place of all members.
    Set,
    /// The members of the command are added; members of the same names are replaced.
    Add,
    /// The members of the command are removed.
    Remove,
    /// The members of the command leave: nothing new goes to them, and their tunnels are closed.
    Leave,
}

/// A member as a command names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushedMember {
    /// Its name; its address where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address; not needed to remove it or to have it leave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<SocketAddr>,
    /// Its weight, by default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// True for a member that leaves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

/// Members that are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPushed {
    /// The upstream has its members from elsewhere.
    #[error("the members of `{0}` are not told by commands: it has another source than `discover: push`")]
    Elsewhere(String),
    /// The change cannot be made.
    #[error(transparent)]
    Wrong(#[from] WrongPush),
    /// The members cannot be those of an upstream.
    #[error(transparent)]
    Members(#[from] WrongMembers),
}

/// A change that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongPush {
    /// A member has neither a name nor an address.
    #[error("a member has neither a name nor an address")]
    Nameless,
    /// A member to be added has no address.
    #[error("{} has no address", quoted(.0))]
    NoAddress(String),
    /// Two members of the command have one name.
    #[error("{} is the name of two backends", quoted(.0))]
    Twice(String),
    /// There is no such member to be removed or to leave.
    #[error("there is no member {}", quoted(.0))]
    Unknown(String),
}

/// The members after a change.
///
/// # Errors
/// [`WrongPush`]
pub(super) fn apply(before: &[Member], action: MembersAction, told: &[PushedMember]) -> Result<Vec<Member>, WrongPush> {
    let kept = if action == MembersAction::Set { &[] } else { before };
    let mut places: HashMap<_, _> =
        kept.iter().enumerate().map(|(place, member)| (member.name.to_string(), place)).collect();
    let mut members: Vec<_> = kept.iter().cloned().map(Some).collect();
    let mut named = HashSet::with_capacity(told.len());
    for one in told {
        let name = one.identity().ok_or(WrongPush::Nameless)?;
        let place = places.get(&name).copied();
        match (action, place) {
            (MembersAction::Set | MembersAction::Add, place) => {
                if !named.insert(name.clone()) {
                    return Err(WrongPush::Twice(name));
                }
                let member = Some(one.member(name)?);
                match place {
                    Some(place) => members[place] = member,
                    None => members.push(member),
                }
            }
            (MembersAction::Remove, Some(place)) => {
                members[place] = None;
                places.remove(&name);
            }
            (MembersAction::Leave, Some(place)) => {
                members[place].iter_mut().for_each(|member| member.leaving = true);
            }
            (MembersAction::Remove | MembersAction::Leave, None) => return Err(WrongPush::Unknown(name)),
        }
    }
    Ok(members.into_iter().flatten().collect())
}

impl PushedMember {
    /// Its name, or else its address.
    pub fn identity(&self) -> Option<String> {
        self.name.clone().or_else(|| self.address.map(|address| address.to_string()))
    }

    fn member(&self, name: String) -> Result<Member, WrongPush> {
        let Some(address) = self.address else { return Err(WrongPush::NoAddress(name)) };
        let (weight, leaving) = (self.weight.unwrap_or(1), self.leaving);
        Ok(Member {
            name: name.into(),
            place: None,
            address,
            weight,
            leaving,
            closing: None,
            source: MemberSource::Push,
        })
    }
}

impl From<ListedMember> for PushedMember {
    fn from(ListedMember { backend, leaving }: ListedMember) -> Self {
        let name = backend.name.map(String::from);
        Self { name, address: Some(backend.address), weight: Some(backend.weight), leaving }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: Option<&str>, port: Option<u16>) -> PushedMember {
        let address = port.map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        PushedMember { name: name.map(str::to_owned), address, weight: None, leaving: false }
    }

    fn names(members: &[Member]) -> Vec<String> {
        members.iter().map(|member| format!("{member}{}", if member.leaving { " leaving" } else { "" })).collect()
    }

    #[test]
    fn members_are_set_added_removed_and_leave() {
        let set = apply(&[], MembersAction::Set, &[told(Some("a"), Some(1)), told(None, Some(2))]).unwrap();
        assert_eq!(names(&set), ["a (10.0.0.1:1)", "10.0.0.1:2"]);
        let left = apply(&set, MembersAction::Leave, &[told(Some("a"), None)]).unwrap();
        assert_eq!(names(&left), ["a (10.0.0.1:1) leaving", "10.0.0.1:2"]);
        let back = apply(&left, MembersAction::Add, &[told(Some("a"), Some(3)), told(Some("b"), Some(4))]).unwrap();
        assert_eq!(names(&back), ["a (10.0.0.1:3)", "10.0.0.1:2", "b (10.0.0.1:4)"]);
        let fewer = apply(&back, MembersAction::Remove, &[told(None, Some(2)), told(Some("b"), None)]).unwrap();
        assert_eq!(names(&fewer), ["a (10.0.0.1:3)"]);
        assert_eq!(apply(&fewer, MembersAction::Set, &[]).unwrap(), []);
    }

    #[test]
    fn a_change_that_cannot_be_made_is_refused_whole() {
        let apply = |action, told| apply(&[], action, &[told]).unwrap_err();
        assert_eq!(apply(MembersAction::Add, told(None, None)), WrongPush::Nameless);
        assert_eq!(apply(MembersAction::Set, told(Some("a"), None)), WrongPush::NoAddress("a".into()));
        assert_eq!(apply(MembersAction::Remove, told(Some("a"), None)), WrongPush::Unknown("a".into()));
        let twice = [told(Some("c"), Some(1)), told(Some("c"), Some(2))];
        for action in [MembersAction::Add, MembersAction::Set] {
            assert_eq!(super::apply(&[], action, &twice), Err(WrongPush::Twice("c".into())));
        }
        assert_eq!(apply(MembersAction::Leave, told(None, Some(1))), WrongPush::Unknown("10.0.0.1:1".into()));
    }
}
