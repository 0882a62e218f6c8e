//! Upstreams as routes use them: one for all uses whose settings agree, and one more for each use whose settings
//! differ.

use super::model::{Policy, Upstream};
use super::place::SourceLine;

/// The upstreams so far, each with the name that the source has for it.
#[derive(Debug, Default)]
pub(super) struct Uses {
    list: Vec<(String, Upstream)>,
}

impl Uses {
    /// The name of an upstream like `fresh`, whose settings are added to one that is there where they agree.
    pub(super) fn name_of(&mut self, mut fresh: Upstream, line: &SourceLine) -> String {
        let base = fresh.name.clone();
        for (other, upstream) in &mut self.list {
            if *other == base
                && upstream.place == fresh.place
                && let Some(policy) = together(&upstream.policy, &fresh.policy)
            {
                upstream.policy = policy;
                return upstream.name.clone();
            }
        }
        let is_again = self.list.iter().any(|(other, upstream)| *other == base && upstream.place == fresh.place);
        let taken = |name: &str| self.list.iter().any(|(_, upstream)| upstream.name == name);
        let numbered = (2..).map(|number| format!("{base}-{number}"));
        fresh.name = std::iter::once(base.clone()).chain(numbered).find(|name| !taken(name)).unwrap_or_default();
        if is_again {
            let text =
                "other timeouts or TLS for the same backends: they stand twice, and are checked and counted twice";
            // The first upstream of the name has the notes about its lines already.
            fresh.notes = vec![line.changed(text)];
            fresh.backends.iter_mut().for_each(|backend| backend.notes.clear());
        }
        let name = fresh.name.clone();
        self.list.push((base, fresh));
        name
    }

    pub(super) fn into_upstreams(self) -> Vec<Upstream> {
        self.list.into_iter().map(|(_, upstream)| upstream).collect()
    }
}

/// Settings of two uses, where what both state agrees.
fn together(one: &Policy, other: &Policy) -> Option<Policy> {
    let agreed = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) if one != other => None,
        (one, other) => Some(one.or(other)),
    };
    (one.tls == other.tls).then_some(())?;
    Some(Policy {
        connect: agreed(one.connect, other.connect)?,
        handshake: agreed(one.handshake, other.handshake)?,
        read: agreed(one.read, other.read)?,
        write: agreed(one.write, other.write)?,
        idle: agreed(one.idle, other.idle)?,
        max_age: agreed(one.max_age, other.max_age)?,
        tls: one.tls.clone(),
    })
}
