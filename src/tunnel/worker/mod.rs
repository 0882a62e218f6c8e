//! Workers: each is one thread with one poller, and with the tunnels and handshakes that live on it.

mod commands;
mod directory;
mod frozen;
mod handle;
mod mailbox;
mod rule;
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
use mio::{Events, Poll, Registry, Token};
use prometheus::Histogram;

use super::accept::{Accepted, Acceptor, Handshakes, Ready, Shaken};
use super::pair::Readiness;
pub(super) use commands::Command;
pub use commands::Look;
pub use frozen::{Batch, Frozen, Passport, Place};
pub(super) use handle::Handle;
use mailbox::{Inbox, Mailbox};
pub use rule::{Judged, Rule, Standing, Verdict};
pub use tunnel::Scope;
#[cfg(test)]
pub(super) use tunnel::Tunnel;
use tunnels::{OpenTunnels, Shared};

/// A worker, on its own thread.
struct Worker {
    poll: Poll,
    inbox: Inbox,
    /// Mailboxes of all workers, its own included.
    peers: Arc<[Arc<Mailbox>]>,
    tunnels: OpenTunnels,
    handshakes: Handshakes,
    /// Accepts clients, while they are accepted.
    acceptor: Option<Acceptor>,
    /// Listeners and handshakes at which something happened.
    ready: Vec<Ready>,
    /// Lengths of its turns.
    turns: Histogram,
}

impl Worker {
    fn new(
        poll: Poll,
        registry: Registry,
        inbox: Inbox,
        peers: Arc<[Arc<Mailbox>]>,
        shared: Shared,
        turns: Histogram,
    ) -> Self {
        let (registry, now) = (Rc::new(registry), Instant::now());
        let [tunnels, handshakes] = [inbox.mailbox().tunnels(), inbox.mailbox().handshakes()].map(Arc::clone);
        Self {
            poll,
            inbox,
            peers,
            tunnels: OpenTunnels::new(Rc::clone(&registry), tunnels, shared, now),
            handshakes: Handshakes::new(registry, handshakes, now),
            acceptor: None,
            ready: Vec::new(),
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
        error!("a tunnel worker has ended, {count} tunnels and handshakes are given to others: {fault}");
        let given = catch_unwind(AssertUnwindSafe(|| self.give_up()));
        if let Err(panic) = given {
            error!("a tunnel worker that ended could not give its tunnels away: {}", tunnel::text(&*panic));
        }
    }

    fn work(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        let mut now = Instant::now();
        loop {
            let (due, ended) = (self.due(), Instant::now());
            self.turns.observe((ended - now).as_secs_f64());
            match self.poll.poll(&mut events, self.timeout(due, ended)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => events.clear(),
                polled => polled?,
            }
            now = Instant::now();
            let mut woken = false;
            for event in &events {
                match event.token() {
                    WAKE => woken = true,
                    token => self.note(token, event),
                }
            }
            if woken && !self.obey(now) {
                return Ok(());
            }
            self.tunnels.drive(now);
            self.carry_on_handshakes(now);
            if due.is_some_and(|due| now >= due) {
                self.check(now);
            }
        }
    }

    /// The next deadline of a tunnel, of a handshake, or of a pause of accepting.
    fn due(&self) -> Option<Instant> {
        let pause = self.acceptor.as_ref().and_then(Acceptor::due);
        earlier(self.tunnels.due(), earlier(self.handshakes.due(), pause))
    }

    /// Time to sleep from `now` on when the next deadline is `due`; `None` to sleep until something happens.
    fn timeout(&self, due: Option<Instant>, now: Instant) -> Option<Duration> {
        if self.tunnels.is_busy() {
            return Some(Duration::ZERO);
        }
        // Rounded up, lest the poller wake a fraction of a millisecond early and find nothing due.
        due.map(|due| due.saturating_duration_since(now) + Duration::from_millis(1))
    }

    fn note(&mut self, token: Token, event: &mio::event::Event) {
        if let Some(ready) = Ready::of(token) {
            return self.ready.push(ready);
        }
        let hung_up = event.is_read_closed() || event.is_error();
        let readiness = Readiness {
            readable: event.is_readable() || hung_up,
            writable: event.is_writable() || event.is_write_closed() || event.is_error(),
            hung_up,
        };
        self.tunnels.note(token, readiness);
    }

    /// Carries out the commands that have come; tells whether the worker is to go on.
    fn obey(&mut self, now: Instant) -> bool {
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Open(tunnel) => self.tunnels.open(*tunnel, now),
                Command::End { scope, reason, over } => self.tunnels.end(&scope, reason, over, now),
                Command::Freeze { most, with_tls, reply } => {
                    if let Err(returned) = reply.send(self.tunnels.freeze(most, with_tls)) {
                        self.tunnels.take_back(returned.0);
                    }
                }
                Command::Thaw(frozen) => self.tunnels.thaw(frozen),
                Command::Spare { scope, reason } => self.tunnels.spare(&scope, reason),
                // Nobody may wait for the answer any more, to this command and to those below.
                Command::Visit { look, done } => {
                    self.tunnels.visit(&*look, now);
                    let _ = done.send(());
                }
                Command::Judge { rule, done } => drop(done.send(self.tunnels.judge(rule, now))),
                Command::Deliver { to, item, done } => drop(done.send(self.tunnels.deliver(&to, &item, now))),
                Command::Hear { tunnel, outcome } => self.tunnels.hear(tunnel, outcome, now),
                Command::Accept { sockets, host } => {
                    let registry = Rc::clone(self.handshakes.registry());
                    self.acceptor = Some(Acceptor::start(registry, sockets, host));
                }
                Command::Receive(accepted) => self.receive(accepted, now),
                Command::AcceptNoMore => self.accept_no_more(now),
                Command::Stop => return false,
                #[cfg(test)]
                Command::Panic => panic!("as told"),
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
            self.receive(accepted, now);
        }
        self.ready.extend(self.handshakes.all().into_iter().map(Ready::Handshake));
    }

    /// Carries on the handshakes at which something happened, and accepts one client of each listener that has some: so
    /// tunnels wait for no more than one, and other workers get their share.
    fn carry_on_handshakes(&mut self, now: Instant) {
        while let Some(ready) = self.ready.pop() {
            match ready {
                Ready::Handshake(slot) => {
                    let shaken = self.handshakes.poll(slot);
                    self.open(shaken, now);
                }
                Ready::Listener(number) => self.accept(number, now),
            }
        }
    }

    fn accept(&mut self, number: usize, now: Instant) {
        let Some(accepted) = self.acceptor.as_mut().and_then(|acceptor| acceptor.accept(number, now)) else { return };
        let here = self.inbox.mailbox();
        // Without this the worker that is woken most would have all clients in the end.
        let freest = self.peers.iter().filter(|peer| !peer.is_closed()).min_by_key(|peer| peer.load());
        match freest.filter(|peer| here.load() >= peer.load() + UNEVEN) {
            Some(peer) => {
                peer.handshakes().fetch_add(1, Ordering::Relaxed);
                peer.put(Command::Receive(accepted));
            }
            None => {
                here.handshakes().fetch_add(1, Ordering::Relaxed);
                self.receive(accepted, now);
            }
        }
    }

    /// Begins the handshake of a client that is counted already.
    fn receive(&mut self, accepted: Accepted, now: Instant) {
        let closing = self.acceptor.as_ref().map_or_else(|| Rc::new(Cell::new(true)), Acceptor::closing);
        let shaken = self.handshakes.begin(accepted, closing);
        self.open(shaken, now);
    }

    fn open(&mut self, shaken: Option<Shaken>, now: Instant) {
        if let Some(Shaken { tunnel, under_way }) = shaken {
            self.tunnels.open_own(tunnel, under_way, now);
        }
    }

    /// Looks at the limits that are due.
    fn check(&mut self, now: Instant) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.check(now);
        }
        for slot in self.handshakes.take_due(now) {
            let shaken = self.handshakes.poll(slot);
            self.open(shaken, now);
        }
        self.tunnels.check(now);
    }

    /// Gives the tunnels to other workers, and the commands that would have opened more of them.
    fn give_up(&mut self) {
        let others: Vec<_> = self.peers.iter().filter(|peer| !peer.is_closed()).collect();
        let give = |command| {
            if let Some(freest) = others.iter().min_by_key(|peer| peer.load()) {
                let counter =
                    if matches!(command, Command::Receive(_)) { freest.handshakes() } else { freest.tunnels() };
                counter.fetch_add(1, Ordering::Relaxed);
                freest.put(command);
            }
        };
        let now = Instant::now();
        if others.is_empty() {
            return self.tunnels.stop(now);
        }
        self.tunnels.give_up(now).into_iter().map(Command::Thaw).for_each(give);
        while let Some(command) = self.inbox.next() {
            match command {
                Command::Stop => break,
                Command::Open(_) | Command::Thaw(_) | Command::Receive(_) => give(command),
                _ => {}
            }
        }
    }
}

/// The earlier of two moments that may not be there.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The token of the waker; no slab grows this far.
const WAKE: Token = Token(usize::MAX);
const EVENTS_PER_POLL: usize = 1024;
/// Tunnels and handshakes that a worker has more than the freest one when it begins to give away the clients it
/// accepts.
const UNEVEN: usize = 2;

#[cfg(test)]
mod tests;
