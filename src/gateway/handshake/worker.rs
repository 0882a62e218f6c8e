//! Handshakes on worker threads: reads the request, has it offered to backends, opens the tunnel. Connections that
//! begin with anything but an ordinary WebSocket go on to Pingora.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use log::debug;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::net::TcpStream;

use super::offer::Plain;
use super::{HandshakeEnding, Offered, Switched};
use crate::admission::{ConnectionVerdict, RefusalReason};
use crate::dial::{self, Secured};
use crate::gateway::arrival::Arrival;
use crate::gateway::cause::RefusalCause;
use crate::gateway::head_reader::{CheckedHead, HeadReader, NoHead, examine, settle};
use crate::gateway::request::Ctx;
use crate::gateway::rewind::{ArrivedClient, ClientWire, FirstHead, Rewind};
use crate::gateway::waits::Waits;
use crate::gateway::{Gateway, Runtimes};
use crate::http1::{RequestHead, RequestRefused};
use crate::tunnel::{Connection, Handshake, Host, Listener, Shaken};
use crate::ws::Sides;

/// Receives clients on the workers' threads.
pub struct HandshakeHost<A> {
    gateway: Gateway,
    /// Serves the connections that are not for the workers.
    app: Arc<A>,
    shutdown: ShutdownWatch,
    runtimes: Arc<Runtimes>,
}

/// A request that a worker has begun, on its way to the session that finishes it.
pub(in crate::gateway) struct Continuation {
    pub(super) ctx: Box<Ctx>,
    pub(super) ending: HandshakeEnding,
}

impl<A: ServerApp + Send + Sync + 'static> HandshakeHost<A> {
    /// Carries out handshakes for `gateway`, and sends all other connections on to `app`, on one of `runtimes`.
    pub fn new(gateway: Gateway, app: Arc<A>, shutdown: ShutdownWatch, runtimes: Arc<Runtimes>) -> Self {
        Self { gateway, app, shutdown, runtimes }
    }

    /// Handshake of a client. Not an `async fn`, because the future of one holds its arguments twice, for as long as
    /// the client is silent.
    fn shake_hands(self: Arc<Self>, client: Connection, peer: SocketAddr) -> impl Future<Output = Option<Shaken>> {
        let accepted = Instant::now();
        let mut arrival = Arrival::plain(peer, client.listener().number);
        let mut client = Secured::plain(client);
        let mut read = Vec::new();
        async move {
            let policy = self.gateway.running.snapshot().listener(arrival.listener)?;
            if !policy.is_plain() {
                // On the heap, so that plain clients are not given room for it.
                arrival = Box::pin(self.gateway.arrive(&mut client, peer, &policy, &mut read)).await?;
            }
            drop(policy);
            // In a scope of its own, or what it returns had room in here from the beginning.
            let carried_out = {
                let first = self.first_request(&mut client, &mut read, &arrival, accepted).await;
                self.go_on(client, arrival, read, first)
            };
            carried_out?.await
        }
    }

    /// Goes on after the first request was read. Returns the handshake to be carried out; `None` when the connection
    /// has ended or was passed on.
    fn go_on(
        self: Arc<Self>,
        client: Secured<Connection>,
        arrival: Arrival,
        read: Vec<u8>,
        first: Result<(Box<Ctx>, Offered, CheckedHead), Option<FirstHead>>,
    ) -> Option<Pin<Box<impl Future<Output = Option<Shaken>>>>> {
        match first {
            // On the heap, too: a client that is silent has no room for it.
            Ok(first) => Some(Box::pin(self.carry_out(client, arrival, read, first))),
            Err(begun) => {
                self.send_on(client, arrival, read, begun?);
                None
            }
        }
    }

    /// Offers a request to backends, and opens the tunnel.
    async fn carry_out(
        self: Arc<Self>,
        mut client: Secured<Connection>,
        arrival: Arrival,
        mut read: Vec<u8>,
        (mut ctx, mut offered, head): (Box<Ctx>, Offered, CheckedHead),
    ) -> Option<Shaken> {
        let length = head.length;
        let ending = match self.gateway.shake_hands(client.raw_mut(), &mut ctx, &mut offered).await {
            Ok(Switched { backend, head, early }) => {
                let until = Instant::now() + offered.to.upstream.config().timeouts.write;
                match dial::write_all(&mut client, &head, until).await {
                    Ok(()) => {
                        let early = Sides::new(read.split_off(length), early);
                        let tunnel = self.gateway.tunnel(&mut ctx, &offered.to, client, backend, early);
                        let tunnel = tunnel.ok().flatten()?;
                        return Some(Shaken { tunnel, under_way: ctx.into_under_way() });
                    }
                    Err(error) => HandshakeEnding::Gone(error),
                }
            }
            Err(ending) => {
                if let Some(reason) = ctx.admitted.refused {
                    client.raw().listener().metrics.refused(reason.as_str());
                }
                ending
            }
        };
        self.send_on(client, arrival, read, FirstHead::Whole(head, Some(Box::new(Continuation { ctx, ending }))));
        None
    }

    /// Reads the first request of a client, and begins with it if it is one for a worker. The error is the state that
    /// Pingora goes on with; `None` when the connection is to end.
    async fn first_request(
        &self,
        client: &mut Secured<Connection>,
        read: &mut Vec<u8>,
        arrival: &Arrival,
        accepted: Instant,
    ) -> Result<(Box<Ctx>, Offered, CheckedHead), Option<FirstHead>> {
        if let Some(reason) = client.raw().refused() {
            return Err(self.hear_out(client, read, reason).await.map(FirstHead::Refused));
        }
        let mut reader = HeadReader::first(self.gateway.running.limits(), Instant::now());
        match reader.read(client, read, Some(&self.gateway.running)).await {
            Ok(()) => {}
            Err(NoHead::Gone) => return Err(None),
            Err(NoHead::Elsewhere) => return Err(Some(FirstHead::Reading(reader))),
            Err(NoHead::Refused(RequestRefused::Silent)) => {
                client.raw().listener().metrics.refused(RequestRefused::Silent.as_str());
                return Err(None);
            }
            Err(NoHead::Refused(refused)) => return Err(Some(FirstHead::Refused(refused.into()))),
        }
        client.raw().listener().metrics.first_head(accepted.elapsed());
        let bounds = reader.bounds();
        let (head, framing) = examine(read, &bounds).map_err(|refused| Some(FirstHead::Refused(refused.into())))?;
        if framing.rewritten.is_none() {
            let whole = CheckedHead::of(&head, framing.body);
            let (ctx, offered) =
                self.gateway.begin(head, arrival, client.raw()).ok_or(Some(FirstHead::Whole(whole.clone(), None)))?;
            return Ok((ctx, offered, whole));
        }
        Err(Some(
            settle(read, &bounds)
                .map_or_else(|refused| FirstHead::Refused(refused.into()), |head| FirstHead::Whole(head, None)),
        ))
    }

    /// Reads the request of a client that is refused for `reason`, as far as an answer needs it. Returns the cause to
    /// answer with; `None` when the connection is to end.
    ///
    /// Its bytes do not count as kept. Otherwise clients that are refused because too much is kept would keep others
    /// out, too. They are bounded by the number of such answers at once.
    async fn hear_out(
        &self,
        client: &mut Secured<Connection>,
        read: &mut Vec<u8>,
        reason: RefusalReason,
    ) -> Option<RefusalCause> {
        // It has little time, and this worker answers it also while the gateway stops accepting.
        client.raw_mut().set_uninterrupted(true);
        let mut reader = HeadReader::to_be_refused(self.gateway.running.limits(), Instant::now());
        match reader.read(client, read, None).await {
            Ok(()) | Err(NoHead::Refused(RequestRefused::Size | RequestRefused::Target | RequestRefused::Lines)) => {
                Some(reason.into())
            }
            Err(NoHead::Gone | NoHead::Elsewhere | NoHead::Refused(RequestRefused::Silent)) => None,
            Err(NoHead::Refused(refused)) => Some(refused.into()),
        }
    }

    /// Passes a connection to Pingora. `read` are the bytes that the worker has read, and `begun` is the state of its
    /// first head.
    fn send_on(&self, client: Secured<Connection>, arrival: Arrival, read: Vec<u8>, begun: FirstHead) {
        let (mut client, sealed) = client.into_parts();
        let from = ArrivedClient { arrival, listener: Arc::clone(client.listener()), _open: client.take_open() };
        let socket = match dial::Transport::detach(client) {
            Ok(socket) => socket,
            Err(error) => return debug!("a connection cannot be passed on: {error}"),
        };
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        let kept = self.gateway.running.admission.keep();
        self.runtimes.next().spawn(async move {
            match TcpStream::from_std(socket) {
                Ok(socket) => {
                    let stream: Stream =
                        Box::new(Rewind::of_client(ClientWire::new(socket, sealed), from, (read, kept), begun));
                    app.process_new(stream, &shutdown).await;
                }
                Err(error) => debug!("a connection cannot be passed on: {error}"),
            }
        });
    }
}

impl<A: ServerApp + Send + Sync + 'static> Host for HandshakeHost<A> {
    fn admit(&self, listener: &Listener, peer: IpAddr, descriptor: RawFd) -> Option<ConnectionVerdict> {
        self.gateway.admit(listener, peer, descriptor)
    }

    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake {
        Box::pin(self.shake_hands(client, peer))
    }
}

impl Waits for Connection {
    fn waker(&self, _: &Context<'_>) -> Waker {
        self.waker()
    }

    fn poll_left(&mut self, _: &mut Context<'_>) -> Poll<()> {
        if self.has_left() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Gateway {
    /// Begins with a request if it is one for a worker: an ordinary WebSocket on a route without hooks.
    fn begin(&self, head: RequestHead<'_>, arrival: &Arrival, client: &Connection) -> Option<(Box<Ctx>, Offered)> {
        let mut plain = Plain::of(head)?;
        // On the heap, because it moves from one future into the next.
        let mut ctx = Box::new(Ctx::new(&self.running));
        plain.drop_unwanted(ctx.snapshot.unwanted(arrival.peer.ip()));
        let (path, query) = (plain.path(), plain.query());
        let asked = arrival.asked(plain.host, path, query, &plain.head.lines[..]);
        ctx.describe_as(&asked, arrival, http::Method::GET);
        let is_for_pingora = ctx.hooks.is_some() || ctx.unclear.is_some() || ctx.redirect().is_some();
        if is_for_pingora || !(ctx.is_lenient() || plain.offer.has_usual_key()) {
            return None;
        }
        ctx.edit_request_lines(&mut plain.head.lines);
        let to = ctx.destination()?;
        ctx.begin_keeping(&mut plain.head.lines, &mut plain.offer);
        let mut request = ctx.request.as_ref()?.with_origin(|origin| plain.for_backend(origin));
        let client = ctx.passed_on(&to, || rustix::net::getsockname(client).ok()?.try_into().ok());
        ctx.name_session(&mut request, client);
        Some((ctx, Offered { to, offer: plain.offer, request, client }))
    }
}
