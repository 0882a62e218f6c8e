//! The WebSocket handshake: offered to one backend after another, and switched, refused or failed.
//!
//! There is one engine for every client, [`Gateway::shake_hands`]. A driver reads the client's request, gives it to the
//! engine, and passes the outcome on. The driver `worker` serves clients whose request a worker reads, and `session`
//! those whose request Pingora reads.

mod again;
mod arriving;
mod in_progress;
pub mod offer;
mod session;
mod turn;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use http::StatusCode;
use log::debug;

use super::Gateway;
use super::request::Ctx;
use super::waits::Waits;
use crate::admission::HandshakeGuard;
use crate::config::TunnelLimits;
use crate::dial::{Answered, Dial, ExchangeLimits, HeadExchange, PassedOn, Secured, Tcp, Transport, TryError};
use crate::hook::{Answer, TunnelId};
use crate::http1::ResponseHead;
use crate::http1::forward::{Edited, switching_response};
use crate::snapshot::Destination;
use crate::socket::keepalive;
use crate::tls::Sealed;
use crate::tunnel::{Addresses, Connection, KeyMark, NewTunnel, Rare, Record, Socket};
use crate::upstream::{Blame, FailedStep, Ring};
use crate::ws::Sides;
use crate::ws::handshake::{self, BadAnswer, Offer};
use in_progress::InProgress;
use turn::HandshakeTurns;
pub(super) use worker::Continuation;
pub use worker::HandshakeHost;

/// A handshake as backends are offered it.
struct Offered {
    to: Arc<Destination>,
    offer: Offer,
    /// The head of the request, as backends are sent it.
    request: Vec<u8>,
    /// The client's connection, for backends that are sent a PROXY header.
    client: Option<PassedOn>,
}

/// A backend that switched protocols, its 101 verified.
struct Switched<S> {
    backend: Secured<S>,
    /// The head of the 101, as the client is sent it.
    head: Vec<u8>,
    /// Bytes that came behind the backend's head.
    early: Vec<u8>,
}

/// Outcome of a handshake that did not open a tunnel.
pub(super) enum HandshakeEnding {
    /// An answer of the gateway's own.
    Answer(Answer),
    /// A backend's answer other than 101.
    Refusal(RefusedUpgrade),
    /// The client left before it was answered.
    Gone(io::Error),
}

/// A backend's answer other than 101, to be relayed.
pub(super) struct RefusedUpgrade {
    pub(super) socket: TcpStream,
    /// The TLS session on the socket; `None` of a plain connection.
    pub(super) sealed: Option<Box<Sealed>>,
    pub(super) address: SocketAddr,
    /// Bytes that were read of it, the head first.
    pub(super) read: Vec<u8>,
}

/// An end of a tunnel that is about to open.
trait End: Transport + AsFd {
    /// The socket, for the tunnel's worker.
    fn into_socket(self) -> io::Result<Socket>;
}

impl End for Connection {
    fn into_socket(self) -> io::Result<Socket> {
        Ok(self.into())
    }
}

impl End for Tcp {
    fn into_socket(self) -> io::Result<Socket> {
        self.detach().map(Socket::from)
    }
}

impl<T: End> End for Secured<T> {
    fn into_socket(self) -> io::Result<Socket> {
        let (raw, sealed) = self.into_parts();
        let socket = raw.into_socket()?;
        Ok(match sealed {
            Some(sealed) => socket.with_tls(sealed),
            None => socket,
        })
    }
}

/// The head of a backend's final answer, judged.
enum Judged {
    /// Another status than 101.
    Refusal(u16),
    /// The 101 does not open the WebSocket that was asked for.
    Wrong(BadAnswer),
    /// The head for the client; empty where hooks are still to see it.
    Right(Vec<u8>),
}

impl Judged {
    /// Status of the answer.
    fn status(&self) -> u16 {
        match self {
            Self::Refusal(status) => *status,
            Self::Wrong(_) | Self::Right(_) => StatusCode::SWITCHING_PROTOCOLS.as_u16(),
        }
    }
}

impl Gateway {
    /// Offers a handshake to backends until one gives a final answer, and judges that.
    async fn shake_hands<D: Waits>(
        &self,
        dial: &mut D,
        ctx: &mut Ctx,
        offered: &mut Offered,
    ) -> Result<Switched<D::Stream>, HandshakeEnding> {
        self.admit_handshake(ctx).map_err(HandshakeEnding::Answer)?;
        ctx.hold_key(&offered.to).map_err(HandshakeEnding::Answer)?;
        self.offer(dial, ctx, offered).await
    }

    /// Offers a handshake that was admitted, or a further one of a tunnel that is re-attached.
    async fn offer<D: Waits>(
        &self,
        dial: &mut D,
        ctx: &mut Ctx,
        offered: &mut Offered,
    ) -> Result<Switched<D::Stream>, HandshakeEnding> {
        let (since, mut turns) = (Instant::now(), HandshakeTurns::default());
        let (backend, answered, _in_progress) = self.ask_backends(dial, ctx, offered, since, &mut turns).await?;
        let switched = self.finish(ctx, offered, backend, answered).await?;
        let taken = since.elapsed().saturating_sub(turns.waited(ctx));
        offered.to.metrics.handshake_seconds.observe(taken.as_secs_f64());
        Ok(switched)
    }

    /// Asks one backend after another, each when it is the client's turn there. The error is the ending where no
    /// backend gave an answer. A handshake counts as in progress while a backend is asked, but not while it waits for
    /// its turn.
    ///
    /// A connect that fails leads to the next backend, and so does a lack of source ports. A request that was sent goes
    /// to `tries` backends at the most, because it may be the request that makes them fail.
    async fn ask_backends<D: Waits>(
        &self,
        dial: &mut D,
        ctx: &mut Ctx,
        offered: &mut Offered,
        since: Instant,
        turns: &mut HandshakeTurns,
    ) -> Result<(Secured<D::Stream>, Answered<Judged>, InProgress), HandshakeEnding> {
        let timeouts = offered.to.upstream.config().timeouts;
        loop {
            let address = self.turn(dial, ctx, &mut offered.to, turns, since + timeouts.handshake).await?;
            let to = &offered.to;
            let Some(in_progress) = InProgress::begin(&self.running.metrics.handshakes_in_progress) else {
                ctx.pick = None;
                return Err(HandshakeEnding::Answer(Answer::too_many_handshakes()));
            };
            let (begun, until) = (Instant::now(), since + timeouts.handshake + turns.waited(ctx));
            let asked = self.ask(dial, address, ctx, offered, until).await;
            turn::note(ctx, to, begun, asked.as_ref().map(|(_, answered)| answered.judged.status()));
            match asked {
                Ok((backend, answered)) => return Ok((backend, answered, in_progress)),
                Err(error) if Instant::now() >= until && error.is_timeout() => {
                    let limit = humantime::format_duration(timeouts.handshake);
                    let reason = format!("no answer to the handshake within {limit}");
                    self.doubt(ctx, to, FailedStep::Handshake, &reason);
                    return Err(HandshakeEnding::Answer(Answer::too_slow()));
                }
                Err(error) => {
                    self.try_failed(ctx, to, FailedStep::Handshake, &error);
                    if let Some(answer) = ctx.answer_instead_of_a_try(to, &error) {
                        return Err(HandshakeEnding::Answer(answer));
                    }
                }
            }
        }
    }

    /// Asks one backend.
    async fn ask<D: Dial>(
        &self,
        dial: &D,
        address: SocketAddr,
        ctx: &Ctx,
        Offered { to, offer, request, client }: &Offered,
        until: Instant,
    ) -> Result<(Secured<D::Stream>, Answered<Judged>), TryError> {
        let timeouts = &to.upstream.config().timeouts;
        let limits = ExchangeLimits { until, connect: timeouts.connect, read: timeouts.read, write: timeouts.write };
        let since = Instant::now();
        let socket = self.dialer.begin(address).and_then(|socket| dial.stream(socket));
        let socket = socket.map_err(TryError::connect)?;
        let mut backend = if to.layers.are_none() {
            Secured::plain(socket)
        } else {
            // On the heap, so that handshakes with plain backends are not given room for it.
            Box::pin(to.layers.establish(socket, address, *client, until.min(since + timeouts.connect))).await?
        };
        let mut exchange = HeadExchange::new(request);
        exchange.connect(&mut backend, &limits).await?;
        let connected = Instant::now();
        to.metrics.connect_seconds.observe((connected - since).as_secs_f64());
        let judge = |head: &ResponseHead<'_>| judge(head, offer, ctx);
        let try_until = until.min(connected + timeouts.per_try);
        if ctx.may_try_another(to) && try_until < until {
            let answered = exchange.answer(&mut backend, &ExchangeLimits { until: try_until, ..limits }, &judge).await;
            match answered {
                // Where nobody else can be asked, waiting on is all that can be done for the client.
                Err(late) if late.is_timeout() && Instant::now() >= try_until && !ctx.has_another(to) => {}
                answered => return answered.map(|answered| (backend, answered)),
            }
        }
        exchange.answer(&mut backend, &limits, &judge).await.map(|answered| (backend, answered))
    }

    /// Ends the backends' part of a handshake: reports to health, shows the 101 to hooks, and makes the client's head.
    async fn finish<S: Transport>(
        &self,
        ctx: &mut Ctx,
        Offered { to, .. }: &Offered,
        backend: Secured<S>,
        answered: Answered<Judged>,
    ) -> Result<Switched<S>, HandshakeEnding> {
        let Answered { judged, length, mut read } = answered;
        let agreed = match judged {
            Judged::Refusal(_) => {
                self.backend_succeeded(ctx, to);
                return Err(refusal(backend, read, ctx));
            }
            Judged::Wrong(bad @ (BadAnswer::ProtocolNotOffered(_) | BadAnswer::ExtensionNotOffered(_))) => {
                // A client has this happen by not offering it, and nobody else need fail by it.
                self.backend_failed(ctx, to, FailedStep::Handshake, Blame::Client, &bad.to_string());
                return Err(HandshakeEnding::Answer(Answer::backend_failed()));
            }
            Judged::Wrong(bad) => Err(bad.to_string()),
            Judged::Right(head) => ctx.agree(&read).map(|()| head).map_err(|bad| bad.to_string()),
        };
        let mut head = agreed.map_err(|bad| {
            self.doubt(ctx, to, FailedStep::Handshake, &bad);
            HandshakeEnding::Answer(Answer::backend_failed())
        })?;
        self.backend_succeeded(ctx, to);
        if ctx.hooks.is_some() {
            head = ctx.on_switching(&read).await.map_err(HandshakeEnding::Answer)?;
        }
        Ok(Switched { backend, head, early: read.split_off(length) })
    }

    /// Makes a tunnel of both connections after the 101 was sent to the client. `early` are bytes that came behind the
    /// heads.
    fn tunnel(
        &self,
        ctx: &mut Ctx,
        to: &Destination,
        client: impl End,
        backend: impl End,
        early: Sides<Vec<u8>>,
    ) -> io::Result<Option<Box<NewTunnel>>> {
        let limits = ctx.limits(to);
        let inherited = TunnelLimits::default().tcp_user_timeout;
        if let Err(error) = keepalive::watch(&client, &backend, limits.tcp_user_timeout, inherited) {
            debug!("a tunnel's sockets cannot be watched for a lost peer: {error}");
        }
        let id = TunnelId::random();
        self.trace(ctx, StatusCode::SWITCHING_PROTOCOLS.as_u16(), ctx.started.elapsed(), Some(id));
        let Some(record) = record(ctx, to, id) else { return Ok(None) };
        let kept = ctx.kept(self.running.tunnels.heads());
        let hooks = ctx.hooks_of_tunnel(&record, &self.running.injector);
        let (client, backend) = (client.into_socket()?, backend.into_socket()?);
        Ok(Some(Box::new(NewTunnel { client, backend, early, limits, record, kept, hooks })))
    }
}

/// Judges the head of a backend's final answer.
fn judge(head: &ResponseHead<'_>, offer: &Offer, ctx: &Ctx) -> Judged {
    if head.status != StatusCode::SWITCHING_PROTOCOLS {
        return Judged::Refusal(head.status.as_u16());
    }
    match handshake::verify(offer, head.status, &head.lines[..]) {
        Err(bad) => Judged::Wrong(bad),
        Ok(()) if ctx.hooks.is_some() => Judged::Right(Vec::new()),
        Ok(()) => {
            let mut lines = ctx.edit_answer_lines(&head.lines);
            if let Some(keeping) = &ctx.keeping {
                keeping.edit_answer(lines.to_mut());
            }
            let fields = Edited { lines: &lines, by_hooks: None };
            Judged::Right(switching_response(fields, &ctx.of_ours(ctx.set_cookie_beside(&lines[..]))))
        }
    }
}

/// The backend's answer, to be relayed from its socket.
fn refusal(backend: Secured<impl Transport>, read: Vec<u8>, ctx: &Ctx) -> HandshakeEnding {
    let (backend, sealed) = backend.into_parts();
    let detached = backend.detach().and_then(|socket| {
        let address = socket.peer_addr()?;
        Ok(RefusedUpgrade { socket, sealed: sealed.map(Box::new), address, read })
    });
    detached.map_or_else(
        |error| {
            debug!("a backend's answer cannot be relayed: {error} (request {})", ctx.id());
            HandshakeEnding::Answer(Answer::gateway_failed())
        },
        HandshakeEnding::Refusal,
    )
}

/// The record of a tunnel; the context gives up its pick for it.
fn record(ctx: &mut Ctx, to: &Destination, id: TunnelId) -> Option<Record> {
    let route = ctx.target()?.route.clone();
    let mut guard = ctx.pick.take()?.guard;
    guard.mark_tunnel();
    guard.hold(ctx.held_key.take());
    let request = ctx.request.as_ref()?;
    let key = request.key.as_ref();
    Some(Record {
        id,
        generation: u32::try_from(ctx.snapshot.generation).unwrap_or(u32::MAX),
        request_id: request.id.as_str().into(),
        addresses: Addresses::new(request.client.address, request.arrival.peer),
        rare: Rare::of(request.client_tls(), request.trace.map(|trace| trace.trace)),
        route,
        key_source: ctx.key_source(),
        key: KeyMark::new(key.map(|key| key.digest()), key.map(|key| Ring::hash(&key.bytes))),
        by_hook: ctx.hooks.as_ref().is_some_and(|hooks| hooks.to().is_some()),
        guard,
        admitted: ctx.admitted.handshake.take().map(HandshakeGuard::opened),
        metrics: to.metrics.clone(),
    })
}
