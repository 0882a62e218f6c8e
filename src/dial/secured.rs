//! A transport that may be sealed by TLS: plaintext on this side of it, records on the other.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use super::step;
use super::transport::{Transport, read, write};
use crate::tls::{HandshakeFailure, Sealed, Session, ToOpen};

/// A transport, plain until a TLS handshake on it is done.
pub struct Secured<T> {
    raw: T,
    tls: Option<Box<Tls>>,
}

struct Tls {
    sealed: Sealed,
    /// Bytes as they came, until they are opened.
    cipher: Vec<u8>,
}

impl<T: Transport> Secured<T> {
    /// A plain transport.
    pub fn plain(raw: T) -> Self {
        Self { raw, tls: None }
    }

    /// A transport that goes on where a session stands; plain where there is none.
    pub fn of(raw: T, sealed: Option<Sealed>) -> Self {
        Self { raw, tls: sealed.map(|sealed| Box::new(Tls { sealed, cipher: Vec::new() })) }
    }

    /// The transport below.
    pub fn raw(&self) -> &T {
        &self.raw
    }

    /// The transport below.
    pub fn raw_mut(&mut self) -> &mut T {
        &mut self.raw
    }

    /// The transport below, and the session on it.
    pub fn into_parts(self) -> (T, Option<Sealed>) {
        (self.raw, self.tls.map(|tls| tls.sealed))
    }

    /// Carries out the handshake of `session` until the moment `until`. `ahead` was read of the transport before. What
    /// follows the handshake is sealed; plaintext that came right behind it is appended to `plain`.
    ///
    /// Returns the session, for the facts that the handshake settled.
    ///
    /// # Errors
    /// The handshake failed. The alert that says so was sent as far as the socket took it.
    pub async fn shake_hands(
        &mut self,
        session: Session,
        ahead: &[u8],
        plain: &mut Vec<u8>,
        until: Instant,
    ) -> Result<&mut Session, SecuringError> {
        let mut sealed = Sealed::new(session);
        let mut cipher = ahead.to_vec();
        let mut total = 0;
        loop {
            total += cipher.len();
            let outcome = step::open(&mut self.raw, ToOpen { sealed, cipher }, until).await?;
            let opened = outcome.opened;
            sealed = outcome.sealed;
            plain.extend_from_slice(&outcome.plain);
            while !sealed.unsent().is_empty() {
                // An alert goes out as far as it can be sent at once: nobody waits for who broke the protocol.
                let limit = if opened.is_ok() { until } else { Instant::now() };
                match write(&mut self.raw, sealed.unsent(), limit).await {
                    Ok(count) => sealed.sent(count),
                    Err(_) if opened.is_err() => break,
                    Err(error) => return Err(SecuringError::Io(error)),
                }
            }
            opened.map_err(SecuringError::Tls)?;
            if !sealed.session().is_handshaking() {
                let tls = self.tls.insert(Box::new(Tls { sealed, cipher: Vec::new() }));
                return Ok(tls.sealed.session());
            }
            if total > MOST_HANDSHAKE_BYTES {
                return Err(SecuringError::TooLong);
            }
            cipher = Vec::new();
            match read(&mut self.raw, &mut cipher, until).await {
                Ok(0) => return Err(SecuringError::Closed),
                Ok(_) => {}
                Err(error) => return Err(SecuringError::Io(error)),
            }
        }
    }
}

/// Why a TLS handshake was not done.
#[derive(Debug)]
pub enum SecuringError {
    /// The connection was not established, broke, or took too long.
    Io(io::Error),
    /// The other side closed the connection.
    Closed,
    /// The other side sent more than a handshake takes.
    TooLong,
    /// The other side broke the protocol, is not trusted, or does not trust this side.
    Tls(rustls::Error),
}

impl From<SecuringError> for HandshakeFailure {
    fn from(broken: SecuringError) -> Self {
        match broken {
            SecuringError::Io(error) => (&error).into(),
            SecuringError::Closed => Self::Closed,
            SecuringError::TooLong => Self::TooLong,
            SecuringError::Tls(error) => (&error).into(),
        }
    }
}

/// Sends what waits, as far as the transport takes it.
fn poll_send(
    raw: &mut impl Transport,
    sealed: &mut Sealed,
    cx: &mut Context<'_>,
    until: Instant,
) -> Poll<io::Result<()>> {
    while !sealed.unsent().is_empty() {
        match ready!(raw.poll_write(cx, sealed.unsent(), until))? {
            0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            count => sealed.sent(count),
        }
    }
    Poll::Ready(Ok(()))
}

impl<T: Transport> Transport for Secured<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return self.raw.poll_read(cx, bytes, until) };
        let before = bytes.len();
        loop {
            // What TLS has to say of its own does not wait for the next write.
            if let Poll::Ready(Err(error)) = poll_send(&mut self.raw, &mut tls.sealed, cx, until) {
                return Poll::Ready(Err(error));
            }
            tls.cipher.clear();
            if ready!(self.raw.poll_read(cx, &mut tls.cipher, until))? == 0 {
                return Poll::Ready(Ok(0));
            }
            if let Err(error) = tls.sealed.open(&tls.cipher, bytes) {
                // The alert goes out as far as it can be sent at once.
                let _ = poll_send(&mut self.raw, &mut tls.sealed, cx, until);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let count = bytes.len() - before;
            if count > 0 || tls.sealed.session().peer_has_closed() {
                return Poll::Ready(Ok(count));
            }
        }
    }

    /// Bytes of a sealed transport are taken once those before them were sent.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], until: Instant) -> Poll<io::Result<usize>> {
        let Some(tls) = &mut self.tls else { return self.raw.poll_write(cx, bytes, until) };
        ready!(poll_send(&mut self.raw, &mut tls.sealed, cx, until))?;
        let taken = &bytes[..bytes.len().min(MOST_SEALED)];
        tls.sealed.seal(taken);
        match poll_send(&mut self.raw, &mut tls.sealed, cx, until) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(taken.len())),
        }
    }

    /// Only a plain transport can be detached: see [`into_parts`](Secured::into_parts).
    fn detach(self) -> io::Result<TcpStream> {
        if self.tls.is_some() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.raw.detach()
    }
}

impl<T: AsFd> AsFd for Secured<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// Most bytes that one side sends in a handshake: four times the longest chain of certificates that is common.
const MOST_HANDSHAKE_BYTES: usize = 64 * 1024;
/// One record (RFC 8446 §5.1).
const MOST_SEALED: usize = 16 * 1024;
