//! Connections during a handshake: accepted or opened by a worker, and watched by its poller until they are a tunnel.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Listener;
use crate::dial::{Dial, READ_BYTES, Transport};
use crate::metrics::OpenConnection;
use crate::tls::Sealed;
use crate::tunnel::activity::UnderWay;
use crate::tunnel::new_tunnel::NewTunnel;
use crate::tunnel::pair::TunnelStream;
use crate::ws::Side;

/// Receives the connections that workers accept.
pub trait Host: Send + Sync {
    /// Begins a client's handshake.
    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake;
}

/// A handshake under way. Its output is the tunnel to be opened; `None` when the handshake led elsewhere.
///
/// The handshake stays on its worker's thread and must not block it. The worker polls it when one of its
/// [`Connection`]s is ready or a moment has come that one waits for, and never for its waker: a handshake waits for
/// nothing else.
pub type Handshake = Pin<Box<dyn Future<Output = Option<Shaken>>>>;

/// A tunnel to be opened on the worker where its handshake was.
pub struct Shaken {
    /// The tunnel.
    pub tunnel: NewTunnel,
    /// Counts the request as under way until the tunnel is counted as open.
    pub under_way: UnderWay,
}

/// A connected socket, non-blocking, that is to be one end of a tunnel.
pub struct Socket {
    pub(in crate::tunnel) stream: TunnelStream,
    /// The worker's poller watches it already.
    pub(in crate::tunnel) watched: bool,
}

impl From<std::net::TcpStream> for Socket {
    fn from(stream: std::net::TcpStream) -> Self {
        Self { stream: TcpStream::from_std(stream).into(), watched: false }
    }
}

impl Socket {
    /// The socket with a TLS session on it, whose handshake is done.
    #[must_use]
    pub fn with_tls(self, sealed: Sealed) -> Self {
        let (session, unsent) = sealed.into_parts();
        Self { stream: self.stream.with_tls(session, unsent), watched: self.watched }
    }
}

impl From<Connection> for Socket {
    fn from(connection: Connection) -> Self {
        Self { stream: connection.stream.into(), watched: connection.watched.is_some() }
    }
}

/// One end of a handshake: a TCP connection that its worker watches.
pub struct Connection {
    stream: TcpStream,
    side: Side,
    /// Readiness that the poller watches for; `None` before the connection is first waited for.
    watched: Option<Interest>,
    /// The listener that accepted the client of this handshake.
    listener: Arc<Listener>,
    /// Counts the client's connection as open; `None` of a backend's.
    open: Option<OpenConnection>,
    slot: Slot,
    /// The end of accepting does not interrupt a wait for the client's bytes.
    uninterrupted: bool,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// The connection of a client whose handshake has `slot`.
    pub(super) fn of_client(stream: TcpStream, listener: Arc<Listener>, open: OpenConnection, slot: Slot) -> Self {
        Self { stream, side: Side::Client, watched: None, listener, open: Some(open), slot, uninterrupted: false }
    }

    /// The listener that accepted the client of this handshake.
    pub fn listener(&self) -> &Arc<Listener> {
        &self.listener
    }

    /// Takes the guard that counts a client's connection as open, for a connection that goes on elsewhere.
    pub fn take_open(&mut self) -> Option<OpenConnection> {
        self.open.take()
    }

    /// Sets whether reads wait on when the worker stops accepting, as those of a TLS handshake must.
    pub fn set_uninterrupted(&mut self, uninterrupted: bool) {
        self.uninterrupted = uninterrupted;
    }

    fn wait<T>(&mut self, interest: Interest, until: Instant) -> Poll<io::Result<T>> {
        if Instant::now() >= until {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.slot.due_by(until);
        match self.watch(interest) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Adds `interest` to what the poller watches for. Readiness that is there already is reported at once.
    fn watch(&mut self, interest: Interest) -> io::Result<()> {
        let (registry, token) = (&self.slot.registry, self.slot.token(self.side));
        match self.watched {
            None => registry.register(&mut self.stream, token, interest)?,
            Some(watched) if (watched | interest) == watched => return Ok(()),
            Some(watched) => registry.reregister(&mut self.stream, token, watched | interest)?,
        }
        self.watched = Some(self.watched.map_or(interest, |watched| watched | interest));
        Ok(())
    }
}

impl Dial for Connection {
    type Stream = Self;

    /// A connection to a backend for the same handshake.
    fn stream(&self, socket: std::net::TcpStream) -> io::Result<Self> {
        let stream = TcpStream::from_std(socket);
        let (listener, slot) = (Arc::clone(&self.listener), self.slot.clone());
        Ok(Self { stream, side: Side::Backend, watched: None, listener, open: None, slot, uninterrupted: false })
    }
}

impl Transport for Connection {
    /// Of a client's connection, `Interrupted` means that the worker accepts no more: the rest is to be read elsewhere.
    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>> {
        if self.side == Side::Backend && self.watched.is_none() {
            // Nothing can have come yet. The poller reports what has come by the time it watches, so a look is saved.
            return self.wait(Interest::READABLE, until);
        }
        // On the stack, so that a connection which says nothing costs no buffer.
        let mut room = [MaybeUninit::uninit(); READ_BYTES];
        loop {
            match rustix::net::recv(&self.stream, &mut room, RecvFlags::empty()) {
                Ok(((came, _), count)) => {
                    bytes.extend_from_slice(came);
                    return Poll::Ready(Ok(count));
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let may_leave = self.side == Side::Client && !self.uninterrupted;
                    if may_leave && self.slot.closing.get() {
                        return Poll::Ready(Err(io::ErrorKind::Interrupted.into()));
                    }
                    return self.wait(Interest::READABLE, until);
                }
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8], until: Instant) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.wait(Interest::WRITABLE, until),
                done => return Poll::Ready(done),
            }
        }
    }

    fn detach(mut self) -> io::Result<std::net::TcpStream> {
        if self.watched.is_some() {
            self.slot.registry.deregister(&mut self.stream)?;
        }
        Ok(OwnedFd::from(self.stream).into())
    }
}

/// Slot of a handshake on its worker, shared by its connections.
#[derive(Clone)]
pub(super) struct Slot {
    registry: Rc<Registry>,
    number: usize,
    due: Rc<Cell<Option<Instant>>>,
    /// Set once the worker accepts no more: a client that has not sent a byte yet is then passed on.
    closing: Rc<Cell<bool>>,
}

impl Slot {
    pub(super) fn new(registry: Rc<Registry>, number: usize, closing: Rc<Cell<bool>>) -> Self {
        Self { registry, number, due: Rc::default(), closing }
    }

    /// Moment that the handshake waits for.
    pub(super) fn due(&self) -> Rc<Cell<Option<Instant>>> {
        Rc::clone(&self.due)
    }

    fn token(&self, side: Side) -> Token {
        Token(HANDSHAKES | self.number << 1 | side as usize)
    }

    fn due_by(&self, until: Instant) {
        self.due.set(Some(self.due.get().map_or(until, |earlier| earlier.min(until))));
    }
}

/// The slot of the handshake that `token` stands for; `None` for another token.
pub(super) fn slot_of(token: Token) -> Option<usize> {
    (token.0 & HANDSHAKES != 0).then_some((token.0 & !HANDSHAKES) >> 1)
}

/// The bit that tells tokens of handshakes from those of tunnels; no slab grows this far.
const HANDSHAKES: usize = 1 << 62;
