//! Faults of the files of certificates and keys, and of what is in them.

use std::path::{Path, PathBuf};

use super::private_key::{KeyFault, PRIVATE_KEY};
use super::{OtherForm, PemFault};
use crate::tls::files::FileError;

/// Reason for which a certificate and its key cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file has no section of PEM.
    #[error("{}{form}", file.display())]
    NotPem {
        /// The file.
        file: PathBuf,
        /// Form of its content.
        form: OtherForm,
    },
    /// PEM that cannot be decoded.
    #[error("{} is damaged: {fault}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// The fault.
        fault: PemFault,
    },
    /// PEM without a section of the kind that is needed.
    #[error("{} has no {what} in it, only: {}", file.display(), found.join(", "))]
    Lacks {
        /// The file.
        file: PathBuf,
        /// Kind of the section that is needed.
        what: &'static str,
        /// Kinds of the sections that are there.
        found: Vec<String>,
    },
    /// The key is encrypted with a passphrase, which nobody could type.
    #[error("the key in {} is encrypted with a passphrase", .0.display())]
    KeyEncrypted(PathBuf),
    /// The key is of a kind or size that is not supported.
    #[error("the key in {} cannot be used: {fault}", file.display())]
    KeyUnusable {
        /// The file.
        file: PathBuf,
        /// The fault.
        fault: KeyFault,
    },
    /// The key belongs to another certificate.
    #[error("the key in {} does not match the certificate in {}", key.display(), cert.display())]
    KeyMismatch {
        /// File of the key.
        key: PathBuf,
        /// File of the certificate.
        cert: PathBuf,
    },
    /// A section is not a certificate.
    #[error("certificate {number} in {} cannot be read: {reason}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// Place in the chain, from 1.
        number: usize,
        /// The fault.
        reason: String,
    },
    /// A certificate of the chain was not issued by the one behind it.
    #[error(
        "the chain in {} is out of order: certificate {} ({behind}) is not the issuer of certificate {number} \
         ({subject})",
        file.display(), number + 1
    )]
    OutOfOrder {
        /// The file.
        file: PathBuf,
        /// Place of the certificate, from 1.
        number: usize,
        /// Its subject.
        subject: String,
        /// Subject of the certificate behind it.
        behind: String,
    },
    /// The certificate is not valid any more.
    #[error("the certificate in {} expired on {on}", file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// Date and time of its end.
        on: String,
    },
    /// The certificate is not valid yet.
    #[error("the certificate in {} is not valid before {from}", file.display())]
    NotYetValid {
        /// The file.
        file: PathBuf,
        /// Date and time from which it is valid.
        from: String,
    },
}

impl CertificateError {
    /// True when the private key's file is at fault, and not the certificate's.
    pub fn is_of_key(&self, key: &Path, cert: &Path) -> bool {
        match self {
            Self::KeyEncrypted(_) | Self::KeyUnusable { .. } | Self::KeyMismatch { .. } => true,
            Self::File(error) => error.file() == key && key != cert,
            Self::NotPem { file, .. } | Self::Damaged { file, .. } => file == key && key != cert,
            Self::Lacks { what, .. } => *what == PRIVATE_KEY,
            _ => false,
        }
    }
}

/// Fault of a certificate that can be used all the same.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateWarning {
    /// The certificate is not valid any more, and is used all the same ([`Lapsed`](super::Lapsed)).
    #[error("the certificate in {} expired on {on}: clients refuse it", file.display())]
    Expired {
        /// The file.
        file: PathBuf,
        /// Date and time of its end.
        on: String,
    },
    /// The certificate is not valid yet, and is used all the same.
    #[error("the certificate in {} is not valid before {from}: clients refuse it", file.display())]
    NotYetValid {
        /// The file.
        file: PathBuf,
        /// Date and time from which it is valid.
        from: String,
    },
    /// The certificate ends within [`SOON`](super::SOON).
    #[error("the certificate in {} expires on {on}", file.display())]
    ExpiresSoon {
        /// The file.
        file: PathBuf,
        /// Date and time of its end.
        on: String,
    },
    /// Another certificate of the chain has expired.
    #[error("certificate {number} of the chain in {} expired on {on}: clients may refuse the chain", file.display())]
    IssuerExpired {
        /// The file.
        file: PathBuf,
        /// Place in the chain, from 1.
        number: usize,
        /// Date and time of its end.
        on: String,
    },
    /// Clients look for names in `subjectAltName` alone (RFC 9525 §2).
    #[error("the certificate in {} names no host (subjectAltName): clients refuse it for every host", .0.display())]
    Nameless(PathBuf),
}
