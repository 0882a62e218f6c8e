//! Sections that readers of PEM would leave out without a word, and those that go on to be skipped.

use std::path::Path;

use rustls::pki_types::CertificateDer;

use super::{CERTIFICATE, PemFault, of_kinds, sections};
use crate::tls::certificates::CertificateError;

const ONE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

/// Number of sections of this kind, which are decoded, or the fault of one of them.
fn found(text: &str, kind: &str) -> Result<usize, PemFault> {
    let file = Path::new("f");
    let read = || {
        let sections = sections(file, text.as_bytes())?;
        let wanted = of_kinds(file, &sections, &[kind])?;
        for section in wanted.iter().filter(|_| kind == CERTIFICATE) {
            section.decode::<CertificateDer<'_>>(file)?;
        }
        Ok(wanted.len())
    };
    read().map_err(|error| match error {
        CertificateError::Damaged { fault, .. } => fault,
        other => panic!("{other}"),
    })
}

#[test]
fn a_section_that_does_not_begin_its_line_is_an_error_beside_a_good_one() {
    for (before, line) in [
        (ONE.trim_end().to_owned(), 3),
        (format!("{ONE}\u{feff}"), 4),
        (format!("{ONE}  "), 4),
        (format!("{ONE}\t"), 4),
        (format!("{ONE}-"), 4),
        (ONE.replace('\n', "\r\n") + " ", 4),
        (ONE.replace('\n', "\r") + " ", 4),
        ("\u{feff}".to_owned(), 1),
    ] {
        assert_eq!(found(&format!("{before}{ONE}"), CERTIFICATE), Err(PemFault::BeginIndented(line)), "{before:?}");
        let with_key = format!("{before}{KEY}{ONE}");
        assert_eq!(found(&with_key, "PRIVATE KEY"), Err(PemFault::BeginIndented(line)), "{before:?}");
    }
}

#[test]
fn another_spelling_of_a_kind_is_an_error_beside_a_good_section() {
    for name in ["X509 CERTIFICATE", "TRUSTED CERTIFICATE"] {
        let fault = PemFault::OtherCertificate { line: 4, written: name.into() };
        assert_eq!(found(&(ONE.to_owned() + &ONE.replace("CERTIFICATE", name)), CERTIFICATE), Err(fault));
    }
    for written in [
        "-----begin certificate-----",
        "-----BEGIN certificate-----",
        "-----BEGIN CERTIFICATE -----",
        "-----BEGIN  CERTIFICATE-----",
        "-----BEGINCERTIFICATE-----",
        "----- BEGIN CERTIFICATE -----",
    ] {
        let fault = PemFault::Misspelt { line: 4, written: written.into(), kind: "CERTIFICATE".into() };
        let text = ONE.to_owned() + &ONE.replace("-----BEGIN CERTIFICATE-----", written);
        assert_eq!(found(&text, CERTIFICATE), Err(fault), "{written}");
    }
    let text = format!("{ONE}{}", ONE.replace("-----BEGIN CERTIFICATE-----", "-----BEGIN CERTIFICATE----- new"));
    assert_eq!(found(&text, CERTIFICATE), Err(PemFault::BeginCut));
}

#[test]
fn a_section_without_its_beginning_is_an_error_beside_a_good_one() {
    let fault = PemFault::NoBegin { line: 5, kind: "CERTIFICATE".into() };
    for cut in ["", "----BEGIN CERTIFICATE-----"] {
        let text = ONE.to_owned() + &ONE.replace("-----BEGIN CERTIFICATE-----\n", &format!("{cut} "));
        assert_eq!(found(&text, CERTIFICATE), Err(fault.clone()), "{cut}");
    }
}

#[test]
fn an_empty_section_is_said_to_be_empty() {
    for between in ["", "\n", " \r\n\n"] {
        let text = format!("-----BEGIN CERTIFICATE-----\n{between}-----END CERTIFICATE-----\n");
        assert_eq!(found(&text, CERTIFICATE), Err(PemFault::Empty("CERTIFICATE".into())));
    }
}

#[test]
fn a_file_with_escaped_line_ends_is_said_to_be_one_and_not_quoted_whole() {
    let text = format!("{ONE}{}", ONE.repeat(100).replace('\n', "\\n"));
    assert_eq!(found(&text, CERTIFICATE), Err(PemFault::LinesEscaped(4)));
    let long = ONE.replace("CERTIFICATE", &format!("\u{1b}[2J{}", "LONG ".repeat(100)));
    let sections = sections(Path::new("f"), long.as_bytes()).unwrap();
    let error = super::lacking(Path::new("f"), &sections, "certificate").to_string();
    assert!(error.len() < 150 && error.contains("\\u{1b}[2JLONG LONG") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn comments_and_sections_of_other_kinds_are_skipped() {
    let other = |kind: &str| ONE.replace("CERTIFICATE", kind);
    let skipped = ["EC PARAMETERS", "DH PARAMETERS", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "X509 CRL"];
    let skipped: String = skipped.iter().map(|kind| other(kind)).collect();
    let commented_out = ONE.replace('\n', "\n# ");
    let bundle = format!(
        "# Authorities\n\nIssuer: CN=A, O=-----\n=====\n{ONE}\nB, with é\n-----\n{skipped}{ONE}# {commented_out}\n{KEY}"
    );
    for text in [bundle.clone(), bundle.replace('\n', "\r\n"), bundle.replace('\n', "\r")] {
        assert_eq!(found(&text, CERTIFICATE), Ok(2));
        assert_eq!(found(&text, "PRIVATE KEY"), Ok(1));
    }
}
