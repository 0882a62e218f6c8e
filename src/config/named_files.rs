//! Files that a configuration names: noted while it is read, and checked afterwards by whoever may do I/O.

use std::fmt::Display;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::daemon_keys::DaemonKey;
use super::model::PemPair;
use super::secrets::{password, tokens};
use super::yaml::node::Mark;
use super::yaml::problem::{Problem, Report, Severity};
use super::yaml::value::Value;
use crate::tls;
use crate::tls::certificates::{
    Certificate, CertificateError, CertificateWarning, KeyFault, Lapsed, OtherForm, PemFault, roots,
};
use crate::tls::tickets::TicketKeys;

/// Every file that a configuration names, with its place in the configuration.
#[derive(Debug, Default)]
pub(crate) struct NamedFiles {
    list: Vec<(Place, Named)>,
    /// Upstreams whose members are told by commands, where the configuration names no folder to keep them in.
    unkept: Vec<Place>,
}

/// Use of a file that is checked alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileUse {
    /// Certificates of authorities.
    Roots,
    /// Keys of session tickets.
    TicketKeys,
    /// Tokens of the admin API.
    Tokens,
    /// A password.
    Password,
}

#[derive(Debug)]
enum Named {
    /// A certificate and its key; the place is the certificate's, and the key's stands beside it.
    Pair(PemPair, Place),
    Single(FileUse, PathBuf),
    /// A value of a key of daemons.
    OfDaemon(DaemonKey, String),
}

#[derive(Clone, Debug)]
struct Place {
    mark: Mark,
    path: String,
}

impl Place {
    fn of(value: &Value<'_>) -> Self {
        Self { mark: value.mark(), path: value.path() }
    }

    fn problem(&self, severity: Severity, message: impl Display) -> Problem {
        Problem::new(severity, self.mark, self.path.clone(), message.to_string())
    }
}

impl NamedFiles {
    /// Notes a certificate and its key.
    pub(crate) fn pair(&mut self, cert: &Value<'_>, key: &Value<'_>, pair: PemPair) {
        self.list.push((Place::of(cert), Named::Pair(pair, Place::of(key))));
    }

    /// Notes a file that is checked alone.
    pub(crate) fn single(&mut self, value: &Value<'_>, used: FileUse, file: PathBuf) {
        self.list.push((Place::of(value), Named::Single(used, file)));
    }

    /// Notes what a key of daemons names.
    pub(crate) fn of_daemon(&mut self, value: &Value<'_>, key: DaemonKey, named: String) {
        self.list.push((Place::of(value), Named::OfDaemon(key, named)));
    }

    /// Notes an upstream whose members are told by commands; the configuration names no folder to keep them in.
    pub(crate) fn unkept(&mut self, mark: Mark, path: String) {
        self.unkept.push(Place { mark, path });
    }

    /// Reads every file, and reports each that cannot be used, and each certificate that is about to expire.
    /// `lapsed` is the rule for certificates outside of their time.
    pub(crate) fn check(&self, now: SystemTime, lapsed: &Lapsed, report: &mut Report) {
        self.warn_of_unkept(report);
        let provider = tls::provider();
        for (place, named) in &self.list {
            match named {
                Named::Pair(pair, key) => {
                    let loaded = Certificate::load(&pair.cert, &pair.key, &provider, now, lapsed);
                    let warnings = loaded.as_ref().map_or(&[][..], |certificate| &certificate.warnings);
                    for warning in warnings {
                        report.push(advised_warning(place.problem(Severity::Warning, warning), warning));
                    }
                    for error in loaded.err().unwrap_or_default() {
                        let of_key = error.is_of_key(&pair.key, &pair.cert);
                        let at = if of_key { key } else { place };
                        report.push(advised(at.problem(Severity::Error, &error), &error, of_key));
                    }
                }
                Named::Single(FileUse::Roots, file) => {
                    if let Err(error) = roots(file) {
                        report.push(advised(place.problem(Severity::Error, &error), &error, false));
                    }
                }
                Named::Single(FileUse::Tokens, file) => match tokens(file) {
                    Err(error) => {
                        let error = format!("{}: {error}", file.display());
                        let problem = place.problem(Severity::Error, error).expected("tokens, one a line");
                        report.push(problem.remedy("`openssl rand -hex 32 > FILE` makes one"));
                    }
                    Ok(_) => warn_of_open(file, "the tokens", place, report),
                },
                Named::Single(FileUse::Password, file) => match password(file) {
                    Err(error) => {
                        let error = format!("{}: {error}", file.display());
                        report.push(place.problem(Severity::Error, error).expected("a password on the first line"));
                    }
                    Ok(_) => warn_of_open(file, "the password", place, report),
                },
                Named::OfDaemon(key, named) => report_daemon(*key, named, place, report),
                Named::Single(FileUse::TicketKeys, file) => {
                    if let Err(error) = TicketKeys::load(file) {
                        let problem = place.problem(Severity::Error, error);
                        report.push(problem.remedy("`openssl rand -base64 32` makes a key; the first line seals"));
                    }
                }
            }
        }
    }

    /// Warns of members that a restart forgets.
    fn warn_of_unkept(&self, report: &mut Report) {
        // The folder that systemd makes for a service takes the place of one that is named.
        let has_folder = std::env::var_os("STATE_DIRECTORY").is_some_and(|folders| !folders.is_empty());
        for place in self.unkept.iter().filter(|_| !has_folder) {
            let message = "members that are told by commands are kept nowhere: a restart begins without any";
            let problem = place.problem(Severity::Warning, message);
            report.push(problem.remedy("name a folder, such as `state_folder: /var/lib/longhaul`"));
        }
    }
}

/// Reports a value that no daemon can have.
fn report_daemon(key: DaemonKey, named: &str, place: &Place, report: &mut Report) {
    if let Some(fault) = key.fault(named) {
        report.push(place.problem(Severity::Error, fault.message).remedy(fault.remedy));
    }
}

/// Reports a file of secrets that every user may read.
fn warn_of_open(file: &Path, secret: &str, place: &Place, report: &mut Report) {
    if is_open(file) {
        let problem = place.problem(Severity::Warning, format!("every user of this machine may read {secret}"));
        report.push(problem.remedy(format!("`chmod 600 {}`", file.display())));
    }
}

/// Tells whether users may read a file who are neither its own nor of its group.
fn is_open(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Adds to the problem of a file what is expected there, or how to mend it. `of_key`: the file is that of a key.
fn advised(problem: Problem, error: &CertificateError, of_key: bool) -> Problem {
    match error {
        CertificateError::NotPem { form, .. } => {
            let problem = problem.expected("PEM: text with a section that begins with `-----BEGIN`");
            match into_pem(*form, of_key) {
                Some(remedy) => problem.remedy(remedy),
                None => problem,
            }
        }
        CertificateError::Damaged { fault, .. } => problem.remedy(mended(fault)),
        CertificateError::Lacks { .. } if of_key => {
            problem.expected("a section `PRIVATE KEY`, `RSA PRIVATE KEY` or `EC PRIVATE KEY`")
        }
        CertificateError::KeyEncrypted(_) => problem.remedy(
            "`openssl pkey -in FILE -out NEW` takes the passphrase off; keep the file readable by the gateway alone",
        ),
        CertificateError::KeyUnusable { fault, .. } => {
            let problem = problem.expected("RSA of 2,048 to 8,192 bits, P-256, P-384, P-521 or Ed25519");
            problem.remedy(match fault {
                KeyFault::Broken => "`openssl pkey -in FILE -check -noout` tells what is wrong with it",
                _ => {
                    "`openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out NEW` makes a key; have a \
                     certificate issued for it"
                }
            })
        }
        CertificateError::KeyMismatch { .. } => {
            problem.expected("the key that the first certificate of the file was made for")
        }
        CertificateError::OutOfOrder { .. } => {
            problem.expected("the certificate first, and behind each certificate its issuer")
        }
        CertificateError::Expired { .. } => {
            problem.remedy("renew it; `longhaul check` then says until when it is valid")
        }
        CertificateError::NotYetValid { .. } => problem.remedy("look at the clock of this machine"),
        _ => problem,
    }
}

/// Advice on how to make PEM of a file of another form; `None` where it may be anything.
fn into_pem(form: OtherForm, of_key: bool) -> Option<&'static str> {
    match form {
        OtherForm::Pkcs12 if of_key => {
            Some("`openssl pkcs12 -in FILE -nocerts -noenc -out NEW` takes the key out of it")
        }
        OtherForm::Pkcs12 => Some("`openssl pkcs12 -in FILE -nokeys -out NEW` takes the certificates out of it"),
        OtherForm::Utf16 => Some("`iconv -f UTF-16 -t UTF-8 FILE > NEW` turns it into the text that is read"),
        OtherForm::Der if of_key => Some("`openssl pkey -inform der -in FILE -out NEW` turns DER into PEM"),
        OtherForm::Der => Some("`openssl x509 -inform der -in FILE -out NEW` turns DER into PEM"),
        _ => None,
    }
}

/// Advice on how to mend a PEM file.
fn mended(fault: &PemFault) -> String {
    match fault {
        PemFault::BeginIndented(_) => {
            "begin a line with `-----BEGIN`: take away what stands before it, or begin a new line there".into()
        }
        PemFault::LinesEscaped(_) => "`printf '%b\\n' \"$(cat FILE)\" > NEW` makes lines of it".into(),
        PemFault::Misspelt { kind, .. } => {
            format!("write `-----BEGIN {kind}-----`, and `-----END {kind}-----` at the end of the section")
        }
        PemFault::OtherCertificate { .. } => {
            "`openssl x509 -in FILE -out NEW` writes it as `CERTIFICATE`; of several in one file, the first alone"
                .into()
        }
        _ => "copy the file again from where it was made, byte by byte, or have it made anew".into(),
    }
}

fn advised_warning(problem: Problem, warning: &CertificateWarning) -> Problem {
    match warning {
        CertificateWarning::Expired { .. } | CertificateWarning::ExpiresSoon { .. } => {
            problem.remedy("renew it: a renewed file is taken up without a reload")
        }
        CertificateWarning::NotYetValid { .. } => problem.remedy("look at the clock of this machine"),
        _ => problem,
    }
}
