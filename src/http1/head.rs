//! Heads of requests and responses, read from the bytes that a connection begins with.

use std::mem::MaybeUninit;

use http::StatusCode;

use super::fields::FieldLine;

/// The head of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'b> {
    /// The method, as it came.
    pub method: &'b str,
    /// The request target, as it came.
    pub target: &'b str,
    /// The digit behind `HTTP/1.`.
    pub minor_version: u8,
    /// The field lines in their order.
    pub lines: Vec<FieldLine<'b>>,
    /// Length of the head in bytes, the blank line included.
    pub length: usize,
}

/// The head of a response.
#[derive(Debug, PartialEq, Eq)]
pub struct ResponseHead<'b> {
    /// The status.
    pub status: StatusCode,
    /// The field lines in their order.
    pub lines: Vec<FieldLine<'b>>,
    /// Length of the head in bytes, the blank line included.
    pub length: usize,
}

/// Why bytes are not the head of an HTTP/1 message, or not one that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// RFC 9112 §2–5 is broken.
    #[error("the head is malformed")]
    Malformed,
    /// The head is not complete within [`MAX_BYTES`], or has more than [`MAX_LINES`].
    #[error("the head is too long")]
    TooLong,
}

/// Reads the request that `bytes` begin with; `None` while its head is not complete. A blank before a colon is an error
/// (RFC 9112 §5.1).
///
/// # Errors
/// The bytes are not the head of a request, or the head is too long.
pub fn read_request(bytes: &[u8]) -> Result<Option<RequestHead<'_>>, HeadError> {
    let mut slots = [MaybeUninit::uninit(); MAX_LINES];
    let mut request = httparse::Request::new(&mut []);
    let parsed = request.parse_with_uninit_headers(bytes, &mut slots)?;
    let httparse::Status::Complete(length) = parsed else { return incomplete(bytes) };
    let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
        return Err(HeadError::Malformed);
    };
    let lines = request.headers.iter().map(FieldLine::of_request).collect();
    Ok(Some(RequestHead { method, target, minor_version, lines, length }))
}

/// Reads the response that `bytes` begin with; `None` while its head is not complete. Blanks before a colon are removed
/// (RFC 9112 §5.1), and a folded value becomes one line (RFC 9112 §5.2).
///
/// # Errors
/// The bytes are not the head of a response, or the head is too long.
pub fn read_response(bytes: &[u8]) -> Result<Option<ResponseHead<'_>>, HeadError> {
    let mut slots = [MaybeUninit::uninit(); MAX_LINES];
    let mut response = httparse::Response::new(&mut []);
    let mut config = httparse::ParserConfig::default();
    config.allow_spaces_after_header_name_in_responses(true);
    config.allow_obsolete_multiline_headers_in_responses(true);
    let parsed = config.parse_response_with_uninit_headers(&mut response, bytes, &mut slots)?;
    let httparse::Status::Complete(length) = parsed else { return incomplete(bytes) };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(HeadError::Malformed)?;
    let lines = response.headers.iter().map(FieldLine::of_response).collect();
    Ok(Some(ResponseHead { status, lines, length }))
}

fn incomplete<T>(bytes: &[u8]) -> Result<Option<T>, HeadError> {
    if bytes.len() > MAX_BYTES { Err(HeadError::TooLong) } else { Ok(None) }
}

impl From<httparse::Error> for HeadError {
    fn from(error: httparse::Error) -> Self {
        match error {
            httparse::Error::TooManyHeaders => Self::TooLong,
            _ => Self::Malformed,
        }
    }
}

/// Tells when it is worth reading a head that comes in pieces.
///
/// Reading begins at the first byte each time, so a long head in many small pieces would take time that grows with the
/// square of its length. Beyond 8 KiB a head is read again only when a blank line has come.
#[derive(Debug, Default)]
pub struct HeadProgress {
    /// Bytes in which no blank line ends.
    searched: usize,
}

impl HeadProgress {
    /// Tells if `bytes`, longer than at the last call, are to be read now.
    pub fn is_worth_reading(&mut self, bytes: &[u8]) -> bool {
        let from = self.searched.saturating_sub(2);
        let mut news = bytes.get(from..).unwrap_or_default();
        self.searched = bytes.len();
        if bytes.len() <= ALWAYS || bytes.len() > MAX_BYTES {
            return true;
        }
        while let Some(at) = news.iter().position(|byte| *byte == b'\n') {
            news = &news[at + 1..];
            if news.starts_with(b"\n") || news.starts_with(b"\r\n") {
                return true;
            }
        }
        false
    }

    /// Begins anew: the head that stood first was removed.
    pub fn restart(&mut self) {
        self.searched = 0;
    }
}

/// Longest head that is read: as much as Pingora reads of one.
pub const MAX_BYTES: usize = 1024 * 1024;
/// Most field lines of a head: as many as Pingora reads.
pub const MAX_LINES: usize = 256;
/// Longer than nearly all heads, and short enough to be read again for every byte.
const ALWAYS: usize = 8 * 1024;

#[cfg(test)]
mod tests;
