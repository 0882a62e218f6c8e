//! Handshakes under way on one worker, and the moments that they wait for.
//!
//! Searches for the next backend of a held tunnel are handshakes of their own, without a client.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use log::error;
use mio::Registry;

use super::Accepted;
use super::connection::{Connection, Handshake, Redial, Shaken, Slot, WakeSlot};
use crate::slots::Slots;
use crate::tunnel::deadlines::Deadlines;
use crate::tunnel::reattach::{Asker, Asking, ReattachOutcome, Search, SearchOutcome};
use crate::tunnel::worker::Spot;

/// The handshakes of one worker.
pub(in crate::tunnel) struct Handshakes {
    registry: Rc<Registry>,
    wake: WakeSlot,
    under_way: Slots<UnderWay>,
    deadlines: Deadlines,
    /// Handshakes here and clients on their way here, for whoever chooses a worker.
    count: Arc<AtomicUsize>,
}

struct UnderWay {
    task: Task,
    /// Moment that the handshake waits for.
    due: Rc<Cell<Option<Instant>>>,
}

enum Task {
    /// The handshake of a client.
    Handshake(Handshake),
    /// The search for the next backend of a tunnel.
    Asks(Spot, Search),
}

/// Outcome of a handshake, or of a search for a backend.
pub(in crate::tunnel) enum TaskOutcome {
    /// A tunnel is to be opened.
    Shaken(Shaken),
    /// The next backend of a tunnel, or that there is none.
    Asked(Spot, SearchOutcome),
}

impl Handshakes {
    /// No handshakes yet; `count` is kept up to date. `wake` has them polled.
    pub(in crate::tunnel) fn new(
        registry: Rc<Registry>,
        wake: WakeSlot,
        count: Arc<AtomicUsize>,
        now: Instant,
    ) -> Self {
        Self { registry, wake, under_way: Slots::default(), deadlines: Deadlines::new(now), count }
    }

    /// Takes on the handshake of a client that is counted already; returns its slot, which is to be polled. `closing`
    /// is set once nothing is accepted any more.
    pub(in crate::tunnel) fn begin(&mut self, accepted: Accepted, closing: Rc<Cell<bool>>) -> usize {
        let Accepted { stream, peer, listener, open, host } = accepted;
        self.under_way.insert(|slot| {
            let own = Slot::new(Rc::clone(&self.registry), Arc::clone(&self.wake), slot, closing);
            let due = own.due();
            let client = Connection::of_client(stream, listener, open, own);
            UnderWay { task: Task::Handshake(host.receive(client, peer)), due }
        })
    }

    /// Takes on the search for the next backend of the tunnel in `spot`; returns its slot, which is to be polled.
    pub(in crate::tunnel) fn ask(&mut self, spot: Spot, asking: Asking, asker: Arc<dyn Asker>) -> usize {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.under_way.insert(|slot| {
            let own = Slot::new(Rc::clone(&self.registry), Arc::clone(&self.wake), slot, Rc::default());
            let due = own.due();
            UnderWay { task: Task::Asks(spot, asker.ask(asking, Redial::new(own))), due }
        })
    }

    /// Gives the search in a slot up, if it is for the tunnel in `spot`.
    pub(in crate::tunnel) fn cancel(&mut self, slot: usize, spot: Spot) {
        let is_it = |under_way: &UnderWay| matches!(&under_way.task, Task::Asks(own, _) if *own == spot);
        if self.under_way.get(slot).is_some_and(is_it) {
            self.remove(slot);
        }
    }

    /// Carries a handshake or a search on as far as it goes; returns its outcome, if it has come so far.
    pub(in crate::tunnel) fn poll(&mut self, slot: usize) -> Option<TaskOutcome> {
        let UnderWay { task, due } = self.under_way.get_mut(slot)?;
        due.set(None);
        let mut context = Context::from_waker(Waker::noop());
        // A handshake that panics ends alone, and not with every tunnel of its worker.
        let polled = catch_unwind(AssertUnwindSafe(|| match task {
            Task::Handshake(handshake) => {
                handshake.as_mut().poll(&mut context).map(|shaken| shaken.map(TaskOutcome::Shaken))
            }
            Task::Asks(spot, asks) => {
                asks.as_mut().poll(&mut context).map(|asked| Some(TaskOutcome::Asked(*spot, asked)))
            }
        }));
        match polled {
            Ok(Poll::Pending) => {
                if let Some(due) = due.get() {
                    self.deadlines.set(slot, due);
                }
                None
            }
            Ok(Poll::Ready(done)) => {
                self.remove(slot);
                done
            }
            Err(_said_by_the_panic_hook) => {
                error!("a handshake panicked and ends");
                let failed = match task {
                    Task::Handshake(_) => None,
                    Task::Asks(spot, _) => {
                        Some(TaskOutcome::Asked(*spot, SearchOutcome::Failed(ReattachOutcome::Fault)))
                    }
                };
                self.remove(slot);
                failed
            }
        }
    }

    fn remove(&mut self, slot: usize) {
        self.deadlines.forget(slot);
        let under_way = self.under_way.remove(slot);
        self.count.fetch_sub(1, Ordering::Relaxed);
        // The destructor runs code of the host.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(under_way)));
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
