//! Arrivals: connections that workers accept and carry through their handshakes, before they are tunnels.

use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::NewTunnel;
use crate::dial::{Dial, READ_BYTES, Transport};
use crate::ws::Side;

/// Receives the connections that workers accept.
pub trait Host: Send + Sync {
    /// Begins a client's handshake.
    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake;
}

/// A handshake on its way to a tunnel; `None` when it led elsewhere.
///
/// It stays on its worker's thread, which it must not block. It is polled when something happened on a [`Connection`] of its
/// own or a moment has come that one was told to wait for, and never for its waker: it waits for nothing else.
pub type Handshake = Pin<Box<dyn Future<Output = Option<Shaken>>>>;

/// A tunnel to be opened on the worker where its handshake was.
pub struct Shaken {
    /// The tunnel.
    pub tunnel: NewTunnel,
    /// Counts the request as under way until the tunnel is counted.
    pub under_way: Arc<()>,
}

/// A connected TCP socket, non-blocking, that is to be one end of a tunnel.
pub struct Socket {
    pub(super) stream: TcpStream,
    /// The worker's poller knows it already.
    pub(super) watched: bool,
}

impl From<std::net::TcpStream> for Socket {
    fn from(stream: std::net::TcpStream) -> Self {
        Self { stream: TcpStream::from_std(stream), watched: false }
    }
}

impl From<Connection> for Socket {
    fn from(connection: Connection) -> Self {
        Self { stream: connection.stream, watched: connection.watched.is_some() }
    }
}

/// One end of a handshake: a TCP connection that its worker watches.
pub struct Connection {
    stream: TcpStream,
    side: Side,
    /// What the poller watches it for.
    watched: Option<Interest>,
    seat: Seat,
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Connection {
    /// A client's connection; the handshake sits in `seat`.
    pub(super) fn of_client(stream: TcpStream, seat: Seat) -> Self {
        Self { stream, side: Side::Client, watched: None, seat }
    }

    fn wait<T>(&mut self, interest: Interest, until: Instant) -> Poll<io::Result<T>> {
        if Instant::now() >= until {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.seat.due_by(until);
        match self.watch(interest) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Has the poller watch for `interest` too; what is there already is reported at once.
    fn watch(&mut self, interest: Interest) -> io::Result<()> {
        let (registry, token) = (&self.seat.registry, self.seat.token(self.side));
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
        Ok(Self { stream, side: Side::Backend, watched: None, seat: self.seat.clone() })
    }
}

impl Transport for Connection {
    /// Of a client's connection, `Interrupted` before anything was read means that the worker accepts no more.
    fn poll_read(&mut self, _: &mut Context<'_>, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>> {
        if self.side == Side::Backend && self.watched.is_none() {
            // Nothing can have come yet. The poller reports what has come by the time it watches, so a look is saved.
            return self.wait(Interest::READABLE, until);
        }
        bytes.reserve(READ_BYTES);
        loop {
            match rustix::net::recv(&self.stream, spare_capacity(bytes), RecvFlags::empty()) {
                Ok((_, count)) => return Poll::Ready(Ok(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    if self.side == Side::Client && bytes.is_empty() && self.seat.closing.get() {
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
            self.seat.registry.deregister(&mut self.stream)?;
        }
        Ok(OwnedFd::from(self.stream).into())
    }
}

/// Where a handshake sits on its worker.
#[derive(Clone)]
pub(super) struct Seat {
    registry: Rc<Registry>,
    number: usize,
    due: Rc<Cell<Option<Instant>>>,
    /// The worker accepts no more: clients that have not said anything yet are sent on.
    closing: Rc<Cell<bool>>,
}

impl Seat {
    pub(super) fn new(registry: Rc<Registry>, number: usize, closing: Rc<Cell<bool>>) -> Self {
        Self { registry, number, due: Rc::default(), closing }
    }

    fn token(&self, side: Side) -> Token {
        Token(ARRIVALS | self.number << 1 | side as usize)
    }

    fn due_by(&self, until: Instant) {
        self.due.set(Some(self.due.get().map_or(until, |earlier| earlier.min(until))));
    }
}

/// A handshake under way on a worker.
pub(super) struct Arrival {
    handshake: Handshake,
    due: Rc<Cell<Option<Instant>>>,
}

impl Arrival {
    pub(super) fn new(handshake: Handshake, seat: &Seat) -> Self {
        Self { handshake, due: Rc::clone(&seat.due) }
    }

    /// Goes on with the handshake as far as that goes; it is to be dropped once it was ready. One that panics ends alone, and
    /// not with every tunnel of its worker.
    pub(super) fn poll(&mut self) -> Poll<Option<Shaken>> {
        self.due.set(None);
        let handshake = AssertUnwindSafe(&mut self.handshake);
        let polled = catch_unwind(move || {
            let handshake = handshake;
            handshake.0.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        polled.unwrap_or_else(|_said_by_the_panic_hook| Poll::Ready(None))
    }

    /// The next moment that it waits for.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due.get()
    }
}

/// The arrival that a token stands for, if it stands for one.
pub(super) fn arrival_of(token: Token) -> Option<usize> {
    (token.0 & ARRIVALS != 0).then_some((token.0 & !ARRIVALS) >> 1)
}

/// The bit that tells arrivals' tokens from tunnels'; no slab grows this far.
const ARRIVALS: usize = 1 << 62;
