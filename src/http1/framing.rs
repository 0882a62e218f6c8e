//! The one meaning of a request's head: where its body ends, for whom it is, or why it is refused.
//!
//! Whoever reads a head calls [`check`] before anybody else sees the request, and gives Pingora [`Framing::rewritten`]
//! where there is one, so that no program behind the gateway can read the same bytes in another way.

use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRAILER, TRANSFER_ENCODING, UPGRADE};

use super::hop_by_hop::{HopByHop, is_protected};
use super::target::{self, RequestTarget};
use super::{HeaderFields, RequestHead, host};

/// A request's head, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framing {
    /// The body behind the head.
    pub body: Body,
    /// The head to read instead: with the host of an absolute target as its only `Host`, with one `Content-Length`,
    /// without `Trailer` and the fields that `Connection` lists. `None` where the head can stay as it came, as nearly
    /// always.
    pub rewritten: Option<Vec<u8>>,
    /// The path and query, where `rewritten` has them percent-encoded for those who read URIs alone (RFC 3986 §2).
    pub encoded: Option<Encoded>,
}

/// A path and query with characters that stand in no URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// As it came: what a backend is to be sent.
    pub came: String,
    /// With these characters percent-encoded: what routes, hooks and Pingora read.
    pub read: String,
}

/// The body of a message, as its head announces it (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; 0 where the head announces none.
    Length(u64),
    /// Chunks, and trailers behind them.
    Chunked,
}

/// Reason to refuse a request that could be read in two ways. The client's fault in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum FramingError {
    /// `CONNECT` asks for a proxy of another kind (RFC 9110 §9.3.6).
    #[error("CONNECT is not supported")]
    Connect,
    /// The target has none of the forms that its method allows (RFC 9112 §3.2).
    #[error("the request target is malformed")]
    Target,
    /// The path has an encoded NUL, where some programs take it to end.
    #[error("the path has a zero byte in it")]
    Nul,
    /// `Host` is missing or there more than once (RFC 9112 §3.2).
    #[error("the Host header is missing or repeated")]
    Host,
    /// `Host` names no host (RFC 9112 §3.2).
    #[error("the Host header does not name a host")]
    HostMalformed,
    /// A `Content-Length` is no number, or two of them differ (RFC 9110 §8.6).
    #[error("Content-Length is not one number")]
    Length,
    /// The length is stated in two ways (RFC 9112 §6.1).
    #[error("Content-Length and Transfer-Encoding exclude each other")]
    TwoLengths,
    /// A transfer coding that is not known (RFC 9112 §6.1).
    #[error("only the transfer coding chunked is supported")]
    CodingUnknown,
    /// `Transfer-Encoding` is empty, names `chunked` twice, or stands in an HTTP/1.0 request (RFC 9112 §6.1).
    #[error("Transfer-Encoding is malformed")]
    Coding,
    /// `Connection` lists what is no token, or too much (RFC 9110 §7.6.1).
    #[error("the Connection header is malformed")]
    Connection,
    /// A chunk or a trailer breaks RFC 9112 §7.1.
    #[error("the body's chunks are malformed")]
    Chunk,
}

impl FramingError {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::CodingUnknown => StatusCode::NOT_IMPLEMENTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// The reason's name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Target => "target_malformed",
            Self::Nul => "target_nul",
            Self::Host | Self::HostMalformed => "host",
            Self::Length => "length",
            Self::TwoLengths => "two_lengths",
            Self::CodingUnknown => "coding_unknown",
            Self::Coding => "coding",
            Self::Connection => "connection",
            Self::Chunk => "chunk",
        }
    }
}

/// Checks a request's head and finds its body.
///
/// # Errors
/// The first rule that the head breaks.
pub fn check(head: &RequestHead<'_>) -> Result<Framing, FramingError> {
    let lines = &head.lines[..];
    if head.method == "CONNECT" {
        return Err(FramingError::Connect);
    }
    let target = RequestTarget::of(head.method, head.target).ok_or(FramingError::Target)?;
    if target::has_nul(head.target) {
        return Err(FramingError::Nul);
    }
    check_host(head)?;
    check_connection(lines)?;
    let body = body(lines, head.minor_version)?;
    let encoded = target::encoded(head.target).map(|_| {
        let came = target.path(head.target);
        let read = target::encoded(&came).unwrap_or_else(|| came.clone());
        Encoded { came, read }
    });
    let is_plain = matches!(target, RequestTarget::Own)
        && encoded.is_none()
        && HopByHop::lists_options_alone(lines)
        && !lines.has(&TRAILER)
        && lines.values_of(&CONTENT_LENGTH).all(|length| !length.contains(&b','))
        && lines.values_of(&CONTENT_LENGTH).count() <= 1;
    let path = || encoded.as_ref().map_or_else(|| target.path(head.target), |encoded| encoded.read.clone());
    let rewritten = (!is_plain).then(|| rewritten(head, &target, &path(), body, &HopByHop::of(lines)));
    Ok(Framing { body, rewritten, encoded })
}

/// The body that the fields of a message announce; of `minor_version` 0, none may be in chunks.
///
/// # Errors
/// The fields leave open where the body ends, or name a coding that is not known.
pub fn body(fields: &(impl HeaderFields + ?Sized), minor_version: u8) -> Result<Body, FramingError> {
    let is_chunked = is_chunked(fields)?;
    let length = length(fields)?;
    match (is_chunked, length) {
        (true, _) if minor_version == 0 => Err(FramingError::Coding),
        (true, Some(_)) => Err(FramingError::TwoLengths),
        (true, None) => Ok(Body::Chunked),
        (false, length) => Ok(Body::Length(length.unwrap_or(0))),
    }
}

/// Tells if the one transfer coding is `chunked`; false where there is none.
///
/// # Errors
/// There is another coding, or `chunked` twice, or nothing between two commas.
pub fn is_chunked(fields: &(impl HeaderFields + ?Sized)) -> Result<bool, FramingError> {
    let codings = || fields.values_of(&TRANSFER_ENCODING).flat_map(|line| line.split(|byte| *byte == b','));
    let is_known = |coding: &[u8]| coding.is_empty() || coding.eq_ignore_ascii_case(b"chunked");
    if !codings().map(<[u8]>::trim_ascii).all(is_known) {
        return Err(FramingError::CodingUnknown);
    }
    match codings().count() {
        0 => Ok(false),
        1 if codings().all(|coding| !coding.trim_ascii().is_empty()) => Ok(true),
        _ => Err(FramingError::Coding),
    }
}

/// The length that every `Content-Length` states; `None` where there is none.
///
/// # Errors
/// One of them is no number of bytes, or two are not the same digits.
pub fn length(fields: &(impl HeaderFields + ?Sized)) -> Result<Option<u64>, FramingError> {
    let mut lengths = fields.values_of(&CONTENT_LENGTH).flat_map(|line| line.split(|byte| *byte == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else { return Ok(None) };
    if lengths.any(|other| other.trim_ascii() != first) {
        return Err(FramingError::Length);
    }
    number(first).map(Some).ok_or(FramingError::Length)
}

/// A number of bytes in digits alone. Programs that count with signed 64 bits have to agree.
fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|number| i64::try_from(*number).is_ok())
}

/// Checks that a request has one `Host`, or none by HTTP/1.0, and that it names a host.
///
/// The `Host` beside an absolute target counts for nothing else, but is held to the same (RFC 9112 §3.2).
fn check_host(head: &RequestHead<'_>) -> Result<(), FramingError> {
    let mut hosts = head.lines.values_of(&HOST);
    match (hosts.next(), hosts.next()) {
        (None, _) if head.minor_version == 0 => Ok(()),
        (Some(host), None) if std::str::from_utf8(host).is_ok_and(host::is_valid) => Ok(()),
        (Some(_), None) => Err(FramingError::HostMalformed),
        _ => Err(FramingError::Host),
    }
}

/// Checks that `Connection` is a list of tokens, of which a few are enough for everybody.
fn check_connection(fields: &(impl HeaderFields + ?Sized)) -> Result<(), FramingError> {
    let is_right = |token: &[u8]| token.len() <= MAX_OPTION && token.iter().all(|byte| is_token(*byte));
    let mut listed = fields.elements(&CONNECTION);
    let is_malformed = !listed.by_ref().take(MAX_OPTIONS).all(is_right) || listed.next().is_some();
    if is_malformed { Err(FramingError::Connection) } else { Ok(()) }
}

/// Tells if a byte may stand in a token (RFC 9110 §5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The head that says the same in the one way that everybody reads alike.
fn rewritten(
    head: &RequestHead<'_>,
    target: &RequestTarget<'_>,
    path: &str,
    body: Body,
    hop: &HopByHop<'_>,
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(head.length + 64);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| bytes.extend_from_slice(part));
    let version: &[u8] = if head.minor_version == 0 { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" };
    put(&[head.method.as_bytes(), b" ", path.as_bytes(), version]);
    if let RequestTarget::Absolute { host, .. } = target {
        put(&[b"Host: ", host.as_bytes(), b"\r\n"]);
    }
    for line in &head.lines {
        let is = |name: &http::HeaderName| line.name.eq_ignore_ascii_case(name.as_str());
        let is_listed = hop.lists(line.name) && !is_protected(line.name) && !has_a_meaning_of_its_own(line.name);
        let is_anew = is(&CONTENT_LENGTH) || is(&CONNECTION) || is(&HOST) && !matches!(target, RequestTarget::Own);
        if !is_anew && !is_listed && !is(&TRAILER) {
            put(&[line.name.as_bytes(), b": ", &line.value, b"\r\n"]);
        }
    }
    let (options, _) = hop.parted();
    if !options.is_empty() {
        put(&[b"Connection: ", &options.join(&b", "[..]), b"\r\n"]);
    }
    if let (Body::Length(length), true) = (body, head.lines.has(&CONTENT_LENGTH)) {
        put(&[b"Content-Length: ", length.to_string().as_bytes(), b"\r\n"]);
    }
    put(&[b"\r\n"]);
    bytes
}

/// Tells if a field says how the request is read, so that it counts although `Connection` lists it.
fn has_a_meaning_of_its_own(name: &str) -> bool {
    [TRANSFER_ENCODING, UPGRADE].iter().any(|field| name.eq_ignore_ascii_case(field.as_str()))
}

/// Most elements of `Connection`. Real ones have two or three.
const MAX_OPTIONS: usize = 64;
/// Longest element of `Connection`: no longer than a name of a field may be.
const MAX_OPTION: usize = 1024;

#[cfg(test)]
mod tests;
