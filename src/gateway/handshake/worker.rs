//! Handshakes on worker threads: reads the request, has it offered to backends, opens the tunnel. Connections that
//! begin with anything but an ordinary WebSocket go on to Pingora.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::server::ShutdownWatch;
use tokio::net::TcpStream;

use super::offer::Plain;
use super::{Ending, Offered, Switched};
use crate::dial::{self, Secured};
use crate::gateway::arrival::Arrival;
use crate::gateway::request::Ctx;
use crate::gateway::rewind::{Rewind, Wire};
use crate::gateway::{Gateway, Runtimes};
use crate::tls::HandshakeFailure;
use crate::tunnel::{Connection, Handshake, Host, Shaken};
use crate::ws::Sides;

/// Receives clients on the workers' threads.
pub struct Handshakes<A> {
    gateway: Gateway,
    /// Serves the connections that are not for the workers.
    app: Arc<A>,
    shutdown: ShutdownWatch,
    runtimes: Arc<Runtimes>,
}

/// A request that a worker began, for the session that ends it.
pub(in crate::gateway) struct Continuation {
    pub(super) ctx: Ctx,
    pub(super) ending: Ending,
}

impl<A: ServerApp + Send + Sync + 'static> Handshakes<A> {
    /// Carries out handshakes for `gateway`, and sends all other connections on to `app`, on one of `runtimes`.
    pub fn new(gateway: Gateway, app: Arc<A>, shutdown: ShutdownWatch, runtimes: Arc<Runtimes>) -> Self {
        Self { gateway, app, shutdown, runtimes }
    }

    async fn shake_hands(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Option<Shaken> {
        let policy = self.gateway.running.snapshot().listener(client.listener().number)?;
        let mut arrival = Arrival::plain(peer, client.listener().number);
        let mut client = Secured::plain(client);
        let mut read = Vec::new();
        if !policy.is_plain() {
            // On the heap, so that plain clients are not given room for it.
            arrival = Box::pin(self.gateway.arrive(&mut client, peer, &policy, &mut read)).await?;
        }
        if read.is_empty() {
            match dial::read(&mut client, &mut read, Instant::now() + FIRST_BYTES).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    debug!("a client did not ask for anything: {error}");
                    return None;
                }
            }
        }
        if arrival.tls.is_none() && read.first() == Some(&TLS_HANDSHAKE) {
            self.gateway.tls_failed(peer, HandshakeFailure::PlainPort);
            return None;
        }
        let Some((mut ctx, offered, length)) = self.gateway.begin(&read, &arrival, client.raw()) else {
            self.send_on(client, arrival, read, None);
            return None;
        };
        let ending = match self.gateway.shake_hands(client.raw(), &mut ctx, &offered).await {
            Ok(Switched { backend, head, early }) => {
                let until = Instant::now() + offered.to.upstream.config().timeouts.write;
                match dial::write_all(&mut client, &head, until).await {
                    Ok(()) => {
                        let early = Sides::new(read.split_off(length), early);
                        let tunnel = self.gateway.tunnel(&mut ctx, &offered.to, client, backend, early);
                        let tunnel = tunnel.ok().flatten()?;
                        return Some(Shaken { tunnel, under_way: ctx.into_under_way() });
                    }
                    Err(error) => Ending::Gone(error),
                }
            }
            Err(ending) => ending,
        };
        self.send_on(client, arrival, read, Some(Continuation { ctx, ending }));
        None
    }

    /// Passes a connection to Pingora. The worker has read `read` of it.
    fn send_on(
        &self,
        client: Secured<Connection>,
        arrival: Arrival,
        read: Vec<u8>,
        continuation: Option<Continuation>,
    ) {
        let (client, sealed) = client.into_parts();
        let socket = match dial::Transport::detach(client) {
            Ok(socket) => socket,
            Err(error) => return debug!("a connection cannot be passed on: {error}"),
        };
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        let continuation = continuation.map(Box::new);
        self.runtimes.next().spawn(async move {
            let mut stream: Option<Stream> = match TcpStream::from_std(socket) {
                Ok(socket) => Some(Box::new(Rewind::new(Wire::new(socket, sealed), arrival, read, continuation))),
                Err(error) => return debug!("a connection cannot be passed on: {error}"),
            };
            while let Some(reused) = stream {
                stream = app.process_new(reused, &shutdown).await;
            }
        });
    }
}

impl<A: ServerApp + Send + Sync + 'static> Host for Handshakes<A> {
    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake {
        Box::pin(self.shake_hands(client, peer))
    }
}

impl Gateway {
    /// Begins with a request if it is one for a worker: an ordinary WebSocket on a route without hooks. Returns the
    /// length of its head too.
    fn begin(&self, bytes: &[u8], arrival: &Arrival, client: &Connection) -> Option<(Ctx, Offered, usize)> {
        let mut plain = Plain::read(bytes)?;
        let mut ctx = Ctx::new(&self.running);
        plain.drop_unwanted(ctx.snapshot.unwanted(arrival.peer.ip()));
        let (path, query) = (plain.path(), plain.query());
        let asked = arrival.asked(plain.host, path, query, &plain.headers);
        ctx.describe_as(&asked, arrival, http::Method::GET);
        let is_for_pingora = ctx.hooks.is_some() || ctx.unclear.is_some() || ctx.redirect().is_some();
        if is_for_pingora || !(ctx.is_lenient() || plain.offer.has_usual_key()) {
            return None;
        }
        ctx.edit_request_lines(&mut plain.head.lines);
        let to = ctx.destination()?;
        let request = ctx.request.as_ref()?.with_origin(|origin| plain.for_backend(origin));
        let length = plain.head.length;
        let client = ctx.passed_on(&to, || rustix::net::getsockname(client).ok()?.try_into().ok());
        Some((ctx, Offered { to, offer: plain.offer, request, client }, length))
    }
}

/// Longest silence of a client that has just connected. As with Pingora.
const FIRST_BYTES: Duration = Duration::from_secs(60);
/// The first byte of a TLS handshake (RFC 8446 §5.1), which no request begins with.
const TLS_HANDSHAKE: u8 = 22;
