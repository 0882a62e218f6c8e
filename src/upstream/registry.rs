//! The registry: finds the live state of a backend by its identity, for as long as anyone uses it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use super::admission::UpstreamAdmission;
use super::history::HealthHistory;
use super::state::{BackendState, lock};

/// All backends that anyone still uses: a configuration, a tunnel, a checker.
///
/// The registry keeps none of them alive by itself. Entries of those gone are cleared whenever the entries have
/// doubled, so there are never more than twice as many as backends were in use at one time.
#[derive(Debug, Default)]
pub struct Registry {
    backends: Mutex<Backends>,
    health: Arc<HealthHistory>,
}

#[derive(Debug, Default)]
struct Backends {
    /// By upstream and name: the states of one identity, one for each address that anyone uses.
    by_upstream: HashMap<String, HashMap<Box<str>, Vec<Weak<BackendState>>>>,
    /// By upstream.
    admissions: HashMap<String, Weak<UpstreamAdmission>>,
    /// Names, those that nobody uses any more included.
    entries: usize,
    /// Names left by the last clearing.
    alive: usize,
}

impl Registry {
    /// The last turns of backends' health.
    pub fn health_history(&self) -> &Arc<HealthHistory> {
        &self.health
    }

    /// The state of a backend at an address, made anew (up, without load) where no one uses the backend.
    pub fn backend(&self, upstream: &str, name: &str, address: SocketAddr) -> Arc<BackendState> {
        let mut backends = lock(&self.backends);
        let known = backends.by_upstream.get(upstream).and_then(|by_name| by_name.get(name));
        let mut elsewhere = None;
        for state in known.into_iter().flatten().filter_map(Weak::upgrade) {
            if state.address() == address {
                return state;
            }
            elsewhere = Some(state);
        }
        let state = Arc::new(match elsewhere {
            Some(same) => same.at(address),
            None => BackendState::new(upstream, name, address, backends.admission(upstream)),
        });
        backends.insert(&state);
        state
    }

    /// The admission to an upstream's backends, made anew (off) where no one uses a backend of it.
    pub fn admission(&self, upstream: &str) -> Arc<UpstreamAdmission> {
        lock(&self.backends).admission(upstream)
    }

    /// The admissions of all upstreams, by name.
    pub fn admissions(&self) -> Vec<(String, Arc<UpstreamAdmission>)> {
        let backends = lock(&self.backends);
        let all = backends.admissions.iter();
        all.filter_map(|(upstream, admission)| Some((upstream.clone(), admission.upgrade()?))).collect()
    }

    /// True while anyone uses a backend of this upstream.
    pub fn has(&self, upstream: &str) -> bool {
        let backends = lock(&self.backends);
        backends.by_upstream.get(upstream).is_some_and(|by_name| by_name.values().any(|states| is_used(states)))
    }
}

impl Backends {
    fn admission(&mut self, upstream: &str) -> Arc<UpstreamAdmission> {
        if let Some(admission) = self.admissions.get(upstream).and_then(Weak::upgrade) {
            return admission;
        }
        let admission = Arc::default();
        self.admissions.insert(upstream.to_owned(), Arc::downgrade(&admission));
        admission
    }

    fn insert(&mut self, state: &Arc<BackendState>) {
        if self.entries > 2 * self.alive {
            self.clear_dead();
        }
        if !self.by_upstream.contains_key(state.upstream()) {
            self.by_upstream.insert(state.upstream().to_owned(), HashMap::new());
        }
        let Some(by_name) = self.by_upstream.get_mut(state.upstream()) else { return };
        match by_name.get_mut(state.name()) {
            Some(states) => {
                states.retain(|state| state.strong_count() > 0);
                states.push(Arc::downgrade(state));
            }
            None => {
                by_name.insert(state.name().into(), vec![Arc::downgrade(state)]);
                self.entries += 1;
            }
        }
    }

    fn clear_dead(&mut self) {
        self.by_upstream.retain(|_, by_name| {
            by_name.retain(|_, states| is_used(states));
            !by_name.is_empty()
        });
        self.admissions.retain(|_, admission| admission.strong_count() > 0);
        self.entries = self.by_upstream.values().map(HashMap::len).sum();
        self.alive = self.entries;
    }
}

fn is_used(states: &[Weak<BackendState>]) -> bool {
    states.iter().any(|state| state.strong_count() > 0)
}

#[cfg(test)]
mod tests;
