//! Answers of our own: short, in text or JSON, with the request id and without internal details.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::date::get_cached_date;
use pingora::{Error, Result};
use pingora_proxy::Session;

use crate::admission::RefusalReason;
use crate::hook::Answer;
use crate::http1::RequestRefused;
use crate::http1::forward::REQUEST_ID;
use crate::snapshot::Unclear;
use crate::upstream::NotAdmitted;
use crate::ws::handshake::UpgradeRefused;

impl Answer {
    /// No route fits the request.
    pub(in crate::gateway) fn no_route() -> Self {
        Self::new(404, "no route matches this host and path")
    }

    /// Programs could read the request in more than one way.
    pub(in crate::gateway) fn unclear(unclear: Unclear) -> Self {
        Self::new(400, unclear.to_string())
    }

    /// The request is refused; `None` where that is not said to the client.
    pub(in crate::gateway) fn refused(why: RequestRefused) -> Option<Self> {
        Some(Self::new(why.status()?.as_u16(), why.to_string()))
    }

    /// The same address by `https`, at `port` (308: method and body stay). A request that names no host has no address.
    pub(in crate::gateway) fn use_https(host: Option<&[u8]>, target: &Uri, port: u16) -> Self {
        let host = host.and_then(|host| std::str::from_utf8(host).ok()).filter(|host| !host.is_empty());
        let Some(host) = host else { return Self::new(400, "the Host header is missing") };
        // The port of this listener, which is not that of the other one. An IPv6 address has colons of its own.
        let bare = match host.rsplit_once(':') {
            Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
            _ => host,
        };
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        let path = target.path_and_query().map_or("/", |target| target.as_str());
        let path = if path.starts_with('/') { path } else { "/" };
        Self::new(308, "this address is served by https").header("location", format!("https://{bare}{port}{path}"))
    }

    /// A backend was asked and failed.
    pub(in crate::gateway) fn backend_failed() -> Self {
        Self::new(502, "the backend failed to answer")
    }

    /// A backend took too long.
    pub(in crate::gateway) fn too_slow() -> Self {
        Self::new(504, "the backend took too long to answer")
    }

    /// No backend is up; the client may try again `after` a while.
    pub(in crate::gateway) fn nobody_healthy(after: Duration) -> Self {
        let seconds = after.as_secs_f64().ceil().max(1.0);
        Self::new(503, "no backend is available").header("retry-after", format!("{seconds}"))
    }

    /// The gateway is short of something of its own, such as file descriptors.
    pub(in crate::gateway) fn gateway_is_short() -> Self {
        Self::new(503, "the gateway is at its limit").header("retry-after", "1")
    }

    /// The request is not admitted.
    pub(in crate::gateway) fn not_admitted(reason: RefusalReason) -> Self {
        // A reason without a status closes the connection before there is a request.
        let status = reason.status().unwrap_or(StatusCode::FORBIDDEN);
        let after = reason.retry_after().to_string();
        Self::new(status.as_u16(), reason.to_string()).header("retry-after", after)
    }

    /// As many handshakes are in progress as the gateway carries out at once.
    pub(in crate::gateway) fn too_many_handshakes() -> Self {
        Self::new(503, "too many handshakes are in progress").header("retry-after", "1")
    }

    /// Every backend carries as much as it may (`limits`).
    pub(in crate::gateway) fn all_full() -> Self {
        Self::new(503, "every backend is full").try_again_within(FULL)
    }

    /// The client's affinity key has as many tunnels as it may (`limits.per_key`).
    pub(in crate::gateway) fn key_is_full() -> Self {
        Self::new(429, "too many tunnels are open for this key").try_again_within(FULL)
    }

    /// The answer to a client that is not admitted to a backend. `wait` is the upper bound of its `Retry-After`.
    pub(in crate::gateway) fn no_turn(why: NotAdmitted, wait: Duration) -> Self {
        match why {
            NotAdmitted::QueueFull => Self::new(503, "too many clients wait for this backend").try_again_within(wait),
            NotAdmitted::Deadline => Self::new(503, "the wait for the backend took too long").try_again_within(wait),
            NotAdmitted::Draining => Self::new(503, "the gateway is shutting down").try_again_within(wait),
        }
    }

    /// Adds a `Retry-After` that is drawn from a second to `longest`, so that those who are refused together do not
    /// come back together.
    fn try_again_within(self, longest: Duration) -> Self {
        let seconds = rand::random_range(1..=longest.as_secs().max(1));
        self.header("retry-after", seconds.to_string())
    }

    /// The handshake breaks a rule.
    pub(in crate::gateway) fn upgrade_refused(refused: UpgradeRefused) -> Self {
        let answer = Self::new(refused.status().as_u16(), refused.to_string());
        match refused.status() {
            // RFC 9110 §15.5.22 asks for Upgrade, RFC 6455 §4.4 for the version.
            StatusCode::UPGRADE_REQUIRED => answer.header("upgrade", "websocket").header("sec-websocket-version", "13"),
            _ => answer,
        }
    }

    /// Something went wrong here that is no business of the client's.
    pub(in crate::gateway) fn gateway_failed() -> Self {
        Self::new(500, "the gateway failed")
    }

    /// Writes the answer; the sentence goes out in JSON where the client asks for it. `hsts` is the value of
    /// `Strict-Transport-Security`.
    pub(in crate::gateway) async fn send(
        &self,
        session: &mut Session,
        request_id: &str,
        hsts: Option<&HeaderValue>,
    ) -> Result<()> {
        let (kind, body) = match self.own_body() {
            Some(body) => (None, body.clone()),
            None if wants_json(&session.req_header().headers) => (Some("application/json"), self.json(request_id)),
            None => (Some("text/plain; charset=utf-8"), self.text(request_id)),
        };
        let mut response = ResponseHeader::build(self.status(), Some(6 + self.headers().len()))?;
        // RFC 9110 §8.6, §15.3.5 and §15.4.5: such an answer ends with its header, and has no length.
        let never_a_body = matches!(self.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if !never_a_body {
            response.insert_header(header::CONTENT_LENGTH, body.len())?;
        }
        if let (Some(kind), false) = (kind, never_a_body) {
            response.insert_header(header::CONTENT_TYPE, kind)?;
        }
        response.insert_header(header::CACHE_CONTROL, "no-store")?;
        for name in self.headers().keys() {
            response.remove_header(name);
        }
        for (name, value) in self.headers() {
            response.append_header(name, value)?;
        }
        response.insert_header(REQUEST_ID.as_str(), request_id)?;
        if let Some(hsts) = hsts {
            response.insert_header(header::STRICT_TRANSPORT_SECURITY, hsts)?;
        }
        let bodiless = never_a_body || session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(response), bodiless).await.map_err(Error::into_down)?;
        if !bodiless {
            session.write_response_body(Some(body), true).await.map_err(Error::into_down)?;
        }
        Ok(())
    }

    /// The whole answer as bytes, the last of its connection. `asked` are the fields of the request, as far as they
    /// could be read.
    pub(in crate::gateway) fn to_bytes(&self, asked: &HeaderMap, request_id: &str, bodiless: bool) -> Vec<u8> {
        let (kind, body) = match wants_json(asked) {
            true => ("application/json", self.json(request_id)),
            false => ("text/plain; charset=utf-8", self.text(request_id)),
        };
        let reason = self.status().canonical_reason().unwrap_or_default();
        let mut bytes = format!("HTTP/1.1 {} {reason}\r\n", self.status().as_u16()).into_bytes();
        let length = body.len().to_string();
        let date = get_cached_date();
        let own = [
            ("Content-Length", length.as_bytes()),
            ("Content-Type", kind.as_bytes()),
            ("Cache-Control", b"no-store"),
            ("Date", date.as_bytes()),
            ("Connection", b"close"),
            (REQUEST_ID.as_str(), request_id.as_bytes()),
        ];
        let added = self.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        for (name, value) in own.into_iter().chain(added) {
            bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        bytes.extend_from_slice(b"\r\n");
        if !bodiless {
            bytes.extend_from_slice(&body);
        }
        bytes
    }

    fn text(&self, request_id: &str) -> Bytes {
        format!("{} {}\nrequest id: {request_id}\n", self.status().as_u16(), self.sentence()).into()
    }

    fn json(&self, request_id: &str) -> Bytes {
        let status = self.status().as_u16();
        serde_json::json!({ "status": status, "error": self.sentence(), "request_id": request_id }).to_string().into()
    }
}

/// Longest `Retry-After` of a client that found everything full: tunnels end at any time.
const FULL: Duration = Duration::from_secs(15);

/// Tells if `Accept` names JSON and neither HTML nor plain text.
fn wants_json(headers: &HeaderMap) -> bool {
    let accept: Vec<u8> =
        headers.get_all(header::ACCEPT).iter().flat_map(|line| [line.as_bytes(), b","].concat()).collect();
    let accept = String::from_utf8_lossy(&accept).to_ascii_lowercase();
    let names = |kind: &str| accept.split(',').any(|entry| entry.split(';').next().map(str::trim) == Some(kind));
    let json = accept.split(',').any(|entry| {
        let kind = entry.split(';').next().unwrap_or_default().trim();
        kind == "application/json" || kind.ends_with("+json")
    });
    json && !names("text/html") && !names("text/plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT, value.parse().unwrap())])
    }

    #[test]
    fn json_goes_to_who_asks_for_json() {
        assert!(wants_json(&accept("application/json, */*;q=0.1")));
        assert!(wants_json(&accept("application/problem+json")));
        assert!(!wants_json(&accept("text/html,application/json;q=0.9")));
        assert!(!wants_json(&accept("*/*")));
        assert!(!wants_json(&HeaderMap::new()));
    }

    #[test]
    fn the_address_by_https_keeps_path_and_query_and_loses_the_port() {
        let location = |host: &str, target: &str, port| {
            let answer = Answer::use_https(Some(host.as_bytes()), &target.parse().unwrap(), port);
            assert_eq!(answer.status(), 308);
            answer.headers()["location"].to_str().unwrap().to_owned()
        };
        assert_eq!(location("a.example", "/b?c=d&e", 443), "https://a.example/b?c=d&e");
        assert_eq!(location("a.example:80", "/", 8443), "https://a.example:8443/");
        assert_eq!(location("[2001:db8::1]:80", "/x", 443), "https://[2001:db8::1]/x");
        assert_eq!(location("[2001:db8::1]", "/x", 443), "https://[2001:db8::1]/x");
        assert_eq!(location("a.example", "http://a.example/x?y", 443), "https://a.example/x?y");
        assert_eq!(location("a.example", "*", 443), "https://a.example/");
        assert_eq!(Answer::use_https(None, &"/".parse().unwrap(), 443).status(), 400);
    }

    #[test]
    fn clients_that_are_refused_together_come_again_at_different_times() {
        let drawn = |_| {
            let answer = Answer::no_turn(NotAdmitted::QueueFull, Duration::from_secs(10));
            answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap()
        };
        let drawn: std::collections::BTreeSet<_> = (0..400).map(drawn).collect();
        assert!(drawn.first() >= Some(&1) && drawn.last() <= Some(&10) && drawn.len() > 5, "{drawn:?}");
    }

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        let header = |after| Answer::nobody_healthy(after).headers()["retry-after"].clone();
        assert_eq!(header(Duration::from_millis(200)), "1");
        assert_eq!(header(Duration::from_millis(2500)), "3");
    }
}
