//! Connections during a handshake: accepted or opened by a worker, and watched by its poller until they are a tunnel.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::Listener;
use crate::admission::{ConnectionVerdict, RefusalReason};
use crate::dial::{Dial, READ_BYTES, Transport};
use crate::metrics::OpenConnection;
use crate::socket::peer;
use crate::tls::Sealed;
use crate::tunnel::activity::UnderWay;
use crate::tunnel::new_tunnel::NewTunnel;
use crate::tunnel::pair::TunnelStream;
use crate::ws::Side;

/// Receives the connections that workers accept.
pub trait Host: Send + Sync {
    /// Decides on a connection that was accepted just now as `descriptor`, before it costs anything. `None`: it is
    /// closed, and that was counted and logged.
    fn admit(&self, listener: &Listener, peer: IpAddr, descriptor: RawFd) -> Option<ConnectionVerdict>;

    /// Begins a client's handshake.
    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake;
}

/// A handshake under way. Its output is the tunnel to be opened; `None` when the handshake led elsewhere.
///
/// The handshake stays on its worker's thread and must not block it. The worker polls it when one of its
/// [`Connection`]s is ready, when a moment has come that one waits for, or when a [`Connection::waker`] was woken. The
/// context's own waker does nothing.
pub type Handshake = Pin<Box<dyn Future<Output = Option<Shaken>>>>;

/// A tunnel to be opened on the worker where its handshake was.
pub struct Shaken {
    /// The tunnel, on the heap because it is passed on several times until it is open.
    pub tunnel: Box<NewTunnel>,
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

/// The counts that a client's connection stands in.
pub struct ConnectionCounts {
    /// Decision of admission.
    pub entry: ConnectionVerdict,
    /// Counts the connection as open at its listener.
    pub gauge: OpenConnection,
}

/// One end of a handshake: a TCP connection that its worker watches.
pub struct Connection {
    stream: TcpStream,
    side: Side,
    /// Readiness that the poller watches for; `None` before the connection is first waited for.
    watched: Option<Interest>,
    /// The listener that accepted the client; `None` of a backend's connection.
    listener: Option<Arc<Listener>>,
    /// Counts the client's connection as open; `None` of a backend's.
    open: Option<ConnectionCounts>,
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
    pub(super) fn of_client(stream: TcpStream, listener: Arc<Listener>, open: ConnectionCounts, slot: Slot) -> Self {
        let listener = Some(listener);
        Self { stream, side: Side::Client, watched: None, listener, open: Some(open), slot, uninterrupted: false }
    }

    /// The listener that accepted the client.
    ///
    /// # Panics
    /// The connection is a backend's.
    pub fn listener(&self) -> &Arc<Listener> {
        self.listener.as_ref().expect("a client's connection has the listener that accepted it")
    }

    /// Takes the guard that counts a client's connection as open, for a connection that goes on elsewhere.
    pub fn take_open(&mut self) -> Option<ConnectionCounts> {
        self.open.take()
    }

    /// Decision of admission about a client's connection.
    pub fn entry_mut(&mut self) -> Option<&mut ConnectionVerdict> {
        self.open.as_mut().map(|open| &mut open.entry)
    }

    /// Why the client's connection is refused, if it is.
    pub fn refused(&self) -> Option<RefusalReason> {
        self.open.as_ref().and_then(|open| open.entry.refused())
    }

    /// Sets whether reads wait on when the worker stops accepting, as those of a TLS handshake must.
    pub fn set_uninterrupted(&mut self, uninterrupted: bool) {
        self.uninterrupted = uninterrupted;
    }

    /// Wakes the handshake: its worker polls it.
    pub fn waker(&self) -> Waker {
        self.slot.waker()
    }

    /// Tells if the peer has closed its side. From then on the handshake is polled when it does.
    pub fn has_left(&mut self) -> bool {
        // A connection that cannot be watched is of no use to anybody.
        self.watch(Interest::READABLE).is_err() || peer::has_closed(&self.stream)
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
        Ok(self.slot.backend(socket))
    }
}

/// Makes connections to backends for a tunnel that is held.
pub struct Redial {
    slot: Slot,
}

impl Redial {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot }
    }

    /// The same, for another part of the search.
    #[must_use]
    pub fn again(&self) -> Self {
        Self { slot: self.slot.clone() }
    }

    /// Wakes the search: its worker polls it.
    pub fn waker(&self) -> Waker {
        self.slot.waker()
    }

    /// Ready at the moment `until`, at which the search is polled.
    pub fn poll_until(&self, until: Instant) -> Poll<()> {
        self.slot.poll_until(until)
    }
}

impl Dial for Redial {
    type Stream = Connection;

    fn stream(&self, socket: std::net::TcpStream) -> io::Result<Connection> {
        Ok(self.slot.backend(socket))
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

    fn waker(&self) -> Option<Waker> {
        Some(self.slot.waker())
    }

    fn poll_until(&mut self, until: Instant) -> Poll<()> {
        self.slot.poll_until(until)
    }

    fn has_left(&mut self) -> bool {
        Self::has_left(self)
    }

    fn detach(mut self) -> io::Result<std::net::TcpStream> {
        if self.watched.is_some() {
            self.slot.registry.deregister(&mut self.stream)?;
        }
        Ok(OwnedFd::from(self.stream).into())
    }
}

/// Callback that has a worker poll the handshake in a slot, from any thread.
pub(in crate::tunnel) type WakeSlot = Arc<dyn Fn(usize) + Send + Sync>;

/// Wakes one handshake. The slot may be another's by then, which is polled for nothing.
struct Woken {
    wake: WakeSlot,
    number: usize,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        (self.wake)(self.number);
    }
}

/// Slot of a handshake on its worker, shared by its connections.
#[derive(Clone)]
pub(super) struct Slot {
    registry: Rc<Registry>,
    wake: WakeSlot,
    number: usize,
    due: Rc<Cell<Option<Instant>>>,
    /// Set once the worker accepts no more: a client that has not sent a byte yet is then passed on.
    closing: Rc<Cell<bool>>,
}

impl Slot {
    pub(super) fn new(registry: Rc<Registry>, wake: WakeSlot, number: usize, closing: Rc<Cell<bool>>) -> Self {
        Self { registry, wake, number, due: Rc::default(), closing }
    }

    /// Moment that the handshake waits for.
    pub(super) fn due(&self) -> Rc<Cell<Option<Instant>>> {
        Rc::clone(&self.due)
    }

    fn waker(&self) -> Waker {
        Arc::new(Woken { wake: Arc::clone(&self.wake), number: self.number }).into()
    }

    /// A connection to a backend.
    fn backend(&self, socket: std::net::TcpStream) -> Connection {
        let (stream, slot) = (TcpStream::from_std(socket), self.clone());
        Connection {
            stream,
            side: Side::Backend,
            watched: None,
            listener: None,
            open: None,
            slot,
            uninterrupted: false,
        }
    }

    fn token(&self, side: Side) -> Token {
        Token(HANDSHAKES | self.number << 1 | side as usize)
    }

    fn poll_until(&self, until: Instant) -> Poll<()> {
        if Instant::now() >= until {
            return Poll::Ready(());
        }
        self.due_by(until);
        Poll::Pending
    }

    fn due_by(&self, until: Instant) {
        self.due.set(Some(self.due.get().map_or(until, |earlier| earlier.min(until))));
    }
}

/// The slot of the handshake that `token` stands for, and the side of its connection; `None` for another token.
pub(super) fn slot_of(token: Token) -> Option<(usize, Side)> {
    let side = if token.0 & 1 == Side::Backend as usize { Side::Backend } else { Side::Client };
    (token.0 & HANDSHAKES != 0).then_some(((token.0 & !HANDSHAKES) >> 1, side))
}

/// The bit that tells tokens of handshakes from those of tunnels; no number of a slot grows this far.
const HANDSHAKES: usize = 1 << 62;

#[cfg(test)]
impl From<Arc<TcpStream>> for Socket {
    /// See [`TunnelStream::Shared`].
    fn from(stream: Arc<TcpStream>) -> Self {
        Self { stream: TunnelStream::Shared(stream), watched: false }
    }
}
