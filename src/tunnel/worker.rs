//! A worker: one thread, one poller, and the tunnels that live on it.

use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use log::error;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::arrival::{Arrival, Host};
use super::doors::{Called, Doors, Guest, Peer};
use super::end::Side;
use super::frozen::{self, Batch, Frozen};
use super::hooked::Directory;
use super::inspect::{Caller, Outcome};
use super::mailbox::Mailbox;
use super::pair::{Checked, Driven, Pair, Readiness};
use super::reason::Reason;
use super::record::{Ending, Record};
use super::rule::{self, Judged, Rule};
use super::{Look, NewTunnel, Scope};
use crate::access_log::AccessLog;
use crate::hook::{Item, To, TunnelId};

/// What a worker is asked to do.
pub(super) enum Command {
    /// Takes a tunnel on.
    Open(Box<NewTunnel>),
    /// Ends the tunnels in a scope, evenly spread over a time.
    End { scope: Scope, reason: Reason, over: Duration },
    /// Takes tunnels off, as they stand, this many at the most.
    Freeze { most: usize, reply: Sender<Batch> },
    /// Takes a frozen tunnel on; as with `Open`, whoever sends it has counted it.
    Thaw(Frozen),
    /// Calls off ends in a scope that were announced for a reason.
    Spare { scope: Scope, reason: Reason },
    /// Shows every tunnel.
    Visit { look: Arc<Look>, done: oneshot::Sender<()> },
    /// Has a rule decide over every tunnel, and over those to come.
    Judge { rule: Arc<Rule>, done: oneshot::Sender<Judged> },
    /// Does what comes from outside to the tunnels meant.
    Deliver { to: To, item: Item, done: UnboundedSender<usize> },
    /// Acts on what came of a hook's call that waited.
    Hear { tunnel: TunnelId, outcome: Outcome },
    /// Accepts clients for a host; `peers` are all workers that do.
    Accept { sockets: Vec<Arc<TcpListener>>, host: Arc<dyn Host>, peers: Arc<[Peer]> },
    /// Receives a client that another worker accepted.
    Receive { guest: Guest, host: Arc<dyn Host> },
    /// Accepts no more clients.
    AcceptNoMore,
    /// Ends the thread, and with it every tunnel left.
    Stop,
}

pub(super) struct Worker {
    poll: Poll,
    pub(super) registry: Rc<Registry>,
    commands: Receiver<Command>,
    mailbox: Arc<Mailbox>,
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

    /// Does what was asked; says whether the worker is to go on.
    fn obey(&mut self, now: Instant) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Open(tunnel)) => self.open(*tunnel, now),
                Ok(Command::End { scope, reason, over }) => self.end(&scope, reason, over, now),
                Ok(Command::Freeze { most, reply }) => {
                    let batch = self.freeze(most);
                    // Whoever asked and went away has its tunnels put back.
                    if let Err(returned) = reply.send(batch) {
                        for frozen in returned.0.frozen {
                            self.count.fetch_add(1, Ordering::Relaxed);
                            self.thaw(frozen);
                        }
                    }
                }
                Ok(Command::Thaw(frozen)) => self.thaw(frozen),
                Ok(Command::Spare { scope, reason }) => self.spare(&scope, reason),
                Ok(Command::Visit { look, done }) => {
                    self.tunnels.iter().for_each(|(_, tunnel)| look(&tunnel.record, now.duration_since(tunnel.since)));
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Ok(Command::Judge { rule, done }) => {
                    let judged = self.judge(rule, now);
                    // Whoever asked may have gone.
                    let _ = done.send(judged);
                }
                Ok(Command::Deliver { to, item, done }) => {
                    self.mailbox.delivered();
                    let count = self.deliver(&to, &item, now);
                    // Whoever sent it may not want to know.
                    let _ = done.send(count);
                }
                Ok(Command::Hear { tunnel, outcome }) => self.hear(tunnel, outcome, now),
                Ok(Command::Accept { sockets, host, peers }) => self.accept(Doors::new(sockets, host, peers)),
                Ok(Command::Receive { guest, host }) => self.receive(guest, &host, now),
                Ok(Command::AcceptNoMore) => self.accept_no_more(now),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    /// Accounts for the tunnels that are cut off when the worker stops.
    fn stop(&mut self, now: Instant) {
        let slots: Vec<usize> = self.tunnels.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.tunnels[slot].pair.stop();
            self.remove(slot, now);
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
        let watched = [client.watched, backend.watched];
        let mut pair = Pair::new(client.stream, backend.stream, limits, rand::random_range(0.0..0.1), now);
        record.opened(&self.log, inspector.as_ref().map(|inspector| inspector.tunnel().id));
        if let Some(inspector) = inspector {
            pair.watch(inspector);
        }
        for side in Side::ALL {
            pair.preload(side, &early[side as usize], now, &record.metrics);
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
    fn take_on(&mut self, mut tunnel: Box<Tunnel>, watched: [bool; 2]) -> usize {
        let entry = self.tunnels.vacant_entry();
        let slot = entry.key();
        let registry = self.poll.registry();
        let registered = Side::ALL.into_iter().try_for_each(|side| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let (stream, token) = (tunnel.pair.stream_mut(side), token_of(slot, side));
            // Either way what there is to read already is reported.
            if watched[side as usize] {
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

    /// Takes tunnels off between two turns, when each is consistent: what was read is written or kept.
    fn freeze(&mut self, most: usize) -> Batch {
        let (slots, busy, staying) = frozen::choose(&mut self.tunnels, most);
        let frozen = slots.into_iter().map(|slot| {
            let mut tunnel = self.tunnels.remove(slot);
            self.leave(&tunnel, slot);
            if std::mem::take(&mut tunnel.queued) {
                self.ready.retain(|other| *other != slot);
            }
            for side in Side::ALL {
                // A socket that cannot be taken off the poller's list leaves it when its last copy is closed.
                let _ = self.poll.registry().deregister(tunnel.pair.stream_mut(side));
            }
            self.count.fetch_sub(1, Ordering::Relaxed);
            Frozen(tunnel)
        });
        Batch { frozen: frozen.collect(), busy, staying }
    }

    /// Takes on a frozen tunnel that is counted already.
    fn thaw(&mut self, Frozen(mut tunnel): Frozen) {
        tunnel.pair.forget_readiness();
        // A rule may have come while it was off; what an earlier one announced stays.
        if tunnel.pair.changing().is_none() {
            rule::judge_opening(self.rule.as_deref(), &mut tunnel, Instant::now());
        }
        let slot = self.take_on(tunnel, [false; 2]);
        self.open_hooks(slot, Instant::now());
    }

    /// When a tunnel that opens now is to end again, because its handshake was under way when ends were announced.
    fn late_end(&self, record: &Record, now: Instant) -> Option<(Instant, Reason)> {
        match self.ending {
            Some((by, reason)) => Some((now + by.saturating_duration_since(now).mul_f64(rand::random()), reason)),
            None => record.backend().is_draining().then_some((now, Reason::BackendDrained)),
        }
    }

    fn spare(&mut self, scope: &Scope, reason: Reason) {
        let tunnels = self.tunnels.iter_mut().map(|(_, tunnel)| tunnel);
        tunnels.filter(|tunnel| scope.holds(tunnel)).for_each(|tunnel| tunnel.pair.spare(reason));
    }

    fn end(&mut self, scope: &Scope, reason: Reason, over: Duration, now: Instant) {
        if matches!(scope, Scope::All) {
            self.ending = Some((now + over, reason));
        }
        let mut chosen: Vec<&mut Box<Tunnel>> =
            self.tunnels.iter_mut().map(|(_, tunnel)| tunnel).filter(|tunnel| scope.holds(tunnel)).collect();
        for (share, tunnel) in rule::spread(chosen.len()).zip(&mut chosen) {
            tunnel.pair.plan_end(now + over.mul_f64(share), reason);
        }
        if !chosen.is_empty() {
            self.check_by(Some(now));
        }
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
/// Read at once, and so the most that is ever kept of what a receiver does not take; the rest up to 64 KiB is left for
/// the gateway's own control frames.
const READ_BYTES: usize = 64 * 1024 - 512;
const EVENTS_PER_POLL: usize = 1024;
/// How finely ends are paced, and how often a busy worker looks at its tunnels' limits at the most.
const CHECK_EVERY: Duration = Duration::from_millis(100);
