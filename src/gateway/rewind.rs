//! A connection that Pingora goes on with: it reads one checked request at a time, those that a worker read first.

mod wire;

use std::io;
use std::net::SocketAddr;
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

use super::arrival::Arrival;
use super::handshake::Continuation;
use super::requests::{Refused, Requests};
use crate::tls::Sealed;
pub(super) use wire::Wire;

/// A connection for Pingora. Bytes that a worker has read of it come first.
pub(super) struct Rewind {
    stream: BufWriter<Wire>,
    /// The way on which the client came; `None` of a backend's connection.
    arrival: Option<Arrival>,
    requests: Mutex<Requests>,
    since: SystemTime,
    digest: Arc<SocketDigest>,
    continuation: Mutex<Option<Box<Continuation>>>,
}

impl Rewind {
    /// A client's connection of which `ahead` was read, and the first request on it where a worker began that.
    pub(super) fn new(stream: Wire, arrival: Arrival, ahead: Vec<u8>, continuation: Option<Box<Continuation>>) -> Self {
        let peer = arrival.peer;
        Self { arrival: Some(arrival), ..Self::over(stream, peer, Requests::new(ahead), continuation) }
    }

    /// A connection to a backend that has begun to answer; `ahead` was read of that.
    pub(super) fn of_backend(stream: Wire, peer: SocketAddr, ahead: Vec<u8>) -> Self {
        Self::over(stream, peer, Requests::answer(ahead), None)
    }

    fn over(stream: Wire, peer: SocketAddr, requests: Requests, continuation: Option<Box<Continuation>>) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // Nobody else can have set it yet.
        let _ = digest.peer_addr.set(Some(Peer::Inet(peer)));
        Self {
            stream: BufWriter::with_capacity(WRITE_BYTES, stream),
            arrival: None,
            requests: Mutex::new(requests),
            since: SystemTime::now(),
            digest: Arc::new(digest),
            continuation: Mutex::new(continuation),
        }
    }

    /// The way on which the client of a connection came; from nowhere in particular where the connection is not one of
    /// a worker's.
    pub(super) fn arrival(stream: Option<&Stream>) -> Arrival {
        let rewind = stream.and_then(|stream| stream.as_any().downcast_ref::<Self>());
        let known = rewind.and_then(|rewind| rewind.arrival.clone());
        known.unwrap_or_else(|| Arrival::plain(SocketAddr::from(([0, 0, 0, 0], 0)), 0))
    }

    /// Takes the request that a worker began on this connection, if it began one; once.
    pub(super) fn continuation(stream: &Stream) -> Option<Box<Continuation>> {
        let rewind = stream.as_any().downcast_ref::<Self>()?;
        rewind.continuation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Takes the refusal of the request that Pingora has read a stand-in for; once.
    pub(super) fn refused(stream: &Stream) -> Option<Box<Refused>> {
        let rewind = stream.as_any().downcast_ref::<Self>()?;
        rewind.requests.lock().unwrap_or_else(PoisonError::into_inner).take_refused()
    }

    /// Tells if bytes came behind the request at work.
    pub(super) fn has_more(stream: &Stream) -> bool {
        let rewind = stream.as_any().downcast_ref::<Self>();
        rewind.is_some_and(|rewind| rewind.requests.lock().unwrap_or_else(PoisonError::into_inner).has_more())
    }

    /// Notes that the request at work was answered, so that the next one is read when its body is over.
    pub(super) fn answered(stream: &Stream) {
        if let Some(rewind) = stream.as_any().downcast_ref::<Self>() {
            rewind.requests.lock().unwrap_or_else(PoisonError::into_inner).answered();
        }
    }

    /// The connection alone, the TLS session on it, and the bytes that were read of it and asked for by nobody. To be
    /// flushed before.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Sealed>, Vec<u8>) {
        let requests = self.requests.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (stream, sealed, opened) = self.stream.into_inner().into_parts();
        let mut ahead = requests.into_ahead();
        ahead.extend(opened);
        (stream, sealed, ahead)
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, requests, .. } = &mut *self;
        requests.get_mut().unwrap_or_else(PoisonError::into_inner).poll_read(cx, stream, buffer)
    }
}

impl AsyncWrite for Rewind {
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
impl Shutdown for Rewind {
    async fn shutdown(&mut self) {
        // Who is gone already need not be told.
        let _ = self.stream.shutdown().await;
    }
}

impl UniqueID for Rewind {
    fn id(&self) -> UniqueIDType {
        self.stream.get_ref().as_raw_fd()
    }
}

impl Ssl for Rewind {}

impl GetTimingDigest for Rewind {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        vec![Some(TimingDigest { established_ts: self.since, ..TimingDigest::default() })]
    }
}

impl GetProxyDigest for Rewind {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Rewind {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        Some(Arc::clone(&self.digest))
    }
}

#[async_trait]
impl Peek for Rewind {}

impl std::fmt::Debug for Rewind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("Rewind").field(&self.digest.peer_addr()).finish()
    }
}

/// As Pingora gathers them: one segment on most networks.
const WRITE_BYTES: usize = 1460;
