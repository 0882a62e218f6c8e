//! The listening sockets of a worker. Workers share them: whoever is free takes the next client.

use std::cell::Cell;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use log::{error, warn};
use mio::net::TcpStream;
use mio::{Registry, Token};
use rustix::event::epoll;
use rustix::net::SocketFlags;

use super::arrival::{Arrival, Connection, Host, Seat, Shaken, arrival_of};
use super::mailbox::Mailbox;
use super::worker::{Command, Worker};

/// What a worker accepts on, and for whom.
pub(super) struct Doors {
    sockets: Vec<Arc<TcpListener>>,
    host: Arc<dyn Host>,
    peers: Arc<[Peer]>,
    /// Set once nothing is accepted any more.
    closing: Rc<Cell<bool>>,
    /// No client is let in before this moment, because the system could not.
    shut_until: Option<Instant>,
}

impl Doors {
    pub(super) fn new(sockets: Vec<Arc<TcpListener>>, host: Arc<dyn Host>, peers: Arc<[Peer]>) -> Self {
        Self { sockets, host, peers, closing: Rc::default(), shut_until: None }
    }

    /// Has the poller watch the sockets. Of all workers that wait, one is woken for a client (`EPOLLEXCLUSIVE`), and
    /// level-triggered: a worker that has taken one is told again as long as there are more.
    fn open(&self, registry: &Registry) {
        for (number, socket) in self.sockets.iter().enumerate() {
            let (data, flags) = (
                epoll::EventData::new_u64((DOORS | number) as u64),
                epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE,
            );
            if let Err(error) = epoll::add(registry, &**socket, data, flags) {
                error!("a listener cannot be watched by a tunnel worker: {error}");
            }
        }
    }

    fn shut(&self, registry: &Registry) {
        for socket in &self.sockets {
            // What was never watched need not be let go.
            let _ = epoll::delete(registry, &**socket);
        }
    }

    /// Takes the next client, if there is one.
    fn accept(&mut self, number: usize, registry: &Registry, now: Instant) -> Option<Guest> {
        let socket = self.sockets.get(number)?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::acceptfrom_with(&**socket, flags) {
            Ok((stream, Some(peer))) => {
                let peer = SocketAddr::try_from(peer).ok()?;
                Some((TcpStream::from(stream), peer))
            }
            Ok((_, None)) => None,
            Err(error) => {
                match io::Error::from(error).kind() {
                    // Another worker was faster, or the client is gone again.
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => {
                        warn!("no client can be accepted for a second: {error}");
                        self.shut(registry);
                        self.shut_until = Some(now + ACCEPT_AGAIN);
                    }
                }
                None
            }
        }
    }

    /// Opens the doors again when it is time.
    fn check(&mut self, registry: &Registry, now: Instant) {
        if self.shut_until.take_if(|at| now >= *at).is_some() {
            self.open(registry);
        }
    }

    /// Shuts the doors for good. Clients that this worker was woken for, and nobody else, are those that are let in yet.
    fn close(&mut self, registry: &Registry, now: Instant) -> Vec<Guest> {
        self.shut(registry);
        self.closing.set(true);
        let mut last = Vec::new();
        for number in 0..self.sockets.len() {
            while last.len() < MOST_LAST
                && let Some(guest) = self.accept(number, registry, now)
            {
                last.push(guest);
            }
        }
        last
    }
}

/// A connection that was accepted, and from where.
pub(super) type Guest = (TcpStream, SocketAddr);

/// A worker, as the others see it.
pub(super) struct Peer {
    pub(super) mailbox: Arc<Mailbox>,
    /// How many tunnels live there.
    pub(super) count: Arc<AtomicUsize>,
}

impl Peer {
    /// What it has in hand: tunnels, and handshakes that may become some.
    fn load(&self) -> usize {
        self.count.load(Ordering::Relaxed) + self.mailbox.arriving.load(Ordering::Relaxed)
    }
}

/// Who is to be looked at.
pub(super) enum Called {
    /// A handshake under way.
    Arrival(usize),
    /// A listening socket.
    Door(usize),
}

impl Called {
    /// Who a token calls, if it is not a tunnel's.
    pub(super) fn by(token: Token) -> Option<Self> {
        if let Some(slot) = arrival_of(token) {
            return Some(Self::Arrival(slot));
        }
        (token.0 & DOORS != 0).then_some(Self::Door(token.0 & !DOORS))
    }
}

impl Worker {
    /// Begins to accept.
    pub(super) fn accept(&mut self, doors: Doors) {
        doors.open(&self.registry);
        self.doors = Some(doors);
    }

    /// Ends to accept. Clients that have said nothing yet are their host's to deal with.
    pub(super) fn accept_no_more(&mut self, now: Instant) {
        let Some(mut doors) = self.doors.take() else { return };
        for guest in doors.close(&self.registry, now) {
            self.mailbox.arriving.fetch_add(1, Ordering::Relaxed);
            self.receive(guest, &doors.host, now);
        }
        self.called.extend(self.arrivals.iter().map(|(slot, _)| Called::Arrival(slot)));
    }

    /// Goes on with every handshake on which something happened, and lets in whoever waits at the doors: one client a turn,
    /// so that tunnels wait for no more than one and other workers have their share.
    pub(super) fn go_on_with_arrivals(&mut self, now: Instant) {
        while let Some(called) = self.called.pop() {
            match called {
                Called::Arrival(slot) => self.go_on(slot, now),
                Called::Door(number) => self.let_in(number, now),
            }
        }
    }

    fn let_in(&mut self, number: usize, now: Instant) {
        let Some(doors) = &mut self.doors else { return };
        let Some(guest) = doors.accept(number, &self.registry, now) else {
            let due = doors.shut_until;
            return self.check_by(due);
        };
        let host = Arc::clone(&doors.host);
        let here = self.count.load(Ordering::Relaxed) + self.mailbox.arriving.load(Ordering::Relaxed);
        // Whoever is woken most would have them all in the end.
        let freest = doors.peers.iter().min_by_key(|peer| peer.load()).filter(|peer| here >= peer.load() + UNEVEN);
        if let Some(freest) = freest {
            freest.mailbox.arriving.fetch_add(1, Ordering::Relaxed);
            return freest.mailbox.put(Command::Receive { guest, host });
        }
        self.mailbox.arriving.fetch_add(1, Ordering::Relaxed);
        self.receive(guest, &host, now);
    }

    /// Begins the handshake of a client that is counted already.
    pub(super) fn receive(&mut self, (stream, peer): Guest, host: &Arc<dyn Host>, now: Instant) {
        let closing = self.doors.as_ref().map_or_else(|| Rc::new(Cell::new(true)), |doors| Rc::clone(&doors.closing));
        let entry = self.arrivals.vacant_entry();
        let slot = entry.key();
        let seat = Seat::new(Rc::clone(&self.registry), slot, closing);
        let client = Connection::of_client(stream, seat.clone());
        entry.insert(Arrival::new(Arc::clone(host).receive(client, peer), &seat));
        self.go_on(slot, now);
    }

    fn go_on(&mut self, slot: usize, now: Instant) {
        let Some(arrival) = self.arrivals.get_mut(slot) else { return };
        match arrival.poll() {
            Poll::Pending => {
                let due = arrival.due();
                self.check_by(due);
            }
            Poll::Ready(shaken) => {
                self.arrivals.remove(slot);
                self.mailbox.arriving.fetch_sub(1, Ordering::Relaxed);
                let Some(Shaken { tunnel, under_way }) = shaken else { return };
                self.count.fetch_add(1, Ordering::Relaxed);
                drop(under_way);
                self.open(tunnel, now);
            }
        }
    }

    /// Goes on with handshakes whose time is up, and finds out when to look again.
    pub(super) fn check_arrivals(&mut self, now: Instant) {
        if let Some(doors) = &mut self.doors {
            doors.check(&self.registry, now);
            let due = doors.shut_until;
            self.check_by(due);
        }
        let is_late = |arrival: &Arrival| arrival.due().is_some_and(|at| now >= at);
        let late: Vec<usize> =
            self.arrivals.iter().filter(|(_, arrival)| is_late(arrival)).map(|(slot, _)| slot).collect();
        late.into_iter().for_each(|slot| self.go_on(slot, now));
        let due = self.arrivals.iter().filter_map(|(_, arrival)| arrival.due()).min();
        self.check_by(due);
    }
}

/// The bit that tells doors' tokens from others; no slab grows this far.
const DOORS: usize = 1 << 61;
/// As Pingora waits where no descriptor is left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// A worker is woken for one client at a time, so that few can depend on it; the bound is for a storm of them.
const MOST_LAST: usize = 64;
/// So many tunnels and handshakes more than the freest worker has, and a worker gives the clients that it accepts away.
const UNEVEN: usize = 2;
