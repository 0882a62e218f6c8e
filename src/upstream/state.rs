//! The live state of backends: what they carry and whether they are up, keyed by identity and outliving reloads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::FailedRequest;
use super::health::{Change, HealthState, Thresholds};
use super::tally::{Share, Standing, Tally};

/// The live state of one backend of one upstream.
///
/// Atomics guard no other memory, so they are read and written in relaxed order; those that tallies count (load, up,
/// ejected, draining) are written under the lock only.
#[derive(Debug)]
pub struct BackendState {
    upstream: String,
    address: SocketAddr,
    load: AtomicUsize,
    tunnels: AtomicUsize,
    /// `health.is_up()`, to be read without the lock.
    up: AtomicBool,
    /// `health.is_doubted()`, to be read without the lock.
    doubted: AtomicBool,
    /// `health.doubt.is_ejected()`, to be read without the lock.
    ejected: AtomicBool,
    /// `health.doubt.admits()`, to be read without the lock.
    admits: AtomicBool,
    /// The operator drains it.
    draining: AtomicBool,
    check_wanted: Arc<Notify>,
    locked: Mutex<Locked>,
}

#[derive(Debug, Default)]
struct Locked {
    health: HealthState,
    /// Tallies that count the backend: one for each compiled upstream that lists it, seldom more than one.
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    tally: Arc<Tally>,
    /// The backend's index in that upstream's list.
    place: usize,
    weight: u16,
}

impl BackendState {
    fn new(upstream: &str, address: SocketAddr) -> Self {
        Self {
            upstream: upstream.to_owned(),
            address,
            load: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            up: AtomicBool::new(true),
            doubted: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            admits: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            check_wanted: Arc::default(),
            locked: Mutex::default(),
        }
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &str {
        &self.upstream
    }

    /// The backend's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Open tunnels and running requests, together.
    pub fn load(&self) -> usize {
        self.load.load(Relaxed)
    }

    /// Open tunnels.
    pub fn tunnels(&self) -> usize {
        self.tunnels.load(Relaxed)
    }

    /// True when doubt has taken the backend out for a time. The backend still counts as up.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Relaxed)
    }

    /// True when doubt lets traffic through: the backend is not ejected, or waits for a request on trial.
    pub fn admits(&self) -> bool {
        self.admits.load(Relaxed)
    }

    /// Notified when traffic gives a reason to check the backend before its next check is due.
    pub fn check_wanted(&self) -> &Arc<Notify> {
        &self.check_wanted
    }

    /// True when results so far count the backend as up; [`Upstream::is_up`](super::Upstream::is_up) also knows whether
    /// its upstream asks for health at all.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// True while the operator drains the backend: it is given nothing new, as with weight 0, and keeps its place on
    /// the ring.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Begins or ends the draining.
    pub fn set_draining(&self, draining: bool) {
        self.change(|_| self.draining.store(draining, Relaxed));
    }

    /// A check passed; see [`HealthState::check_passed`].
    pub fn check_passed(&self, thresholds: Thresholds, reason: &str, now: Instant) -> Option<Change> {
        self.update(|health| health.check_passed(thresholds, reason, now))
    }

    /// A check failed; see [`HealthState::check_failed`].
    pub fn check_failed(&self, thresholds: Thresholds, reason: &str) -> Option<Change> {
        self.update(|health| health.check_failed(thresholds, reason))
    }

    /// Traffic succeeded; costs one load where nothing had failed. `now` is asked for otherwise.
    pub fn traffic_succeeded(&self, now: impl FnOnce() -> Instant) -> Option<Change> {
        if !self.doubted.load(Relaxed) {
            return None;
        }
        self.update(|health| health.traffic_succeeded(now()))
    }

    /// Traffic could not connect; see [`HealthState::connect_failed`].
    pub fn connect_failed(&self, thresholds: Thresholds, reason: &str) -> Option<Change> {
        self.update(|health| health.connect_failed(thresholds, reason))
    }

    /// A request failed after it was sent; see [`HealthState::request_failed`].
    pub(super) fn request_failed(&self, request: FailedRequest, alone: bool, fall: u32, now: Instant) -> bool {
        self.update(|health| health.request_failed(request, alone, fall, now))
    }

    /// Traffic was connected, whatever came after.
    pub(super) fn connected(&self) {
        if self.doubted.load(Relaxed) {
            self.update(HealthState::connected);
        }
    }

    pub(super) fn eject(&self, reason: &str, now: Instant) -> Change {
        self.update(|health| health.eject(reason, now))
    }

    /// Opens the trial of an ejected backend when it is due; returns the next moment to call this.
    pub fn attend(&self, now: Instant) -> Option<Instant> {
        if self.is_ejected() { self.update(|health| health.doubt.attend(now)) } else { None }
    }

    fn update<T>(&self, apply: impl FnOnce(&mut HealthState) -> T) -> T {
        self.update_locked(&mut lock(&self.locked), apply)
    }

    fn update_locked<T>(&self, locked: &mut Locked, apply: impl FnOnce(&mut HealthState) -> T) -> T {
        self.change_locked(locked, |health| {
            let result = apply(health);
            self.up.store(health.is_up(), Relaxed);
            self.doubted.store(health.is_doubted(), Relaxed);
            self.ejected.store(health.doubt.is_ejected(), Relaxed);
            self.admits.store(health.doubt.admits(), Relaxed);
            result
        })
    }

    /// Makes a change under the lock, and has every tally follow it.
    fn change<T>(&self, make: impl FnOnce(&mut HealthState) -> T) -> T {
        self.change_locked(&mut lock(&self.locked), make)
    }

    fn change_locked<T>(&self, locked: &mut Locked, make: impl FnOnce(&mut HealthState) -> T) -> T {
        let Locked { health, seats } = locked;
        let before = self.standing();
        let result = make(health);
        let after = self.standing();
        if before != after {
            seats.iter().for_each(|seat| seat.tally.change(self.share(seat), Some(before), Some(after)));
        }
        result
    }

    fn standing(&self) -> Standing {
        Standing { up: self.is_up(), ejected: self.is_ejected(), admits: self.admits(), draining: self.is_draining() }
    }

    fn share(&self, seat: &Seat) -> Share {
        Share { place: seat.place, weight: seat.weight, load: self.load() }
    }

    /// Adds the backend to a tally, at an index and with a weight.
    pub(super) fn join(&self, tally: &Arc<Tally>, place: usize, weight: u16) {
        let seat = Seat { tally: Arc::clone(tally), place, weight };
        let mut locked = lock(&self.locked);
        tally.change(self.share(&seat), None, Some(self.standing()));
        locked.seats.push(seat);
    }

    /// Takes the backend out of a tally that it joined.
    pub(super) fn leave(&self, tally: &Arc<Tally>) {
        lock(&self.locked).seats.retain(|seat| {
            let stays = !Arc::ptr_eq(&seat.tally, tally);
            if !stays {
                tally.change(self.share(seat), Some(self.standing()), None);
            }
            stays
        });
    }

    /// Puts one request more on the backend, for as long as the guard lives.
    pub fn occupy(self: &Arc<Self>) -> LoadGuard {
        self.occupy_locked(&mut lock(&self.locked))
    }

    /// Puts one request more on the backend if that leaves its load no higher than `limit`, in one atomic step.
    pub fn occupy_within(self: &Arc<Self>, limit: usize) -> Option<LoadGuard> {
        if self.load() >= limit {
            return None;
        }
        let mut locked = lock(&self.locked);
        (self.load() < limit).then(|| self.occupy_locked(&mut locked))
    }

    fn occupy_locked(self: &Arc<Self>, locked: &mut Locked) -> LoadGuard {
        self.load.fetch_add(1, Relaxed);
        locked.seats.iter().for_each(|seat| seat.tally.occupied(seat.place));
        let on_trial = self.is_ejected() && self.update_locked(locked, |health| health.doubt.take_trial());
        LoadGuard { state: Arc::clone(self), is_tunnel: false, on_trial }
    }

    fn release(&self, on_trial: bool) {
        let mut locked = lock(&self.locked);
        // In this order tallies never say more than there is, and bounds reckoned from them are never too high.
        locked.seats.iter().for_each(|seat| seat.tally.released(seat.place));
        self.load.fetch_sub(1, Relaxed);
        if on_trial {
            self.update_locked(&mut locked, |health| health.doubt.trial_ended());
        }
    }
}

/// One running request or open tunnel of a backend: counted while it lives, however it ends.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct LoadGuard {
    state: Arc<BackendState>,
    is_tunnel: bool,
    /// The request decides whether an ejected backend is back.
    on_trial: bool,
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
            self.state.tunnels.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for LoadGuard {
    fn drop(&mut self) {
        self.state.release(self.on_trial);
        if self.is_tunnel {
            self.state.tunnels.fetch_sub(1, Relaxed);
        }
    }
}

/// All backends that anyone still uses: a configuration, a tunnel, a checker.
///
/// The registry keeps none of them alive by itself. Entries of those gone are cleared whenever the entries have
/// doubled, so there are never more than twice as many as backends were in use at one time.
#[derive(Debug, Default)]
pub struct Registry {
    backends: Mutex<Backends>,
}

#[derive(Debug, Default)]
struct Backends {
    by_upstream: HashMap<String, HashMap<SocketAddr, Weak<BackendState>>>,
    /// Entries, dead ones included.
    entries: usize,
    /// Entries left by the last clearing.
    alive: usize,
}

impl Registry {
    /// The state of a backend, made anew (up, without load) where no one uses it.
    pub fn backend(&self, upstream: &str, address: SocketAddr) -> Arc<BackendState> {
        let mut backends = lock(&self.backends);
        if let Some(state) =
            backends.by_upstream.get(upstream).and_then(|by_address| by_address.get(&address)?.upgrade())
        {
            return state;
        }
        let state = Arc::new(BackendState::new(upstream, address));
        backends.insert(&state);
        state
    }

    /// True while anyone uses a backend of this upstream.
    pub fn has(&self, upstream: &str) -> bool {
        let backends = lock(&self.backends);
        let by_address = backends.by_upstream.get(upstream);
        by_address.is_some_and(|by_address| by_address.values().any(|state| state.strong_count() > 0))
    }
}

impl Backends {
    fn insert(&mut self, state: &Arc<BackendState>) {
        if self.entries > 2 * self.alive {
            self.clear_dead();
        }
        let by_address = self.by_upstream.entry(state.upstream.clone()).or_default();
        let replaced = by_address.insert(state.address, Arc::downgrade(state));
        self.entries += usize::from(replaced.is_none());
    }

    fn clear_dead(&mut self) {
        self.by_upstream.retain(|_, by_address| {
            by_address.retain(|_, state| state.strong_count() > 0);
            !by_address.is_empty()
        });
        self.entries = self.by_upstream.values().map(HashMap::len).sum();
        self.alive = self.entries;
    }
}

/// Nothing that runs under these locks panics half-way, so a poisoned one is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
