//! Workers: each is one thread with one poller, and with the tunnels and handshakes that live on it.

mod commands;
mod directory;
mod events;
mod frozen;
mod handle;
mod judging;
mod mailbox;
mod ready;
mod rule;
mod seen;
mod slice;
mod tunnel;
mod tunnels;

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::error;
use mio::{Poll, Registry, Token};

use super::accept::{AcceptToken, Accepted, Handshakes, NextClient, Shaken, TaskOutcome, WakeSlot, WorkerAcceptor};
use super::deadlines::earlier;
use super::pair::Readiness;
use super::reattach::{Asker, ReattachOutcome, SearchOutcome};
use crate::metrics::WorkerTurns;
use crate::ws::Side;
pub(super) use commands::WorkerCommand;
use events::Events;
pub use frozen::{Batch, Frozen, Passport, Surroundings};
pub(super) use handle::Handle;
use mailbox::{Inbox, Mailbox};
use ready::ReadyHandshakes;
pub use rule::{Judged, RuleVerdict, Standing, TunnelRule};
pub use seen::{Look, Seen, Spot};
pub use tunnel::Scope;
#[cfg(test)]
pub(super) use tunnel::Tunnel;
pub(super) use tunnels::MemoryLimits;
use tunnels::{OpenTunnels, Shared};

/// A worker, on its own thread.
struct Worker {
    poll: Poll,
    inbox: Inbox,
    /// Mailboxes of all workers, its own included.
    peers: Arc<[Arc<Mailbox>]>,
    tunnels: OpenTunnels,
    handshakes: Handshakes,
    /// Finds the next backends of tunnels; `None` before the gateway has one.
    asker: Option<Arc<dyn Asker>>,
    /// Accepts clients, while they are accepted.
    acceptor: Option<WorkerAcceptor>,
    /// Handshakes at which something happened.
    ready: ReadyHandshakes,
    /// Listeners where clients wait, as the poller said in this turn; it says so again in the next one.
    crowded: Vec<usize>,
    /// Beginning of the last turn in which a client could be accepted.
    accepted: Instant,
    /// Counts its turns by their length.
    turns: WorkerTurns,
}

impl Worker {
    fn new(
        poll: Poll,
        registry: Registry,
        inbox: Inbox,
        peers: Arc<[Arc<Mailbox>]>,
        shared: Shared,
        turns: WorkerTurns,
    ) -> Self {
        let (registry, now) = (Rc::new(registry), Instant::now());
        let [tunnels, handshakes] = [inbox.mailbox().tunnels(), inbox.mailbox().handshakes()].map(Arc::clone);
        let mailbox = Arc::clone(inbox.mailbox());
        let wake: WakeSlot = Arc::new(move |slot| mailbox.put(WorkerCommand::Poll(slot)));
        Self {
            poll,
            inbox,
            peers,
            tunnels: OpenTunnels::new(Rc::clone(&registry), tunnels, shared, now),
            handshakes: Handshakes::new(registry, wake, handshakes, now),
            asker: None,
            acceptor: None,
            ready: ReadyHandshakes::default(),
            crowded: Vec::new(),
            accepted: now,
            turns,
        }
    }

    /// Works until it is told to stop. After a fault of its own it hands its tunnels to other workers.
    fn run(mut self) {
        let fault = match catch_unwind(AssertUnwindSafe(|| self.work())) {
            Ok(Ok(())) => {
                self.inbox.close();
                return self.tunnels.stop(Instant::now());
            }
            Ok(Err(error)) => format!("its poller failed: {error}"),
            Err(panic) => format!("it panicked: {}", tunnel::text(&*panic)),
        };
        self.inbox.close();
        let count = self.inbox.mailbox().load();
        error!("a tunnel worker has ended, its tunnels and handshakes ({count}) are given to others: {fault}");
        let given = catch_unwind(AssertUnwindSafe(|| self.give_up()));
        if let Err(panic) = given {
            error!("a tunnel worker that ended could not give its tunnels away: {}", tunnel::text(&*panic));
        }
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Events::new();
        let mut now = Instant::now();
        loop {
            let ended = Instant::now();
            self.turns.observe(now, ended);
            let due = self.due();
            events.wait(self.poll.registry(), self.timeout(due, ended))?;
            now = Instant::now();
            let mut woken = false;
            for event in events.iter() {
                match event {
                    (WAKE, _) => woken = true,
                    (token, readiness) => self.note(token, readiness),
                }
            }
            if woken && !self.obey(now) {
                return Ok(());
            }
            self.tunnels.drive(now);
            self.tunnels.judge_on(now);
            if !self.ready.is_empty() || !self.crowded.is_empty() {
                self.carry_on_handshakes(now);
            }
            if self.tunnels.has_asks() {
                self.ask_backends(now);
            }
            if due.is_some_and(|due| now >= due) {
                self.check(now);
            }
        }
    }

    /// The next deadline of a tunnel, of a handshake, or of a pause of accepting.
    fn due(&self) -> Option<Instant> {
        let pause = self.acceptor.as_ref().and_then(WorkerAcceptor::due);
        earlier(self.tunnels.due(), earlier(self.handshakes.due(), pause))
    }

    /// Time to sleep from `now` on when the next deadline is `due`; `None` to sleep until something happens.
    fn timeout(&self, due: Option<Instant>, now: Instant) -> Option<Duration> {
        if self.tunnels.is_busy() || !self.ready.is_empty() || due.is_some_and(|due| due <= now) {
            return Some(Duration::ZERO);
        }
        // Rounded up, lest the poller wake a fraction of a millisecond early and find nothing due.
        due.map(|due| due.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn note(&mut self, token: Token, readiness: Readiness) {
        match AcceptToken::of(token) {
            Some(AcceptToken::Handshake(slot, Side::Client)) => self.ready.arriving(slot),
            Some(AcceptToken::Handshake(slot, Side::Backend)) => self.ready.at_backend(slot),
            Some(AcceptToken::Listener(number)) => self.crowded.push(number),
            None => self.tunnels.note(token, readiness),
        }
    }

    /// Carries out the commands that have come; tells whether the worker is to go on.
    fn obey(&mut self, now: Instant) -> bool {
        while let Some(command) = self.inbox.next() {
            match command {
                WorkerCommand::Open(tunnel) => self.tunnels.open(tunnel, now),
                WorkerCommand::End { scope, reason, over } => self.tunnels.end(&scope, reason, over, now),
                WorkerCommand::Freeze { most, with_tls, reply } => {
                    if let Err(returned) = reply.send(self.tunnels.freeze(most, with_tls, now)) {
                        self.tunnels.take_back(returned.0);
                    }
                }
                WorkerCommand::Thaw(frozen) => self.tunnels.thaw(frozen),
                WorkerCommand::Spare { scope, reason } => self.tunnels.spare(&scope, reason),
                // Nobody may wait for the answer any more, to this command and to those below.
                WorkerCommand::Visit { look, from, done } => drop(done.send(self.tunnels.visit(&*look, from))),
                WorkerCommand::Close { ends, code, words, done } => {
                    let _ = done.send(self.tunnels.close(&ends, code, words.as_ref()));
                }
                WorkerCommand::Judge { rule, done } => self.tunnels.judge(rule, done, now),
                WorkerCommand::LimitRates(rates) => self.tunnels.limit_rates(rates, now),
                WorkerCommand::Deliver { to, item, done } => drop(done.send(self.tunnels.deliver(&to, &item, now))),
                WorkerCommand::Hear { tunnel, outcome } => self.tunnels.hear(tunnel, outcome, now),
                WorkerCommand::ReattachBy(asker) => self.asker = Some(asker),
                WorkerCommand::Accept { sockets, host } => {
                    let registry = Rc::clone(self.handshakes.registry());
                    self.acceptor = Some(WorkerAcceptor::start(registry, sockets, host));
                }
                // Both behind the tunnels, which come first.
                WorkerCommand::Receive(accepted) => self.receive(accepted),
                WorkerCommand::Poll(slot) => self.ready.at_backend(slot),
                WorkerCommand::AcceptNoMore => self.accept_no_more(now),
                WorkerCommand::Stop => return false,
                #[cfg(test)]
                WorkerCommand::Panic => panic!("as told"),
            }
        }
        true
    }

    /// Stops accepting. Handshakes whose client has not sent a byte yet are carried on once, to be passed on by their
    /// host.
    fn accept_no_more(&mut self, now: Instant) {
        let Some(acceptor) = self.acceptor.take() else { return };
        for accepted in acceptor.stop(now) {
            self.inbox.mailbox().handshakes().fetch_add(1, Ordering::Relaxed);
            self.receive(accepted);
        }
        self.handshakes.all().into_iter().for_each(|slot| self.ready.arriving(slot));
    }

    /// Carries on the handshakes at which something happened, and accepts one client of each listener that has some. It
    /// stops when its share of the turn is over: tunnels come first, and a handshake by TLS takes as long as a hundred
    /// messages. Clients are accepted when no handshake is left to be carried on, or a moment later: other workers
    /// accept, too, and who waits in the system's queue costs nothing.
    fn carry_on_handshakes(&mut self, now: Instant) {
        self.carry_on_ready(now);
        if self.ready.is_empty() || now.saturating_duration_since(self.accepted) >= ACCEPT_WITHIN {
            self.accepted = now;
            for at in 0..self.crowded.len() {
                self.accept(self.crowded[at], now);
            }
            self.carry_on_ready(now);
        }
        self.crowded.clear();
    }

    /// Carries on handshakes, in order: those who have their turns at a backend together reach it in the order of their
    /// arrival.
    fn carry_on_ready(&mut self, now: Instant) {
        while let Some(slot) = self.ready.next() {
            let done = self.handshakes.poll(slot);
            self.settle(done, now);
            if now.elapsed() >= HANDSHAKES_FOR {
                break;
            }
        }
    }

    fn accept(&mut self, number: usize, now: Instant) {
        let next = self.acceptor.as_mut().map(|acceptor| acceptor.accept(number, now));
        let Some(NextClient::Client(accepted)) = next else { return };
        let here = self.inbox.mailbox();
        // Without this the worker that is woken most would have all clients in the end.
        let freest = self.peers.iter().filter(|peer| !peer.is_closed()).min_by_key(|peer| peer.load());
        match freest.filter(|peer| here.load() >= peer.load() + UNEVEN) {
            Some(peer) => {
                peer.handshakes().fetch_add(1, Ordering::Relaxed);
                peer.put(WorkerCommand::Receive(accepted));
            }
            None => {
                here.handshakes().fetch_add(1, Ordering::Relaxed);
                self.receive(accepted);
            }
        }
    }

    /// Takes on the handshake of a client that is counted already.
    fn receive(&mut self, accepted: Accepted) {
        let closing = self.acceptor.as_ref().map_or_else(|| Rc::new(Cell::new(true)), WorkerAcceptor::closing);
        self.ready.arriving(self.handshakes.begin(accepted, closing));
    }

    fn settle(&mut self, done: Option<TaskOutcome>, now: Instant) {
        match done {
            Some(TaskOutcome::Shaken(Shaken { tunnel, under_way })) => self.tunnels.open_own(tunnel, under_way, now),
            Some(TaskOutcome::Asked(spot, asked)) => self.tunnels.asked(spot, asked, now),
            None => {}
        }
    }

    /// Begins the searches that tunnels ask for, and gives up those of tunnels that have ended.
    fn ask_backends(&mut self, now: Instant) {
        for (slot, spot) in self.tunnels.take_given_up() {
            self.handshakes.cancel(slot, spot);
        }
        for (spot, asking) in self.tunnels.take_asking() {
            let Some(asker) = &self.asker else {
                self.tunnels.asked(spot, SearchOutcome::Failed(ReattachOutcome::Fault), now);
                continue;
            };
            let slot = self.handshakes.ask(spot, asking, Arc::clone(asker));
            self.tunnels.note_search(spot, slot);
            self.ready.at_backend(slot);
        }
    }

    /// Looks at the limits that are due.
    fn check(&mut self, now: Instant) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.check(now);
        }
        self.handshakes.take_due(now).into_iter().for_each(|slot| self.ready.at_backend(slot));
        self.tunnels.check(now);
    }

    /// Gives the tunnels to other workers, and the commands that would have opened more of them.
    fn give_up(&mut self) {
        let others: Vec<_> = self.peers.iter().filter(|peer| !peer.is_closed()).collect();
        let give = |command| {
            if let Some(freest) = others.iter().min_by_key(|peer| peer.load()) {
                let counter =
                    if matches!(command, WorkerCommand::Receive(_)) { freest.handshakes() } else { freest.tunnels() };
                counter.fetch_add(1, Ordering::Relaxed);
                freest.put(command);
            }
        };
        let now = Instant::now();
        if others.is_empty() {
            return self.tunnels.stop(now);
        }
        self.tunnels.give_up(now).into_iter().map(WorkerCommand::Thaw).for_each(give);
        while let Some(command) = self.inbox.next() {
            match command {
                WorkerCommand::Stop => break,
                WorkerCommand::Open(_) | WorkerCommand::Thaw(_) | WorkerCommand::Receive(_) => give(command),
                _ => {}
            }
        }
    }
}

/// The token of the waker; no number of a slot grows this far.
const WAKE: Token = Token(usize::MAX);
/// Tunnels and handshakes that a worker has more than the freest one when it begins to give away the clients it
/// accepts.
const UNEVEN: usize = 2;
/// Part of a turn after which no other handshake is carried on: most steps take longer than this, and have a turn each.
const HANDSHAKES_FOR: Duration = Duration::from_micros(20);
/// Time within which a client is accepted, however many handshakes are ready to be carried on.
const ACCEPT_WITHIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
