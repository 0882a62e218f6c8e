//! A worker: one thread, one poller, and the tunnels that live on it.

mod commands;

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use log::error;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

use super::NewTunnel;
use super::arrival::Arrival;
use super::doors::{Called, Doors};
use super::hooked::Directory;
use super::inspect::Caller;
use super::mailbox::Mailbox;
use super::pair::{Checked, Driven, Pair, Readiness};
use super::reason::Reason;
use super::record::{Ending, Record};
use super::rule::{self, Rule};
use crate::access_log::AccessLog;
use crate::ws::{Side, Sides};
pub(super) use commands::Command;

pub(super) struct Worker {
    poll: Poll,
    pub(super) registry: Rc<Registry>,
    commands: Receiver<Command>,
    pub(super) mailbox: Arc<Mailbox>,
    /// Each in a place of its own, so that its memory goes when it ends; a slab never shrinks.
    pub(super) tunnels: Slab<Box<Tunnel>>,
    /// Handshakes under way.
    pub(super) arrivals: Slab<Arrival>,
    /// Handshakes and doors at which something happened.
    pub(super) called: Vec<Called>,
    /// What clients are accepted on, while they are.
    pub(super) doors: Option<Doors>,
    /// What the last change of the configuration means for tunnels.
    pub(super) rule: Option<Arc<Rule>>,
    /// How many tunnels live here, for whoever chooses a worker.
    pub(super) count: Arc<AtomicUsize>,
    pub(super) log: AccessLog,
    /// What calls hooks; none where there is no runtime to do so on.
    pub(super) caller: Option<Arc<Caller>>,
    pub(super) directory: Directory,
    /// Tunnels with something to do at once; never more than there are.
    ready: Vec<usize>,
    /// Those whose turn it is; empty between two turns, and kept because a list made anew would be an allocation a message.
    driven: Vec<usize>,
    /// The next moment at which a tunnel's limits are to be looked at; none, and the worker sleeps until it is woken.
    next_check: Option<Instant>,
    last_check: Instant,
    /// Every tunnel is being ended, for this reason and by this moment: those that open now as well.
    ending: Option<(Instant, Reason)>,
    scratch: Box<[u8]>,
}

pub(super) struct Tunnel {
    pub(super) pair: Pair<TcpStream>,
    pub(super) record: Record,
    pub(super) since: Instant,
    /// Whether it stands in `ready`.
    pub(super) queued: bool,
}

impl Worker {
    pub(super) fn new(
        poll: Poll,
        registry: Registry,
        commands: Receiver<Command>,
        mailbox: Arc<Mailbox>,
        count: Arc<AtomicUsize>,
        log: AccessLog,
        caller: Option<Arc<Caller>>,
    ) -> Self {
        Self {
            poll,
            registry: Rc::new(registry),
            commands,
            mailbox,
            tunnels: Slab::new(),
            arrivals: Slab::new(),
            called: Vec::new(),
            doors: None,
            rule: None,
            count,
            log,
            caller,
            directory: Directory::default(),
            ready: Vec::new(),
            driven: Vec::new(),
            next_check: None,
            last_check: Instant::now(),
            ending: None,
            scratch: vec![0; READ_BYTES].into_boxed_slice(),
        }
    }

    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        let caller = self.caller.clone();
        // Hooks may spawn wherever they are called.
        let _entered = caller.as_ref().map(|caller| caller.runtime().enter());
        let mut events = Events::with_capacity(EVENTS_PER_POLL);
        loop {
            if let Err(error) = self.poll.poll(&mut events, self.timeout()) {
                if error.kind() != io::ErrorKind::Interrupted {
                    error!("a tunnel worker's poller failed, its tunnels end: {error}");
                    return;
                }
                continue;
            }
            let now = Instant::now();
            let mut woken = false;
            for event in &events {
                match event.token() {
                    WAKE => woken = true,
                    token => self.note(token, event),
                }
            }
            if woken && !self.obey(now) {
                return self.stop(now);
            }
            self.drive(now);
            self.go_on_with_arrivals(now);
            if self.next_check.is_some_and(|at| now >= at) {
                self.check(now);
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        // Rounded up, lest the poller wake a fraction of a millisecond early and find nothing due.
        self.next_check.map(|at| at.saturating_duration_since(Instant::now()) + Duration::from_millis(1))
    }

    fn note(&mut self, token: Token, event: &mio::event::Event) {
        if let Some(called) = Called::by(token) {
            return self.called.push(called);
        }
        let (slot, side) = slot_of(token);
        let Some(tunnel) = self.tunnels.get_mut(slot) else { return };
        let hung_up = event.is_read_closed() || event.is_error();
        tunnel.pair.note(
            side,
            Readiness {
                readable: event.is_readable() || hung_up,
                writable: event.is_writable() || event.is_write_closed() || event.is_error(),
                hung_up,
            },
        );
        self.queue(slot);
    }

    pub(super) fn queue(&mut self, slot: usize) {
        let tunnel = &mut self.tunnels[slot];
        if !std::mem::replace(&mut tunnel.queued, true) {
            self.ready.push(slot);
        }
    }

    /// Opens a tunnel that is counted already.
    pub(super) fn open(&mut self, new: NewTunnel, now: Instant) {
        let NewTunnel { client, backend, early, limits, record, hooks } = new;
        let inspector = match hooks.map(|hooks| self.inspector(hooks, limits.max_message)) {
            None => None,
            Some(Some(inspector)) => Some(inspector),
            Some(None) => {
                self.count.fetch_sub(1, Ordering::Relaxed);
                return error!("a tunnel with hooks is refused: there is no runtime to call them on");
            }
        };
        let watched = Sides::new(client.watched, backend.watched);
        let mut pair = Pair::new(client.stream, backend.stream, limits, rand::random_range(0.0..0.1), now);
        record.opened(&self.log, inspector.as_ref().map(|inspector| inspector.tunnel().id));
        if let Some(inspector) = inspector {
            pair.watch(inspector);
        }
        for side in Side::ALL {
            pair.preload(side, &early[side], now, &record.metrics);
        }
        if let Some((at, reason)) = self.late_end(&record, now) {
            pair.plan_end(at, reason);
        }
        let mut tunnel = Box::new(Tunnel { pair, record, since: now, queued: false });
        rule::judge_opening(self.rule.as_deref(), &mut tunnel, now);
        let slot = self.take_on(tunnel, watched);
        self.open_hooks(slot, now);
    }

    /// Has the poller watch a tunnel's sockets, and sees to it that it is driven.
    fn take_on(&mut self, mut tunnel: Box<Tunnel>, watched: Sides<bool>) -> usize {
        let entry = self.tunnels.vacant_entry();
        let slot = entry.key();
        let registry = self.poll.registry();
        let registered = Side::ALL.into_iter().try_for_each(|side| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let (stream, token) = (tunnel.pair.stream_mut(side), token_of(slot, side));
            // Either way what there is to read already is reported.
            if watched[side] {
                registry.reregister(stream, token, interest)
            } else {
                registry.register(stream, token, interest)
            }
        });
        let due = tunnel.pair.due();
        entry.insert(tunnel);
        if let Err(error) = registered {
            error!("a tunnel could not be registered with the poller and ends: {error}");
            self.remove(slot, Instant::now());
            return slot;
        }
        self.enter(slot);
        self.check_by(due);
        self.queue(slot);
        slot
    }

    fn drive(&mut self, now: Instant) {
        let mut driven = std::mem::replace(&mut self.ready, std::mem::take(&mut self.driven));
        for slot in driven.drain(..) {
            let tunnel = &mut self.tunnels[slot];
            tunnel.queued = false;
            match tunnel.pair.drive(&mut self.scratch, now, &tunnel.record.metrics) {
                Driven::Waiting => {}
                Driven::More => self.queue(slot),
                Driven::Ended => {
                    self.remove(slot, now);
                    continue;
                }
            }
            let pair = &mut self.tunnels[slot].pair;
            if pair.take_nearer() {
                let due = pair.due();
                self.check_by(due);
            }
        }
        self.driven = driven;
    }

    /// Looks at every tunnel's limits, and finds out when to look again.
    fn check(&mut self, now: Instant) {
        self.next_check = None;
        self.last_check = now;
        self.check_arrivals(now);
        let mut expired = Vec::new();
        let mut changed = Vec::new();
        let mut due: Option<Instant> = None;
        for (slot, tunnel) in &mut self.tunnels {
            rule::judge_again(self.rule.as_deref(), tunnel, now);
            match tunnel.pair.check(now) {
                Checked::Fine => {}
                Checked::Changed => changed.push(slot),
                Checked::Expired => {
                    expired.push(slot);
                    continue;
                }
            }
            due = due.into_iter().chain(tunnel.pair.due()).min();
        }
        expired.into_iter().for_each(|slot| self.remove(slot, now));
        changed.into_iter().for_each(|slot| self.queue(slot));
        self.check_by(due);
    }

    /// Sees to it that limits are looked at by then, but not more often than every [`CHECK_EVERY`].
    pub(super) fn check_by(&mut self, due: Option<Instant>) {
        let Some(due) = due else { return };
        let due = due.max(self.last_check + CHECK_EVERY);
        self.next_check = Some(self.next_check.map_or(due, |earlier| earlier.min(due)));
    }

    fn remove(&mut self, slot: usize, now: Instant) {
        let mut tunnel = self.tunnels.remove(slot);
        self.leave(&tunnel, slot);
        let inspector = tunnel.pair.take_inspector();
        let Tunnel { pair, record, since, queued } = *tunnel;
        if queued {
            self.ready.retain(|other| *other != slot);
        }
        let ending = Ending::new(pair.reason(), pair.close_code(), since, now, |side| pair.passed(side));
        // Nobody is kept waiting for what hooks have to say of it.
        drop(pair);
        record.metrics.ended(ending.reason.as_str());
        match inspector {
            None => record.log_end(&self.log, &ending, None, &[]),
            Some(inspector) => self.part(*inspector, record, ending),
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

fn token_of(slot: usize, side: Side) -> Token {
    Token(slot << 1 | side as usize)
}

fn slot_of(token: Token) -> (usize, Side) {
    (token.0 >> 1, Side::ALL[token.0 & 1])
}

/// The token of the waker; no slab grows this far.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Read at once, and so the most that is ever kept of what a receiver does not take; the rest up to 65 KiB is left for
/// the gateway's own control frames. A message of 64 KiB, which many send by, comes whole with its header: a few bytes less, and
/// each would take two reads and two writes, one of them tiny (bench/NOTES.md).
const READ_BYTES: usize = 65 * 1024 - 512;
const EVENTS_PER_POLL: usize = 1024;
/// How finely ends are paced, and how often a busy worker looks at its tunnels' limits at the most.
const CHECK_EVERY: Duration = Duration::from_millis(100);
