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

    /// Begins to connect to a backend for the same handshake. Whether that worked is what [`write`](Self::write) says first.
    ///
    /// # Errors
    /// The system refuses at once: it has no route, no port or no descriptor left.
    pub fn reach(&self, address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        // A small message must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        Ok(Self { stream, side: Side::Backend, watched: None, seat: self.seat.clone() })
    }

    /// Adds what has come to `bytes`, 4 KiB or what room they have, and says how much; 0 is the end of the stream. Where nothing has, waits
    /// `until` a moment for it.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come; `Interrupted`, before anything was read, when the worker accepts no more.
    pub async fn read(&mut self, bytes: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
        std::future::poll_fn(|_| self.poll_read(bytes, until)).await
    }

    /// As [`read`](Self::read) where nothing can have come yet: saves the look.
    ///
    /// # Errors
    /// As those of `read`.
    pub async fn read_later(&mut self, bytes: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
        if self.watched.is_none() {
            self.watch(Interest::READABLE)?;
            let mut looked = false;
            std::future::poll_fn(|_| {
                self.seat.due_by(until);
                if std::mem::replace(&mut looked, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        self.read(bytes, until).await
    }

    /// Writes as much as the connection takes; where that is nothing, as long as it is not established, waits `until` a
    /// moment for it.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come, and whatever connecting and writing fail with.
    pub async fn write(&mut self, bytes: &[u8], until: Instant) -> io::Result<usize> {
        std::future::poll_fn(|_| self.poll_write(bytes, until)).await
    }

    fn poll_read(&mut self, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>> {
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

    fn poll_write(&mut self, bytes: &[u8], until: Instant) -> Poll<io::Result<usize>> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return self.wait(Interest::WRITABLE, until),
                done => return Poll::Ready(done),
            }
        }
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

    /// Whom it leads to.
    ///
    /// # Errors
    /// It is no longer connected.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }

    /// Takes the connection off the worker; bytes that come for it wait in its socket.
    ///
    /// # Errors
    /// The poller does not let go of it.
    pub fn leave(mut self) -> io::Result<std::net::TcpStream> {
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
/// More than nearly all heads.
const READ_BYTES: usize = 4 * 1024;
