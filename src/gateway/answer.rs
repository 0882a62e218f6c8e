//! Answers of our own: short, in text or JSON, with the request id and without internal details.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::{Error, Result};
use pingora_proxy::Session;

use super::forward::REQUEST_ID;

/// An answer that Longhaul gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    status: StatusCode,
    message: String,
    headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// An answer with this status and a sentence for whoever sees it.
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), headers: Vec::new() }
    }

    /// No route fits the request.
    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no route matches this host and path")
    }

    /// A backend was asked and failed.
    pub(super) fn backend_failed() -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "the backend failed to answer")
    }

    /// A backend took too long.
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, "the backend took too long to answer")
    }

    /// No backend is up; the client may try again `after` a while.
    pub(super) fn nobody_healthy(after: Duration) -> Self {
        let seconds = after.as_secs_f64().ceil().max(1.0);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no backend is available").with("Retry-After", format!("{seconds}"))
    }

    /// Adds a header.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The status.
    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    /// Writes the answer, in JSON where the client asks for it.
    pub(super) async fn send(&self, session: &mut Session, request_id: &str) -> Result<()> {
        let json = wants_json(&session.req_header().headers);
        let body = self.body(json, request_id);
        let mut response = ResponseHeader::build(self.status, Some(6 + self.headers.len()))?;
        let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
        response.insert_header(header::CONTENT_TYPE, kind)?;
        response.insert_header(header::CONTENT_LENGTH, body.len())?;
        response.insert_header(header::CACHE_CONTROL, "no-store")?;
        response.insert_header(REQUEST_ID, request_id)?;
        for (name, value) in &self.headers {
            response.insert_header(*name, value.as_str())?;
        }
        let bodiless = session.req_header().method == http::Method::HEAD;
        session.write_response_header(Box::new(response), bodiless).await.map_err(Error::into_down)?;
        if !bodiless {
            session.write_response_body(Some(body), true).await.map_err(Error::into_down)?;
        }
        Ok(())
    }

    fn body(&self, json: bool, request_id: &str) -> Bytes {
        let status = self.status.as_u16();
        let message = &self.message;
        if json {
            serde_json::json!({ "status": status, "error": message, "request_id": request_id }).to_string().into()
        } else {
            format!("{status} {message}\nrequest id: {request_id}\n").into()
        }
    }
}

/// Whether `Accept` names JSON and neither HTML nor plain text.
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
    fn retry_after_is_whole_seconds_and_never_zero() {
        let header = |after| Answer::nobody_healthy(after).headers[0].1.clone();
        assert_eq!(header(Duration::from_millis(200)), "1");
        assert_eq!(header(Duration::from_millis(2500)), "3");
    }
}
