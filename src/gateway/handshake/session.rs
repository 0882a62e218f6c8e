//! Handshakes behind Pingora's sessions: those of routes with hooks, and those whose request a worker left to Pingora.

use std::sync::Arc;
use std::time::Instant;

use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::client::HttpSession as BackendSession;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;
use tokio::io::AsyncWriteExt;

use super::{Continuation, HandshakeEnding, Offered, RefusedUpgrade, Switched};
use crate::dial::{self, Secured, Tcp};
use crate::gateway::Gateway;
use crate::gateway::request::{Ctx, count_refusal, headers};
use crate::gateway::rewind::{ClientWire, Rewind};
use crate::gateway::waits::Behind;
use crate::hook::Answer;
use crate::http1::forward::{Edited, upgrade_request};
use crate::http1::head::read_request;
use crate::snapshot::Destination;
use crate::ws::Sides;
use crate::ws::handshake::Offer;

impl Gateway {
    /// Carries out a WebSocket upgrade. The answer, a backend's or the gateway's own, has been written when this
    /// returns.
    pub(in crate::gateway) async fn upgrade(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        to: Arc<Destination>,
        mut offer: Offer,
    ) -> Result<()> {
        let Some(mut request) = request(session, ctx, &mut offer) else {
            return self.answer(session, ctx, Answer::new(400, "the request is malformed")).await;
        };
        let client = ctx.passed_on(&to, || session.server_addr()?.as_inet().copied());
        ctx.name_session(&mut request, client);
        let mut offered = Offered { to, offer, request, client };
        let mut behind = Behind { client: session.downstream_session.stream().and_then(Rewind::tcp) };
        match self.shake_hands(&mut behind, ctx, &mut offered).await {
            Ok(switched) => self.switch(session, ctx, &offered.to, switched).await,
            Err(ending) => {
                count_refusal(session, ctx);
                self.end(session, ctx, ending).await
            }
        }
    }

    /// Goes on with a request that a worker began and could not make a tunnel of.
    pub(in crate::gateway) async fn continue_with(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        continuation: Continuation,
    ) -> Result<()> {
        *ctx = *continuation.ctx;
        let timeouts = ctx.target().map(|target| target.to.upstream.config().timeouts);
        if let Some(timeouts) = timeouts {
            session.set_read_timeout(Some(timeouts.read));
        }
        self.end(session, ctx, continuation.ending).await
    }

    async fn end(&self, session: &mut Session, ctx: &mut Ctx, ending: HandshakeEnding) -> Result<()> {
        if session.downstream_session.stream().is_some_and(Rewind::has_more) {
            // They may be frames, and are nobody's now.
            session.set_keepalive(None);
        }
        match ending {
            HandshakeEnding::Answer(answer) => self.answer(session, ctx, answer).await,
            HandshakeEnding::Refusal(refusal) => self.relay(session, ctx, refusal).await,
            HandshakeEnding::Gone(error) => Err(Error::because(ErrorType::WriteError, "", error).into_down()),
        }
    }

    /// Relays a backend's answer that is not 101: status, headers, body.
    async fn relay(&self, session: &mut Session, ctx: &mut Ctx, refusal: RefusedUpgrade) -> Result<()> {
        let RefusedUpgrade { socket, sealed, address, read } = refusal;
        let failed = |error| Error::because(ErrorType::InternalError, "relaying", error);
        let socket = tokio::net::TcpStream::from_std(socket).map_err(failed)?;
        let wire = ClientWire::new(socket, sealed.map(|sealed| *sealed));
        let mut backend = BackendSession::new(Box::new(Rewind::of_backend(wire, address, read)));
        backend.read_timeout = ctx.to().map(|to| to.upstream.config().timeouts.read);
        backend.read_response().await.map_err(Error::into_up)?;
        let mut response = backend.resp_header().expect("an answer was read").clone();
        if let Err(answer) = ctx.on_response(&mut response).await {
            return self.answer(session, ctx, answer).await;
        }
        if headers::reframe(&mut response).is_err() {
            return self.answer(session, ctx, Answer::backend_failed()).await;
        }
        headers::refusal(&mut response)?;
        headers::decorate(&mut response, ctx)?;
        self.close_after_the_last(session);
        session.write_response_header(Box::new(response), false).await.map_err(Error::into_down)?;
        while let Some(body) = backend.read_body_bytes().await.map_err(Error::into_up)? {
            session.write_response_body(Some(body), false).await.map_err(Error::into_down)?;
        }
        session.write_response_body(None, true).await.map_err(Error::into_down)
    }

    /// Takes the client's connection out of Pingora's session, passes the 101 on, and opens the tunnel.
    async fn switch(
        &self,
        session: &mut Session,
        ctx: &mut Ctx,
        to: &Destination,
        Switched { backend, head, early }: Switched<Tcp>,
    ) -> Result<()> {
        let (mut client, ahead) = take_client(session).await?;
        let until = Instant::now() + to.upstream.config().timeouts.write;
        if let Err(error) = dial::write_all(&mut client, &head, until).await {
            return Err(Error::because(ErrorType::WriteError, "", error).into_down());
        }
        ctx.taken_over = true;
        let tunnel = self.tunnel(ctx, to, client, backend, Sides::new(ahead, early));
        if let Some(tunnel) = tunnel.map_err(|error| Error::because(ErrorType::InternalError, "a tunnel", error))? {
            self.running.tunnels.open(*tunnel);
        }
        Ok(())
    }
}

/// The request as backends are sent it; `None` where its head cannot be read again.
fn request(session: &Session, ctx: &mut Ctx, offer: &mut Offer) -> Option<Vec<u8>> {
    let ServerSession::H1(client) = &*session.downstream_session else { return None };
    let raw = client.get_headers_raw_bytes();
    let mut head = read_request(&raw).ok().flatten()?;
    let unwanted = ctx.snapshot.unwanted(ctx.request.as_ref()?.arrival.peer.ip());
    head.lines.retain(|line| !unwanted.holds(line.name));
    ctx.edit_request_lines(&mut head.lines);
    ctx.begin_keeping(&mut head.lines, offer);
    let header = session.req_header();
    let read = header.uri.path_and_query().map_or("/", |target| target.as_str());
    let encoded = ctx.encoded.as_ref().filter(|encoded| encoded.read == read);
    let target = encoded.map_or(read, |encoded| encoded.came.as_str());
    // Hooks may have changed what Pingora read; nobody else does.
    let by_hooks = ctx.hooks.as_ref().map(|_| {
        let mut headers = header.headers.clone();
        ctx.edit_request(&mut headers);
        headers
    });
    let fields = Edited { lines: &head.lines, by_hooks: by_hooks.as_ref() };
    Some(ctx.request.as_ref()?.with_origin(|origin| upgrade_request(target, fields, origin)))
}

/// Takes the client's connection out of a session whose request has no body, with the bytes that came behind the
/// request. The session stays behind without a connection.
async fn take_client(session: &mut Session) -> Result<(Secured<Tcp>, Vec<u8>)> {
    let failed = |what| Error::explain(ErrorType::InternalError, what);
    let (shell, _) = tokio::io::duplex(1);
    let shell = Box::new(ServerSession::new_http1(Box::new(shell)));
    let taken = std::mem::replace(&mut session.downstream_session, shell);
    let ServerSession::H1(client) = *taken else { return Err(failed("an upgrade that is not HTTP/1")) };
    let stream = Rewind::behind(client.into_inner());
    let mut stream = stream.ok_or_else(|| failed("a connection that no worker accepted"))?;
    let flushed = stream.flush().await;
    flushed.map_err(|error| Error::because(ErrorType::WriteError, "", error).into_down())?;
    let (stream, sealed, ahead) = stream.into_parts();
    Ok((Secured::of(Tcp::from(stream), sealed), ahead))
}
