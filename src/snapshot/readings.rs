//! The state of backends as metrics tell it.

use super::Snapshot;
use crate::metrics::BackendReading;

impl Snapshot {
    /// State of every backend now, for a scrape.
    pub fn readings(&self) -> impl Iterator<Item = BackendReading<'_>> {
        self.destinations.iter().flat_map(|to| {
            to.upstream.states().iter().enumerate().map(|(index, state)| {
                let (waiting, rate) = to.upstream.admission().reading(state.name());
                let held = to.upstream.admission().absent().reading(state.name());
                BackendReading {
                    upstream: state.upstream(),
                    backend: state.name().to_owned(),
                    up: to.upstream.is_up(index) && !to.upstream.members()[index].is_absent(),
                    draining: state.is_draining(),
                    ejected: state.is_ejected(),
                    tunnels: state.tunnels() as u64,
                    load: state.load() as u64,
                    waiting: waiting as u64,
                    held: held as u64,
                    rate,
                }
            })
        })
    }
}
