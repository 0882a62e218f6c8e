//! `Forwarded` (RFC 7239): elements separated by commas, each a list of parameters.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::FORWARDED;

/// One element, as one proxy wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'h>(&'h [u8]);

/// The elements of all lines from right to left, without empty ones.
pub(super) fn from_the_right(headers: &HeaderMap) -> impl Iterator<Item = Element<'_>> {
    let lines = headers.get_all(FORWARDED).iter().rev();
    let elements = lines.flat_map(|line| unquoted_split(line.as_bytes(), b',').into_iter().rev());
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).map(Element)
}

impl<'h> Element<'h> {
    /// The value of the parameter `name`, quotes removed; `None` where it is missing or not well-formed.
    pub(super) fn parameter(self, name: &str) -> Option<Cow<'h, [u8]>> {
        unquoted_split(self.0, b';').into_iter().find_map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (found, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| unquoted(value)).flatten()
        })
    }
}

/// Splits `text` at `separator`, which in a quoted string (RFC 9110 §5.6.4) separates nothing.
fn unquoted_split(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(|byte| {
        let separates = *byte == separator && !quoted;
        quoted ^= *byte == b'"' && !escaped;
        escaped = quoted && *byte == b'\\' && !escaped;
        separates
    })
    .collect()
}

/// A token as it is, or the text of a quoted string; `None` where a quote is not closed.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = value.strip_prefix(b"\"") else { return Some(Cow::Borrowed(value)) };
    let inner = rest.strip_suffix(b"\"")?;
    if !inner.contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        text.push(if *byte == b'\\' { *bytes.next()? } else { *byte });
    }
    Some(Cow::Owned(text))
}
