//! Members that their source names no longer, as long as clients wait for them.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::upstream::Member;

/// The absent members of one source, each with the moment at which its clients have waited long enough.
///
/// Bound: the members that were in force within the time of `hold`; members come by answers that have settled.
pub(super) struct Absent(Vec<(Instant, Member)>);

impl Absent {
    /// The members among `known` that were absent already. Clients wait for them until `until`.
    pub(super) fn among(known: &[Member], until: Instant) -> Self {
        Self(known.iter().filter(|member| member.is_absent()).map(|member| (until, member.clone())).collect())
    }

    /// Notes the members `before` that are not named `after`, and that may return under their names.
    pub(super) fn note(&mut self, before: &[Member], after: &[Member], until: Instant) {
        let named: HashSet<_> = after.iter().map(|member| &member.name).collect();
        self.0.retain(|(_, member)| !named.contains(&member.name));
        let missing = before.iter().filter(|member| !named.contains(&member.name));
        let awaited = missing.filter(|member| member.may_return() && member.weight > 0);
        self.0.extend(awaited.map(|member| (until, member.gone())));
    }

    /// Forgets the members whose clients have waited long enough. Forgets all of them when `hold` is zero.
    pub(super) fn forget(&mut self, hold: Duration, now: Instant) {
        self.0.retain(|(until, _)| *until > now && !hold.is_zero());
    }

    /// Moment at which the next one is to be forgotten.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(until, _)| *until).min()
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.0.iter().map(|(_, member)| member.clone()).collect()
    }
}
