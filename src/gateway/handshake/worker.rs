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
use crate::dial;
use crate::gateway::request::Ctx;
use crate::gateway::rewind::Rewind;
use crate::gateway::{Gateway, Runtimes};
use crate::snapshot::Asked;
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

    async fn shake_hands(self: Arc<Self>, mut client: Connection, peer: SocketAddr) -> Option<Shaken> {
        let mut read = Vec::new();
        match dial::read(&mut client, &mut read, Instant::now() + FIRST_BYTES).await {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                debug!("a client did not ask for anything: {error}");
                return None;
            }
        }
        let Some((mut ctx, offered, length)) = self.gateway.begin(&read, peer) else {
            self.send_on(client, peer, read, None);
            return None;
        };
        let ending = match self.gateway.shake_hands(&client, &mut ctx, &offered).await {
            Ok(Switched { backend, head, early }) => {
                let until = Instant::now() + offered.to.upstream.config().timeouts.write;
                match dial::write_all(&mut client, &head, until).await {
                    Ok(()) => {
                        let (ends, early) = (Sides::new(client, backend), Sides::new(read.split_off(length), early));
                        let tunnel = self.gateway.tunnel(&mut ctx, &offered.to, ends, early);
                        let tunnel = tunnel.ok().flatten()?;
                        return Some(Shaken { tunnel, under_way: ctx.into_under_way() });
                    }
                    Err(error) => Ending::Gone(error),
                }
            }
            Err(ending) => ending,
        };
        self.send_on(client, peer, read, Some(Continuation { ctx, ending }));
        None
    }

    /// Passes a connection to Pingora. The worker has read `read` of it.
    fn send_on(&self, client: Connection, peer: SocketAddr, read: Vec<u8>, continuation: Option<Continuation>) {
        let socket = match dial::Transport::detach(client) {
            Ok(socket) => socket,
            Err(error) => return debug!("a connection cannot be passed on: {error}"),
        };
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        let continuation = continuation.map(Box::new);
        self.runtimes.next().spawn(async move {
            let mut stream: Option<Stream> = match TcpStream::from_std(socket) {
                Ok(socket) => Some(Box::new(Rewind::new(socket, peer, read, continuation))),
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
    fn begin(&self, bytes: &[u8], peer: SocketAddr) -> Option<(Ctx, Offered, usize)> {
        let mut plain = Plain::read(bytes)?;
        let mut ctx = Ctx::new(&self.running);
        plain.drop_unwanted(ctx.snapshot.unwanted(peer.ip()));
        let (path, query) = (plain.path(), plain.query());
        let asked = Asked { host: plain.host, path, query, headers: &plain.headers, peer: peer.ip() };
        ctx.describe_as(&asked, peer, http::Method::GET);
        let has_fair_key = || ctx.is_lenient() || plain.offer.has_usual_key();
        if ctx.hooks.is_some() || ctx.unclear.is_some() || !has_fair_key() {
            return None;
        }
        ctx.edit_request_lines(&mut plain.head.lines);
        let to = ctx.destination()?;
        let request = ctx.request.as_ref()?.with_origin(|origin| plain.for_backend(origin));
        let length = plain.head.length;
        Some((ctx, Offered { to, offer: plain.offer, request }, length))
    }
}

/// Longest silence of a client that has just connected. As with Pingora.
const FIRST_BYTES: Duration = Duration::from_secs(60);
