//! Counts of open tunnels, by key.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::key::LimitKey;

/// Counts of open tunnels, by key. Holds no more keys than there are tunnels.
#[derive(Debug, Default)]
pub(super) struct TunnelCounts(Mutex<HashMap<LimitKey, u32>>);

/// One tunnel, counted until this is dropped.
#[derive(Debug)]
pub(super) struct CountedTunnel {
    tunnels: Arc<TunnelCounts>,
    key: LimitKey,
}

impl TunnelCounts {
    /// Counts one more tunnel of a key, unless the key has `most` tunnels already.
    pub(super) fn enter(self: &Arc<Self>, key: LimitKey, most: NonZeroU32) -> Option<CountedTunnel> {
        let mut open = self.open();
        let count = open.entry(key).or_default();
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        Some(CountedTunnel { tunnels: Arc::clone(self), key })
    }

    /// Counts a tunnel that is open already.
    pub(super) fn resume(self: &Arc<Self>, key: LimitKey) -> CountedTunnel {
        *self.open().entry(key).or_default() += 1;
        CountedTunnel { tunnels: Arc::clone(self), key }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<LimitKey, u32>> {
        // Nothing in the lock's sections leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CountedTunnel {
    fn drop(&mut self) {
        let mut open = self.tunnels.open();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
