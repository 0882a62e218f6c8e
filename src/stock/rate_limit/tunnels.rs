//! Counts of open tunnels, by key.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::key::Key;

/// Counts of open tunnels, by key. Holds no more keys than there are tunnels.
#[derive(Debug, Default)]
pub(super) struct Tunnels(Mutex<HashMap<Key, u32>>);

/// One tunnel, counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted {
    tunnels: Arc<Tunnels>,
    key: Key,
}

impl Tunnels {
    /// Counts one more of a key's, unless it has `most`.
    pub(super) fn enter(self: &Arc<Self>, key: Key, most: NonZeroU32) -> Option<Counted> {
        let mut open = self.open();
        let count = open.entry(key).or_default();
        if *count >= most.get() {
            return None;
        }
        *count += 1;
        Some(Counted { tunnels: Arc::clone(self), key })
    }

    /// Counts a tunnel that is open already.
    pub(super) fn resume(self: &Arc<Self>, key: Key) -> Counted {
        *self.open().entry(key).or_default() += 1;
        Counted { tunnels: Arc::clone(self), key }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Key, u32>> {
        // Nothing in the lock's sections leaves the map half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
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
