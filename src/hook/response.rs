//! A backend's answer, and a log line, as hooks see them.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::http::ResponseHeader;

use super::error::{Error, Result};

/// The header of a backend's answer, before it goes to the client.
pub struct Response<'r> {
    header: &'r mut ResponseHeader,
}

impl<'r> Response<'r> {
    /// A view of an answer's header.
    #[doc(hidden)]
    pub fn new(header: &'r mut ResponseHeader) -> Self {
        Self { header }
    }

    /// The status; 101 where a tunnel opens.
    pub fn status(&self) -> StatusCode {
        self.header.status
    }

    /// Returns true for a 101, which opens a tunnel.
    pub fn is_upgrade(&self) -> bool {
        self.header.status == StatusCode::SWITCHING_PROTOCOLS
    }

    /// Changes the status of an answer that is not a 101.
    ///
    /// # Errors
    /// The status is not a final one; the answer is a 101; or one of both statuses is never followed by a body (204,
    /// 304) and the other one is.
    pub fn set_status(&mut self, status: u16) -> Result<()> {
        let status = StatusCode::from_u16(status)?;
        if status.is_informational() || self.is_upgrade() {
            return Err(Error::new("a 1xx status is not a hook's to give or to change"));
        }
        if is_bodiless(status) != is_bodiless(self.header.status) {
            return Err(Error::new(format!("{} cannot become {status}: one has a body", self.header.status)));
        }
        Ok(self.header.set_status(status)?)
    }

    /// The headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.header.headers
    }

    /// The first value of a header, where it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.header.headers.get(name)?.to_str().ok()
    }

    /// Sets a header, in place of all of its name.
    ///
    /// # Errors
    /// Name or value is none that HTTP allows, or the header frames the body.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = header(name, value.as_ref())?;
        Ok(self.header.insert_header(name, value)?)
    }

    /// Adds a header beside those of its name.
    ///
    /// # Errors
    /// Name or value is none that HTTP allows, or the header frames the body.
    pub fn append_header(&mut self, name: &str, value: impl AsRef<str>) -> Result<()> {
        let (name, value) = header(name, value.as_ref())?;
        self.header.append_header(name, value)?;
        Ok(())
    }

    /// Takes every header of a name out; not those that frame the body.
    pub fn remove_header(&mut self, name: &str) {
        if !frames_body(name) {
            self.header.remove_header(name);
        }
    }

    /// Pingora's own form of the header, for what is not covered here.
    pub fn pingora(&mut self) -> &mut ResponseHeader {
        self.header
    }
}

/// Returns true for a header that says where a body ends (RFC 9112 §6). Changing it without the body would make the
/// rest of the body a message of its own: request smuggling.
pub(super) fn frames_body(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
}

/// RFC 9110 §15.3.5 and §15.4.5.
fn is_bodiless(status: StatusCode) -> bool {
    matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// A header's name and value, parsed.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    if frames_body(name) {
        return Err(Error::new(format!("{name} frames the body, which is not a hook's to change")));
    }
    Ok((HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_str(value)?))
}

/// The log entry of a request, or of a tunnel at its end.
#[non_exhaustive]
pub struct Entry<'e> {
    /// `request` or `tunnel_end`.
    pub event: &'static str,
    /// The request's id.
    pub request_id: &'e str,
    /// The route, as `host path`.
    pub route: &'e str,
    /// The answer's status: 499 where the client went away before it was answered, 101 for a tunnel.
    pub status: u16,
    /// From the request's header to the end of the answer, or from the opening of the tunnel to its end.
    pub duration: Duration,
    pub(crate) added: Vec<(&'static str, String)>,
}

impl<'e> Entry<'e> {
    /// An entry without added fields.
    #[doc(hidden)]
    pub fn new(event: &'static str, request_id: &'e str, route: &'e str, status: u16, duration: Duration) -> Self {
        Self { event, request_id, route, status, duration, added: Vec::new() }
    }

    /// Adds a field to the line in the access log; a second one of the same name stands beside the first. At most 32
    /// are kept.
    pub fn add(&mut self, name: &'static str, value: impl Into<String>) {
        if self.added.len() < MOST_ADDED {
            self.added.push((name, value.into()));
        }
    }

    /// The fields that were added.
    pub fn added(&self) -> &[(&'static str, String)] {
        &self.added
    }
}

/// Lines are for people; a hook that adds without end must not fill the disk.
const MOST_ADDED: usize = 32;
