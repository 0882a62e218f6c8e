//! Forms of files that hold certificates or keys and are not PEM: recognised by their first bytes.

use std::fmt;

/// Form of a file without a section of PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherForm {
    /// Nothing, or blanks.
    Empty,
    /// An archive with certificates and keys, such as `.p12` and `.pfx` files (RFC 7292).
    Pkcs12,
    /// Text in UTF-16, as Windows writes it.
    Utf16,
    /// A certificate or a key in binary form.
    Der,
    /// Any other text or bytes.
    Unknown,
}

impl OtherForm {
    /// The form of a file with this content.
    pub(super) fn of(content: &[u8]) -> Self {
        match content {
            _ if content.trim_ascii().is_empty() => Self::Empty,
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Self::Utf16,
            _ if content.windows(WIDE_BEGIN.len()).any(|window| window == WIDE_BEGIN) => Self::Utf16,
            _ => match inside_sequence(content) {
                Some([INTEGER, 1, 3, ..]) => Self::Pkcs12,
                Some(_) => Self::Der,
                None => Self::Unknown,
            },
        }
    }
}

/// Predicate of a sentence about the file.
impl fmt::Display for OtherForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => " is empty",
            Self::Pkcs12 => " is not a PEM file, but a PKCS#12 archive",
            Self::Utf16 => " is not a PEM file: its text is UTF-16",
            Self::Der => " is not a PEM file, but binary (DER)",
            Self::Unknown => " is not a PEM file",
        })
    }
}

/// Content of the sequence that the bytes are; `None` where they are none. The length is not verified where it takes
/// several bytes, because a file that was cut is of the same form.
fn inside_sequence(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.strip_prefix(&[SEQUENCE])?.split_first()?;
    match usize::from(*length) {
        // Text may begin with the digit 0, which is the same byte.
        short @ ..0x80 => (short == rest.len()).then_some(rest),
        // Programs that write archives may leave the length open.
        long @ 0x80..=0x84 => rest.get(long - 0x80..),
        _ => None,
    }
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;

/// `-----BEGIN` in UTF-16 of either order, from its first dash to its last letter.
const WIDE_BEGIN: &[u8] = b"-\0-\0-\0-\0-\0B\0E\0G\0I\0N";

#[cfg(test)]
mod tests {
    use super::OtherForm;

    #[test]
    fn forms_are_told_apart_by_their_first_bytes() {
        let wide = |text: &str| text.encode_utf16().collect::<Vec<_>>();
        let begin = wide("-----BEGIN CERTIFICATE-----\nMII");
        let little: Vec<u8> = begin.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        let big: Vec<u8> = begin.iter().flat_map(|unit| unit.to_be_bytes()).collect();
        for (content, form) in [
            (&b""[..], OtherForm::Empty),
            (b" \r\n\n", OtherForm::Empty),
            (&little, OtherForm::Utf16),
            (&big, OtherForm::Utf16),
            (b"\xff\xfe", OtherForm::Utf16),
            (b"\xfe\xff\0-", OtherForm::Utf16),
            (b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82", OtherForm::Pkcs12),
            (b"\x30\x80\x02\x01\x03\x30\x80", OtherForm::Pkcs12),
            (b"\x30\x82\x05\x00\x30\x82\x04\x00", OtherForm::Der),
            (b"\x30\x05\x02\x01\x00\x30\x00", OtherForm::Der),
            (b"0123 is a number\n", OtherForm::Unknown),
            (b"0", OtherForm::Unknown),
            (b"hello\n", OtherForm::Unknown),
            (b"\xef\xbb\xbfhello\n", OtherForm::Unknown),
            (&[0; 100], OtherForm::Unknown),
        ] {
            assert_eq!(OtherForm::of(content), form, "{content:?}");
        }
    }
}
