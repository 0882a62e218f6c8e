//! A compiled upstream: what is charged to its backends, and what becomes of the results of their checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use log::{info, warn};

use super::upstream_layers;
use crate::config::{self, OnDown};
use crate::dial::Layers;
use crate::metrics::{Metrics, UpstreamMetrics};
use crate::tunnel::{Reason, Scope, Tunnels};
use crate::upstream::{
    BackendState, Blame, FailedRequest, FailedStep, FailedTry, HealthChange, HealthHistory, Member, Registry, Upstream,
};

/// A compiled upstream with what is counted for it.
pub struct Destination {
    /// Backends, ring and policy.
    pub upstream: Upstream,
    /// The layers between TCP and HTTP.
    pub layers: Layers,
    /// Counters of the upstream.
    pub metrics: Arc<UpstreamMetrics>,
    /// Turns of the health of all upstreams' backends.
    history: Arc<HealthHistory>,
}

impl Destination {
    pub(super) fn compile(
        upstream: &config::Upstream,
        members: Arc<[Member]>,
        registry: &Registry,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let (layers, metrics) = (upstream_layers::of(upstream), metrics.upstream(&upstream.name));
        let history = Arc::clone(registry.health_history());
        Arc::new(Self { upstream: Upstream::with(upstream, members, registry), layers, metrics, history })
    }

    /// The same upstream with these members; itself where they are the same.
    pub(super) fn with_members(self: &Arc<Self>, members: Arc<[Member]>, registry: &Registry) -> Arc<Self> {
        if *self.upstream.members() == members {
            return Arc::clone(self);
        }
        let upstream = self.upstream.with_members(members, registry, Instant::now());
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        Arc::new(Self { upstream, layers: self.layers.clone(), metrics, history })
    }

    /// Charges a failed try at the backend with this index to the party it is blamed on. A backend that is charged is
    /// checked before its next check is due.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn try_failed(&self, index: usize, failed: &FailedTry<'_>) {
        let kind = match failed.blame {
            Blame::Backend(kind) => kind,
            Blame::Gateway(failure) => return self.metrics.local_failure(failure),
            Blame::Client => return,
        };
        self.metrics.backend_failure(kind.as_str());
        let reason = format!("{} of real traffic failed: {}", kind.as_str(), failed.reason);
        let change = match kind {
            FailedStep::Connect => self.upstream.connect_failed(index, &reason),
            FailedStep::Handshake | FailedStep::Request => {
                let request = FailedRequest { network: failed.client.into(), on_trial: failed.on_trial };
                self.upstream.request_failed(index, request, &reason, Instant::now())
            }
        };
        let (state, config) = (&self.upstream.states()[index], self.upstream.config());
        match config.health.as_ref().and(config.absent) {
            Some(_) if kind == FailedStep::Connect => state.refused(Instant::now()),
            _ => state.observe(Instant::now()),
        }
        state.check_wanted().notify_one();
        self.log_change(index, change.as_ref());
    }

    /// Notes that the backend with this index answered a request of `client` as it should.
    ///
    /// # Panics
    /// `index` is not one of the members.
    pub fn try_succeeded(&self, index: usize, client: IpAddr) {
        let change = self.upstream.traffic_succeeded(index, client.into(), Instant::now);
        self.log_change(index, change.as_ref());
    }

    /// Notes the outcome of an active check, which alone decides about open tunnels: with `on_down: close` they are
    /// ended when checks take the backend down, and those that have not been told yet are spared when checks bring it
    /// back.
    pub fn checked(&self, index: usize, outcome: Result<(), String>, tunnels: &Tunnels) {
        let config = self.upstream.config();
        let Some(health) = &config.health else { return };
        let state = &self.upstream.states()[index];
        let change = match outcome {
            Ok(()) => state.check_passed(health.into(), "checks pass", Instant::now()),
            Err(reason) => state.check_failed(health.into(), &format!("check failed: {reason}")),
        };
        state.observe(Instant::now());
        self.log_change(index, change.as_ref());
        if health.on_down != OnDown::Close {
            return;
        }
        let scope = Scope::Address(Arc::clone(state));
        match change {
            Some(HealthChange::Down { .. } | HealthChange::Confirmed { .. }) => {
                tunnels.end(&scope, Reason::BackendDown, config.drain_window);
            }
            Some(HealthChange::Up { .. }) => tunnels.spare(&scope, Reason::BackendDown),
            Some(HealthChange::Ejected { .. } | HealthChange::Returned) | None => {}
        }
    }

    /// Logs, counts and notes a turn of a backend's health.
    fn log_change(&self, index: usize, change: Option<&HealthChange>) {
        let Some(change) = change else { return };
        let state = &self.upstream.states()[index];
        let backend: &BackendState = state;
        self.history.note(SystemTime::now(), backend, change);
        match change {
            HealthChange::Up { reason } => {
                info!("backend {backend} is up: {reason}");
                self.metrics.health_change(true);
            }
            HealthChange::Down { reason, .. } => {
                warn!("backend {backend} is down: {reason}");
                self.metrics.health_change(false);
            }
            HealthChange::Confirmed { reason } => info!("backend {backend} is down by checks too: {reason}"),
            HealthChange::Ejected { reason, length } => {
                let length = humantime::format_duration(*length);
                warn!("backend {backend} is ejected for {length}: {reason}");
                self.metrics.ejections.inc();
            }
            HealthChange::Returned => info!("backend {backend} is no longer ejected: a request on trial succeeded"),
        }
    }

    /// Time after which a client that found no backend up may try again: checks notice a backend that returns within
    /// one interval.
    pub fn retry_after(&self) -> Duration {
        self.upstream.config().health.as_ref().map_or(Duration::from_secs(1), |health| health.interval)
    }
}
