//! Clients that wait for backends that are away: one line before each, in order of arrival, bounded in number and time.
//!
//! When the backend is back, its line ends: its clients choose a backend again, the oldest first. When the backend has
//! been away for `hold`, or is being drained, its clients go on without it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::line::Ticket;
use super::lines::{MOST_AT_ONCE, PAUSE, QueuedClient};
use super::{PlaceInLine, UpstreamAdmission};
use crate::config;

/// A backend, as the line before it sees it.
pub trait Awaited: fmt::Debug + Send + Sync + 'static {
    /// Name within the upstream.
    fn name(&self) -> &str;

    /// Presence of the backend. The clients of a backend that is away wait for `hold`, from the moment at which it
    /// went.
    fn presence(&self, hold: Duration, now: Instant) -> Presence;

    /// Asks for a check before the next one is due.
    fn want_check(&self);
}

/// Presence of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// The backend is there.
    Here,
    /// The backend is away, and its clients wait until this moment.
    Away(Instant),
    /// The backend has been away for so long that nobody waits for it.
    Over,
    /// The operator drains it: nobody waits for it.
    Drained,
}

/// End of a client's wait for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeldEnd {
    /// The backend is back: the client chooses a backend again.
    Returned,
    /// The wait took as long as it may: the client goes on without the backend.
    Over,
    /// As many clients wait for the backend as may: the client goes on without it.
    Full,
    /// The backend is drained, or a reload ended the wait for it: the client chooses a backend again.
    Elsewhere,
    /// The process ends.
    Draining,
}

impl HeldEnd {
    /// The `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Over => "over",
            Self::Full => "full",
            Self::Elsewhere => "elsewhere",
            Self::Draining => "draining",
        }
    }
}

/// The clients of one upstream that wait for backends that are away.
#[derive(Debug, Default)]
pub struct Absences {
    on: AtomicBool,
    /// A task calls [`turn`](Self::turn).
    attended: AtomicBool,
    /// Number of clients that wait, to be read without the lock.
    waiting: AtomicUsize,
    lines: Mutex<Lines<Waker>>,
    stirred: Arc<Notify>,
}

/// Place of a client in a line, until it is dropped.
#[derive(Debug)]
#[must_use = "dropped at once it is no place"]
pub struct Held {
    admission: Arc<UpstreamAdmission>,
    ticket: Ticket,
}

impl Absences {
    /// Puts rules in force; `listed` are the names of backends that clients may wait for.
    pub fn enforce(&self, rules: Option<config::Absent>, listed: impl Iterator<Item = Arc<str>>) {
        let mut lines = self.lines();
        lines.rules = rules;
        lines.listed = if rules.is_some() { listed.collect() } else { HashSet::new() };
        drop(lines);
        self.on.store(rules.is_some(), Relaxed);
        self.stir();
    }

    /// Ends all waits, because the process ends.
    pub fn close(&self) {
        self.lines().closing = true;
        self.stir();
    }

    /// Number of clients that wait for a backend.
    pub fn reading(&self, backend: &str) -> usize {
        if self.waiting.load(SeqCst) == 0 { 0 } else { self.lines().held(backend) }
    }

    /// Wakes the clients whose wait is over, and asks for checks of the backends that others wait for. Returns the
    /// moment of the next call; [`stirred`](Self::stirred) may ask for an earlier one.
    pub fn turn(&self, now: Instant) -> Option<Instant> {
        if self.waiting.load(SeqCst) == 0 {
            return None;
        }
        let mut wakes = Vec::new();
        let next = self.change(|lines| lines.turn(now, &mut wakes));
        wakes.into_iter().for_each(Waker::wake);
        next
    }

    /// Notifies the task that [`turn`](Self::turn) is to be called now.
    pub fn stirred(&self) -> &Arc<Notify> {
        &self.stirred
    }

    /// True at the first call. That caller starts the task that calls [`turn`](Self::turn).
    pub fn is_to_be_attended(&self) -> bool {
        self.on.load(Relaxed) && !self.attended.swap(true, Relaxed)
    }

    /// Wakes the task that calls [`turn`](Self::turn), if a client waits.
    pub(in super::super) fn stir(&self) {
        if self.waiting.load(SeqCst) > 0 {
            self.stirred.notify_one();
        }
    }

    pub(super) fn stir_always(&self) {
        self.stirred.notify_one();
    }

    fn change<T>(&self, change: impl FnOnce(&mut Lines<Waker>) -> T) -> T {
        let mut lines = self.lines();
        let changed = change(&mut lines);
        self.waiting.store(lines.waiting.len(), SeqCst);
        changed
    }

    /// Locks the lines. The state behind a poisoned lock is used all the same: no code panics in the middle of a
    /// change.
    fn lines(&self) -> MutexGuard<'_, Lines<Waker>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UpstreamAdmission {
    /// Lets a client wait for a backend that is away, until `deadline` at the latest. `waker` is woken at the end of
    /// the wait.
    ///
    /// # Errors
    /// The client does not wait, for this reason.
    pub fn hold<B: Awaited>(
        self: &Arc<Self>,
        backend: &Arc<B>,
        arrival: PlaceInLine,
        deadline: Instant,
        waker: impl FnOnce() -> Waker,
    ) -> Result<Held, HeldEnd> {
        let ticket = arrival.ticket;
        let backend: Arc<dyn Awaited> = Arc::clone(backend) as Arc<dyn Awaited>;
        self.absent.change(|lines| lines.join(backend, ticket, deadline, waker))?;
        // The backend may have come back before the client stood in its line.
        self.absent.stir();
        Ok(Held { admission: Arc::clone(self), ticket })
    }
}

impl Held {
    /// The end of the wait, or pending until `waker` is woken. Returns the end once.
    pub fn poll(&mut self, waker: impl FnOnce() -> Waker) -> Poll<HeldEnd> {
        let ticket = self.ticket;
        let other = |known: &Waker| Some(waker()).filter(|waker| !known.will_wake(waker));
        self.admission.absent.change(|lines| lines.fetch(ticket, other)).map_or(Poll::Pending, Poll::Ready)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let ticket = self.ticket;
        self.admission.absent.change(|lines| lines.leave(ticket));
    }
}

/// The lines. `W` wakes a client.
///
/// Bounds: there is a line for each backend that clients wait for, with `queue` clients at the most. An end is kept
/// until its client, which has been woken, fetches it.
#[derive(Debug)]
struct Lines<W> {
    rules: Option<config::Absent>,
    listed: HashSet<Arc<str>>,
    lines: BTreeMap<Arc<str>, Line>,
    waiting: HashMap<Ticket, QueuedClient<W>>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    told: HashMap<Ticket, HeldEnd>,
    closing: bool,
}

#[derive(Debug)]
struct Line {
    backend: Arc<dyn Awaited>,
    waiting: BTreeSet<Ticket>,
}

impl<W> Default for Lines<W> {
    fn default() -> Self {
        Self {
            rules: None,
            listed: HashSet::new(),
            lines: BTreeMap::new(),
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            told: HashMap::new(),
            closing: false,
        }
    }
}

impl<W> Lines<W> {
    fn held(&self, backend: &str) -> usize {
        self.lines.get(backend).map_or(0, |line| line.waiting.len())
    }

    fn join(
        &mut self,
        backend: Arc<dyn Awaited>,
        ticket: Ticket,
        deadline: Instant,
        wake: impl FnOnce() -> W,
    ) -> Result<(), HeldEnd> {
        if self.closing {
            return Err(HeldEnd::Draining);
        }
        let Some(rules) = self.rules else { return Err(HeldEnd::Elsewhere) };
        if self.held(backend.name()) >= rules.queue {
            return Err(HeldEnd::Full);
        }
        let name: Arc<str> = backend.name().into();
        let line = self.lines.entry(Arc::clone(&name)).or_insert_with(|| Line { backend, waiting: BTreeSet::new() });
        line.waiting.insert(ticket);
        self.deadlines.insert((deadline, ticket));
        self.waiting.insert(ticket, QueuedClient { at: name, deadline, wake: wake() });
        Ok(())
    }

    fn fetch(&mut self, ticket: Ticket, wake: impl FnOnce(&W) -> Option<W>) -> Option<HeldEnd> {
        if let Some(client) = self.waiting.get_mut(&ticket) {
            if let Some(other) = wake(&client.wake) {
                client.wake = other;
            }
            return None;
        }
        self.told.remove(&ticket)
    }

    fn leave(&mut self, ticket: Ticket) {
        self.take(ticket);
        self.told.remove(&ticket);
    }

    fn turn(&mut self, now: Instant, wakes: &mut Vec<W>) -> Option<Instant> {
        let names: Vec<_> = self.lines.keys().cloned().collect();
        for name in &names {
            match self.end_of(name, now) {
                Some(end) => self.tell_first(name, end, wakes),
                None => self.lines.get(name).into_iter().for_each(|line| line.backend.want_check()),
            }
        }
        while let Some(&(deadline, ticket)) = self.deadlines.first()
            && deadline <= now
            && wakes.len() < MOST_AT_ONCE
        {
            self.tell(ticket, HeldEnd::Over, wakes);
        }
        if wakes.len() >= MOST_AT_ONCE {
            return Some(now + PAUSE);
        }
        let (deadline, _) = *self.deadlines.first()?;
        Some(deadline.min(now + AGAIN))
    }

    /// The end of the wait for a backend; `None` while it lasts.
    fn end_of(&self, name: &str, now: Instant) -> Option<HeldEnd> {
        if self.closing {
            return Some(HeldEnd::Draining);
        }
        let Some(rules) = self.rules.filter(|_| self.listed.contains(name)) else { return Some(HeldEnd::Elsewhere) };
        match self.lines.get(name)?.backend.presence(rules.hold, now) {
            Presence::Here => Some(HeldEnd::Returned),
            Presence::Away(_) => None,
            Presence::Over => Some(HeldEnd::Over),
            Presence::Drained => Some(HeldEnd::Elsewhere),
        }
    }

    /// Ends the wait of the first clients of a line, of as many as may be woken at once.
    fn tell_first(&mut self, name: &str, end: HeldEnd, wakes: &mut Vec<W>) {
        while wakes.len() < MOST_AT_ONCE
            && let Some(&first) = self.lines.get(name).and_then(|line| line.waiting.first())
        {
            self.tell(first, end, wakes);
        }
    }

    fn tell(&mut self, ticket: Ticket, end: HeldEnd, wakes: &mut Vec<W>) {
        if let Some(client) = self.take(ticket) {
            self.told.insert(ticket, end);
            wakes.push(client.wake);
        }
    }

    fn take(&mut self, ticket: Ticket) -> Option<QueuedClient<W>> {
        let client = self.waiting.remove(&ticket)?;
        self.deadlines.remove(&(client.deadline, ticket));
        if let Some(line) = self.lines.get_mut(&client.at) {
            line.waiting.remove(&ticket);
            if line.waiting.is_empty() {
                self.lines.remove(&client.at);
            }
        }
        Some(client)
    }
}

/// Time after which a backend that clients wait for is checked again. The checker keeps a least time between two
/// checks.
const AGAIN: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests;
