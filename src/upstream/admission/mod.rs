//! Admission to backends: the queues of one upstream, from which clients are given their turns, its counts of keys, and
//! the clients that wait for backends that are away.
//!
//! Queues and counts are live state, as the state of backends is: they outlive reloads, and a reload only puts other
//! rules in force. A waiting client is woken once, by the caller of [`UpstreamAdmission::turn`]. Until then it costs no
//! CPU.

mod absent;
mod bucket;
mod keys;
mod line;
mod lines;
mod pace;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Instant;

use tokio::sync::Notify;

use crate::config::HandshakeRate;
pub use absent::{Absences, Awaited, Held, HeldEnd, Presence};
pub use keys::{HeldKey, KeyId, KeySlot};
pub use line::QueuedBackend;
use line::Ticket;
use lines::Lines;
pub use lines::{NotAdmitted, QueueRules, TurnVerdict};
pub use pace::TimedHandshake;

/// The admission of one upstream.
#[derive(Debug, Default)]
pub struct UpstreamAdmission {
    /// Clients have to ask for their turn.
    on: AtomicBool,
    /// Latencies of handshakes are to be reported.
    auto: AtomicBool,
    /// A task calls [`turn`](Self::turn).
    attended: AtomicBool,
    /// Number of clients that wait, to be read without the lock.
    waiting: AtomicUsize,
    arrivals: AtomicU64,
    /// Backends that have become less loaded since the last turn. Bound: one entry for each tunnel that ends between
    /// two turns while clients wait.
    freed: Mutex<Vec<Arc<str>>>,
    lines: Mutex<Lines<Waker>>,
    stirred: Arc<Notify>,
    keys: keys::KeyTunnels,
    absent: Absences,
}

/// Place that the arrival at an upstream gives a client. It holds in every line of the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceInLine {
    ticket: Ticket,
    /// The moment at which the client arrived.
    pub since: Instant,
}

/// A client's wait for its turn. Dropped, the client leaves the line.
#[derive(Debug)]
#[must_use = "dropped at once it is no place"]
pub struct Waiting {
    admission: Arc<UpstreamAdmission>,
    ticket: Ticket,
}

/// Outcome of asking for a turn.
#[derive(Debug)]
pub enum Entered {
    /// The verdict is there at once.
    Told(TurnVerdict),
    /// The client waits for its turn.
    Waits(Waiting),
}

impl UpstreamAdmission {
    /// True while clients of the upstream ask for their turn.
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
    }

    /// True where handshakes are to be reported by [`told`](Self::told).
    pub fn is_auto(&self) -> bool {
        self.auto.load(Relaxed)
    }

    /// Number of clients that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Puts rules in force, for clients that wait, too. `listed` are the backends that take new clients.
    pub fn enforce(&self, rules: QueueRules, listed: impl Iterator<Item = Arc<dyn QueuedBackend>>, now: Instant) {
        self.lines().enforce(rules, listed, now);
        self.on.store(rules.admission.is_some(), Relaxed);
        let is_auto = rules.admission.is_some_and(|admission| admission.handshakes == HandshakeRate::Auto);
        self.auto.store(is_auto, Relaxed);
        self.keys.count(rules.counts_keys);
        self.stir();
    }

    /// Lifts the rules of an upstream that has left the configuration. Clients that wait are woken with
    /// [`TurnVerdict::Gone`].
    pub fn lift(&self, now: Instant) {
        self.enforce(QueueRules::default(), std::iter::empty(), now);
        self.absent.enforce(None, std::iter::empty());
    }

    /// The clients that wait for backends that are away.
    pub fn absent(&self) -> &Absences {
        &self.absent
    }

    /// Counts of tunnels by key.
    pub fn keys(&self) -> &keys::KeyTunnels {
        &self.keys
    }

    /// Notes the arrival of a client.
    pub fn arrive(&self, now: Instant) -> PlaceInLine {
        PlaceInLine { ticket: self.arrivals.fetch_add(1, Relaxed), since: now }
    }

    /// Asks for a turn at a backend that was picked for the client. `waker` is called if it has to wait.
    pub fn enter<B: QueuedBackend>(
        self: &Arc<Self>,
        backend: &Arc<B>,
        arrival: PlaceInLine,
        waker: impl FnOnce() -> Waker,
        now: Instant,
    ) -> Entered {
        let joined = self.change(|lines| {
            let joined = lines.join(backend, (arrival.ticket, arrival.since), waker, now);
            joined.ok_or_else(|| lines.has_turn_sooner(arrival.ticket))
        });
        match joined {
            Ok(verdict) => Entered::Told(verdict),
            Err(is_sooner) => {
                // Of a crowd the first ones wake the task: it is told the moment of the others' turns by their lines.
                if is_sooner {
                    self.stir();
                }
                Entered::Waits(Waiting { admission: Arc::clone(self), ticket: arrival.ticket })
            }
        }
    }

    /// Gives turns, and wakes the clients that have a verdict. Returns the moment of the next call;
    /// [`stirred`](Self::stirred) may ask for an earlier one.
    pub fn turn(&self, now: Instant) -> Option<Instant> {
        let mut freed = std::mem::take(&mut *self.freed.lock().unwrap_or_else(PoisonError::into_inner));
        if self.waiting() == 0 {
            return None;
        }
        // More could not be offered at once anyway.
        freed.truncate(lines::MOST_AT_ONCE);
        let mut wakes = Vec::new();
        let next = self.change(|lines| lines.turn(&freed, now, &mut wakes));
        wakes.into_iter().for_each(Waker::wake);
        next
    }

    /// Notifies the task that [`turn`](Self::turn) is to be called now.
    pub fn stirred(&self) -> &Arc<Notify> {
        &self.stirred
    }

    /// True at the first call. That caller starts the task that calls [`turn`](Self::turn).
    pub fn is_to_be_attended(&self) -> bool {
        self.is_on() && !self.attended.swap(true, Relaxed)
    }

    /// Refuses all clients, those that wait and those that come, because the process ends.
    pub fn close(&self) {
        self.lines().close();
        self.stir();
        self.absent.close();
    }

    /// Notes a handshake that a backend carried out, for `handshakes: auto`.
    pub fn told(&self, backend: &str, told: TimedHandshake) {
        self.lines().told(backend, told);
    }

    /// Clients that wait for a backend, and the rate at which they are admitted; `None` where there is none.
    pub fn reading(&self, backend: &str) -> (usize, Option<f64>) {
        self.lines().reading(backend)
    }

    /// Wakes the task that calls [`turn`](Self::turn).
    pub(super) fn stir(&self) {
        self.stirred.notify_one();
    }

    /// Notes that a backend carries one tunnel less.
    pub(super) fn freed(&self, backend: &str) {
        if self.waiting() > 0 {
            self.freed.lock().unwrap_or_else(PoisonError::into_inner).push(backend.into());
            self.stir();
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lines<Waker>) -> T) -> T {
        let mut lines = self.lines();
        let changed = change(&mut lines);
        // In one order with the loads of backends: see `freed`.
        self.waiting.store(lines.len(), SeqCst);
        changed
    }

    /// Locks the lines. The state behind a poisoned lock is used all the same: no code panics in the middle of a
    /// change.
    fn lines(&self) -> MutexGuard<'_, Lines<Waker>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UpstreamAdmission {
    fn drop(&mut self) {
        // Whoever attends to it has nothing more to do.
        self.stir();
        self.absent.stir_always();
    }
}

impl Waiting {
    /// The verdict, or pending until `waker` is woken. A verdict is given once.
    pub fn poll(&mut self, waker: impl FnOnce() -> Waker) -> Poll<TurnVerdict> {
        let ticket = self.ticket;
        let other = |known: &Waker| Some(waker()).filter(|waker| !known.will_wake(waker));
        self.admission.change(|lines| lines.fetch(ticket, other)).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let ticket = self.ticket;
        if self.admission.change(|lines| lines.leave(ticket)) {
            self.admission.stir();
        }
    }
}
