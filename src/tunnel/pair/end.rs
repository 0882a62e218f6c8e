//! Ends of a tunnel: streams that are read and written without waiting.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::socket::{self, tcp_info};
use crate::tls;

/// A non-blocking stream, as a pair needs it.
pub(in crate::tunnel) trait End {
    /// Reads what is there into `buffer`; `WouldBlock` means that nothing is, and `Interrupted` that something came
    /// which brings no bytes yet: there may be more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read>;

    /// As [`io::Write::write`]. The next write begins with the bytes that this one did not take.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Writes bytes behind which others come soon, or the end by [`shutdown_write`](Self::shutdown_write) or by
    /// dropping the stream; some may wait for a moment, and leave with them.
    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write(bytes)
    }

    /// Tells the other side that nothing more comes (a TCP FIN, a `close_notify` before it); `WouldBlock` means that it
    /// is to be told again once a write may be taken.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Tells the same, as far as that can be said at once, before the stream is dropped; dropping says it of TCP.
    fn say_goodbye(&mut self) {}

    /// The socket of a stream whose bytes go as they are, so that a write may be made later, together with others.
    fn plain_socket(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Bytes that the stream keeps of its own: sealed ones that were not taken, and a part of a record.
    fn kept(&self) -> usize {
        0
    }

    /// Tells whether the other side was alive when the connection failed with `error`, and only took nothing.
    fn was_stalled(&self, error: &io::Error) -> bool;
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) struct Read {
    /// Bytes read; 0 is the end of the stream.
    pub(in crate::tunnel) count: usize,
    /// Nothing is left to be read, as far as the stream knows without asking again. The end of the stream may be there.
    pub(in crate::tunnel) empties: bool,
}

/// The streams that can be an end of a tunnel.
pub(in crate::tunnel) enum TunnelStream {
    /// A plain TCP connection.
    Tcp(TcpStream),
    /// A TLS connection.
    Tls(Box<tls::Stream>),
    /// A plain TCP connection that many ends share, which no poller watches. Measurements of more tunnels than there
    /// are descriptors have such ends: bytes are sent as they are elsewhere, and none come.
    #[cfg(test)]
    Shared(std::sync::Arc<TcpStream>),
}

impl TunnelStream {
    /// A TCP connection with a TLS session on it; `unsent` has yet to be sent.
    pub(in crate::tunnel) fn with_tls(self, session: tls::Session, unsent: Vec<u8>) -> Self {
        match self {
            Self::Tcp(stream) => tls::Stream::new(stream, session, unsent).into(),
            other => other,
        }
    }
}

impl From<TcpStream> for TunnelStream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl From<tls::Stream> for TunnelStream {
    fn from(stream: tls::Stream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl tls::RawConnection for TcpStream {
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        socket::receive(self, buffer)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send(self, bytes)
    }

    fn send_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        socket::send_more(self, bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// The part that seals an end, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tunnel) enum Sealing {
    /// None: plain TCP.
    None,
    /// The record layer: it can go on in another process.
    Record,
    /// rustls: it stays where it is.
    Rustls,
}

impl TunnelStream {
    /// The part that seals it.
    pub(in crate::tunnel) fn sealing(&self) -> Sealing {
        match self {
            Self::Tls(stream) if stream.kind() == tls::StreamKind::Record => Sealing::Record,
            Self::Tls(_) => Sealing::Rustls,
            _ => Sealing::None,
        }
    }

    /// The state of its TLS; `None` where it has none, or cannot go on in another process.
    pub(in crate::tunnel) fn tls_state(&self) -> Option<tls::StreamState> {
        match self {
            Self::Tls(stream) => stream.state(),
            _ => None,
        }
    }

    /// An end of another process, which goes on over `socket`.
    pub(in crate::tunnel) fn resume(socket: OwnedFd, tls: Option<tls::StreamState>) -> Self {
        let socket = TcpStream::from_std(socket.into());
        match tls {
            Some(state) => tls::Stream::resume(socket, state).into(),
            None => socket.into(),
        }
    }
}

impl End for TunnelStream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Read> {
        match self {
            Self::Tcp(stream) => {
                let count = socket::receive(stream, buffer)?;
                // The system fills the buffer as long as there is something: a short read left nothing.
                Ok(Read { count, empties: count < buffer.len() })
            }
            Self::Tls(stream) => stream.read(buffer).map(|(count, empties)| Read { count, empties }),
            #[cfg(test)]
            Self::Shared(stream) => Ok(Read { count: socket::receive(stream, buffer)?, empties: true }),
        }
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => socket::send(stream, bytes),
            Self::Tls(stream) => stream.write(bytes),
            #[cfg(test)]
            Self::Shared(stream) => socket::send(stream, bytes),
        }
    }

    fn write_more(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => socket::send_more(stream, bytes),
            Self::Tls(stream) => stream.write_more(bytes),
            #[cfg(test)]
            Self::Shared(stream) => socket::send_more(stream, bytes),
        }
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Tls(stream) => stream.shutdown_write(),
            #[cfg(test)]
            Self::Shared(_) => Ok(()),
        }
    }

    fn say_goodbye(&mut self) {
        if let Self::Tls(stream) = self {
            stream.say_goodbye();
        }
    }

    #[inline]
    fn plain_socket(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Tls(_) => None,
            plain => Some(plain.as_fd()),
        }
    }

    fn kept(&self) -> usize {
        match self {
            Self::Tls(stream) => stream.kept(),
            _ => 0,
        }
    }

    fn was_stalled(&self, error: &io::Error) -> bool {
        // The system counts probes of a closed window into `TCP_USER_TIMEOUT`. A side that answered the last of them is
        // alive; one that is gone leaves the window as it was, but answers nothing.
        error.kind() == io::ErrorKind::TimedOut && tcp_info::acknowledged_lately(self)
    }
}

impl AsFd for TunnelStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Tls(stream) => stream.below().as_fd(),
            #[cfg(test)]
            Self::Shared(stream) => stream.as_fd(),
        }
    }
}

impl Source for TunnelStream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.register(registry, token, interests),
            Self::Tls(stream) => stream.below_mut().register(registry, token, interests),
            #[cfg(test)]
            Self::Shared(_) => Ok(()),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.reregister(registry, token, interests),
            Self::Tls(stream) => stream.below_mut().reregister(registry, token, interests),
            #[cfg(test)]
            Self::Shared(_) => Ok(()),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.deregister(registry),
            Self::Tls(stream) => stream.below_mut().deregister(registry),
            #[cfg(test)]
            Self::Shared(_) => Ok(()),
        }
    }
}
