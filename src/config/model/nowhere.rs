//! The upstream of routes that have none: their hooks answer, or choose an upstream.

use std::time::Duration;

use super::backend_limits::BackendLimits;
use super::rates::TunnelRates;
use super::route::Route;
use super::tunnel_limits::TunnelLimits;
use super::upstream::{OnChange, Timeouts, Upstream};

impl Upstream {
    /// Name of the upstream without backends, for routes that name no upstream; no upstream of a file may have it.
    pub const NOWHERE: &str = "-";

    /// Tells if this is the upstream of routes that name none.
    pub fn is_nowhere(&self) -> bool {
        self.name == Self::NOWHERE
    }

    /// Adds the upstream of `routes` that name none to those of the file, where there are such routes.
    pub(in crate::config) fn with_nowhere(mut named: Vec<Self>, routes: &[Route]) -> Vec<Self> {
        let nowhere = routes.iter().any(|route| route.upstream == Self::NOWHERE).then(|| Self {
            name: Self::NOWHERE.to_owned(),
            affinity: Vec::new(),
            backends: Vec::new(),
            discover: None,
            balance_factor: None,
            health: None,
            fail_open: false,
            drain_window: Duration::ZERO,
            on_change: OnChange::Close,
            rehome: None,
            tries: 1,
            timeouts: Timeouts::default(),
            tunnel: TunnelLimits::default(),
            rates: TunnelRates::default(),
            limits: BackendLimits::default(),
            admission: None,
            absent: None,
            tls: None,
            proxy_protocol: None,
        });
        named.extend(nowhere);
        named
    }
}
