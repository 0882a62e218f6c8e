//! A connection of a worker's that Pingora goes on with.

use std::io;
use std::net::{SocketAddr, TcpStream as Socket};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::SystemTime;

use async_trait::async_trait;
use pingora::protocols::l4::socket::SocketAddr as Peer;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, Stream, TimingDigest,
    UniqueID, UniqueIDType, raw_connect::ProxyDigest,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufWriter, ReadBuf};
use tokio::net::TcpStream;

use super::entrance::Carried;

/// A TCP connection as Pingora is given it: what a worker has read of it comes first.
pub(super) struct Accepted {
    stream: BufWriter<TcpStream>,
    ahead: Vec<u8>,
    /// How much of `ahead` was read.
    read: usize,
    since: SystemTime,
    digest: Arc<SocketDigest>,
    /// What the worker has found out about the first request.
    carried: Mutex<Option<Box<Carried>>>,
}

impl Accepted {
    /// Takes a non-blocking socket to the Tokio runtime it is called in.
    ///
    /// # Errors
    /// The runtime's poller does not take it.
    pub(super) fn new(
        socket: Socket,
        peer: SocketAddr,
        ahead: Vec<u8>,
        carried: Option<Box<Carried>>,
    ) -> io::Result<Self> {
        let stream = TcpStream::from_std(socket)?;
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // Nobody else can have set it yet.
        let _ = digest.peer_addr.set(Some(Peer::Inet(peer)));
        Ok(Self {
            stream: BufWriter::with_capacity(WRITE_BYTES, stream),
            ahead,
            read: 0,
            since: SystemTime::now(),
            digest: Arc::new(digest),
            carried: Mutex::new(carried),
        })
    }

    /// What a worker has found out about the first request on this connection; once, and only if it is one of a worker's.
    pub(super) fn carried(stream: &Stream) -> Option<Box<Carried>> {
        let accepted = stream.as_any().downcast_ref::<Self>()?;
        accepted.carried.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The socket, off the runtime, and what was read of it and asked for by nobody.
    ///
    /// # Errors
    /// The runtime's poller does not let go of it.
    pub(super) fn into_socket(mut self) -> io::Result<(Socket, Vec<u8>)> {
        let left = self.ahead.split_off(self.read);
        Ok((self.stream.into_inner().into_std()?, left))
    }
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let ahead = &self.ahead[self.read..];
        if ahead.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = ahead.len().min(buffer.remaining());
        buffer.put_slice(&ahead[..count]);
        self.read += count;
        if self.read == self.ahead.len() {
            self.ahead = Vec::new();
            self.read = 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Accepted {
    async fn shutdown(&mut self) {
        // Who is gone already need not be told.
        let _ = self.stream.shutdown().await;
    }
}

impl UniqueID for Accepted {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().as_raw_fd()
    }
}

impl Ssl for Accepted {}

impl GetTimingDigest for Accepted {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.since, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Accepted {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Accepted {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[async_trait]
impl Peek for Accepted {}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Accepted").field(&self.digest.peer_addr()).finish()
    }
}

/// As Pingora gathers them: one segment on most networks.
const WRITE_BYTES: usize = 1460;
