//! Impact of a snapshot on tunnels that were opened under another.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::config::OnChange;
use crate::snapshot::{Destination, Snapshot, TunnelPolicy};
use crate::tunnel::{Reason, Record, RuleVerdict, Standing};
use crate::upstream::Member;

/// Reason for which a change touches a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ImpactCause {
    /// Its route (host and path) is gone.
    RouteGone,
    /// Its route leads to another upstream.
    RouteMoved,
    /// Its backend is gone from the upstream.
    BackendGone,
    /// Its backend has another address.
    BackendMoved,
    /// Its backend is leaving.
    BackendLeaving,
    /// Its backend has weight 0.
    BackendWeightZero,
    /// Its key belongs to another backend since the ring changed, and `rehome` is on.
    AwayFromHome,
}

/// The decision over tunnels that comes with a snapshot.
pub(super) struct Impact {
    snapshot: Arc<Snapshot>,
    /// Upstreams whose backends or weights have changed.
    changed_rings: HashSet<String>,
    former_policies: HashMap<String, TunnelPolicy>,
    /// The moment of the decision; one for all tunnels, so that the tunnels of one backend are spread over one time.
    now: SystemTime,
}

impl Impact {
    pub(super) fn new(
        before: &Snapshot,
        snapshot: Arc<Snapshot>,
        former_policies: HashMap<String, TunnelPolicy>,
        now: SystemTime,
    ) -> Self {
        let changed = |to: &&Arc<Destination>| {
            let before = before.destination(&to.upstream.config().name);
            // Most upstreams are taken over as they are.
            let before = before.filter(|before| !Arc::ptr_eq(before, to));
            before.is_some_and(|before| on_ring(before.upstream.members()) != on_ring(to.upstream.members()))
        };
        let changed_rings = snapshot.destinations().iter().filter(changed);
        let changed_rings = changed_rings.map(|to| to.upstream.config().name.clone()).collect();
        Self { snapshot, changed_rings, former_policies, now }
    }

    /// Decides whether a tunnel stays or ends.
    pub(super) fn verdict(&self, tunnel: &Standing<'_>) -> RuleVerdict {
        match self.fate(tunnel) {
            None | Some((_, OnChange::Keep, _)) => RuleVerdict::Keep,
            Some((ImpactCause::AwayFromHome, _, over)) => RuleVerdict::End { reason: Reason::Rehomed, over },
            Some((ImpactCause::BackendLeaving, _, over)) => RuleVerdict::End { reason: Reason::BackendDrained, over },
            Some((_, OnChange::Close, over)) => RuleVerdict::End { reason: Reason::Changed, over },
        }
    }

    /// Cause for which a tunnel is touched, with its upstream's policy; `None` for one that is not.
    pub(super) fn fate(&self, tunnel: &Standing<'_>) -> Option<(ImpactCause, OnChange, Duration)> {
        let record = tunnel.record;
        if let Some(cause) = self.cause(record) {
            let mut policy = self.policy(record.backend().upstream());
            if cause == ImpactCause::BackendLeaving {
                // As with `longhaul drain backend`: it will not be there for long.
                policy.on_change = OnChange::Close;
                policy.drain_window = self.closing(record).unwrap_or(policy.drain_window);
            }
            return Some((cause, policy.on_change, policy.drain_window));
        }
        let upstream = &self.leads_to(record)?.upstream;
        let over = upstream.config().rehome?;
        // A tunnel that opens now was placed by a pick, which knows more than the ring; and one that was away before
        // the ring changed, by failover or for load, is left alone until the ring changes.
        let may_move = !tunnel.opening && self.changed_rings.contains(record.backend().upstream());
        let announced = tunnel.announced == Some(Reason::Rehomed);
        ((may_move || announced) && self.snapshot.is_away(record)).then_some((
            ImpactCause::AwayFromHome,
            OnChange::Close,
            over,
        ))
    }

    fn cause(&self, record: &Record) -> Option<ImpactCause> {
        let backend = record.backend();
        if self.snapshot.route_named(&record.route).is_none() {
            return Some(ImpactCause::RouteGone);
        }
        let Some(to) = self.leads_to(record) else { return Some(ImpactCause::BackendGone) };
        let upstream = &to.upstream;
        if upstream.config().name != backend.upstream() {
            return Some(ImpactCause::RouteMoved);
        }
        let Some(index) = upstream.index_of(backend.name()) else { return Some(ImpactCause::BackendGone) };
        let member = &upstream.members()[index];
        if member.is_absent() {
            return Some(ImpactCause::BackendGone);
        }
        if member.address != backend.address() {
            return Some(ImpactCause::BackendMoved);
        }
        if member.leaving {
            return Some(ImpactCause::BackendLeaving);
        }
        (member.weight == 0).then_some(ImpactCause::BackendWeightZero)
    }

    /// Time that is left for the tunnels of a leaving backend, where its source says so.
    fn closing(&self, record: &Record) -> Option<Duration> {
        let upstream = &self.leads_to(record)?.upstream;
        let member = &upstream.members()[upstream.index_of(record.backend().name())?];
        member.closing.map(|closing| closing.left(self.now))
    }

    /// Upstream that a tunnel belongs to: the one its route leads to, or the one that a hook chose.
    fn leads_to(&self, record: &Record) -> Option<&Destination> {
        match record.by_hook {
            true => self.snapshot.destination(record.backend().upstream()).map(|to| &**to),
            false => self.snapshot.route_named(&record.route).map(|target| &*target.to),
        }
    }

    /// The policy of the upstream as it is now, else as it last was.
    fn policy(&self, upstream: &str) -> TunnelPolicy {
        let now = self.snapshot.destination(upstream).map(|to| to.upstream.config());
        let now = now.map(TunnelPolicy::of);
        now.or_else(|| self.former_policies.get(upstream).copied()).unwrap_or(UNKNOWN)
    }
}

/// The names and weights that a ring is made of, in the order of the names.
pub(super) fn on_ring(members: &[Member]) -> Vec<(&str, u16)> {
    let mut members: Vec<_> = members.iter().filter(|b| b.weight > 0).map(|b| (&*b.name, b.weight)).collect();
    members.sort_unstable();
    members
}

impl fmt::Display for ImpactCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RouteGone => "route removed",
            Self::RouteMoved => "route leads elsewhere",
            Self::BackendGone => "backend removed",
            Self::BackendMoved => "backend at another address",
            Self::BackendLeaving => "backend leaving",
            Self::BackendWeightZero => "backend at weight 0",
            Self::AwayFromHome => "key belongs to another backend",
        })
    }
}

/// Policy for tunnels of an upstream that this process has never known: the defaults of the keys.
const UNKNOWN: TunnelPolicy = TunnelPolicy { on_change: OnChange::Close, drain_window: Duration::from_secs(30) };
