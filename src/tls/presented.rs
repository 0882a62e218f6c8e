//! The certificate that a client presented.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::address;

/// The certificate that a client presented, verified by the listener's `client_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The subject, such as `CN=alice, O=Example`; empty where the certificate has none.
    pub subject: String,
    /// The names in `subjectAltName`: DNS names, IP addresses, mail addresses and URIs, in the certificate's order.
    pub names: Vec<String>,
    /// SHA-256 of the certificate (DER) in 64 lower-case hexadecimal digits.
    pub fingerprint: String,
    /// The certificate in DER.
    der: Vec<u8>,
}

impl ClientCertificate {
    /// Describes a certificate; `None` where it cannot be read.
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let fingerprint = fingerprint(der);
        let subject = certificate.subject().to_string();
        Some(Self { subject, names: names(&certificate), fingerprint, der: der.to_vec() })
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The value of `Client-Cert` (RFC 9440 §2.2): the certificate as a byte sequence of structured fields.
    pub fn header_value(&self) -> String {
        format!(":{}:", STANDARD.encode(&self.der))
    }
}

/// SHA-256 of a certificate in 64 lower-case hexadecimal digits.
pub fn fingerprint(der: &CertificateDer<'_>) -> String {
    digest(&SHA256, der).as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Every kind of name that says who somebody is.
fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternative)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = alternative.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    });
    names.collect()
}
