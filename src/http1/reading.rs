//! Heads of requests that come in pieces: found within bounds, each byte looked at once, and read when they are whole.

use super::framing::is_token;
use super::head::read_request;
use super::refused::RequestRefused;
use super::{HeadError, RequestHead};

/// Bounds of a request's head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// Most bytes, the blank line included.
    pub bytes: usize,
    /// Most field lines.
    pub lines: usize,
    /// Most bytes of the request target.
    pub target: usize,
}

/// A head on its way. The same bytes are shown to it again, with those that came since.
#[derive(Clone, Copy, Debug, Default)]
pub struct HeadReading {
    /// Bytes that were looked at.
    searched: usize,
    /// Beginning of the line that is not complete yet.
    line: usize,
    /// Complete lines, the request line included; empty ones before it are none.
    lines: usize,
}

impl HeadReading {
    /// Tells if the head that `bytes` begin with is complete, and may be read.
    ///
    /// # Errors
    /// The bytes are not the head of a request, or it is out of bounds. Where that is plain before the head is
    /// complete, it is not waited for.
    pub fn is_complete(&mut self, bytes: &[u8], bounds: &HeadBounds) -> Result<bool, RequestRefused> {
        // Most heads come in one piece, with nothing behind them: their end need not be searched for.
        let begins_empty = matches!(bytes.first(), Some(b'\r' | b'\n'));
        let is_at_once = self.searched == 0 && bytes.ends_with(b"\r\n\r\n") && !begins_empty;
        Ok(is_at_once || self.look(bytes, bounds)?.is_some())
    }

    /// Tells if a request has begun: empty lines before it are nothing (RFC 9112 §2.2).
    pub fn has_begun(&self, bytes: &[u8]) -> bool {
        self.lines > 0 || bytes.iter().any(|byte| !matches!(byte, b'\r' | b'\n'))
    }

    /// Looks at the bytes that are new. Returns the length of the head once that is complete.
    fn look(&mut self, bytes: &[u8], bounds: &HeadBounds) -> Result<Option<usize>, RequestRefused> {
        if bytes.first() == Some(&TLS_HANDSHAKE) {
            return Err(RequestRefused::Tls);
        }
        while let Some(found) = bytes[self.searched..].iter().position(|byte| *byte == b'\n') {
            let end = self.searched + found;
            let line = &bytes[self.line..end];
            self.searched = end + 1;
            self.line = end + 1;
            match (self.lines, line) {
                (0, [] | b"\r") => continue,
                (_, [] | b"\r") if end < bounds.bytes => return Ok(Some(end + 1)),
                (0, _) => check_request_line(line.strip_suffix(b"\r").unwrap_or(line), bounds)?,
                (lines, _) if lines > bounds.lines => return Err(RequestRefused::Lines),
                _ => {}
            }
            self.lines += 1;
        }
        self.searched = bytes.len();
        if self.lines == 0 {
            check_beginning(&bytes[self.line..], bounds)?;
        }
        if bytes.len() > bounds.bytes { Err(RequestRefused::Size) } else { Ok(None) }
    }
}

/// Reads the head that `bytes` begin with, which is complete.
///
/// # Errors
/// The bytes are not the head of a request, or it is out of bounds.
pub fn read<'b>(bytes: &'b [u8], bounds: &HeadBounds) -> Result<RequestHead<'b>, RequestRefused> {
    let head = match read_request(bytes) {
        Ok(Some(head)) => head,
        Ok(None) => return Err(RequestRefused::Malformed),
        // The line that is wrong may tell more.
        Err(error) => return Err(HeadReading::default().look(bytes, bounds).err().unwrap_or(error.into())),
    };
    check_words(head.method.as_bytes(), head.target.len(), bounds)?;
    if head.length > bounds.bytes {
        return Err(RequestRefused::Size);
    }
    if head.lines.len() > bounds.lines {
        return Err(RequestRefused::Lines);
    }
    Ok(head)
}

fn check_words(method: &[u8], target: usize, bounds: &HeadBounds) -> Result<(), RequestRefused> {
    if method.len() > MAX_METHOD {
        return Err(RequestRefused::Method);
    }
    if target > bounds.target { Err(RequestRefused::Target) } else { Ok(()) }
}

/// Checks a whole request line, so that nobody waits for the lines behind one that is refused.
fn check_request_line(line: &[u8], bounds: &HeadBounds) -> Result<(), RequestRefused> {
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let (Some(method), Some(rest)) = (words.next(), words.next()) else {
        return Err(if line.len() > MAX_METHOD { RequestRefused::Method } else { RequestRefused::Malformed });
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(RequestRefused::Malformed);
    }
    let Some(space) = rest.iter().rposition(|byte| *byte == b' ') else {
        check_words(method, rest.len(), bounds)?;
        // HTTP/0.9 knows GET alone, and has no word for the version.
        return Err(if method == b"GET" { RequestRefused::Version } else { RequestRefused::Malformed });
    };
    let version = &rest[space + 1..];
    match version {
        b"HTTP/1.1" | b"HTTP/1.0" => check_words(method, space, bounds),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
            Err(RequestRefused::Version)
        }
        _ => Err(RequestRefused::Malformed),
    }
}

/// Checks the beginning of a request line that is not complete yet.
fn check_beginning(line: &[u8], bounds: &HeadBounds) -> Result<(), RequestRefused> {
    let method = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    if line[..method.min(MAX_METHOD)].iter().any(|byte| !is_token(*byte) && *byte != b'\r') {
        return Err(RequestRefused::Malformed);
    }
    if method > MAX_METHOD {
        return Err(RequestRefused::Method);
    }
    if line.len() > method + bounds.target + VERSION { Err(RequestRefused::Target) } else { Ok(()) }
}

impl From<HeadError> for RequestRefused {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::TooLong => Self::Lines,
            HeadError::Malformed => Self::Malformed,
        }
    }
}

/// Type of a handshake record (RFC 8446 §5.1), which no request begins with.
const TLS_HANDSHAKE: u8 = 0x16;
/// Longer than every method that is registered (the longest has 17 letters), with room for those that are made up.
const MAX_METHOD: usize = 64;
/// The bytes around a target: two blanks, the version, CR.
const VERSION: usize = " HTTP/1.1 \r".len();

#[cfg(test)]
mod tests;
