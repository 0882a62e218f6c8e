//! Load of backends: each request and each tunnel counts on its backend for as long as it lasts.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::super::admission::{HeldKey, KeyId, KeySlot};
use super::{BackendState, Locked, lock};

/// One running request or open tunnel of a backend: counted while it lives, however it ends.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct LoadGuard {
    state: Arc<BackendState>,
    is_tunnel: bool,
    /// Counted among the claims.
    claims: bool,
    /// The request decides whether an ejected backend is back.
    on_trial: bool,
    /// Counts the tunnel for its key.
    key: Option<KeySlot>,
}

/// Kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// A plain request.
    Request,
    /// A tunnel, or a handshake that may become one.
    Tunnel,
}

/// The most that a backend may carry of one kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The kind.
    pub demand: Demand,
    /// The most; `usize::MAX` for no bound.
    pub most: usize,
}

impl Room {
    /// Room without a bound.
    pub fn unbounded(demand: Demand) -> Self {
        Self { demand, most: usize::MAX }
    }
}

impl BackendState {
    /// Puts one request more on the backend, for as long as the guard lives.
    pub fn occupy(self: &Arc<Self>) -> LoadGuard {
        self.occupy_locked(&mut lock(&self.live.locked))
    }

    /// Puts one request more on the backend, of the kind of `room`, if that leaves its load no higher than `limit`, and
    /// its load of that kind no higher than `room` says, in one atomic step.
    pub fn occupy_within(self: &Arc<Self>, limit: usize, room: Room) -> Option<LoadGuard> {
        let fits = || self.load() < limit && self.carries(room.demand) < room.most;
        if !fits() {
            return None;
        }
        let mut locked = lock(&self.live.locked);
        if !fits() {
            return None;
        }
        let mut guard = self.occupy_locked(&mut locked);
        if room.demand == Demand::Tunnel {
            guard.claim();
        }
        Some(guard)
    }

    fn occupy_locked(self: &Arc<Self>, locked: &mut Locked) -> LoadGuard {
        self.live.load.fetch_add(1, Relaxed);
        locked.seats.iter().for_each(|seat| seat.tally.occupied(seat.place));
        let on_trial = self.is_ejected()
            && locked.address == self.address
            && self.update_locked(locked, |health| health.doubt.take_trial());
        LoadGuard { state: Arc::clone(self), is_tunnel: false, claims: false, on_trial, key: None }
    }

    fn release(&self, on_trial: bool) {
        let mut locked = lock(&self.live.locked);
        // In this order tallies never say more than there is, and bounds reckoned from them are never too high.
        locked.seats.iter().for_each(|seat| seat.tally.released(seat.place));
        self.live.load.fetch_sub(1, Relaxed);
        if on_trial && locked.address == self.address {
            self.update_locked(&mut locked, |health| health.doubt.trial_ended());
        }
    }
}

impl LoadGuard {
    /// The backend it counts for.
    pub fn state(&self) -> &Arc<BackendState> {
        &self.state
    }

    /// True when the request decides whether an ejected backend is back.
    pub fn is_on_trial(&self) -> bool {
        self.on_trial
    }

    /// The request has become a tunnel, and counts as both from now on.
    pub fn mark_tunnel(&mut self) {
        if !std::mem::replace(&mut self.is_tunnel, true) {
            self.state.live.tunnels.fetch_add(1, Relaxed);
            self.claim();
        }
    }

    /// Counts the request as one that may become a tunnel.
    fn claim(&mut self) {
        if !std::mem::replace(&mut self.claims, true) {
            self.state.live.claims.fetch_add(1, SeqCst);
        }
    }

    /// Counts the tunnel for its key as long as it is open.
    pub fn hold(&mut self, key: Option<HeldKey>) {
        self.key = key.and_then(HeldKey::into_slot);
    }

    /// Counts the tunnel of `before`, whose backend this one follows, as one of its key.
    pub fn succeed(&mut self, mut before: Self, key: Option<(u32, &str)>) {
        self.mark_tunnel();
        if Arc::ptr_eq(&self.state.live.admission, &before.state.live.admission) {
            self.key = before.key.take();
        } else if let Some((hash, digest)) = key {
            self.count_key(hash, digest);
        }
    }

    /// Counts a tunnel of another process for the key with this hash and digest, where the upstream counts by key. The
    /// tunnel is open, so no bound applies.
    pub fn count_key(&mut self, hash: u32, digest: &str) {
        let admission = &self.state.live.admission;
        if admission.keys().are_counted() {
            self.key = admission.keys().add(KeyId::new(hash, digest), usize::MAX);
        }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        if self.claims {
            self.state.live.claims.fetch_sub(1, SeqCst);
        }
        self.state.release(self.on_trial);
        if self.is_tunnel {
            self.state.live.tunnels.fetch_sub(1, Relaxed);
        }
        if let Some(key) = self.key {
            self.state.live.admission.keys().remove(key);
        }
        if self.claims {
            self.state.live.admission.freed(&self.state.live.name);
        }
    }
}
