//! A TCP connection for Pingora, which a TLS session may be on.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use log::debug;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::socket::tcp_info;
use crate::tls::Sealed;

/// A TCP connection, plain or with a TLS session on it whose handshake is done.
pub(in crate::gateway) struct ClientWire {
    tcp: TcpStream,
    tls: Option<Box<Tls>>,
    /// Bytes that came, as they are on the wire.
    received: u64,
}

struct Tls {
    sealed: Sealed,
    /// Plaintext that was opened and not asked for yet.
    plain: Vec<u8>,
    /// Bytes of `plain` that were asked for.
    read: usize,
    /// The `close_notify` is sealed.
    closed: bool,
}

impl From<TcpStream> for ClientWire {
    fn from(tcp: TcpStream) -> Self {
        Self::new(tcp, None)
    }
}

impl ClientWire {
    /// A connection with the session that is on it.
    pub(in crate::gateway) fn new(tcp: TcpStream, sealed: Option<Sealed>) -> Self {
        let tls = sealed.map(|sealed| Box::new(Tls { sealed, plain: Vec::new(), read: 0, closed: false }));
        Self { tcp, tls, received: 0 }
    }

    /// Bytes that came so far, as they are on the wire.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Bytes that the other side has acknowledged so far.
    pub(super) fn acknowledged(&self) -> u64 {
        tcp_info::acknowledged_bytes(&self.tcp).unwrap_or_default()
    }

    /// Makes the end of the connection a reset: what waits for the other side is given up then.
    pub(super) fn reset_at_the_end(&self) {
        if let Err(error) = SockRef::from(&self.tcp).set_linger(Some(Duration::ZERO)) {
            debug!("a connection is closed and cannot be reset: {error}");
        }
    }

    /// The TCP connection.
    pub(super) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// The connection, the session on it, and plaintext that nobody asked for.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Sealed>, Vec<u8>) {
        match self.tls {
            None => (self.tcp, None, Vec::new()),
            Some(tls) => {
                let Tls { sealed, mut plain, read, .. } = *tls;
                (self.tcp, Some(sealed), plain.split_off(read))
            }
        }
    }
}

impl AsRawFd for ClientWire {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp.as_raw_fd()
    }
}

/// Sends what waits, as far as the connection takes it.
fn poll_send(tcp: &mut TcpStream, sealed: &mut Sealed, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !sealed.unsent().is_empty() {
        match ready!(Pin::new(&mut *tcp).poll_write(cx, sealed.unsent()))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => sealed.sent(count),
        }
    }
    Poll::Ready(Ok(()))
}

impl Tls {
    /// Gives plaintext out; true if there was some.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let ready = &self.plain[self.read..];
        if ready.is_empty() {
            return false;
        }
        let count = ready.len().min(buffer.remaining());
        buffer.put_slice(&ready[..count]);
        self.read += count;
        if self.read == self.plain.len() {
            self.plain = Vec::new();
            self.read = 0;
        }
        true
    }
}

impl AsyncRead for ClientWire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls, received } = &mut *self;
        let Some(tls) = tls else {
            let before = buffer.filled().len();
            let polled = Pin::new(tcp).poll_read(cx, buffer);
            *received += (buffer.filled().len() - before) as u64;
            return polled;
        };
        let mut cipher = [0; READ_BYTES];
        loop {
            if tls.give(buffer) {
                return Poll::Ready(Ok(()));
            }
            // What TLS has to say of its own does not wait for the next write.
            if let Poll::Ready(Err(error)) = poll_send(tcp, &mut tls.sealed, cx) {
                return Poll::Ready(Err(error));
            }
            let mut cipher = ReadBuf::new(&mut cipher);
            ready!(Pin::new(&mut *tcp).poll_read(cx, &mut cipher))?;
            if cipher.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            *received += cipher.filled().len() as u64;
            if let Err(error) = tls.sealed.open(cipher.filled(), &mut tls.plain) {
                // The alert goes out as far as it can be sent at once.
                let _ = poll_send(tcp, &mut tls.sealed, cx);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            if tls.plain.is_empty() && tls.sealed.session().peer_has_closed() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for ClientWire {
    /// Bytes for a TLS session are taken once those before them were sent.
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { tcp, tls, .. } = &mut *self;
        let Some(tls) = tls else { return Pin::new(tcp).poll_write(cx, bytes) };
        ready!(poll_send(tcp, &mut tls.sealed, cx))?;
        let taken = &bytes[..bytes.len().min(MOST_SEALED)];
        tls.sealed.seal(taken);
        match poll_send(tcp, &mut tls.sealed, cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken.len())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.tls.is_none() {
            return Pin::new(&mut self.tcp).poll_write_vectored(cx, parts);
        }
        let first = parts.iter().find(|part| !part.is_empty()).map_or(&[][..], |part| part);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_none() && self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            ready!(poll_send(tcp, &mut tls.sealed, cx))?;
        }
        Pin::new(tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { tcp, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            if !tls.closed {
                tls.closed = true;
                tls.sealed.close();
            }
            ready!(poll_send(tcp, &mut tls.sealed, cx))?;
        }
        Pin::new(tcp).poll_shutdown(cx)
    }
}

/// Room for what one read takes: one record and its header.
const READ_BYTES: usize = 16 * 1024 + 256;
/// Most bytes that Pingora writes at once of a body: four records.
const MOST_SEALED: usize = 64 * 1024;
