//! Handshakes under way on one worker, and the moments that they wait for.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use log::error;
use mio::Registry;
use slab::Slab;

use super::Accepted;
use super::connection::{Connection, Handshake, Shaken, Slot};
use crate::tunnel::deadlines::Deadlines;

/// The handshakes of one worker.
pub(in crate::tunnel) struct Handshakes {
    registry: Rc<Registry>,
    under_way: Slab<UnderWay>,
    deadlines: Deadlines,
    /// Handshakes here and clients on their way here, for whoever chooses a worker.
    count: Arc<AtomicUsize>,
}

struct UnderWay {
    handshake: Handshake,
    /// Moment that the handshake waits for.
    due: Rc<Cell<Option<Instant>>>,
}

impl Handshakes {
    /// No handshakes yet; `count` is kept up to date.
    pub(in crate::tunnel) fn new(registry: Rc<Registry>, count: Arc<AtomicUsize>, now: Instant) -> Self {
        Self { registry, under_way: Slab::new(), deadlines: Deadlines::new(now), count }
    }

    /// Begins the handshake of a client that is counted already. `closing` is set once nothing is accepted any more.
    pub(in crate::tunnel) fn begin(&mut self, accepted: Accepted, closing: Rc<Cell<bool>>) -> Option<Shaken> {
        let Accepted { stream, peer, listener, open, host } = accepted;
        let entry = self.under_way.vacant_entry();
        let slot = entry.key();
        let own = Slot::new(Rc::clone(&self.registry), slot, closing);
        let due = own.due();
        let client = Connection::of_client(stream, listener, open, own);
        entry.insert(UnderWay { handshake: host.receive(client, peer), due });
        self.poll(slot)
    }

    /// Carries a handshake on as far as it goes; returns the tunnel to be opened, if it has come so far.
    pub(in crate::tunnel) fn poll(&mut self, slot: usize) -> Option<Shaken> {
        let UnderWay { handshake, due } = self.under_way.get_mut(slot)?;
        due.set(None);
        // A handshake that panics ends alone, and not with every tunnel of its worker.
        let polled =
            catch_unwind(AssertUnwindSafe(|| handshake.as_mut().poll(&mut Context::from_waker(Waker::noop()))));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(due) = due.get() {
                    self.deadlines.set(slot, due);
                }
                None
            }
            Ok(Poll::Ready(shaken)) => {
                self.remove(slot);
                shaken
            }
            Err(_said_by_the_panic_hook) => {
                error!("a handshake panicked and ends");
                self.remove(slot);
                None
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        self.deadlines.forget(slot);
        let handshake = self.under_way.remove(slot);
        self.count.fetch_sub(1, Ordering::Relaxed);
        // The destructor runs code of the host.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(handshake)));
    }

    /// Registry of the worker's poller.
    pub(in crate::tunnel) fn registry(&self) -> &Rc<Registry> {
        &self.registry
    }

    /// Slots of the handshakes under way.
    pub(in crate::tunnel) fn all(&self) -> Vec<usize> {
        self.under_way.iter().map(|(slot, _)| slot).collect()
    }

    /// The handshakes whose moment has come.
    pub(in crate::tunnel) fn take_due(&mut self, now: Instant) -> Vec<usize> {
        let mut late = Vec::new();
        while let Some(slot) = self.deadlines.take_due(now) {
            match self.under_way.get(slot).and_then(|handshake| handshake.due.get()) {
                Some(due) if due > now => self.deadlines.set(slot, due),
                Some(_) => late.push(slot),
                None => {}
            }
        }
        late
    }

    /// The next moment that a handshake waits for.
    pub(in crate::tunnel) fn due(&self) -> Option<Instant> {
        self.deadlines.next()
    }
}
