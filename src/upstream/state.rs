//! The live state of backends: what they carry and whether they are up, keyed by identity and outliving reloads.

mod absence;
mod load;

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::FailedRequest;
use super::admission::{QueuedBackend, UpstreamAdmission};
use super::health::{HealthChange, HealthState, Thresholds};
use super::tally::{Share, TalliedState, Tally};
use absence::Absence;
pub(super) use absence::Listed;
pub use load::{Demand, LoadGuard, Room};

/// One backend of one upstream at one address, and the live state of its identity: upstream and name.
///
/// A backend that is given another address has another `BackendState`, which shares load, tunnels and draining with the
/// one before. Its health begins anew, because it is another process that answers there.
#[derive(Debug)]
pub struct BackendState {
    address: SocketAddr,
    /// The name is not just the address as text.
    named: bool,
    live: Arc<Live>,
}

/// The live state of an identity.
///
/// Atomics guard no other memory, so they are read and written in relaxed order; those that tallies count (load, up,
/// ejected, draining) are written under the lock only.
#[derive(Debug)]
struct Live {
    upstream: String,
    name: Box<str>,
    load: AtomicUsize,
    tunnels: AtomicUsize,
    /// Tunnels, and requests that may become some.
    claims: AtomicUsize,
    admission: Arc<UpstreamAdmission>,
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
    /// `absence.look()`, to be read without the lock.
    away: AtomicBool,
    check_wanted: Arc<Notify>,
    locked: Mutex<Locked>,
}

#[derive(Debug)]
struct Locked {
    health: HealthState,
    absence: Absence,
    /// Address that the health is about. Results of another one, which the backend had before, change nothing.
    address: SocketAddr,
    /// Tallies that count the backend: one for each compiled upstream that lists it, seldom more than one.
    seats: Vec<Seat>,
}

#[derive(Debug)]
struct Seat {
    tally: Arc<Tally>,
    /// The backend's index in that upstream's list.
    place: usize,
    weight: u16,
    /// Set where it has come in place of members that leave.
    replaces: bool,
}

impl Live {
    fn new(upstream: &str, name: &str, address: SocketAddr, admission: Arc<UpstreamAdmission>) -> Self {
        Self {
            upstream: upstream.to_owned(),
            name: name.into(),
            load: AtomicUsize::new(0),
            tunnels: AtomicUsize::new(0),
            claims: AtomicUsize::new(0),
            admission,
            up: AtomicBool::new(true),
            doubted: AtomicBool::new(false),
            ejected: AtomicBool::new(false),
            admits: AtomicBool::new(true),
            draining: AtomicBool::new(false),
            away: AtomicBool::new(false),
            check_wanted: Arc::default(),
            locked: Mutex::new(Locked {
                health: HealthState::default(),
                absence: Absence::default(),
                address,
                seats: Vec::new(),
            }),
        }
    }
}

impl BackendState {
    /// The state of an identity that nobody uses yet: up, without load.
    pub(super) fn new(upstream: &str, name: &str, address: SocketAddr, admission: Arc<UpstreamAdmission>) -> Self {
        let live = Arc::new(Live::new(upstream, name, address, admission));
        Self { address, named: name != address.to_string(), live }
    }

    /// The same identity at another address.
    pub(super) fn at(&self, address: SocketAddr) -> Self {
        Self { address, named: *self.name() != address.to_string(), live: Arc::clone(&self.live) }
    }

    /// The upstream's name.
    pub fn upstream(&self) -> &str {
        &self.live.upstream
    }

    /// The backend's name: its identity within the upstream.
    pub fn name(&self) -> &str {
        &self.live.name
    }

    /// The backend's name, where it is not just its address as text.
    pub fn own_name(&self) -> Option<&str> {
        self.named.then_some(&self.live.name)
    }

    /// The backend's address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// True when both are one backend, be it at two addresses.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
    }

    /// Makes this address the one that the identity's health is about. Where it was another, nothing is known of the
    /// backend's health.
    pub(super) fn settle(&self) {
        let mut locked = lock(&self.live.locked);
        if locked.address != self.address {
            locked.address = self.address;
            locked.absence.refused = false;
            self.update_locked(&mut locked, |health| *health = HealthState::default());
        }
    }

    /// Open tunnels and running requests, together.
    pub fn load(&self) -> usize {
        self.live.load.load(Relaxed)
    }

    /// Open tunnels.
    pub fn tunnels(&self) -> usize {
        self.live.tunnels.load(Relaxed)
    }

    /// Open tunnels, and handshakes that may become some: those that wait for their turn, too.
    pub fn claims(&self) -> usize {
        self.live.claims.load(SeqCst)
    }

    /// The load of this kind.
    pub fn carries(&self, demand: Demand) -> usize {
        match demand {
            Demand::Tunnel => self.claims(),
            Demand::Request => self.load().saturating_sub(self.claims()),
        }
    }

    /// The admission to the upstream's backends.
    pub fn admission(&self) -> &Arc<UpstreamAdmission> {
        &self.live.admission
    }

    /// True when doubt has taken the backend out for a time. The backend still counts as up.
    pub fn is_ejected(&self) -> bool {
        self.live.ejected.load(Relaxed)
    }

    /// True when doubt lets traffic through: the backend is not ejected, or waits for a request on trial.
    pub fn admits(&self) -> bool {
        self.live.admits.load(Relaxed)
    }

    /// Notified when traffic gives a reason to check the backend before its next check is due.
    pub fn check_wanted(&self) -> &Arc<Notify> {
        &self.live.check_wanted
    }

    /// True when results so far count the backend as up; [`Upstream::is_up`](super::Upstream::is_up) also knows whether
    /// its upstream asks for health at all.
    pub fn is_up(&self) -> bool {
        self.live.up.load(Relaxed)
    }

    /// True while the operator drains the backend: it is given nothing new, as with weight 0, and keeps its place on
    /// the ring.
    pub fn is_draining(&self) -> bool {
        self.live.draining.load(Relaxed)
    }

    /// Begins or ends the draining.
    pub fn set_draining(&self, draining: bool) {
        self.change(|_| self.live.draining.store(draining, Relaxed));
    }

    /// A check passed; see [`HealthState::check_passed`].
    pub fn check_passed(&self, thresholds: Thresholds, reason: &str, now: Instant) -> Option<HealthChange> {
        self.connects_again();
        self.update(|health| health.check_passed(thresholds, reason, now))
    }

    /// A check failed; see [`HealthState::check_failed`].
    pub fn check_failed(&self, thresholds: Thresholds, reason: &str) -> Option<HealthChange> {
        self.update(|health| health.check_failed(thresholds, reason))
    }

    /// Traffic succeeded; costs one load where nothing had failed. `now` is asked for otherwise.
    pub fn traffic_succeeded(&self, now: impl FnOnce() -> Instant) -> Option<HealthChange> {
        if !self.live.doubted.load(Relaxed) {
            return None;
        }
        self.update(|health| health.traffic_succeeded(now()))
    }

    /// Traffic could not connect; see [`HealthState::connect_failed`].
    pub fn connect_failed(&self, thresholds: Thresholds, reason: &str) -> Option<HealthChange> {
        self.update(|health| health.connect_failed(thresholds, reason))
    }

    /// A request failed after it was sent; see [`HealthState::request_failed`].
    pub(super) fn request_failed(&self, request: FailedRequest, alone: bool, fall: u32, now: Instant) -> bool {
        self.update(|health| health.request_failed(request, alone, fall, now))
    }

    /// Traffic was connected, whatever came after.
    pub(super) fn connected(&self) {
        if self.live.doubted.load(Relaxed) {
            self.update(HealthState::connected);
        }
    }

    pub(super) fn eject(&self, reason: &str, now: Instant) -> Option<HealthChange> {
        self.update(|health| Some(health.eject(reason, now)))
    }

    /// Opens the trial of an ejected backend when it is due; returns the next moment to call this.
    pub fn attend(&self, now: Instant) -> Option<Instant> {
        if self.is_ejected() { self.update(|health| health.doubt.attend(now)) } else { None }
    }

    /// Notes a result about this address; nothing where the backend has another by now.
    fn update<T: Default>(&self, apply: impl FnOnce(&mut HealthState) -> T) -> T {
        let mut locked = lock(&self.live.locked);
        if locked.address == self.address { self.update_locked(&mut locked, apply) } else { T::default() }
    }

    fn update_locked<T>(&self, locked: &mut Locked, apply: impl FnOnce(&mut HealthState) -> T) -> T {
        self.change_locked(locked, |health| {
            let result = apply(health);
            self.live.up.store(health.is_up(), Relaxed);
            self.live.doubted.store(health.is_doubted(), Relaxed);
            self.live.ejected.store(health.doubt.is_ejected(), Relaxed);
            self.live.admits.store(health.doubt.admits(), Relaxed);
            result
        })
    }

    /// Makes a change under the lock, and has every tally follow it.
    fn change<T>(&self, make: impl FnOnce(&mut HealthState) -> T) -> T {
        self.change_locked(&mut lock(&self.live.locked), make)
    }

    fn change_locked<T>(&self, locked: &mut Locked, make: impl FnOnce(&mut HealthState) -> T) -> T {
        let Locked { health, absence, seats, .. } = locked;
        let before = self.standing();
        let result = make(health);
        let after = self.standing();
        let away = absence.look(self.is_up());
        if self.live.away.swap(away, Relaxed) != away || before.draining != after.draining {
            self.live.admission.absent().stir();
        }
        if before != after {
            seats.iter().for_each(|seat| seat.tally.change(self.share(seat), Some(before), Some(after)));
            if self.live.admission.waiting() > 0 {
                self.live.admission.stir();
            }
        }
        result
    }

    fn standing(&self) -> TalliedState {
        TalliedState {
            up: self.is_up(),
            ejected: self.is_ejected(),
            admits: self.admits(),
            draining: self.is_draining(),
        }
    }

    fn share(&self, seat: &Seat) -> Share {
        Share { place: seat.place, weight: seat.weight, load: self.load(), replaces: seat.replaces }
    }

    /// Adds the backend to a tally, at an index and with a weight; `replaces` where it has come in place of others.
    pub(super) fn join(&self, tally: &Arc<Tally>, place: usize, weight: u16, replaces: bool) {
        let seat = Seat { tally: Arc::clone(tally), place, weight, replaces };
        let mut locked = lock(&self.live.locked);
        tally.change(self.share(&seat), None, Some(self.standing()));
        locked.seats.push(seat);
    }

    /// Takes the backend out of a tally that it joined.
    pub(super) fn leave(&self, tally: &Arc<Tally>) {
        lock(&self.live.locked).seats.retain(|seat| {
            let stays = !Arc::ptr_eq(&seat.tally, tally);
            if !stays {
                tally.change(self.share(seat), Some(self.standing()), None);
            }
            stays
        });
    }
}

impl QueuedBackend for BackendState {
    fn name(&self) -> &str {
        self.name()
    }

    fn claims(&self) -> usize {
        self.claims()
    }

    fn takes_new(&self, is_checked: bool) -> bool {
        !self.is_draining() && (!is_checked || self.is_up() && self.admits())
    }
}

impl fmt::Display for BackendState {
    /// `UPSTREAM/NAME`, and the address where the name is another text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream(), self.name())?;
        if self.named { write!(f, " ({})", self.address) } else { Ok(()) }
    }
}

/// Nothing that runs under these locks panics half-way, so a poisoned one is as good as any.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
