//! A connection that Pingora goes on with: it reads one checked request at a time, those that a worker read first.

mod wire;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
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
use super::cause::RefusalCause;
use super::handshake::Continuation;
use super::head_reader::{CheckedHead, HeadReader};
use super::lent::{Lent, poll_more};
use super::pace::ClientPace;
use crate::admission::KeptBytes;
use crate::config::Limits;
use crate::http1::RequestRefused;
use crate::http1::framing::Encoded;
use crate::tls::Sealed;
use crate::tunnel::{ConnectionCounts, Listener};
pub(super) use wire::ClientWire;

/// A connection for Pingora, which may read of it what it is [lent](Self::lend). Bytes that a worker has read of it
/// come first.
pub(super) struct Rewind {
    stream: BufWriter<ClientWire>,
    /// The client at the other end; `None` where that is a backend.
    client: Option<ArrivedClient>,
    lent: Lent,
    /// Counts the bytes that were read ahead; `None` of a backend's connection.
    kept: Option<KeptBytes>,
    since: SystemTime,
    digest: Arc<SocketDigest>,
    /// The first head, as far as a worker came with it.
    begun: Option<FirstHead>,
    continuation: Mutex<Option<Box<Continuation>>>,
    /// The target of the request that is lent, where Pingora reads it encoded.
    encoded: Option<Box<Encoded>>,
    body: BodyLimit,
    /// Pace at which the client takes its answer.
    taking: ClientPace,
    /// Number of requests that Pingora was lent.
    requests: u32,
    /// The request that is lent is the last that the connection may have.
    is_last: bool,
}

/// Limits of the body of the request that is lent.
#[derive(Default)]
struct BodyLimit {
    /// Pace at which the client sends it.
    sending: ClientPace,
    /// A part of it is waited for.
    is_awaited: bool,
    /// Count of the bytes that had come when the client began to wait until it is told to send it.
    held_back_at: Option<u64>,
    /// Most bytes of it, as the route decides. Atomic, because Pingora's stream cannot be changed by others.
    most: AtomicU64,
}

/// A client, and how it came.
pub(super) struct ArrivedClient {
    /// Its way to the gateway.
    pub(super) arrival: Arrival,
    /// The listener that accepted it.
    pub(super) listener: Arc<Listener>,
    /// Counts its connection as open.
    pub(super) _open: Option<ConnectionCounts>,
}

/// The first head of a connection, as far as a worker came with it.
pub(super) enum FirstHead {
    /// Still being read.
    Reading(HeadReader),
    /// Whole. The worker may have begun with the request.
    Whole(CheckedHead, Option<Box<Continuation>>),
    /// Refused.
    Refused(RefusalCause),
}

impl Rewind {
    /// The connection of a client, of which a worker has read `ahead` and made `begun`. `kept` counts what is read
    /// ahead of it.
    pub(super) fn of_client(
        stream: ClientWire,
        client: ArrivedClient,
        (ahead, kept): (Vec<u8>, KeptBytes),
        begun: FirstHead,
    ) -> Self {
        let peer = client.arrival.peer;
        Self {
            client: Some(client),
            kept: Some(kept),
            begun: Some(begun),
            ..Self::over(stream, peer, Lent::nothing(ahead))
        }
    }

    /// A connection to a backend that has begun to answer; `ahead` was read of that.
    pub(super) fn of_backend(stream: ClientWire, peer: SocketAddr, ahead: Vec<u8>) -> Self {
        Self::over(stream, peer, Lent::answer(ahead))
    }

    fn over(stream: ClientWire, peer: SocketAddr, lent: Lent) -> Self {
        let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
        // Nobody else can have set it yet.
        let _ = digest.peer_addr.set(Some(Peer::Inet(peer)));
        Self {
            stream: BufWriter::with_capacity(WRITE_BYTES, stream),
            client: None,
            kept: None,
            lent,
            since: SystemTime::now(),
            digest: Arc::new(digest),
            begun: None,
            continuation: Mutex::default(),
            encoded: None,
            body: BodyLimit::default(),
            taking: ClientPace::default(),
            requests: 0,
            is_last: false,
        }
    }

    /// The connection behind a stream of Pingora's; `None` where no worker accepted it.
    pub(super) fn behind(stream: Stream) -> Option<Box<Self>> {
        if !stream.as_any().is::<Self>() {
            return None;
        }
        stream.into_any().downcast().ok()
    }

    /// The way on which the client of a connection came; from nowhere in particular where the connection is not one of
    /// a worker's.
    pub(super) fn arrival(stream: Option<&Stream>) -> Arrival {
        let rewind = stream.and_then(|stream| stream.as_any().downcast_ref::<Self>());
        let known = rewind.and_then(Self::client).map(|client| client.arrival.clone());
        known.unwrap_or_else(|| Arrival::plain(SocketAddr::from(([0, 0, 0, 0], 0)), 0))
    }

    /// Counts a request of the client of a connection as refused behind its head.
    pub(super) fn count_refusal(stream: Option<&Stream>, reason: &'static str) {
        let rewind = stream.and_then(|stream| stream.as_any().downcast_ref::<Self>());
        if let Some(client) = rewind.and_then(Self::client) {
            client.listener.metrics.refused(reason);
        }
    }

    /// Limits the body of the request at work, where it comes in chunks and its length is not known before.
    pub(super) fn limit_body(stream: Option<&Stream>, most: u64) {
        if let Some(rewind) = stream.and_then(|stream| stream.as_any().downcast_ref::<Self>()) {
            rewind.body.most.store(most, Ordering::Relaxed);
        }
    }

    /// Tells if a part of the body of the request at work is waited for.
    pub(super) fn awaits_body(stream: Option<&Stream>) -> bool {
        let rewind = stream.and_then(|stream| stream.as_any().downcast_ref::<Self>());
        rewind.is_some_and(|rewind| rewind.body.is_awaited)
    }

    /// Takes the request that a worker began on this connection, if it began one; once.
    pub(super) fn continuation(stream: &Stream) -> Option<Box<Continuation>> {
        let rewind = stream.as_any().downcast_ref::<Self>()?;
        rewind.continuation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The target of the request that is lent, where Pingora has read it encoded.
    pub(super) fn encoded(stream: &Stream) -> Option<Box<Encoded>> {
        stream.as_any().downcast_ref::<Self>()?.encoded.clone()
    }

    /// Tells if the request at work is the last that this connection may have.
    pub(super) fn is_last(stream: &Stream) -> bool {
        stream.as_any().downcast_ref::<Self>().is_some_and(|rewind| rewind.is_last)
    }

    /// The connection below, for whoever waits for its end; `None` where no worker accepted it.
    pub(super) fn tcp(stream: &Stream) -> Option<&TcpStream> {
        Some(stream.as_any().downcast_ref::<Self>()?.stream.get_ref().tcp())
    }

    /// Tells if bytes came behind the request at work.
    pub(super) fn has_more(stream: &Stream) -> bool {
        stream.as_any().downcast_ref::<Self>().is_some_and(|rewind| rewind.lent.has_more())
    }

    /// The client at the other end.
    pub(super) fn client(&self) -> Option<&ArrivedClient> {
        self.client.as_ref()
    }

    /// Takes the first head, as far as a worker came with it.
    pub(super) fn take_begun(&mut self) -> Option<FirstHead> {
        self.begun.take()
    }

    /// Tells if what came behind the request that was lent may be the next one.
    pub(super) fn may_go_on(&self) -> bool {
        self.lent.may_go_on()
    }

    /// Takes the bytes that were read ahead and handed to nobody.
    pub(super) fn take_ahead(&mut self) -> Vec<u8> {
        // A connection that waits for its next request keeps nothing of the last one.
        self.body.sending.rest();
        self.taking.rest();
        if let Some(kept) = &mut self.kept {
            kept.set(0);
        }
        self.lent.take_ahead()
    }

    /// Puts bytes back that were read ahead and are nobody's request: the log tells what they are.
    pub(super) fn put_back(&mut self, ahead: Vec<u8>) {
        self.lent = Lent::nothing(ahead);
    }

    /// Lends Pingora the request that `ahead` begins with, and follows the pace of its client from now on.
    pub(super) fn lend(
        &mut self,
        ahead: Vec<u8>,
        head: &CheckedHead,
        continuation: Option<Box<Continuation>>,
        limits: &Limits,
    ) {
        self.requests = self.requests.saturating_add(1);
        self.is_last = limits.keep_alive.requests.is_some_and(|most| self.requests >= most.get());
        let is_held_back = head.expects && ahead.len() == head.length;
        self.lent = Lent::request(ahead, head);
        let sending = ClientPace::new(limits.body.pace);
        let held_back_at = is_held_back.then(|| self.stream.get_ref().received());
        self.body = BodyLimit { sending, is_awaited: false, held_back_at, most: AtomicU64::new(u64::MAX) };
        self.taking = ClientPace::new(limits.answer);
        self.encoded.clone_from(&head.encoded);
        *self.continuation.get_mut().unwrap_or_else(PoisonError::into_inner) = continuation;
    }

    /// Reads what has come to the end of `bytes`; 0 is the end of the stream.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, bytes: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        poll_more(cx, &mut self.stream, bytes)
    }

    /// The parts of the connection: its socket, the TLS session on it, and the bytes that were read and not asked for.
    /// Must be flushed before.
    pub(super) fn into_parts(mut self) -> (TcpStream, Option<Sealed>, Vec<u8>) {
        let mut ahead = self.lent.take_ahead();
        let (stream, sealed, opened) = self.stream.into_inner().into_parts();
        ahead.extend(opened);
        (stream, sealed, ahead)
    }
}

impl AsyncRead for Rewind {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, lent, body, kept, .. } = &mut *self;
        let polled = lent.poll_read(cx, stream, buffer);
        if let Some(kept) = kept {
            kept.set(lent.ahead_capacity());
        }
        let refused = match polled {
            Poll::Ready(Ok(())) => {
                body.is_awaited = false;
                body.sending.go_on();
                if lent.chunk_data() <= body.most.load(Ordering::Relaxed) {
                    return Poll::Ready(Ok(()));
                }
                RequestRefused::BodySize
            }
            Poll::Pending if lent.is_in_body() && body.held_back_at != Some(stream.get_ref().received()) => {
                body.is_awaited = true;
                ready!(body.sending.poll_wait(cx, || stream.get_ref().received()));
                RequestRefused::BodySlow
            }
            polled => return polled,
        };
        lent.give_up();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refused)))
    }
}

impl Rewind {
    /// Follows the pace of a client that takes an answer. `polled` is the result of a write to the client; it is
    /// replaced by an error when the client has been too slow.
    fn follow<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.taking.go_on();
            return polled;
        }
        // Whoever waits for the answer to be taken does not wait for the body.
        self.body.sending.go_on();
        let wire = self.stream.get_ref();
        ready!(self.taking.poll_wait(cx, || wire.acknowledged()));
        wire.reset_at_the_end();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, RequestRefused::AnswerSlow)))
    }
}

impl AsyncWrite for Rewind {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.body.held_back_at = None;
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.follow(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.body.held_back_at = None;
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.follow(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.follow(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.follow(cx, polled)
    }
}

#[async_trait]
impl Shutdown for Rewind {
    async fn shutdown(&mut self) {
        // Who is gone already need not be told.
        let _ = AsyncWriteExt::shutdown(self).await;
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
