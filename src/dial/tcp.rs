//! A TCP connection on a Tokio runtime as a transport.

use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::transport::{Dial, READ_BYTES, Transport};

/// A TCP connection on the Tokio runtime that it was made on.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    /// Made when it first has to wait, and kept: a head that comes in pieces waits often.
    timer: Option<Pin<Box<Sleep>>>,
}

/// Makes [`Tcp`] transports on the Tokio runtime that it is used on.
#[derive(Clone, Copy, Debug, Default)]
pub struct OnTokio;

impl From<TcpStream> for Tcp {
    fn from(stream: TcpStream) -> Self {
        Self { stream, timer: None }
    }
}

impl AsFd for Tcp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Dial for OnTokio {
    type Stream = Tcp;

    fn stream(&self, socket: std::net::TcpStream) -> io::Result<Tcp> {
        TcpStream::from_std(socket).map(Tcp::from)
    }
}

impl Tcp {
    /// Waits until the connection is established.
    ///
    /// # Errors
    /// The error of connecting.
    pub async fn established(&self) -> io::Result<()> {
        self.stream.writable().await?;
        self.stream.take_error()?.map_or(Ok(()), Err)
    }

    /// The stream alone.
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Does `work` as soon as the socket is ready for it.
    fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        interest: Interest,
        until: Instant,
        mut work: impl FnMut(&TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        loop {
            let ready = match interest {
                Interest::READABLE => self.stream.poll_read_ready(cx),
                _ => self.stream.poll_write_ready(cx),
            };
            match ready {
                Poll::Ready(Ok(())) => {}
                // The runtime ends.
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    ready!(self.poll_timer(cx, until));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            match work(&self.stream) {
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        if timer.deadline() != until.into() {
            timer.as_mut().reset(until.into());
        }
        timer.as_mut().poll(cx)
    }
}

impl Transport for Tcp {
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>, until: Instant) -> Poll<io::Result<usize>> {
        self.poll(cx, Interest::READABLE, until, |stream| {
            bytes.reserve(READ_BYTES);
            stream.try_read_buf(bytes)
        })
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8], until: Instant) -> Poll<io::Result<usize>> {
        self.poll(cx, Interest::WRITABLE, until, |stream| stream.try_write(bytes))
    }

    fn detach(self) -> io::Result<std::net::TcpStream> {
        self.stream.into_std()
    }
}
