//! Counts of the tunnels and requests of each route.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::RefusalReason;
use crate::config::RouteLimits;

/// A route: its limits, and its counts, which it has in common with the route of that name in other snapshots.
#[derive(Clone, Debug, Default)]
pub struct Route {
    limits: RouteLimits,
    counts: Arc<RouteCounts>,
}

/// Counts of one route: of its tunnels, and of its requests.
type RouteCounts = [AtomicUsize; 2];
const TUNNELS: usize = 0;
const REQUESTS: usize = 1;

impl Route {
    /// A route that shares its counts with no other.
    pub fn alone(limits: RouteLimits) -> Self {
        Self { limits, counts: Arc::default() }
    }

    /// Limits of the route.
    pub fn limits(&self) -> RouteLimits {
        self.limits
    }

    /// Counts the tunnel that a handshake is to open.
    pub(super) fn tunnel(&self) -> Result<RouteTunnel, RefusalReason> {
        OfRoute::within(&self.counts, self.limits.tunnels).ok_or(RefusalReason::RouteTunnels)
    }

    /// Counts a request.
    pub(super) fn request(&self) -> Result<RouteRequest, RefusalReason> {
        OfRoute::within(&self.counts, self.limits.requests).ok_or(RefusalReason::RouteRequests)
    }

    /// Counts a tunnel that is open already.
    pub(super) fn adopt(&self) -> RouteTunnel {
        OfRoute::begin(&self.counts)
    }
}

/// One of the tunnels of a route.
pub(super) type RouteTunnel = OfRoute<TUNNELS>;
/// One of the requests of a route.
pub(super) type RouteRequest = OfRoute<REQUESTS>;

/// One of the tunnels, or of the requests, of a route; every tunnel has room for a pointer to its counts.
#[derive(Debug)]
pub(super) struct OfRoute<const KIND: usize>(Arc<RouteCounts>);

impl<const KIND: usize> OfRoute<KIND> {
    fn begin(counts: &Arc<RouteCounts>) -> Self {
        counts[KIND].fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(counts))
    }

    /// Counts one more; `None` where there are as many as may be.
    fn within(counts: &Arc<RouteCounts>, most: Option<NonZeroU32>) -> Option<Self> {
        // Counted first, so that two who ask at the same moment are not both the last that is let in.
        let counted = Self::begin(counts);
        let open = counts[KIND].load(Ordering::Relaxed);
        most.is_none_or(|most| open <= most.get() as usize).then_some(counted)
    }
}

impl<const KIND: usize> Drop for OfRoute<KIND> {
    fn drop(&mut self) {
        self.0[KIND].fetch_sub(1, Ordering::Relaxed);
    }
}

/// The counts of routes by name, for as long as a snapshot, a tunnel or a request has them.
///
/// Bound: twice the names that are in use, and [`LEAST_SWEEP`].
#[derive(Debug, Default)]
pub(super) struct CountsByRoute {
    by_name: Mutex<Names>,
}

#[derive(Debug, Default)]
struct Names {
    counts: HashMap<Box<str>, Weak<RouteCounts>>,
    /// Number of entries at which those that nobody uses are dropped.
    sweep_at: usize,
}

impl CountsByRoute {
    /// The route of this name.
    pub(super) fn named(&self, name: &str, limits: RouteLimits) -> Route {
        let mut names = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(counts) = names.counts.get(name).and_then(Weak::upgrade) {
            return Route { limits, counts };
        }
        if names.counts.len() >= names.sweep_at {
            names.counts.retain(|_, counts| counts.strong_count() > 0);
            names.sweep_at = (2 * names.counts.len()).max(LEAST_SWEEP);
        }
        let route = Route::alone(limits);
        names.counts.insert(name.into(), Arc::downgrade(&route.counts));
        route
    }
}

const LEAST_SWEEP: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(tunnels: u32, requests: u32) -> RouteLimits {
        RouteLimits { tunnels: NonZeroU32::new(tunnels), requests: NonZeroU32::new(requests) }
    }

    #[test]
    fn routes_of_one_name_count_together_and_each_by_its_own_limits() {
        let routes = CountsByRoute::default();
        let (before, other) = (routes.named("* /", limits(3, 1)), routes.named("* /other", limits(1, 1)));
        let first = before.tunnel().unwrap();
        let _second = before.tunnel().unwrap();
        let after = routes.named("* /", limits(2, 0));
        assert_eq!(after.tunnel().unwrap_err(), RefusalReason::RouteTunnels);
        let _third = before.tunnel().unwrap();
        let request = before.request().unwrap();
        assert_eq!(before.request().unwrap_err(), RefusalReason::RouteRequests);
        let _unbound = after.request().unwrap();
        let _elsewhere = (other.tunnel().unwrap(), other.request().unwrap());
        drop((first, request));
        assert_eq!(after.tunnel().unwrap_err(), RefusalReason::RouteTunnels, "refused ones count for nothing");
        assert!(before.tunnel().is_ok());
    }

    #[test]
    fn a_route_that_is_gone_and_comes_back_still_has_its_tunnels() {
        let routes = CountsByRoute::default();
        let route = routes.named("* /", limits(1, 1));
        let tunnel = route.tunnel().unwrap();
        drop(route);
        for number in 0..1_000 {
            let _ = routes.named(&format!("* /{number}"), limits(1, 1));
        }
        assert!(routes.by_name.lock().unwrap().counts.len() <= LEAST_SWEEP);
        assert!(routes.named("* /", limits(1, 1)).tunnel().is_err());
        drop(tunnel);
        assert!(routes.named("* /", limits(1, 1)).tunnel().is_ok());
    }
}
