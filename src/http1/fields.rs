//! Header fields: the lines of a head in their order, and list fields taken apart.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue};

/// One field line of a head, its name in the letter case that it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldLine<'b> {
    /// The field's name: a token (RFC 9110 §5.6.2).
    pub name: &'b str,
    /// The field's value, without white space around it and without folds.
    pub value: Cow<'b, [u8]>,
}

/// Header fields that are looked up by name, in any letter case.
pub trait HeaderFields {
    /// The values of every line of this name, in their order.
    fn values_of<'f>(&'f self, name: &'f HeaderName) -> impl DoubleEndedIterator<Item = &'f [u8]>;

    /// The same for a name that need not be one of a field.
    fn values_named<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f [u8]>;

    /// Tells if there is a line of this name.
    fn has(&self, name: &HeaderName) -> bool {
        self.values_of(name).next().is_some()
    }

    /// The elements of a list field, over all its lines, empty ones left out (RFC 9110 §5.6.1).
    ///
    /// A comma inside a quoted string parts elements too: no list that is read here allows one there (RFC 6455 §9.1).
    fn elements<'f>(&'f self, name: &'f HeaderName) -> impl Iterator<Item = &'f [u8]> {
        let elements = self.values_of(name).flat_map(|line| line.split(|byte| *byte == b','));
        elements.map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
    }

    /// Tells if a list field names a token, in any letter case.
    fn names(&self, list: &HeaderName, token: &[u8]) -> bool {
        self.elements(list).any(|element| element.eq_ignore_ascii_case(token))
    }

    /// The value of a field that may stand there once.
    ///
    /// # Errors
    /// [`RepeatedField`] when it stands there more than once.
    fn only<'f>(&'f self, name: &'f HeaderName) -> Result<Option<&'f [u8]>, RepeatedField> {
        let mut values = self.values_of(name);
        let value = values.next().map(<[u8]>::trim_ascii);
        if values.next().is_some() { Err(RepeatedField) } else { Ok(value) }
    }
}

/// A field that must not be repeated stands there more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepeatedField;

impl HeaderFields for HeaderMap {
    fn values_of<'f>(&'f self, name: &'f HeaderName) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }

    fn values_named<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.get_all(name).into_iter().map(HeaderValue::as_bytes)
    }
}

impl HeaderFields for [FieldLine<'_>] {
    fn values_of<'f>(&'f self, name: &'f HeaderName) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.values_named(name.as_str())
    }

    fn values_named<'f>(&'f self, name: &'f str) -> impl DoubleEndedIterator<Item = &'f [u8]> {
        self.iter().filter(move |line| line.name.eq_ignore_ascii_case(name)).map(|line| &*line.value)
    }
}

impl<'b> FieldLine<'b> {
    /// A line of a request as the parser read it, which knows no folds there.
    pub(super) fn of_request(parsed: &httparse::Header<'b>) -> Self {
        Self { name: parsed.name, value: parsed.value.into() }
    }

    /// A line of a response as the parser read it. A fold inside the value, which only responses may have, becomes one
    /// space (RFC 9112 §5.2).
    pub(super) fn of_response(parsed: &httparse::Header<'b>) -> Self {
        let value = if parsed.value.contains(&b'\n') { unfolded(parsed.value).into() } else { parsed.value.into() };
        Self { name: parsed.name, value }
    }
}

fn unfolded(value: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = value.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    parts.join(&b' ')
}

/// The same fields as a map; `None` when a name is longer than a map takes (64 KiB).
pub fn map(lines: &[FieldLine<'_>]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(&line.value).ok()?);
    }
    Some(headers)
}

/// Tells if programs behind CGI, WSGI and PHP take one name of a header for another: they make `_` of `-`, and one
/// letter case of both.
pub fn reads_as(name: &str, other: &str) -> bool {
    let read = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() == other.len() && name.bytes().map(read).eq(other.bytes().map(read))
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, HOST};

    use super::*;

    fn line(name: &'static str, value: &'static str) -> FieldLine<'static> {
        FieldLine { name, value: value.as_bytes().into() }
    }

    #[test]
    fn lines_and_a_map_of_them_answer_alike() {
        let lines = [line("Connection", "close,, Upgrade ,"), line("HOST", " a "), line("connection", "x-hop")];
        let map = map(&lines).unwrap();
        let expected: [&[u8]; 3] = [b"close", b"Upgrade", b"x-hop"];
        assert_eq!(lines.elements(&CONNECTION).collect::<Vec<_>>(), expected);
        assert_eq!(map.elements(&CONNECTION).collect::<Vec<_>>(), expected);
        assert!(lines.names(&CONNECTION, b"UPGRADE") && map.names(&CONNECTION, b"X-Hop"));
        assert_eq!((lines.only(&HOST), lines.only(&CONNECTION)), (Ok(Some(&b"a"[..])), Err(RepeatedField)));
        assert_eq!((map.only(&HOST), map.only(&CONNECTION)), (Ok(Some(&b"a"[..])), Err(RepeatedField)));
    }

    #[test]
    fn a_folded_value_is_one_line() {
        let parsed = httparse::Header { name: "X", value: b"one,\r\n  two\r\n\tthree" };
        assert_eq!(&*FieldLine::of_response(&parsed).value, b"one, two three");
    }
}
