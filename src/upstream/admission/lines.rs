//! The rules of the queues: one line of clients before each backend of an upstream, in order of arrival.
//!
//! A line gives its first client a turn when its backend has a token and room. When the backend is down, drained or
//! gone from the configuration, the line sends its clients away, the oldest first, and they choose another backend. In
//! the next line they keep the place that their arrival gives them. So the clients of a backend that died are admitted
//! at the rate of the backends that take them over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::line::{Line, QueuedBackend, Ticket};
use super::pace::{BackendPace, TimedHandshake};
use crate::config::{self, HandshakeRate};

/// Rules of an upstream's queues.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueRules {
    /// `admission`; `None` when `off`: everybody is admitted.
    pub admission: Option<config::Admission>,
    /// `limits.tunnels`
    pub tunnels: Option<usize>,
    /// Backends are checked: one that is down takes nobody.
    pub is_checked: bool,
    /// `limits.per_key` is set.
    pub counts_keys: bool,
}

/// Decision about a client that asked for its turn at a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TurnVerdict {
    /// The client has its turn: a token was taken for it.
    Admitted,
    /// The backend takes no clients now, or another one has room: the client chooses a backend again.
    Again,
    /// The backend is gone from the configuration: the client chooses another one.
    Gone,
    /// The client is to be answered 503.
    Refused(NotAdmitted),
}

/// Reason for which a client is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// As many clients wait for the backend as may.
    QueueFull,
    /// The client has waited as long as it may.
    Deadline,
    /// The process ends.
    Draining,
}

/// The lines of one upstream. `W` wakes a client that waits.
///
/// Bounds: there is a line for each backend that was asked for since the last change of rules, with `queue` clients at
/// the most. A verdict is kept until its client, which has been woken, fetches it.
#[derive(Debug)]
pub(super) struct Lines<W> {
    rules: QueueRules,
    /// Names of the backends that the configuration in force lists and that take clients.
    listed: HashSet<Arc<str>>,
    lines: HashMap<Arc<str>, Line>,
    /// Lines that clients stand in.
    busy: BTreeSet<Arc<str>>,
    waiting: HashMap<Ticket, QueuedClient<W>>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    told: HashMap<Ticket, (TurnVerdict, Arc<str>)>,
    /// The process ends, and no client is admitted any more.
    closing: bool,
}

/// A client that waits.
#[derive(Debug)]
pub(super) struct QueuedClient<W> {
    /// Name of the backend in whose line it stands.
    pub(super) at: Arc<str>,
    /// Moment up to which it waits.
    pub(super) deadline: Instant,
    pub(super) wake: W,
}

impl<W> Default for Lines<W> {
    fn default() -> Self {
        Self {
            rules: QueueRules::default(),
            listed: HashSet::new(),
            lines: HashMap::new(),
            busy: BTreeSet::new(),
            waiting: HashMap::new(),
            deadlines: BTreeSet::new(),
            told: HashMap::new(),
            closing: false,
        }
    }
}

impl<W> Lines<W> {
    /// Puts rules in force; `listed` are the backends that take clients. The rules hold for clients that wait, too, but
    /// these keep their deadlines.
    pub(super) fn enforce(
        &mut self,
        rules: QueueRules,
        listed: impl Iterator<Item = Arc<dyn QueuedBackend>>,
        now: Instant,
    ) {
        self.rules = rules;
        self.listed.clear();
        for backend in listed {
            if let Some(line) = self.lines.get_mut(backend.name()) {
                line.backend = Arc::downgrade(&backend);
            }
            self.listed.insert(backend.name().into());
        }
        let listed = &self.listed;
        self.lines.retain(|name, line| listed.contains(name) || line.len() > 0);
        for line in self.lines.values_mut() {
            line.enforce(rules.admission, now);
        }
    }

    /// Refuses all clients from now on, because the process ends.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Number of clients that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Clients that wait for a backend, and the rate at which they are admitted.
    pub(super) fn reading(&self, backend: &str) -> (usize, Option<f64>) {
        let rate = |admission: config::Admission| match admission.handshakes {
            HandshakeRate::Off => None,
            HandshakeRate::Auto => Some(BackendPace::FIRST),
            HandshakeRate::PerSecond(rate) => Some(rate),
        };
        match self.lines.get(backend) {
            Some(line) => (line.len(), line.bucket.rate()),
            None => (0, self.rules.admission.and_then(rate)),
        }
    }

    /// Asks for a turn at a backend whose load includes the client. Returns `None` when the client has to wait in the
    /// line.
    pub(super) fn join<B: QueuedBackend>(
        &mut self,
        backend: &Arc<B>,
        (ticket, since): (Ticket, Instant),
        wake: impl FnOnce() -> W,
        now: Instant,
    ) -> Option<TurnVerdict> {
        let Some(admission) = self.rules.admission else { return Some(TurnVerdict::Admitted) };
        if self.closing {
            return Some(TurnVerdict::Refused(NotAdmitted::Draining));
        }
        let Some(name) = self.listed.get(backend.name()) else { return Some(TurnVerdict::Gone) };
        let line = self.lines.entry(Arc::clone(name)).or_insert_with(|| Line::new(backend, admission, now));
        // The client itself is in the load, and not in the line.
        let has_room = self.rules.tunnels.is_none_or(|most| line.held() <= most);
        if line.waiting.is_empty() && has_room && line.bucket.take(now) {
            return Some(TurnVerdict::Admitted);
        }
        let deadline = since + admission.wait;
        if deadline <= now {
            return Some(TurnVerdict::Refused(NotAdmitted::Deadline));
        }
        if line.len() >= admission.queue {
            return Some(TurnVerdict::Refused(NotAdmitted::QueueFull));
        }
        if let Some(pace) = &mut line.pace {
            pace.wanted();
        }
        line.waiting.insert(ticket);
        self.busy.insert(Arc::clone(name));
        self.deadlines.insert((deadline, ticket));
        self.waiting.insert(ticket, QueuedClient { at: Arc::clone(name), deadline, wake: wake() });
        None
    }

    /// Tells whether a client that has just joined brings the next call of [`turn`](Self::turn) nearer: it stands alone
    /// in its line, or its deadline is the first.
    pub(super) fn has_turn_sooner(&self, ticket: Ticket) -> bool {
        let Some(client) = self.waiting.get(&ticket) else { return false };
        let is_alone = self.lines.get(&client.at).is_none_or(|line| line.waiting.len() == 1);
        is_alone || self.deadlines.first().is_some_and(|(_, first)| *first == ticket)
    }

    /// Takes the verdict on a client, if there is one. Otherwise `wake` gives the waker that is woken when there is.
    pub(super) fn fetch(&mut self, ticket: Ticket, wake: impl FnOnce(&W) -> Option<W>) -> Option<TurnVerdict> {
        if let Some(client) = self.waiting.get_mut(&ticket) {
            if let Some(other) = wake(&client.wake) {
                client.wake = other;
            }
            return None;
        }
        self.told.remove(&ticket).map(|(verdict, _)| verdict)
    }

    /// Removes a client that left. Returns true when other clients may have their turn sooner because of that.
    pub(super) fn leave(&mut self, ticket: Ticket) -> bool {
        if self.take(ticket).is_some() {
            return false;
        }
        match self.told.remove(&ticket) {
            Some((TurnVerdict::Admitted, at)) => {
                if let Some(line) = self.lines.get_mut(&at) {
                    line.bucket.put_back();
                }
                true
            }
            _ => false,
        }
    }

    /// Notes a handshake that a backend carried out, for `handshakes: auto`.
    pub(super) fn told(&mut self, backend: &str, told: TimedHandshake) {
        let Some(line) = self.lines.get_mut(backend) else { return };
        if let Some(rate) = line.pace.as_mut().and_then(|pace| pace.told(told)) {
            line.bucket.pace(rate, told.ended);
        }
    }

    /// Gives turns, and refuses the clients whose deadline has come. Adds the wakers of all these clients to `wakes`.
    /// `freed` are backends that have become less loaded. Returns the moment of the next call; `None` when no client
    /// waits for a moment.
    pub(super) fn turn(&mut self, freed: &[Arc<str>], now: Instant, wakes: &mut Vec<W>) -> Option<Instant> {
        if self.closing {
            let oldest = self.oldest(MOST_AT_ONCE);
            oldest.into_iter().for_each(|ticket| self.tell(ticket, TurnVerdict::Refused(NotAdmitted::Draining), wakes));
        }
        while let Some(&(deadline, ticket)) = self.deadlines.first()
            && deadline <= now
            && wakes.len() < MOST_AT_ONCE
        {
            self.tell(ticket, TurnVerdict::Refused(NotAdmitted::Deadline), wakes);
        }
        let busy: Vec<_> = self.busy.iter().cloned().collect();
        busy.iter().for_each(|backend| self.admit(backend, now, wakes));
        busy.iter().for_each(|backend| self.send_away(backend, wakes));
        freed.iter().for_each(|backend| self.offer(backend, wakes));
        if wakes.len() >= MOST_AT_ONCE {
            return Some(now + PAUSE);
        }
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let turns = self.busy.iter().filter_map(|backend| {
            let line = self.lines.get(backend)?;
            let has_turn = !line.waiting.is_empty() && line.has_room(self.rules.tunnels);
            has_turn.then(|| line.bucket.next(now))
        });
        turns.chain(deadline).min()
    }

    /// Admits the first clients of a line, as many as there are tokens and room for.
    fn admit(&mut self, backend: &str, now: Instant, wakes: &mut Vec<W>) {
        let is_listed = self.listed.contains(backend);
        loop {
            let Some(line) = self.lines.get_mut(backend) else { return };
            line.look(is_listed, self.rules.is_checked);
            let Some(&first) = line.waiting.first() else { return };
            if let Some(pace) = &mut line.pace {
                pace.wanted();
            }
            if wakes.len() >= MOST_AT_ONCE || !line.has_room(self.rules.tunnels) || !line.bucket.take(now) {
                return;
            }
            self.tell(first, TurnVerdict::Admitted, wakes);
        }
    }

    /// Sends the clients away whose backend has stopped taking clients.
    fn send_away(&mut self, backend: &str, wakes: &mut Vec<W>) {
        let verdict = if self.listed.contains(backend) { TurnVerdict::Again } else { TurnVerdict::Gone };
        while wakes.len() < MOST_AT_ONCE
            && let Some(&first) = self.lines.get(backend).and_then(|line| line.leaving.first())
        {
            self.tell(first, verdict, wakes);
        }
    }

    /// Offers room at a backend that nobody waits for to the oldest client of those that are full.
    fn offer(&mut self, backend: &str, wakes: &mut Vec<W>) {
        let most = self.rules.tunnels;
        let takes = |line: &Line| line.len() == 0 && line.is_open(true, self.rules.is_checked) && line.has_room(most);
        if most.is_none() || !self.listed.contains(backend) || !self.lines.get(backend).is_none_or(takes) {
            return;
        }
        let full = self.busy.iter().filter_map(|busy| self.lines.get(busy)).filter(|line| !line.has_room(most));
        if let Some(oldest) = full.filter_map(|line| line.waiting.first().copied()).min() {
            self.tell(oldest, TurnVerdict::Again, wakes);
        }
    }

    fn tell(&mut self, ticket: Ticket, verdict: TurnVerdict, wakes: &mut Vec<W>) {
        if let Some(QueuedClient { at, wake, .. }) = self.take(ticket) {
            self.told.insert(ticket, (verdict, at));
            wakes.push(wake);
        }
    }

    /// Takes a client out of its line.
    fn take(&mut self, ticket: Ticket) -> Option<QueuedClient<W>> {
        let client = self.waiting.remove(&ticket)?;
        self.deadlines.remove(&(client.deadline, ticket));
        if let Some(line) = self.lines.get_mut(&client.at) {
            line.waiting.remove(&ticket);
            line.leaving.remove(&ticket);
            if line.len() == 0 {
                self.busy.remove(&client.at);
            }
        }
        Some(client)
    }

    fn oldest(&self, most: usize) -> Vec<Ticket> {
        self.deadlines.iter().take(most).map(|(_, ticket)| *ticket).collect()
    }
}

/// Most clients that are woken at once. Each then takes some 50 µs of a worker, which has open tunnels to serve.
pub(super) const MOST_AT_ONCE: usize = 64;
/// Time between two groups of clients that are woken.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests;
