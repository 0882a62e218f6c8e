//! WebSocket upgrades: the handshake with a backend, and the step from request to tunnel.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use futures::FutureExt;
use http::StatusCode;
use log::warn;
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession as BackendSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::context::Ctx;
use super::loss::watch_for_loss;
use super::takeover::take_over;
use super::{Gateway, forward};
use crate::config::Timeouts;
use crate::hook::Answer;
use crate::snapshot::Destination;
use crate::tunnel::{NewTunnel, Record};
use crate::upstream::{Blame, FailedTry, FailureKind, Ring};
use crate::ws::Sides;
use crate::ws::handshake::{self, Offer};

impl Gateway {
    /// Carries out a WebSocket upgrade. The answer, whoever gives it, has been written when this returns.
    pub(super) async fn upgrade(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        to: &Destination,
        offer: &Offer,
    ) -> Result<()> {
        let limit = to.upstream.config().timeouts.handshake;
        let begun = Instant::now();
        let answered = match tokio::time::timeout(limit, self.shake_hands(session, ctx, to)).await {
            Ok(Ok(backend)) => backend,
            Ok(Err(answer)) => return self.answer(session, ctx, answer).await,
            Err(_) => {
                let reason = format!("no answer to the handshake within {}", humantime::format_duration(limit));
                self.backend_failed(ctx, to, Blame::Backend(FailureKind::Handshake), &reason);
                return self.answer(session, ctx, Answer::too_slow()).await;
            }
        };
        let response = answered.resp_header().expect("the loop that read it ended with a header");
        if response.status != StatusCode::SWITCHING_PROTOCOLS {
            self.backend_succeeded(ctx, to);
            return self.relay(session, ctx, answered).await;
        }
        let verified = handshake::verify(offer, response.status, &response.headers).map_err(|bad| bad.to_string());
        if let Err(bad) = verified.and_then(|()| ctx.agree(&response.headers).map_err(|bad| bad.to_string())) {
            self.backend_failed(ctx, to, Blame::Backend(FailureKind::Handshake), &bad);
            return self.answer(session, ctx, Answer::backend_failed()).await;
        }
        self.backend_succeeded(ctx, to);
        to.metrics.handshake_seconds.observe(begun.elapsed().as_secs_f64());
        self.switch(session, ctx, to, answered).await
    }

    /// Asks one backend after another until one answers; the answer's header has been read then.
    async fn shake_hands(&self, session: &Session, ctx: &mut Ctx, to: &Destination) -> Result<BackendSession, Answer> {
        loop {
            let address = ctx.choose(to).await?;
            let timeouts = &to.upstream.config().timeouts;
            let begun = Instant::now();
            let stream = match self.connector.new_stream(&peer(address, timeouts)).await {
                Ok(stream) => stream,
                Err(error) => {
                    ctx.timed_out = is_timeout(&error);
                    self.backend_failed(ctx, to, blame(FailureKind::Connect, &error), &describe(&error));
                    continue;
                }
            };
            to.metrics.connect_seconds.observe(begun.elapsed().as_secs_f64());
            let mut backend = BackendSession::new(stream);
            backend.read_timeout = Some(timeouts.read);
            backend.write_timeout = Some(timeouts.write);
            match ask(&mut backend, session, ctx).await {
                Ok(()) => return Ok(backend),
                Err(error) => {
                    ctx.timed_out = is_timeout(&error);
                    self.backend_failed(ctx, to, blame(FailureKind::Handshake, &error), &describe(&error));
                }
            }
        }
    }

    /// Relays a backend's answer that is not 101: status, headers, body.
    pub(super) async fn relay(&self, session: &mut Session, ctx: &mut Ctx, mut backend: BackendSession) -> Result<()> {
        let mut response = backend.resp_header().expect("an answer was read").clone();
        if let Err(answer) = ctx.on_response(&mut response).await {
            return self.answer(session, ctx, answer).await;
        }
        forward::refusal(&mut response)?;
        forward::decorate(&mut response, ctx)?;
        session.write_response_header(Box::new(response), false).await.map_err(Error::into_down)?;
        while let Some(body) = backend.read_body_bytes().await.map_err(Error::into_up)? {
            session.write_response_body(Some(body), false).await.map_err(Error::into_down)?;
        }
        session.write_response_body(None, true).await.map_err(Error::into_down)
    }

    /// Passes the 101 on and makes a tunnel of both connections.
    async fn switch(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        to: &Destination,
        mut backend: BackendSession,
    ) -> Result<()> {
        let mut response = backend.resp_header().expect("a 101 was read").clone();
        if let Err(answer) = ctx.on_response(&mut response).await {
            return self.answer(session, ctx, answer).await;
        }
        forward::upgrade_response(&mut response)?;
        ctx.name_compression(&mut response)?;
        forward::decorate(&mut response, ctx)?;
        let from_backend = glued(backend.read_body_bytes());
        session.write_response_header(Box::new(response), false).await.map_err(Error::into_down)?;
        let mut from_client = glued(session.downstream_session.read_request_body());

        let (shell, _) = tokio::io::duplex(1);
        let shell = Box::new(ServerSession::new_http1(Box::new(shell)));
        let taken = std::mem::replace(&mut session.downstream_session, shell);
        ctx.taken_over = true;
        let ServerSession::H1(client) = *taken else {
            return Err(Error::explain(ErrorType::InternalError, "an upgrade came by something other than HTTP/1"));
        };
        let streams = take_over(client.into_inner()).and_then(|client| Ok((client, take_over(backend.into_inner())?)));
        let ((client, ahead), (backend, _)) =
            streams.map_err(|error| Error::because(ErrorType::InternalError, "taking over", error))?;
        from_client.extend(ahead);
        let limits = ctx.limits(to);
        watch_for_loss(&client, &backend, limits.tcp_user_timeout);
        let Some(record) = record(ctx, to) else { return Ok(()) };
        let hooks = ctx.hooks_of_tunnel(&record, &self.running.injector);
        self.running.tunnels.open(NewTunnel {
            client: client.into(),
            backend: backend.into(),
            early: Sides::new(from_client, from_backend),
            limits,
            record,
            hooks,
        });
        Ok(())
    }

    /// Charges the failed try to the party it is blamed on, and gives up the backend at work.
    pub(super) fn backend_failed(&self, ctx: &mut Ctx, to: &Destination, blame: Blame, reason: &str) {
        let Some(index) = ctx.give_up_on_pick() else { return };
        let address = to.upstream.states()[index].address();
        let what = match blame {
            Blame::Backend(kind) => kind.as_str(),
            Blame::Gateway(failure) => failure.as_str(),
            Blame::Client => "request",
        };
        warn!("{what} to backend {}/{address} failed: {reason} (request {})", to.upstream.config().name, ctx.id());
        to.try_failed(index, &FailedTry { blame, client: ctx.client_address(), reason }, &self.running.tunnels);
    }

    /// Notes that the backend at work answered.
    pub(super) fn backend_succeeded(&self, ctx: &Ctx, to: &Destination) {
        if let Some(pick) = &ctx.pick {
            to.try_succeeded(pick.index, ctx.client_address());
        }
    }
}

/// How to connect to a backend.
pub(super) fn peer(address: std::net::SocketAddr, timeouts: &Timeouts) -> HttpPeer {
    let mut peer = HttpPeer::new(address, false, String::new());
    peer.options.connection_timeout = Some(timeouts.connect);
    peer.options.read_timeout = Some(timeouts.read);
    peer.options.write_timeout = Some(timeouts.write);
    peer
}

/// Sends the upgrade request and reads the header of the final answer to it.
async fn ask(backend: &mut BackendSession, session: &Session, ctx: &Ctx) -> Result<()> {
    let mut request: RequestHeader = session.req_header().clone();
    forward::upgrade_request(&mut request)?;
    if let Some(described) = &ctx.request {
        forward::identify(&mut request, described)?;
    }
    backend.write_request_header(Box::new(request)).await?;
    loop {
        backend.read_response().await?;
        let status = backend.resp_header().map(|response| response.status);
        // 100, 102 and 103 precede the answer (RFC 9110 §15.2); they say nothing that matters to an upgrade.
        if status.is_some_and(|status| !status.is_informational() || status == StatusCode::SWITCHING_PROTOCOLS) {
            return Ok(());
        }
    }
}

/// Bytes that were read beyond a header: a session returns them at its first read, without waiting for more.
fn glued(read: impl Future<Output = Result<Option<Bytes>>>) -> Vec<u8> {
    // An end of the stream or an error is met again by the tunnel's first read.
    match read.now_or_never() {
        Some(Ok(Some(bytes))) => bytes.into(),
        _ => Vec::new(),
    }
}

pub(super) fn record(ctx: &mut Ctx, to: &Destination) -> Option<Record> {
    let route = ctx.target()?.route.clone();
    let mut guard = ctx.pick.take()?.guard;
    guard.mark_tunnel();
    let request = ctx.request.as_ref()?;
    Some(Record {
        request_id: request.id.as_str().into(),
        client: request.client.address,
        peer: request.peer,
        route,
        key_source: ctx.key_source(),
        key_digest: request.key.as_ref().map(|key| key.digest().into()),
        key_hash: request.key.as_ref().map(|key| Ring::hash(&key.bytes)),
        by_hook: ctx.hooks.as_ref().is_some_and(|hooks| hooks.to().is_some()),
        guard,
        metrics: to.metrics.clone(),
    })
}

/// Whether an error means that a backend took too long.
pub(super) fn is_timeout(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout
            | ErrorType::TLSHandshakeTimedout
    )
}

/// The party that an error at this step is charged to.
pub(super) fn blame(step: FailureKind, error: &Error) -> Blame {
    match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(cause) => Blame::of(step, cause),
        None => Blame::Backend(step),
    }
}

/// An error in a few words: its type, and what the system said.
pub(super) fn describe(error: &Error) -> String {
    match error.root_cause().downcast_ref::<std::io::Error>() {
        Some(cause) => format!("{}: {cause}", error.etype().as_str()),
        None => error.etype().as_str().to_owned(),
    }
}
