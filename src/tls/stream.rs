//! A TCP connection that speaks TLS, read and written without waiting.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use super::Session;

/// A TCP connection whose bytes are TLS.
pub struct Stream {
    tcp: TcpStream,
    session: Box<Session>,
    /// Sealed bytes that the socket has yet to take.
    unsent: Vec<u8>,
}

/// The part that seals a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the small record layer; it can go on in another process.
    Record,
    /// By rustls; it stays where it is.
    Rustls,
}

impl Stream {
    /// A stream that goes on where `session` stands on `tcp`, with sealed bytes that have yet to be sent.
    ///
    /// The handshake is done.
    pub fn new(tcp: TcpStream, session: Session, unsent: Vec<u8>) -> Self {
        Self { tcp, session: Box::new(session), unsent }
    }

    /// The part that seals it.
    pub fn kind(&self) -> Kind {
        Kind::Rustls
    }

    /// The connection below.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Reads what is there into `buffer`. Returns the bytes of plaintext, and whether the socket is empty.
    ///
    /// # Errors
    /// As [`io::Read::read`]. `Interrupted`: something came, but no plaintext.
    pub fn read(&mut self, _buffer: &mut [u8]) -> io::Result<(usize, bool)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Seals bytes and sends them, as [`io::Write::write`]. The next call must begin with the bytes that this one did
    /// not take.
    ///
    /// # Errors
    /// As [`io::Write::write`].
    pub fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Tells the other side that nothing more comes: `close_notify`, and a FIN.
    ///
    /// # Errors
    /// `WouldBlock`: it has to be called again once the stream is writable.
    pub fn shutdown_write(&mut self) -> io::Result<()> {
        self.session.close(&mut self.unsent);
        let _ = self.tcp.write(&self.unsent);
        let _ = self.tcp.read(&mut []);
        self.tcp.shutdown(Shutdown::Write)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.tcp.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.tcp.deregister(registry)
    }
}
