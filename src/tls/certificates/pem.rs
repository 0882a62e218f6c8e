//! Sections of PEM files (RFC 7468): found, decoded, and each fault of theirs named.

use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};

use super::{CertificateError, OtherForm};

/// A section of a PEM text.
pub(super) struct PemSection<'t> {
    /// Kind of the section, as its BEGIN line has it.
    pub(super) label: String,
    /// Text from the BEGIN line to the one of the next section.
    text: &'t [u8],
}

impl PemSection<'_> {
    /// Decodes the section.
    ///
    /// # Errors
    /// The section of `file` is damaged.
    pub(super) fn decode<T: PemObject>(&self, file: &Path) -> Result<T, CertificateError> {
        T::from_pem_slice(self.text).map_err(|error| {
            let label = self.label.clone();
            let fault = match error {
                Error::MissingSectionEnd { .. } => PemFault::NoEnd(label),
                Error::IllegalSectionStart { .. } => PemFault::BeginCut,
                _ => PemFault::NotBase64(label),
            };
            CertificateError::Damaged { file: file.into(), fault }
        })
    }

    /// Tells whether the section is a key in the traditional form of OpenSSL that is encrypted (RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        let is_header = |line: &[u8]| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        lines(self.text).any(|line| is_header(line.trim_ascii_end()))
    }
}

/// Fault of a file that has the beginning of PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemFault {
    /// The text of the section of this kind is not base64.
    #[error("what stands between its lines `-----BEGIN {0}-----` and `-----END {0}-----` cannot be decoded")]
    NotBase64(String),
    /// The section of this kind has no END line, or not the one that belongs to it.
    #[error("no line `-----END {0}-----` follows its line `-----BEGIN {0}-----`")]
    NoEnd(String),
    /// A BEGIN line does not end in five dashes.
    #[error("a line that begins with `-----BEGIN` does not end with five dashes")]
    BeginCut,
    /// A BEGIN line does not begin at the beginning of a line.
    #[error("something stands before `-----BEGIN` on the same line, such as spaces or a byte order mark")]
    BeginIndented,
}

/// Sections of a PEM text, in its order; at least one.
///
/// # Errors
/// `file`, whose text this is, has none.
pub(super) fn sections<'t>(file: &Path, text: &'t [u8]) -> Result<Vec<PemSection<'t>>, CertificateError> {
    let begins: Vec<usize> =
        lines(text).filter(|line| line.starts_with(BEGIN)).map(|line| offset(text, line)).collect();
    let ends = begins.iter().skip(1).copied().chain([text.len()]);
    let sections: Vec<_> = begins.iter().zip(ends).map(|(begin, end)| section(&text[*begin..end])).collect();
    if !sections.is_empty() {
        return Ok(sections);
    }
    match text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        true => Err(CertificateError::Damaged { file: file.into(), fault: PemFault::BeginIndented }),
        false => Err(CertificateError::NotPem { file: file.into(), form: OtherForm::of(text) }),
    }
}

/// The error of a file with sections, of which none is of the kind that is needed.
pub(super) fn lacking(file: &Path, sections: &[PemSection<'_>], what: &'static str) -> CertificateError {
    let found = sections.iter().map(|section| section.label.clone()).take(MOST_NAMED).collect();
    CertificateError::Lacks { file: file.into(), what, found }
}

fn section(text: &[u8]) -> PemSection<'_> {
    let begin = lines(text).next().unwrap_or_default().trim_ascii_end();
    let label = String::from_utf8_lossy(begin.strip_prefix(BEGIN).unwrap_or_default());
    // A line with fewer dashes is of the same kind, and [`PemSection::decode`] tells of it.
    PemSection { label: label.trim_end_matches('-').to_owned(), text }
}

/// Lines of a text, whose ends are those of rustls: each line feed and each carriage return.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

/// Place of a part of a text in it.
fn offset(text: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

const BEGIN: &[u8] = b"-----BEGIN ";

/// The most sections that an error names.
const MOST_NAMED: usize = 8;
