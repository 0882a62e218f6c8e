//! The access log line and the counts of a request that Pingora's own path served.

use http::StatusCode;
use pingora::{Error, ErrorType};
use pingora_proxy::Session;

use super::context::{Ctx, OwnedKey};
use super::error::describe;
use crate::affinity::KeySource;
use crate::gateway::Gateway;

impl Gateway {
    /// Counts and logs a request that has been answered, or that ended without an answer (status 499).
    pub(super) fn record(&self, session: &Session, error: Option<&Error>, ctx: &mut Ctx) {
        let status = answered(session).map_or(CLIENT_GONE, |status| status.as_u16());
        let elapsed = ctx.started.elapsed();
        let added = ctx.on_log(status, elapsed);
        let Some(request) = &ctx.request else { return };
        let to = ctx.to();
        match to {
            Some(to) => {
                to.metrics.request(status);
                to.metrics.request_seconds.observe(elapsed.as_secs_f64());
            }
            None => self.running.metrics.refused(status),
        }
        self.trace(ctx, status, elapsed, None);
        self.running.log.write("request", |line| {
            let pick = ctx.pick.as_ref();
            // Where no backend was left, the last one's failure is the reason.
            let no_backend = ctx.failure.clone().filter(|_| pick.is_none());
            let refused = ctx.refused.map(|refused| refused.as_str().to_owned());
            let line = line
                .text("request_id", &request.id)
                .text("client", request.client.address)
                .text("peer", request.arrival.peer)
                .text("method", &request.method)
                .text("host", &request.host)
                .text("path", &request.path)
                .number("status", status.into())
                .text("scheme", if request.client.secure { "https" } else { "http" })
                .maybe("tls", request.arrival.tls.as_ref().map(|tls| tls.version))
                .maybe("certificate", request.arrival.certificate().map(|certificate| &certificate.fingerprint))
                .maybe("route", ctx.target().map(|target| &target.route))
                .maybe("upstream", to.filter(|_| !ctx.leads_nowhere()).map(|to| &to.upstream.config().name))
                .maybe("backend", pick.map(|pick| pick.state.address()))
                .maybe("backend_name", pick.and_then(|pick| pick.state.own_name()))
                .maybe("picked", pick.map(|pick| pick.how.as_str()))
                .text("key_source", KeySource::name_of(ctx.key_source()))
                .maybe("key", request.key.as_ref().map(OwnedKey::digest))
                .number("tries", ctx.tries())
                .number("duration_ms", u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
                .number("bytes_in", session.body_bytes_read() as u64)
                .number("bytes_out", session.body_bytes_sent() as u64)
                .maybe("trace_id", request.trace.map(|trace| trace.trace))
                .maybe("error", refused.or(no_backend).or_else(|| fault(error, ctx)));
            added.into_iter().fold(line, |line, (name, value)| line.text(name, value))
        });
    }
}

/// Pingora's error in a few words, unless that is only a status. Then, and where there is no error: the sentence by
/// which the client was told that the gateway cannot serve the request, or not now.
fn fault(error: Option<&Error>, ctx: &Ctx) -> Option<String> {
    let is_status = |error: &&Error| matches!(error.etype(), ErrorType::HTTPStatus(_));
    let told = || {
        let answer = ctx.answer.as_ref().filter(|answer| answer.own_body().is_none())?;
        let cannot_serve = answer.status().is_server_error() || answer.status() == StatusCode::TOO_MANY_REQUESTS;
        cannot_serve.then(|| answer.sentence().to_owned())
    };
    error.filter(|error| !is_status(error)).map(describe).or_else(told).or_else(|| error.map(describe))
}

/// The status of the answer that the client has, or has begun to get; a 1xx is none (RFC 9110 §15.2).
pub(super) fn answered(session: &Session) -> Option<StatusCode> {
    session.response_written().map(|response| response.status).filter(|status| !status.is_informational())
}

/// nginx's status for a client that went away before it was answered.
pub(super) const CLIENT_GONE: u16 = 499;
