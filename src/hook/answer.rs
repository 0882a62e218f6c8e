//! Answers that hooks give instead of a backend.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

/// An answer of the gateway's own.
///
/// Its body is the one that [`body`](Self::body) sets. Without one, the gateway writes a sentence with the request's
/// id, as text, or as JSON where the client asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer(Box<Parts>);

/// Contents of an answer. They are on the heap, because many result types hold an answer and few results have one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    status: StatusCode,
    sentence: String,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Answer {
    /// An answer with this status and a sentence for its reader. A number that is not a final status (below 200, or
    /// above 999) is replaced by 500.
    pub fn new(status: u16, sentence: impl Into<String>) -> Self {
        let status = StatusCode::from_u16(status).ok().filter(|status| !status.is_informational());
        Self(Box::new(Parts {
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            sentence: sentence.into(),
            headers: HeaderMap::new(),
            body: None,
        }))
    }

    /// An answer that sends the client elsewhere (302).
    pub fn redirect(location: &str) -> Self {
        Self::new(302, "the page is elsewhere").header("location", location)
    }

    /// Adds a header. Leaves out, with a warning in the log, a header that HTTP does not allow, and those that frame
    /// the answer (`Content-Length`, `Transfer-Encoding`, `Connection`), which the gateway sets.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<str>) -> Self {
        let value = value.as_ref();
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) if !FRAMING.contains(&name) => drop(self.0.headers.append(name, value)),
            _ => {
                log::warn!(
                    "a hook's answer {} has a header {name:?} that cannot be sent; it is left out",
                    self.0.status
                )
            }
        }
        self
    }

    /// Replaces the sentence by this body, with its media type.
    #[must_use]
    pub fn body(mut self, media_type: &str, body: impl Into<Bytes>) -> Self {
        self.0.body = Some(body.into());
        self.0.headers.remove(header::CONTENT_TYPE);
        self.header("content-type", media_type)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The sentence.
    pub fn sentence(&self) -> &str {
        &self.0.sentence
    }

    /// The headers that were added.
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The body given by [`body`](Self::body), if there is one.
    pub fn own_body(&self) -> Option<&Bytes> {
        self.0.body.as_ref()
    }
}

const FRAMING: [HeaderName; 3] = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION];
