//! Requests, in Pingora's phases: refused, upgraded by the handshake engine, or carried out on Pingora's own path.

mod answer;
mod context;
mod cookies;
mod error;
pub(super) mod headers;
mod hooks;
pub(super) mod keeping;
mod log;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::log::{debug, warn};
use async_trait::async_trait;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::held::NotHeld;
use super::rewind::Rewind;
use super::waits::Behind;
use super::{Gateway, as_written, connector};
use crate::dial::TryError;
use crate::hook::Answer;
use crate::http1::RequestRefused;
use crate::metrics::UpstreamRefusal;
use crate::snapshot::{Destination, GatewayPhase};
use crate::upstream::{Demand, FailedStep, FailedTry, NotAdmitted};
use crate::ws::handshake::UpgradeKind;
pub use context::Ctx;
use context::tries::is_of_one_backend;
use error::{answer_to, blame, client_is_gone, describe, no_destination, refusal};
pub(super) use headers::request_id;
use hooks::Classified;

#[async_trait]
impl ProxyHttp for Gateway {
    /// On the heap, because Pingora moves it from one future into the next.
    type CTX = Box<Ctx>;

    fn new_ctx(&self) -> Box<Ctx> {
        Box::new(Ctx::new(&self.running))
    }

    /// None: Pingora's own would look at every answer for something to compress, and be told never to.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    /// Decides what a request is: refused, an upgrade (carried out here), or plain HTTP for Pingora's own path.
    async fn request_filter(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<bool> {
        if let Some(continuation) = session.downstream_session.stream().and_then(Rewind::continuation) {
            self.continue_with(session, ctx, *continuation).await?;
            return Ok(true);
        }
        let wanted = match self.receive(session, ctx) {
            Ok(wanted) => wanted,
            Err(answer) => {
                self.answer(session, ctx, answer).await?;
                return Ok(true);
            }
        };
        if limit_body(session, ctx) {
            return self.refuse_body(session, ctx).await;
        }
        let asked = match ctx.hooks {
            None => Ok(wanted),
            // On the heap, so that requests without hooks are not given room for it.
            Some(_) => Box::pin(ctx.ask_hooks(session, wanted, &self.running.injector)).await,
        };
        let answer = match asked {
            Ok(_) if ctx.leads_nowhere() => Answer::no_route(),
            Ok(wanted) => return self.carry_out(session, ctx, wanted).await,
            Err(answer) => answer,
        };
        self.answer(session, ctx, answer).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let mut to = ctx.destination().ok_or_else(no_destination)?;
        // A backend that is still at work is asked again: a connection that was kept alive had died under the request.
        let address = match &ctx.pick {
            Some(pick) => pick.state.address(),
            None => {
                let client = Behind { client: session.downstream_session.stream().and_then(Rewind::tcp) };
                self.hold_request(client, ctx, &mut to).await?;
                ctx.choose(&to, Demand::Request, None).await.map_err(|answer| ctx.fail_with(answer))?
            }
        };
        ctx.connecting = Some(Instant::now());
        let client = ctx.passed_on(&to, || session.server_addr()?.as_inet().copied());
        let timeouts = to.upstream.config().timeouts;
        let mut peer = Box::new(connector::peer(&self.dialer, &to.layers, address, client, timeouts));
        if let Some(encoded) = &ctx.encoded {
            as_written::restore(&mut peer, encoded);
        }
        Ok(peer)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        _: Option<&Digest>,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        // A connection that was kept alive cost nothing to connect.
        if let (false, Some(begun), Some(to)) = (reused, ctx.connecting, ctx.to()) {
            to.metrics.connect_seconds.observe(begun.elapsed().as_secs_f64());
        }
        Ok(())
    }

    /// A backend that cannot be reached costs the client nothing: the next one is asked.
    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Self::CTX,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let Some(to) = ctx.destination() else { return error };
        // The connector gives no other error.
        let Some(failed) = error.root_cause().downcast_ref::<TryError>().cloned() else { return error };
        self.try_failed(ctx, &to, FailedStep::Connect, &failed);
        match failed {
            // No other backend is reached either.
            TryError::Local(shortage, _) if !is_of_one_backend(shortage) => {
                ctx.answer = Some(Answer::gateway_is_short());
                error.set_retry(false);
            }
            _ => error.set_retry(true),
        }
        error
    }

    /// Notes a request that failed at its backend after it was sent. Pingora repeats those that may be repeated where
    /// the backend had closed a connection that was kept alive: that is no failure.
    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        ctx: &mut Self::CTX,
        client_reused: bool,
    ) -> Box<Error> {
        if session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated() {
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        let answered = log::answered(session).is_some();
        if error.esource() == &ErrorSource::Upstream
            && error.etype() == &ErrorType::ReadTimedout
            && Rewind::awaits_body(session.downstream_session.stream())
        {
            // The backend has what came of the request, and cannot answer it before the client has sent the rest.
            ctx.refused = Some(RequestRefused::BodySlow);
            ctx.answer = Answer::refused(RequestRefused::BodySlow);
            return error;
        }
        if let (false, false, Some(to), Some(pick)) = (error.retry(), answered, ctx.destination(), &ctx.pick)
            && *error.esource() == ErrorSource::Upstream
        {
            // It stays the backend of the request: the access log names it.
            let (index, reason) = (pick.index, describe(&error));
            let blame = blame(FailedStep::Request, &error);
            let (client, on_trial) = (ctx.client_address(), pick.guard.is_on_trial());
            to.try_failed(index, &FailedTry { blame, client, on_trial, reason: &reason });
        }
        error
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        match &ctx.request {
            Some(described) => headers::identify(request, described, |headers| {
                ctx.edit_request(headers);
                if let Some(pick) = &ctx.pick {
                    headers::name_host(headers, pick.guard.state().address());
                }
            }),
            None => Ok(()),
        }
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut Self::CTX,
    ) -> Result<()> {
        if response.status == http::StatusCode::SWITCHING_PROTOCOLS {
            // Requests for an upgrade take another way: nobody asked for this one (RFC 9110 §7.8).
            return Err(ctx.fail_with(Answer::backend_failed()).into_up());
        }
        if response.status.is_informational() {
            // 100 and 103 precede the answer; what is ours stands in the answer itself.
            return Ok(());
        }
        headers::reframe(response).map_err(|why| {
            debug!("an answer is refused: {why} (request {})", ctx.id());
            ctx.fail_with(Answer::backend_failed()).into_up()
        })?;
        if let Some(to) = ctx.to() {
            self.backend_succeeded(ctx, to);
        }
        ctx.on_response(response).await.map_err(|answer| ctx.fail_with(answer))?;
        if session.req_header().version < http::Version::HTTP_11 && headers::drop_chunks(response) {
            session.set_keepalive(None);
        }
        self.close_after_the_last(session);
        headers::decorate(response, ctx)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Self::CTX) -> FailToProxy {
        if let Some(refused) = ctx.refused.or_else(|| refusal(error)) {
            Rewind::count_refusal(session.downstream_session.stream(), refused.as_str());
        }
        if ctx.taken_over || client_is_gone(error) {
            debug!("client is gone: {error} (request {})", ctx.id());
            return FailToProxy { error_code: log::CLIENT_GONE, can_reuse_downstream: false };
        }
        let answer = ctx.answer.take().unwrap_or_else(|| answer_to(error));
        let status = answer.status().as_u16();
        if !matches!(error.etype(), ErrorType::HTTPStatus(_)) {
            let reason = refusal(error).map_or(error.etype().as_str(), RequestRefused::as_str);
            warn!("a request failed with {status} ({reason}): {error} (request {})", ctx.id());
        }
        if log::answered(session).is_some() {
            // Cut off: only an early end tells the client that its answer is not whole.
            session.downstream_session.shutdown().await;
            return FailToProxy { error_code: status, can_reuse_downstream: false };
        }
        // Pingora closes the connection of a request that failed, so the answer has to say so.
        session.set_keepalive(None);
        if let Err(error) = self.answer(session, ctx, answer).await {
            debug!("client is gone: {error} (request {})", ctx.id());
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    /// Every failure is logged once, in `fail_to_proxy`.
    fn suppress_error_log(&self, _: &Session, _: &Self::CTX, _: &Error) -> bool {
        true
    }

    /// Every failed try is logged once, in `fail_to_connect`.
    fn suppress_proxy_warn_log(&self, _: &Session, _: &Self::CTX, _: &Error, _: ProxyWarnLogContext) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Self::CTX) {
        if !ctx.taken_over {
            self.record(session, error, ctx);
        }
    }
}

impl Gateway {
    /// Makes the answer say that it is the connection's last one (RFC 9112 §9.6) while the gateway drains, and where
    /// the connection has had as many requests as it may.
    pub(super) fn close_after_the_last(&self, session: &mut Session) {
        let is_last = || session.downstream_session.stream().is_some_and(Rewind::is_last);
        if self.running.phases.now() != GatewayPhase::Serving || is_last() {
            session.set_keepalive(None);
        }
    }

    /// Finds a request's client, route and key, and admits the request. Returns what its header asks for.
    ///
    /// # Errors
    /// The request goes no further: the answer to it.
    fn receive(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Classified, Answer> {
        let arrival = Rewind::arrival(session.downstream_session.stream());
        let unwanted = ctx.snapshot.unwanted(arrival.peer.ip());
        headers::drop_unwanted(session.req_header_mut(), unwanted);
        ctx.encoded = session.downstream_session.stream().and_then(Rewind::encoded);
        ctx.describe(session, &arrival);
        if let Some(unclear) = ctx.unclear {
            Rewind::count_refusal(session.downstream_session.stream(), unclear.as_str());
            ctx.failure = Some(unclear.as_str().to_owned());
            return Err(Answer::unclear(unclear));
        }
        if let Some(port) = ctx.redirect() {
            return Err(Answer::use_https(headers::host(session.req_header()), &session.req_header().uri, port));
        }
        let wanted = hooks::classify(session, ctx.is_lenient());
        let admitted = match &wanted {
            Ok(UpgradeKind::WebSocket(_)) => self.admit_handshake(ctx),
            _ => self.admit_request(ctx),
        };
        admitted.inspect_err(|_| count_refusal(session, ctx))?;
        if ctx.target().is_none() { Err(Answer::no_route()) } else { Ok(wanted) }
    }

    /// Carries out an upgrade, and returns true. Returns false for plain HTTP, which Pingora carries out.
    async fn carry_out(&self, session: &mut Session, ctx: &mut Ctx, wanted: Classified) -> Result<bool> {
        let timeouts = ctx.to().ok_or_else(no_destination)?.upstream.config().timeouts;
        session.set_read_timeout(Some(timeouts.read));
        match wanted {
            Ok(UpgradeKind::Plain) => Ok(false),
            Ok(UpgradeKind::DropUpgrade) => {
                headers::drop_upgrade(session.req_header_mut());
                Ok(false)
            }
            Ok(UpgradeKind::WebSocket(offer)) => {
                let to = ctx.destination().ok_or_else(no_destination)?;
                // On the heap for the same reason as hooks.
                Box::pin(self.upgrade(session, ctx, to, offer)).await?;
                Ok(true)
            }
            Err(refused) => {
                self.answer(session, ctx, Answer::upgrade_refused(refused)).await?;
                Ok(true)
            }
        }
    }

    /// Waits while the backend that a plain request belongs to is away.
    async fn hold_request(&self, mut client: Behind<'_>, ctx: &mut Ctx, to: &mut Arc<Destination>) -> Result<()> {
        if to.upstream.config().absent.is_none() {
            return Ok(());
        }
        // On the heap, so that requests of other upstreams are not given room for it.
        match Box::pin(self.hold(&mut client, ctx, to)).await {
            Ok(()) => Ok(()),
            Err(NotHeld::Draining) => {
                ctx.not_admitted(to, UpstreamRefusal::Draining);
                Err(ctx.fail_with(Answer::no_turn(NotAdmitted::Draining, Duration::from_secs(1))))
            }
            Err(NotHeld::Left) => {
                ctx.not_admitted(to, UpstreamRefusal::Left);
                Err(Error::explain(ErrorType::WriteError, "the client left while it waited").into_down())
            }
        }
    }

    /// Answers a request whose body is announced to be longer than its route takes, before anybody is asked.
    async fn refuse_body(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        let refused = RequestRefused::BodySize;
        Rewind::count_refusal(session.downstream_session.stream(), refused.as_str());
        ctx.refused = Some(refused);
        // What comes of the body is read for a while only.
        session.set_keepalive(None);
        let answer = Answer::refused(refused).unwrap_or_else(Answer::gateway_failed);
        self.answer(session, ctx, answer).await?;
        Ok(true)
    }

    /// Gives an answer of our own.
    pub(super) async fn answer(&self, session: &mut Session, ctx: &mut Ctx, answer: Answer) -> Result<()> {
        self.close_after_the_last(session);
        if ctx.short {
            // A connection that is kept keeps a descriptor.
            session.set_keepalive(None);
        }
        let sent = answer.send(session, ctx.id(), ctx.hsts()).await;
        // The log says what the client was told.
        ctx.answer = Some(answer);
        sent?;
        // A connection closed with unread bytes is reset, and the answer may be lost with it (RFC 9112 §9.6): what is
        // left of a body that nobody wants is read first, for a while.
        session.set_total_drain_timeout(Some(DRAIN_UNWANTED_BODY));
        if let Err(error) = session.drain_request_body().await {
            debug!("an unwanted body did not end: {error} (request {})", ctx.id());
        }
        Ok(())
    }
}

/// Limits the body of a request as its route asks for; true if it is announced to be longer.
fn limit_body(session: &Session, ctx: &Ctx) -> bool {
    let Some(most) = ctx.target().and_then(|target| target.body_size) else { return false };
    Rewind::limit_body(session.downstream_session.stream(), most);
    headers::length(session.req_header()).is_some_and(|length| length > most)
}

/// Counts a request that is not admitted at the listener that it came by.
pub(super) fn count_refusal(session: &Session, ctx: &Ctx) {
    if let Some(reason) = ctx.admitted.refused {
        Rewind::count_refusal(session.downstream_session.stream(), reason.as_str());
    }
}

const DRAIN_UNWANTED_BODY: Duration = Duration::from_secs(5);
