//! Tunnels away from home: their backend is not the first one that is up on the ring for their key.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Running, Snapshot};
use crate::tunnel::{Record, Seen};

impl Snapshot {
    /// Index of the route with this name (`host path`), if there is one.
    pub fn index_of_route(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Tells whether a tunnel's backend is another one than its key's home. A tunnel without a key is never away.
    pub fn is_away(&self, tunnel: &Record) -> bool {
        let backend = tunnel.backend();
        let Some(key_hash) = tunnel.key.hash() else { return false };
        let Some(to) = self.destination(backend.upstream()) else { return false };
        to.upstream.home(key_hash).is_some_and(|home| !to.upstream.states()[home].is_same(backend))
    }
}

impl Running {
    /// Number of open tunnels away from home, by upstream. Every upstream in force has an entry.
    ///
    /// Tunnels come to stand away from home by failover, by `balance_factor`, or by a change of the ring.
    pub async fn away_from_home(&self) -> BTreeMap<String, usize> {
        let snapshot = self.snapshot();
        let names = snapshot.destinations().iter().map(|to| (to.upstream.config().name.clone(), 0));
        let counts = Arc::new(Mutex::new(BTreeMap::from_iter(names)));
        let counted = Arc::clone(&counts);
        let look = move |seen: &Seen<'_>| {
            let tunnel = seen.record();
            if snapshot.is_away(tunnel) {
                let mut counts = counted.lock().unwrap_or_else(PoisonError::into_inner);
                counts.entry(tunnel.backend().upstream().to_owned()).and_modify(|count| *count += 1);
            }
        };
        self.tunnels.visit(Arc::new(look)).await;
        std::mem::take(&mut counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
