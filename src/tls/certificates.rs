//! Certificates in files: read, checked, and described.

mod error;
mod form;
mod lapsed;
mod pem;
mod private_key;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore, SignatureScheme};
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::read;
pub use error::{CertificateError, CertificateWarning};
pub use form::OtherForm;
pub use lapsed::{KEPT_VARIABLE, Lapsed, kept_variable};
pub use pem::PemFault;
pub use private_key::KeyFault;

/// A certificate chain with its private key, checked.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The file that the chain was read from.
    pub file: PathBuf,
    /// The names that the certificate is for, in lower case: DNS names, `*.` before those of wildcards, and IP
    /// addresses.
    pub names: Vec<String>,
    /// Moment before which the certificate is not valid.
    pub not_before: SystemTime,
    /// Moment after which the certificate is not valid.
    pub not_after: SystemTime,
    /// Chain and key, as rustls uses them.
    pub certified: Arc<CertifiedKey>,
    /// Faults that do not keep the certificate from being used.
    pub warnings: Vec<CertificateWarning>,
}

impl Certificate {
    /// Tells whether a signature by the key takes long: 0.6 ms with RSA of 2,048 bits, 4 ms with 4,096. Ed25519 and
    /// ECDSA on P-256 take 0.02 ms.
    pub fn signs_slowly(&self) -> bool {
        let quick = [SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519];
        self.certified.key.choose_scheme(&quick).is_none()
    }
}

/// Time before the end of a certificate from which on it is warned of: 14 days, half of what remains when renewal of a
/// 90-day certificate is usually due.
pub const SOON: Duration = Duration::from_secs(14 * 86_400);

impl Certificate {
    /// Reads a chain and its key. `lapsed` tells whether the certificate may be outside of its time.
    ///
    /// # Errors
    /// Every fault of the two files: at least one.
    pub fn load(
        cert: &Path,
        key: &Path,
        provider: &CryptoProvider,
        now: SystemTime,
        lapsed: &Lapsed,
    ) -> Result<Self, Vec<CertificateError>> {
        let mut errors = Vec::new();
        let chain = certificates_of(cert).map_err(|error| errors.push(error)).ok();
        let signing = private_key::load(key, provider).map_err(|error| errors.push(error)).ok();
        let described = chain.as_ref().and_then(|chain| Described::of(cert, chain, (now, lapsed), &mut errors));
        // One file may be named as both.
        errors.dedup();
        let (Some(chain), Some(signing)) = (chain, signing) else { return Err(errors) };
        let certified = CertifiedKey::new(chain, signing);
        if let Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) = certified.keys_match() {
            errors.push(CertificateError::KeyMismatch { key: key.into(), cert: cert.into() });
        }
        match described {
            Some(Described { names, not_before, not_after, warnings }) if errors.is_empty() => {
                let (file, certified) = (cert.into(), Arc::new(certified));
                Ok(Self { file, names, not_before, not_after, certified, warnings })
            }
            _ => Err(errors),
        }
    }

    /// Tells if the certificate is for `host`, in lower case: by its name, or by a wildcard for one label (RFC 9525
    /// §6.3).
    pub fn covers(&self, host: &str) -> bool {
        self.names.iter().any(|name| covers(name, host))
    }

    /// The name by which operators know the certificate: the first that it is for, else its file.
    pub fn label(&self) -> String {
        self.names.first().cloned().unwrap_or_else(|| self.file.display().to_string())
    }
}

/// Tells if a certificate's `name` stands for `host`; both are in lower case.
pub fn covers(name: &str, host: &str) -> bool {
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == parent),
        None => name == host,
    }
}

/// Reads the certificates of authorities from a PEM file.
///
/// # Errors
/// The file cannot be read, or one of its certificates cannot be an authority's.
pub fn roots(file: &Path) -> Result<RootCertStore, CertificateError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates_of(file)?.into_iter().enumerate() {
        store.add(certificate).map_err(|error| CertificateError::Malformed {
            file: file.into(),
            number: index + 1,
            reason: error.to_string(),
        })?;
    }
    Ok(store)
}

/// Reads every certificate of a PEM file; at least one.
///
/// # Errors
/// The file cannot be read, is not PEM, has no certificate in it, or one that is damaged.
pub fn certificates_of(file: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let text = read(file)?;
    let sections = pem::sections(file, &text)?;
    let certificates = pem::of_kinds(file, &sections, &[pem::CERTIFICATE])?;
    let chain = certificates.iter().map(|section| section.decode(file)).collect::<Result<Vec<_>, _>>()?;
    match chain.is_empty() {
        true => Err(pem::lacking(file, &sections, "certificate")),
        false => Ok(chain),
    }
}

/// The parts of a chain that people and clients see.
struct Described {
    names: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    warnings: Vec<CertificateWarning>,
}

impl Described {
    /// Describes a chain; `None` where its first certificate cannot be read. Faults are added to `errors`.
    fn of(
        file: &Path,
        chain: &[CertificateDer<'_>],
        (now, lapsed): (SystemTime, &Lapsed),
        errors: &mut Vec<CertificateError>,
    ) -> Option<Self> {
        let mut parsed = Vec::new();
        for (index, der) in chain.iter().enumerate() {
            match X509Certificate::from_der(der) {
                Ok((_, certificate)) => parsed.push(certificate),
                Err(error) => {
                    let reason = error.to_string();
                    errors.push(CertificateError::Malformed { file: file.into(), number: index + 1, reason });
                    return None;
                }
            }
        }
        errors.extend(out_of_order(file, &parsed));
        let (leaf, issuers) = parsed.split_first()?;
        let mut warnings = Vec::new();
        let (not_before, not_after) = validity(leaf);
        let (path, from, on) = (|| file.into(), date(not_before), date(not_after));
        let is_allowed = (not_after < now || not_before > now) && lapsed.allows(&chain[0]);
        match is_allowed {
            true if not_after < now => warnings.push(CertificateWarning::Expired { file: path(), on }),
            true => warnings.push(CertificateWarning::NotYetValid { file: path(), from }),
            false if not_after < now => errors.push(CertificateError::Expired { file: path(), on }),
            false if not_before > now => errors.push(CertificateError::NotYetValid { file: path(), from }),
            false if not_after < now + SOON => warnings.push(CertificateWarning::ExpiresSoon { file: path(), on }),
            false => {}
        }
        for (index, issuer) in issuers.iter().enumerate() {
            let (_, end) = validity(issuer);
            if end < now {
                let (number, on) = (index + 2, date(end));
                warnings.push(CertificateWarning::IssuerExpired { file: file.into(), number, on });
            }
        }
        let names = names(leaf);
        if names.is_empty() {
            warnings.push(CertificateWarning::Nameless(file.into()));
        }
        Some(Self { names, not_before, not_after, warnings })
    }
}

/// The first place of a chain where a certificate was not issued by the one behind it.
fn out_of_order(file: &Path, chain: &[X509Certificate<'_>]) -> Option<CertificateError> {
    chain.windows(2).enumerate().find_map(|(index, pair)| {
        let [certificate, issuer] = pair else { return None };
        let named = certificate.issuer().as_raw() == issuer.subject().as_raw();
        // An algorithm that cannot be verified here says nothing about the order.
        let signed = || {
            !matches!(
                certificate.verify_signature(Some(issuer.public_key())),
                Err(X509Error::SignatureVerificationError)
            )
        };
        (!(named && signed())).then(|| CertificateError::OutOfOrder {
            file: file.into(),
            number: index + 1,
            subject: certificate.subject().to_string(),
            behind: issuer.subject().to_string(),
        })
    })
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()))
}

/// A moment in seconds since 1970; earlier ones count as 1970.
fn moment(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

fn date(at: SystemTime) -> String {
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Names in `subjectAltName`, in lower case.
pub(super) fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    names.collect()
}

/// An address as a certificate has it (RFC 5280 §4.2.1.6).
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_wildcard_stands_for_one_label() {
        assert!(covers("*.example.com", "a.example.com"));
        assert!(!covers("*.example.com", "example.com"));
        assert!(!covers("*.example.com", "b.a.example.com"));
        assert!(!covers("*.example.com", ".example.com"));
        assert!(covers("a.example.com", "a.example.com"));
        assert!(!covers("a.example.com", "b.example.com"));
    }
}
