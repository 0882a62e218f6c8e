//! Accepting: the listening sockets of a worker, and the handshakes of the clients that it accepted.
//!
//! Workers share the listening sockets: whichever is free takes the next client.

mod connection;
mod handshakes;
mod listener;

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{error, warn};
use mio::net::TcpStream;
use mio::{Registry, Token};
use rustix::event::epoll;
use rustix::net::SocketFlags;

use crate::metrics::{AcceptError, LocalFailure};
use crate::socket::descriptors::Descriptors;
use crate::ws::Side;
pub(super) use connection::WakeSlot;
pub use connection::{Connection, ConnectionCounts, Handshake, Host, Redial, Shaken, Socket};
pub(super) use handshakes::{Handshakes, TaskOutcome};
pub use listener::{Listener, ListeningSocket};

/// The listening sockets of one worker, and the host that receives their clients.
pub(super) struct WorkerAcceptor {
    registry: Rc<Registry>,
    sockets: Arc<[ListeningSocket]>,
    host: Arc<dyn Host>,
    /// Set once nothing is accepted any more.
    closing: Rc<Cell<bool>>,
    /// No client is accepted before this moment, because no descriptor was left for one.
    paused_until: Option<Instant>,
    descriptors: Descriptors,
    /// Descriptor of the client that was accepted last; `None` before the first and while there is a shortage.
    latest: Option<RawFd>,
    /// No client could be accepted since the last one that was.
    short: bool,
}

/// A connection that was accepted and belongs to no worker yet.
pub(super) struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    listener: Arc<Listener>,
    open: ConnectionCounts,
    host: Arc<dyn Host>,
}

/// Outcome of a look for a client.
pub(super) enum NextClient {
    /// There was one.
    Client(Accepted),
    /// There was one, and its connection was refused and is closed.
    Closed,
    /// There was none.
    Nobody,
}

impl WorkerAcceptor {
    /// Begins to accept on `sockets`.
    pub(super) fn start(registry: Rc<Registry>, sockets: Arc<[ListeningSocket]>, host: Arc<dyn Host>) -> Self {
        let (closing, descriptors) = (Rc::default(), Descriptors::of_process());
        let acceptor =
            Self { registry, sockets, host, closing, paused_until: None, descriptors, latest: None, short: false };
        acceptor.watch();
        acceptor
    }

    /// Set once this acceptor has stopped: handshakes that wait for a client's first byte ask it.
    pub(super) fn closing(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.closing)
    }

    /// Adds the sockets to the poller. Of all workers that wait, the system wakes one for a client (`EPOLLEXCLUSIVE`).
    /// Level-triggered: a worker that has taken one client is told again as long as there are more.
    fn watch(&self) {
        for (number, ListeningSocket { socket, listener }) in self.sockets.iter().enumerate() {
            let (data, flags) = (
                epoll::EventData::new_u64((LISTENERS | number) as u64),
                epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE,
            );
            if let Err(error) = epoll::add(&*self.registry, &**socket, data, flags) {
                error!("a tunnel worker cannot watch the listener {}: {error}", listener.address);
            }
        }
    }

    fn unwatch(&self) {
        for ListeningSocket { socket, .. } in self.sockets.iter() {
            // A socket that was never added need not be removed.
            let _ = epoll::delete(&*self.registry, &**socket);
        }
    }

    /// Takes the next client of a listener, if one waits there.
    pub(super) fn accept(&mut self, number: usize, now: Instant) -> NextClient {
        let Some(ListeningSocket { socket, listener }) = self.sockets.get(number) else { return NextClient::Nobody };
        if !self.descriptors.has_room(self.latest, &**socket) {
            listener.metrics.accept_failed(AcceptError::Kept);
            self.pause(now, "the descriptors that are left are kept for control, metrics and checks");
            return NextClient::Nobody;
        }
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        match rustix::net::acceptfrom_with(&**socket, flags) {
            Ok((stream, Some(peer))) => {
                let Ok(peer) = SocketAddr::try_from(peer) else { return NextClient::Closed };
                self.latest = Some(stream.as_raw_fd());
                self.short = false;
                let gauge = listener.metrics.accepted();
                let Some(entry) = self.host.admit(listener, peer.ip(), stream.as_raw_fd()) else {
                    return NextClient::Closed;
                };
                let (stream, listener) = (TcpStream::from(stream), Arc::clone(listener));
                let (open, host) = (ConnectionCounts { entry, gauge }, Arc::clone(&self.host));
                NextClient::Client(Accepted { stream, peer, listener, open, host })
            }
            Ok((_, None)) => NextClient::Closed,
            Err(error) => {
                let error = io::Error::from(error);
                match error.kind() {
                    // Another worker was faster.
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => {}
                    io::ErrorKind::ConnectionAborted => listener.metrics.accept_failed(AcceptError::Aborted),
                    _ => {
                        let kind = LocalFailure::of(&error).map_or(AcceptError::Other, AcceptError::Local);
                        listener.metrics.accept_failed(kind);
                        self.pause(now, error);
                    }
                }
                NextClient::Nobody
            }
        }
    }

    /// Accepts nothing for a second. A shortage that lasts is logged once.
    fn pause(&mut self, now: Instant, reason: impl std::fmt::Display) {
        self.latest = None;
        if !std::mem::replace(&mut self.short, true) {
            warn!("clients wait, no connection can be accepted: {reason}");
        }
        self.unwatch();
        self.paused_until = now.checked_add(ACCEPT_AGAIN);
    }

    /// Accepts again when a pause is over.
    pub(super) fn check(&mut self, now: Instant) {
        if self.paused_until.take_if(|at| now >= *at).is_some() {
            self.watch();
        }
    }

    /// End of a pause; `None` while there is none.
    pub(super) fn due(&self) -> Option<Instant> {
        self.paused_until
    }

    /// Stops accepting. Returns the clients that the system has woken this worker alone for.
    pub(super) fn stop(mut self, now: Instant) -> Vec<Accepted> {
        self.unwatch();
        self.closing.set(true);
        let mut last = Vec::new();
        for number in 0..self.sockets.len() {
            for _ in 0..MOST_LAST {
                match self.accept(number, now) {
                    NextClient::Client(accepted) => last.push(accepted),
                    NextClient::Closed => {}
                    NextClient::Nobody => break,
                }
            }
        }
        last
    }
}

/// The parts of the accept path that a poller's token can stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AcceptToken {
    /// A handshake under way, at one of its connections.
    Handshake(usize, Side),
    /// A listening socket.
    Listener(usize),
}

impl AcceptToken {
    /// The part that `token` stands for; `None` for the token of a tunnel.
    pub(super) fn of(token: Token) -> Option<Self> {
        if let Some((slot, side)) = connection::slot_of(token) {
            return Some(Self::Handshake(slot, side));
        }
        (token.0 & LISTENERS != 0).then_some(Self::Listener(token.0 & !LISTENERS))
    }
}

/// The bit that tells listeners' tokens from others; no number of a slot grows this far.
const LISTENERS: usize = 1 << 61;
/// Pingora waits as long where no descriptor is left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// A worker is woken for one client at a time, so few depend on it; the bound is for a storm of clients.
const MOST_LAST: usize = 64;
