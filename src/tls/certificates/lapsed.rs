//! Certificates that have expired, or are not valid yet: where they are used all the same.

use std::collections::HashSet;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::Certificate;
use crate::tls::presented::fingerprint;

/// Rule for certificates that have expired, or are not valid yet. Clients refuse them, but a gateway that refuses them
/// as well loses all else that its configuration serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lapsed {
    /// Each one is an error.
    Refused,
    /// Each one is an error, but for those with these fingerprints: they are in use already, and are warned of.
    KeptInUse(HashSet<String>),
    /// Each one is warned of: nothing older could be kept in its place.
    Taken,
}

impl Lapsed {
    /// Keeps the certificates that are in use.
    pub fn kept_of<'c>(in_use: impl IntoIterator<Item = &'c Certificate>) -> Self {
        Self::KeptInUse(in_use.into_iter().filter_map(Certificate::fingerprint).collect())
    }

    /// Keeps the certificates that a running gateway names to a program that it lets test a configuration: the value of
    /// [`KEPT_VARIABLE`]. None without a value.
    pub fn kept_by(variable: Option<&str>) -> Self {
        variable.map_or(Self::Refused, |named| Self::KeptInUse(named.split(',').map(str::to_owned).collect()))
    }

    /// Tells whether this certificate is used outside of its time.
    pub(super) fn allows(&self, certificate: &CertificateDer<'_>) -> bool {
        match self {
            Self::Refused => false,
            Self::KeptInUse(fingerprints) => fingerprints.contains(&fingerprint(certificate)),
            Self::Taken => true,
        }
    }
}

impl Certificate {
    /// SHA-256 of the certificate in 64 lower-case hexadecimal digits; `None` of an empty chain.
    pub fn fingerprint(&self) -> Option<String> {
        self.certified.cert.first().map(fingerprint)
    }

    /// Tells whether the certificate has expired, or is not valid yet.
    pub fn has_lapsed(&self, now: SystemTime) -> bool {
        self.not_after < now || self.not_before > now
    }
}

/// The value of [`KEPT_VARIABLE`] for these certificates in use; empty where none is outside of its time.
pub fn kept_variable(in_use: &[Certificate], now: SystemTime) -> String {
    let lapsed = in_use.iter().filter(|certificate| certificate.has_lapsed(now));
    lapsed.filter_map(Certificate::fingerprint).take(MOST_KEPT).collect::<Vec<_>>().join(",")
}

/// Environment variable that names certificates outside of their time to a program that tests a configuration: their
/// fingerprints, separated by commas.
pub const KEPT_VARIABLE: &str = "LONGHAUL_LAPSED_CERTIFICATES";

/// The most certificates that the variable names: the system takes no variable of more than 128 KiB.
const MOST_KEPT: usize = 1_000;
