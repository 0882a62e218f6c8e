//! Sections of PEM files (RFC 7468): found, decoded, and each fault of theirs named.

use std::ops::Range;
use std::path::Path;

use rustls::pki_types::pem::{Error, PemObject};

use super::{CertificateError, OtherForm};

/// A section of a PEM text.
pub(super) struct PemSection<'t> {
    /// Kind of the section, also where its BEGIN line writes it in another way.
    pub(super) kind: String,
    /// Kind as the line has it, for messages.
    label: String,
    /// Text from the BEGIN line to the one of the next section.
    text: &'t [u8],
    /// Fault of the line that the section was found by.
    fault: Option<PemFault>,
}

impl PemSection<'_> {
    /// Decodes the section.
    ///
    /// # Errors
    /// The section of `file` is damaged.
    pub(super) fn decode<T: PemObject>(&self, file: &Path) -> Result<T, CertificateError> {
        let damaged = |fault| CertificateError::Damaged { file: file.into(), fault };
        if self.is_empty() {
            return Err(damaged(PemFault::Empty(self.label.clone())));
        }
        T::from_pem_slice(self.text).map_err(|error| {
            let label = self.label.clone();
            damaged(match error {
                Error::MissingSectionEnd { .. } => PemFault::NoEnd(label),
                Error::IllegalSectionStart { .. } => PemFault::BeginCut,
                _ => PemFault::NotBase64(label),
            })
        })
    }

    /// Tells whether the section is a key in the traditional form of OpenSSL that is encrypted (RFC 1421 §4.6.1.1).
    pub(super) fn is_encrypted(&self) -> bool {
        let is_header = |line: &[u8]| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
        lines(self.text).any(|line| is_header(line.trim_ascii_end()))
    }

    /// Tells whether nothing stands between the section's two lines.
    fn is_empty(&self) -> bool {
        let filled = lines(self.text).skip(1).find(|line| !line.trim_ascii().is_empty());
        filled.is_some_and(|line| line.starts_with(END))
    }
}

/// Fault of a file that has the beginning of PEM.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PemFault {
    /// The text of the section of this kind is not base64.
    #[error("what stands between its lines `-----BEGIN {0}-----` and `-----END {0}-----` cannot be decoded")]
    NotBase64(String),
    /// The section of this kind is empty.
    #[error("nothing stands between its lines `-----BEGIN {0}-----` and `-----END {0}-----`")]
    Empty(String),
    /// The section of this kind has no END line, or not the one that belongs to it.
    #[error("no line `-----END {0}-----` follows its line `-----BEGIN {0}-----`")]
    NoEnd(String),
    /// An END line without a BEGIN line in front.
    #[error("line {line}: no line `-----BEGIN {kind}-----` stands before `-----END {kind}-----`")]
    NoBegin {
        /// Line, from 1.
        line: usize,
        /// Kind of the section.
        kind: String,
    },
    /// A BEGIN line does not end in five dashes.
    #[error("a line that begins with `-----BEGIN` does not end with five dashes")]
    BeginCut,
    /// A BEGIN line does not begin at the beginning of this line, from 1.
    #[error("line {0}: something stands before `-----BEGIN`, as spaces, a byte order mark or the END line before it")]
    BeginIndented(usize),
    /// Line ends are written as a backslash and an `n`, in this line.
    #[error("line {0}: line ends are written as `\\n`, and so `-----BEGIN` and all that follows is one line")]
    LinesEscaped(usize),
    /// A BEGIN line is not as RFC 7468 has it: it has small letters, or blanks where there should be none.
    #[error("line {line}: `{written}` stands there in place of `-----BEGIN {kind}-----`")]
    Misspelt {
        /// Line, from 1.
        line: usize,
        /// The BEGIN line.
        written: String,
        /// Kind of the section.
        kind: String,
    },
    /// A certificate of an older kind, or with OpenSSL's notes on whom to trust.
    #[error("line {line}: a certificate is called `{written}` there, and not `CERTIFICATE`")]
    OtherCertificate {
        /// Line, from 1.
        line: usize,
        /// Kind as the line has it.
        written: String,
    },
}

/// Sections of a PEM text, in its order; at least one. Lines that begin with `#` are comments.
///
/// # Errors
/// `file`, whose text this is, has none.
pub(super) fn sections<'t>(file: &Path, text: &'t [u8]) -> Result<Vec<PemSection<'t>>, CertificateError> {
    let mut marks = Vec::new();
    let mut is_open = false;
    for line in lines(text).filter(|line| !line.trim_ascii_start().starts_with(b"#")) {
        if line.starts_with(END) && !std::mem::replace(&mut is_open, false) {
            marks.push(Mark { line, label: label(&line[END.len()..]), what: Marked::StrayEnd });
        }
        for at in begins(line) {
            is_open = true;
            let what = if at == 0 { Marked::Begin } else { Marked::IndentedBegin };
            let rest = &line[at + DASHES.len()..].trim_ascii_start()[BEGIN.len()..];
            marks.push(Mark { line: &line[at..], label: label(rest), what });
        }
    }
    if marks.iter().all(|mark| mark.what == Marked::StrayEnd) {
        return Err(CertificateError::NotPem { file: file.into(), form: OtherForm::of(text) });
    }
    let starts: Vec<_> = marks.iter().map(|mark| offset(text, mark.line)).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let (mut line, mut counted) = (1, 0);
    let sections = marks.iter().zip(starts.iter().zip(ends)).map(|(mark, (start, end))| {
        line += line_ends(text, counted..*start);
        counted = *start;
        mark.section(line, &text[*start..end])
    });
    Ok(sections.collect())
}

/// The sections of some kinds, in the order of the text.
///
/// # Errors
/// One of them in `file` is not as it should be: readers of PEM would leave it out without a word.
pub(super) fn of_kinds<'s, 't>(
    file: &Path,
    sections: &'s [PemSection<'t>],
    kinds: &[&str],
) -> Result<Vec<&'s PemSection<'t>>, CertificateError> {
    let wanted = sections.iter().filter(|section| kinds.contains(&section.kind.as_str()));
    let sound = wanted.map(|section| match &section.fault {
        Some(fault) => Err(CertificateError::Damaged { file: file.into(), fault: fault.clone() }),
        None => Ok(section),
    });
    sound.collect()
}

/// The error of a file with sections, of which none is of the kind that is needed.
pub(super) fn lacking(file: &Path, sections: &[PemSection<'_>], what: &'static str) -> CertificateError {
    let found = sections.iter().map(|section| section.label.clone()).take(MOST_NAMED).collect();
    CertificateError::Lacks { file: file.into(), what, found }
}

/// A line that begins a section, or ends one that has no beginning.
struct Mark<'t> {
    /// Line from the dashes on.
    line: &'t [u8],
    /// Kind as the line has it, with the blanks around it.
    label: String,
    what: Marked,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Marked {
    Begin,
    IndentedBegin,
    StrayEnd,
}

impl Mark<'_> {
    /// The section, which has this text from this line on.
    fn section<'t>(&self, line: usize, text: &'t [u8]) -> PemSection<'t> {
        let written = self.label.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
        let is_alias = OTHER_CERTIFICATES.contains(&written.as_str());
        let kind = if is_alias { CERTIFICATE.to_owned() } else { written };
        let label = shown(self.label.trim());
        let is_plain = self.line.starts_with(PLAIN_BEGIN) && self.label.strip_prefix(' ') == Some(&*kind);
        let fault = match self.what {
            Marked::StrayEnd => Some(PemFault::NoBegin { line, kind: label.clone() }),
            _ if self.line.windows(2).any(|pair| pair == b"\\n") => Some(PemFault::LinesEscaped(line)),
            Marked::IndentedBegin => Some(PemFault::BeginIndented(line)),
            Marked::Begin if is_alias => Some(PemFault::OtherCertificate { line, written: label.clone() }),
            Marked::Begin if is_plain => None,
            Marked::Begin => {
                let written = shown(&String::from_utf8_lossy(self.line.trim_ascii_end()));
                Some(PemFault::Misspelt { line, written, kind: kind.clone() })
            }
        };
        PemSection { kind, label, text, fault }
    }
}

/// Places in a line at which a section may be meant to begin, in small letters or with blanks after the dashes as well.
fn begins(line: &[u8]) -> impl Iterator<Item = usize> {
    let is_begin = |at: &usize| {
        let rest = line[*at..].strip_prefix(DASHES).unwrap_or_default().trim_ascii_start();
        rest.get(..BEGIN.len()).is_some_and(|word| word.eq_ignore_ascii_case(BEGIN))
    };
    (0..line.len().saturating_sub(DASHES.len() + BEGIN.len() - 1)).filter(is_begin)
}

/// Kind of a section by what follows `BEGIN` or `END` in its line: all before the dashes, too few dashes included.
fn label(rest: &[u8]) -> String {
    let end = rest.windows(2).position(|pair| pair == b"--").unwrap_or(rest.len());
    let label = String::from_utf8_lossy(&rest[..end]);
    label.strip_suffix('-').unwrap_or(&label).to_owned()
}

/// A text of the file for a message: without control characters, which a terminal would obey, and of a sane length.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(LONGEST_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// Lines of a text, whose ends are those of rustls: each line feed and each carriage return.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\n' | b'\r'))
}

/// Number of lines that end in a part of a text. The two ends of a line of Windows count as one.
fn line_ends(text: &[u8], part: Range<usize>) -> usize {
    let is_end = |at: usize| text[at] == b'\n' || text[at] == b'\r' && text.get(at + 1) != Some(&b'\n');
    part.filter(|at| is_end(*at)).count()
}

/// Place of a part of a text in it.
fn offset(text: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

/// Kind of the sections that are certificates.
pub(super) const CERTIFICATE: &str = "CERTIFICATE";

/// Other names of certificates, which OpenSSL reads.
const OTHER_CERTIFICATES: [&str; 2] = ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"];

const DASHES: &[u8] = b"-----";
const BEGIN: &[u8] = b"BEGIN";
const PLAIN_BEGIN: &[u8] = b"-----BEGIN ";
const END: &[u8] = b"-----END";

/// The most sections that an error names.
const MOST_NAMED: usize = 8;

/// The longest line or name of a section that an error shows, in characters: the longest of RFC 7468 take 44.
const LONGEST_SHOWN: usize = 60;

#[cfg(test)]
mod tests;
