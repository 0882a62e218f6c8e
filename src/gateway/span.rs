//! Spans of requests and handshakes, with the attributes that OpenTelemetry's conventions for HTTP name.

use std::time::Duration;

use http::Method;

use super::Gateway;
use super::request::Ctx;
use crate::affinity::KeySource;
use crate::hook::TunnelId;
use crate::trace::Span;

impl Gateway {
    /// Exports the span of a request that was answered with `status`, or of a handshake that opened a tunnel.
    pub(super) fn trace(&self, ctx: &Ctx, status: u16, took: Duration, tunnel: Option<TunnelId>) {
        let Some(request) = &ctx.request else { return };
        self.running.tracer.record(request.trace.as_ref(), |context| {
            let route = ctx.target().map(|target| &*target.route);
            let pick = ctx.pick.as_ref();
            let method = method(&request.method);
            let name = match route {
                Some(route) => format!("{method} {route}"),
                None => method.to_owned(),
            };
            let (host, port) = authority(&request.host);
            let span = Span::ending_now(context, name, took)
                .text("http.request.method", method)
                .text("url.scheme", if request.client.secure { "https" } else { "http" })
                .text("server.address", host)
                .text("url.path", request.path.as_str())
                .status(status)
                .text("client.address", request.client.address.to_string())
                .peer(request.arrival.peer)
                .maybe("http.route", route)
                .maybe(
                    "longhaul.upstream",
                    ctx.to().filter(|_| !ctx.leads_nowhere()).map(|to| to.upstream.config().name.as_str()),
                )
                .maybe("longhaul.backend", pick.map(|pick| pick.state.address().to_string()))
                .text("longhaul.key_source", KeySource::name_of(ctx.key_source()))
                .number("longhaul.tries", ctx.tries())
                .text("longhaul.request_id", request.id.as_str());
            let span = span.maybe("longhaul.tunnel", tunnel.map(|id| id.to_string()));
            match port {
                Some(port) => span.number("server.port", port.into()),
                None => span,
            }
        });
    }
}

/// Name and port of a `Host` header. An IPv6 address has colons of its own, within brackets.
fn authority(host: &str) -> (&str, Option<u16>) {
    let split = host.rsplit_once(':').and_then(|(name, port)| Some((name, Some(port.parse().ok()?))));
    split.unwrap_or((host, None))
}

/// The method, where it is one of RFC 9110 and RFC 5789: a client must not make up names of spans.
fn method(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::DELETE => method.as_str(),
        Method::CONNECT | Method::OPTIONS | Method::TRACE | Method::PATCH => method.as_str(),
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::authority;

    #[test]
    fn a_port_is_no_part_of_the_name() {
        for (host, expected) in [
            ("chat.example.com", ("chat.example.com", None)),
            ("chat.example.com:8443", ("chat.example.com", Some(8443))),
            ("[2001:db8::1]:80", ("[2001:db8::1]", Some(80))),
            ("[2001:db8::1]", ("[2001:db8::1]", None)),
            ("", ("", None)),
        ] {
            assert_eq!(authority(host), expected, "{host}");
        }
    }
}
