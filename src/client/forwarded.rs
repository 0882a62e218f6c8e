//! `Forwarded` (RFC 7239): elements separated by commas, each a list of parameters.

use std::borrow::Cow;

use http::header::FORWARDED;

use crate::http1::HeaderFields;
use crate::http1::framing::is_token;

/// One element, as one proxy wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element<'h>(&'h [u8]);

/// The elements of all lines from right to left, without empty ones.
pub(super) fn from_the_right(headers: &(impl HeaderFields + ?Sized)) -> impl Iterator<Item = Element<'_>> {
    let lines = headers.values_of(&FORWARDED).rev();
    let elements = lines.flat_map(|line| unquoted_split(line, b',').into_iter().rev());
    elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty()).map(Element)
}

impl<'h> Element<'h> {
    /// The value of the parameter `name`, quotes removed; `None` where it is missing, or where any part of the element
    /// is not well-formed.
    ///
    /// A client that leaves a quote open makes what its proxy appends a part of its own element. So nothing of an
    /// element that has such a part is believed.
    pub(super) fn parameter(self, name: &str) -> Option<Cow<'h, [u8]>> {
        let mut value = None;
        for pair in unquoted_split(self.0, b';').into_iter().map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty()) {
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (found, said) = (pair[..equals].trim_ascii(), unquoted(pair[equals + 1..].trim_ascii())?);
            if found.is_empty() || !found.iter().all(|byte| is_token(*byte)) {
                return None;
            }
            if value.is_none() && found.eq_ignore_ascii_case(name.as_bytes()) {
                value = Some(said);
            }
        }
        value
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

/// A token as it is, or the text of a quoted string; `None` where it is neither, or the quote is not closed.
///
/// Addresses with a port, and IPv6 addresses, need quotes (RFC 7239 §6), and some proxies write them without.
fn unquoted(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    let Some(rest) = value.strip_prefix(b"\"") else {
        let is_right = value.iter().all(|byte| is_token(*byte) || b":[]/".contains(byte));
        return is_right.then_some(Cow::Borrowed(value));
    };
    let mut text = Vec::with_capacity(rest.len());
    let mut bytes = rest.iter();
    loop {
        match bytes.next()? {
            b'"' => break,
            b'\\' => text.push(*bytes.next()?),
            byte => text.push(*byte),
        }
    }
    bytes.as_slice().is_empty().then_some(Cow::Owned(text))
}
