//! The seam between what a handshake does and how it waits.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// One end of a handshake: bytes, read and written within moments.
///
/// A worker's connection and a Tokio stream implement it. Polling is plain, so that a future over it is `Send` where
/// the transport is, and needs no waker where its worker polls it for events.
pub trait Transport {
    /// Adds what has come to `bytes`, about 4 KiB at most, and tells how much; 0 is the end of the stream. Where
    /// nothing has come, waits until the moment `until`.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come, and whatever reading fails with.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>>;

    /// Writes as much of `bytes` as the connection takes. Where that is nothing, as while it is not established, waits
    /// until the moment `until`.
    ///
    /// # Errors
    /// `TimedOut` when the moment has come, and whatever connecting and writing fail with.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], until: Instant) -> Poll<io::Result<usize>>;

    /// Wakes whoever polls this transport. `None` where long steps may be carried out by the thread that polls.
    fn waker(&self) -> Option<Waker> {
        None
    }

    /// Ready at the moment `until`, at which whoever has a [`waker`](Self::waker) is polled.
    fn poll_until(&mut self, until: Instant) -> Poll<()> {
        if Instant::now() >= until { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Tells if the other side is known to have closed its side. Whoever has a [`waker`](Self::waker) is polled when it
    /// does.
    fn has_left(&mut self) -> bool {
        false
    }

    /// Takes the plain socket off its poller; bytes that come for it wait in the kernel.
    ///
    /// # Errors
    /// The poller does not let go of it.
    fn detach(self) -> io::Result<TcpStream>;
}

/// Makes transports of sockets, for one handshake.
pub trait Dial {
    /// The transport that it makes.
    type Stream: Transport;

    /// A transport over a socket that [`Dialer::begin`](super::Dialer::begin) made.
    ///
    /// # Errors
    /// The poller does not take the socket.
    fn stream(&self, socket: TcpStream) -> io::Result<Self::Stream>;
}

/// Reads once; see [`Transport::poll_read`].
///
/// # Errors
/// Errors of `poll_read`.
pub async fn read(stream: &mut impl Transport, bytes: &mut Vec<u8>, until: Instant) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, bytes, until)).await
}

/// Writes once; see [`Transport::poll_write`].
///
/// # Errors
/// Errors of `poll_write`.
pub(super) async fn write(stream: &mut impl Transport, bytes: &[u8], until: Instant) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_write(cx, bytes, until)).await
}

/// Writes all of `bytes`.
///
/// # Errors
/// Errors of [`Transport::poll_write`].
pub async fn write_all(stream: &mut impl Transport, bytes: &[u8], until: Instant) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match write(stream, &bytes[written..], until).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    Ok(())
}

/// Room that a read asks for: more than nearly all heads.
pub const READ_BYTES: usize = 4 * 1024;
