//! Targets with characters that Pingora cannot hold, sent to backends as their clients wrote them.
//!
//! `<`, `>` and `"` are not allowed in a URI (RFC 3986 §2), but programs send them, and nginx passes them on. Pingora
//! is given such a target percent-encoded. The connection to the backend puts the client's own target in its place.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use async_trait::async_trait;
use pingora::Result;
use pingora::protocols::l4::socket::SocketAddr as Peer;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::HttpPeer;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http1::framing::Encoded;

/// Makes Pingora reach `peer` by a new connection, which writes the client's own target in place of the encoded one.
pub(super) fn restore(peer: &mut HttpPeer, encoded: &Encoded) {
    let Some(inner) = peer.options.custom_l4.take() else { return };
    peer.options.custom_l4 = Some(Arc::new(Connector { inner, encoded: encoded.clone() }));
    // Nobody else's request may go by it.
    peer.group_key = rand::random();
    peer.options.idle_timeout = Some(std::time::Duration::ZERO);
}

/// Connects to a backend for one request.
struct Connector {
    inner: Arc<dyn L4Connect + Send + Sync>,
    encoded: Encoded,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Connector").field(&self.encoded).finish()
    }
}

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, address: &Peer) -> Result<Stream> {
        let stream = self.inner.connect(address).await?;
        let socket = AsWritten { stream, encoded: Some(self.encoded.clone()), line: Vec::new(), written: 0 };
        Ok(VirtualSocketStream::new(Box::new(socket)).into())
    }
}

/// A connection whose first line has its target restored.
#[derive(Debug)]
struct AsWritten {
    stream: Stream,
    /// The target to restore; `None` once the first line has passed.
    encoded: Option<Encoded>,
    /// Bytes from the first line on that are still to be written.
    line: Vec<u8>,
    /// Bytes of them that were written.
    written: usize,
}

impl AsWritten {
    /// Takes bytes of the first line, and restores its target once it is whole.
    fn take(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.windows(2).position(|pair| pair == b"\r\n") else { return };
        if let Some(encoded) = self.encoded.take() {
            let words: Vec<_> = self.line[..end].split(|byte| *byte == b' ').collect();
            if let [method, target, version] = words[..]
                && target == encoded.read.as_bytes()
            {
                let line = [method, encoded.came.as_bytes(), version].join(&b' ');
                self.line = [&line, &self.line[end..]].concat();
            }
        }
    }

    fn poll_line(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.encoded.is_none() && self.written < self.line.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.line[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for AsWritten {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for AsWritten {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.encoded.is_some() {
            self.take(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_line(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl VirtualSocket for AsWritten {
    /// Does nothing: the dialer has set the options.
    fn set_socket_option(&self, _: VirtualSockOpt) -> io::Result<()> {
        Ok(())
    }
}
