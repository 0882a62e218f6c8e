//! Rates: how much clients may send through their tunnels, each of them and all of one affinity key.

mod bucket;
mod keys;
mod throttle;

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::TunnelRates;
use crate::tunnel::record::Record;
pub(super) use keys::KeyRates;
pub(super) use keys::RatedKeys;
pub(super) use throttle::{Throttle, ThrottleState};

/// The rates of every upstream, those without a limit included.
#[derive(Clone, Debug, Default)]
pub struct RateTable {
    upstreams: HashMap<String, Arc<TunnelRates>>,
    are_on: bool,
}

/// The rates that one tunnel is under.
pub(in crate::tunnel) struct RatesInForce {
    pub(in crate::tunnel) rates: Arc<TunnelRates>,
    /// Buckets that the tunnels of its key share; `None` where that has no limit, or the tunnel no key.
    pub(in crate::tunnel) key: Option<Arc<KeyRates>>,
}

impl RateTable {
    /// The rates of upstreams by their names.
    pub fn new<'u>(upstreams: impl Iterator<Item = (&'u str, TunnelRates)>) -> Self {
        let upstreams: HashMap<_, _> = upstreams.map(|(name, rates)| (name.to_owned(), Arc::new(rates))).collect();
        Self { are_on: upstreams.values().any(|rates| rates.are_on()), upstreams }
    }

    /// The rates of a tunnel's upstream; `None` where the upstream is not known, and the tunnel keeps those it has.
    pub(in crate::tunnel) fn of(&self, record: &Record, keys: &RatedKeys) -> Option<RatesInForce> {
        let upstream = record.backend().upstream();
        let rates = Arc::clone(self.upstreams.get(upstream)?);
        let key = if rates.per_key.are_on() { keys.of(record) } else { None };
        Some(RatesInForce { rates, key })
    }

    /// Tells if one of them is limited.
    pub(in crate::tunnel) fn are_on(&self) -> bool {
        self.are_on
    }
}

impl RatesInForce {
    /// No limits.
    pub(in crate::tunnel) fn none() -> Self {
        Self { rates: Arc::default(), key: None }
    }
}
