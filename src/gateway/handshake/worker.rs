//! The entrance: clients that workers accept. An ordinary WebSocket is let in by the worker itself, all others go on to
//! Pingora.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::debug;
use pingora::apps::ServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::v1::client::HttpSession as BackendSession;
use pingora::server::ShutdownWatch;
use pingora::server::configuration::ServerConf;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::runtime::Handle;

use super::Gateway;
use super::accepted::Accepted;
use super::context::Ctx;
use super::head::{Answered, Ask, Switching};
use super::loss::watch_for_loss;
use super::runtimes::Runtimes;
use super::upgrade::{blame, describe, is_timeout, record};
use crate::hook::Answer;
use crate::snapshot::{Asked, Destination};
use crate::tunnel::{Connection, Handshake, Host, NewTunnel, Shaken};
use crate::upstream::{Blame, FailureKind};
use crate::ws::Sides;
use crate::ws::handshake::Offer;

/// Receives clients on the workers' threads.
pub struct Entrance<A> {
    gateway: Gateway,
    /// Pingora's side: what goes on with connections that are not for the workers, and is told when it is to end.
    app: Arc<A>,
    shutdown: ShutdownWatch,
    runtimes: Arc<Runtimes>,
    /// Pingora alone knows how to have a port drawn for a source address only once it is known where to (Linux,
    /// `IP_BIND_ADDRESS_NO_PORT`), so it connects where source addresses are set.
    connects: bool,
}

/// What Pingora's side is told of a request that a worker began with.
pub(super) struct Carried {
    ctx: Ctx,
    ending: Ending,
}

/// How a handshake ended that came to no tunnel.
enum Ending {
    /// With an answer of our own.
    Answer(Answer),
    /// With a backend's answer other than 101, of which this much was read; its limit is for the rest.
    Refusal(Box<BackendSession>),
    /// With a client that was gone before it was told.
    Gone(Box<Error>),
}

/// How the backends' part of a handshake ended.
enum Outcome {
    Switched { backend: Connection, switching: Switching, early: Vec<u8> },
    Refused { backend: Connection, read: Vec<u8> },
    Failed(Answer),
}

/// A request that a worker carries out.
struct Begun {
    ctx: Ctx,
    to: Arc<Destination>,
    offer: Offer,
    /// The request as backends are sent it.
    request: Vec<u8>,
    /// Bytes of the client's head.
    length: usize,
}

impl<A: ServerApp + Send + Sync + 'static> Entrance<A> {
    /// An entrance that sends all but ordinary WebSockets on to `app`, on one of `runtimes`.
    pub fn new(
        gateway: Gateway,
        app: Arc<A>,
        shutdown: ShutdownWatch,
        runtimes: Arc<Runtimes>,
        pingora: &ServerConf,
    ) -> Self {
        let connects = pingora.client_bind_to_ipv4.is_empty() && pingora.client_bind_to_ipv6.is_empty();
        Self { gateway, app, shutdown, runtimes, connects }
    }

    async fn shake_hands(self: Arc<Self>, mut client: Connection, peer: SocketAddr) -> Option<Shaken> {
        let mut read = Vec::new();
        match client.read(&mut read, Instant::now() + FIRST_BYTES).await {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                debug!("a client did not ask for anything: {error}");
                return None;
            }
        }
        let begun = if self.connects { self.gateway.begin(&read, peer) } else { None };
        let Some(mut begun) = begun else {
            self.send_on(self.runtimes.next(), client, peer, read, None);
            return None;
        };
        let limit = begun.to.upstream.config().timeouts.handshake;
        match self.gateway.ask_backends(&client, &mut begun, Instant::now() + limit).await {
            Outcome::Switched { backend, switching, early } => {
                let early = Sides::new(read.split_off(begun.length), early);
                match self.gateway.pass_on(&mut client, switching, &begun).await {
                    Ok(()) => self.gateway.switch_on_worker(client, backend, early, begun),
                    Err(error) => {
                        let ending = Ending::Gone(error);
                        let carried = Carried { ctx: begun.ctx, ending };
                        self.send_on(self.runtimes.next(), client, peer, read, Some(carried));
                        None
                    }
                }
            }
            Outcome::Refused { backend, read: answer } => {
                let ending = move |read_timeout| -> io::Result<Ending> {
                    let address = backend.peer()?;
                    let stream = Accepted::new(backend.leave()?, address, answer, None)?;
                    let mut backend = BackendSession::new(Box::new(stream));
                    backend.read_timeout = Some(read_timeout);
                    Ok(Ending::Refusal(Box::new(backend)))
                };
                let runtime = self.runtimes.next();
                let _entered = runtime.enter();
                let ending = ending(begun.to.upstream.config().timeouts.read).unwrap_or_else(|error| {
                    debug!("a backend's answer cannot be relayed: {error} (request {})", begun.ctx.id());
                    Ending::Answer(Answer::gateway_failed())
                });
                self.send_on(runtime, client, peer, read, Some(Carried { ctx: begun.ctx, ending }));
                None
            }
            Outcome::Failed(answer) => {
                let carried = Carried { ctx: begun.ctx, ending: Ending::Answer(answer) };
                self.send_on(self.runtimes.next(), client, peer, read, Some(carried));
                None
            }
        }
    }

    /// Has Pingora go on with a connection, of which a worker has read this much.
    fn send_on(&self, runtime: &Handle, client: Connection, peer: SocketAddr, read: Vec<u8>, carried: Option<Carried>) {
        let socket = match client.leave() {
            Ok(socket) => socket,
            Err(error) => return debug!("a connection cannot be passed on: {error}"),
        };
        let (app, shutdown) = (Arc::clone(&self.app), self.shutdown.clone());
        let carried = carried.map(Box::new);
        runtime.spawn(async move {
            let mut stream: Option<Stream> = match Accepted::new(socket, peer, read, carried) {
                Ok(stream) => Some(Box::new(stream)),
                Err(error) => return debug!("a connection cannot be passed on: {error}"),
            };
            while let Some(reused) = stream {
                stream = app.process_new(reused, &shutdown).await;
            }
        });
    }
}

impl<A: ServerApp + Send + Sync + 'static> Host for Entrance<A> {
    fn receive(self: Arc<Self>, client: Connection, peer: SocketAddr) -> Handshake {
        Box::pin(self.shake_hands(client, peer))
    }
}

impl Gateway {
    /// Begins with a request if it is one for a worker: a WebSocket on a route without hooks.
    fn begin(&self, bytes: &[u8], peer: SocketAddr) -> Option<Begun> {
        let ask = Ask::read(bytes)?;
        let mut ctx = Ctx::new(&self.running);
        let asked =
            Asked { host: ask.host, path: ask.path(), query: ask.query(), headers: &ask.headers, peer: peer.ip() };
        ctx.describe_as(&asked, peer, http::Method::GET);
        if ctx.hooks.is_some() {
            return None;
        }
        let to = ctx.destination()?;
        let request = ask.for_backend(ctx.request.as_ref()?);
        Some(Begun { ctx, to, request, length: ask.length, offer: ask.offer })
    }

    /// Asks one backend after another until one answers.
    async fn ask_backends(&self, client: &Connection, begun: &mut Begun, until: Instant) -> Outcome {
        let Begun { ctx, to, offer, request, .. } = begun;
        let since = Instant::now();
        let (backend, read, answered) = loop {
            let address = match ctx.choose(to).await {
                Ok(address) => address,
                Err(answer) => return Outcome::Failed(answer),
            };
            let mut read = Vec::new();
            match ask(client, address, request, to, &mut read, until).await {
                Ok((backend, answered)) => break (backend, read, answered),
                Err(_) if Instant::now() >= until => {
                    let limit = humantime::format_duration(to.upstream.config().timeouts.handshake);
                    let reason = format!("no answer to the handshake within {limit}");
                    self.backend_failed(ctx, to, Blame::Backend(FailureKind::Handshake), &reason);
                    return Outcome::Failed(Answer::too_slow());
                }
                Err((step, error)) => {
                    ctx.timed_out = is_timeout(&error);
                    self.backend_failed(ctx, to, blame(step, &error), &describe(&error));
                }
            }
        };
        let Some(switching) = answered else {
            self.backend_succeeded(ctx, to);
            return Outcome::Refused { backend, read };
        };
        if let Err(bad) = switching.verify(offer) {
            self.backend_failed(ctx, to, Blame::Backend(FailureKind::Handshake), &bad.to_string());
            return Outcome::Failed(Answer::backend_failed());
        }
        self.backend_succeeded(ctx, to);
        to.metrics.handshake_seconds.observe(since.elapsed().as_secs_f64());
        let early = read.get(switching.length..).unwrap_or_default().to_vec();
        Outcome::Switched { backend, switching, early }
    }

    /// Passes the 101 on.
    async fn pass_on(&self, client: &mut Connection, mut switching: Switching, begun: &Begun) -> Result<()> {
        let head = switching.finish(begun.ctx.set_cookie(), begun.ctx.id());
        let until = Instant::now() + begun.to.upstream.config().timeouts.write;
        let mut written = 0;
        while written < head.len() {
            let count = client.write(&head[written..], until).await;
            written += count.map_err(|error| error_of(ErrorType::WriteError, error).into_down())?;
        }
        Ok(())
    }

    /// Makes a tunnel of both connections.
    fn switch_on_worker(
        &self,
        client: Connection,
        backend: Connection,
        early: Sides<Vec<u8>>,
        begun: Begun,
    ) -> Option<Shaken> {
        let Begun { mut ctx, to, .. } = begun;
        let limits = to.upstream.config().tunnel;
        watch_for_loss(&client, &backend, limits.tcp_user_timeout);
        let record = record(&mut ctx, &to)?;
        let (client, backend) = (client.into(), backend.into());
        let tunnel = NewTunnel { client, backend, early, limits, record, hooks: None };
        Some(Shaken { tunnel, under_way: ctx.into_under_way() })
    }

    /// Ends a request that a worker began with.
    pub(super) async fn end_carried(&self, session: &mut Session, ctx: &mut Ctx, carried: Carried) -> Result<()> {
        *ctx = carried.ctx;
        let timeouts = ctx.target().map(|target| target.to.upstream.config().timeouts);
        if let Some(timeouts) = timeouts {
            session.set_read_timeout(Some(timeouts.read));
            session.set_write_timeout(Some(timeouts.write));
        }
        session.set_pipelining_enabled(false);
        match carried.ending {
            Ending::Answer(answer) => self.answer(session, ctx, answer).await,
            Ending::Gone(error) => Err(error),
            Ending::Refusal(mut backend) => {
                backend.read_response().await.map_err(Error::into_up)?;
                self.relay(session, ctx, *backend).await
            }
        }
    }
}

/// Sends a backend the request and reads the head of its final answer, which `read` begins with then: a 101, or another. On
/// failure says which step failed.
async fn ask(
    client: &Connection,
    address: SocketAddr,
    request: &[u8],
    to: &Destination,
    read: &mut Vec<u8>,
    until: Instant,
) -> std::result::Result<(Connection, Option<Switching>), (FailureKind, Box<Error>)> {
    let timeouts = &to.upstream.config().timeouts;
    let since = Instant::now();
    let connecting = |error| (FailureKind::Connect, connect_error(error));
    let mut backend = client.reach(address).map_err(connecting)?;
    let mut sent = backend.write(request, until.min(since + timeouts.connect)).await.map_err(connecting)?;
    to.metrics.connect_seconds.observe(since.elapsed().as_secs_f64());
    let failed = |kind: ErrorType, late: ErrorType| {
        move |error: io::Error| {
            (FailureKind::Handshake, error_of(if error.kind() == io::ErrorKind::TimedOut { late } else { kind }, error))
        }
    };
    while sent < request.len() {
        let until = until.min(Instant::now() + timeouts.write);
        let written = backend.write(&request[sent..], until).await;
        sent += written.map_err(failed(ErrorType::WriteError, ErrorType::WriteTimedout))?;
    }
    loop {
        let until = until.min(Instant::now() + timeouts.read);
        let count = backend.read_later(read, until).await;
        if count.map_err(failed(ErrorType::ReadError, ErrorType::ReadTimedout))? == 0 {
            return Err((FailureKind::Handshake, Error::new(ErrorType::ConnectionClosed)));
        }
        loop {
            match Answered::read(read) {
                Ok(Answered::Partly) if read.len() <= LONGEST_HEAD => break,
                Ok(Answered::Interim(length)) => drop(read.drain(..length)),
                Ok(Answered::Switching(switching)) => return Ok((backend, Some(switching))),
                Ok(Answered::Refusal) => return Ok((backend, None)),
                Ok(Answered::Partly) | Err(_) => {
                    return Err((FailureKind::Handshake, Error::new(ErrorType::InvalidHTTPHeader)));
                }
            }
        }
    }
}

/// What connecting failed with, in Pingora's words.
fn connect_error(error: io::Error) -> Box<Error> {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ErrorType::ConnectNoRoute,
        _ => ErrorType::ConnectError,
    };
    error_of(kind, error)
}

fn error_of(kind: ErrorType, error: io::Error) -> Box<Error> {
    if error.raw_os_error().is_some() { Error::because(kind, "", error) } else { Error::new(kind) }
}

/// How long a client may say nothing at all. As with Pingora.
const FIRST_BYTES: Duration = Duration::from_secs(60);
/// The longest head of a backend's. As with Pingora.
const LONGEST_HEAD: usize = 1024 * 1024;
