//! Reasons for which there is no TLS connection to a backend.

use std::io;

use rustls::{CertificateError, Error};

/// Kind of a failure of TLS with a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsFailureKind {
    /// The backend answered with something that is not TLS.
    NotTls,
    /// The backend's certificate is for other names.
    Name,
    /// The backend's certificate leads to no authority that is trusted.
    Issuer,
    /// The backend's certificate has expired, or is not valid yet.
    Expired,
    /// The backend's certificate cannot be trusted for another reason.
    Certificate,
    /// The backend refused the gateway by an alert: it may want a certificate, or another name.
    Refused,
    /// The backend closed the connection before the handshake was done.
    Closed,
    /// Both sides have no version, cipher suite or protocol in common, or the backend broke the protocol.
    Protocol,
    /// The gateway has no usable settings for the upstream.
    SetUp,
}

impl TlsFailureKind {
    /// Every value, in the order of the variants.
    pub const ALL: [Self; 9] = [
        Self::NotTls,
        Self::Name,
        Self::Issuer,
        Self::Expired,
        Self::Certificate,
        Self::Refused,
        Self::Closed,
        Self::Protocol,
        Self::SetUp,
    ];

    /// The `failure` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Name => "certificate_name",
            Self::Issuer => "certificate_issuer",
            Self::Expired => "certificate_expired",
            Self::Certificate => "certificate",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Protocol => "protocol",
            Self::SetUp => "set_up",
        }
    }

    /// The word in logs.
    fn word(self) -> &'static str {
        match self {
            Self::NotTls => "TlsNotSpoken",
            Self::Name => "TlsCertificateName",
            Self::Issuer => "TlsCertificateIssuer",
            Self::Expired => "TlsCertificateExpired",
            Self::Certificate => "TlsCertificate",
            Self::Refused => "TlsRefused",
            Self::Closed => "TlsClosed",
            Self::Protocol => "TlsProtocol",
            Self::SetUp => "TlsSetUp",
        }
    }
}

/// A failure of TLS with a backend. Its text is the word that logs have for it, and the library's own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {text}", failure.word())]
pub struct TlsFailure {
    /// The kind.
    pub failure: TlsFailureKind,
    text: String,
}

impl TlsFailure {
    /// The backend closed the connection, or it broke, before the handshake was done.
    pub fn closed(error: Option<&io::Error>) -> Self {
        let text = error
            .map_or_else(|| "the backend closed the connection during the handshake".into(), |error| error.to_string());
        Self { failure: TlsFailureKind::Closed, text }
    }

    /// The backend sent more than a handshake takes.
    pub fn too_long() -> Self {
        Self { failure: TlsFailureKind::Protocol, text: "the backend sent more than a handshake takes".to_owned() }
    }

    pub(super) fn not_set_up(reason: &str) -> Self {
        Self { failure: TlsFailureKind::SetUp, text: reason.to_owned() }
    }
}

impl From<&Error> for TlsFailure {
    fn from(error: &Error) -> Self {
        use CertificateError as Wrong;
        let failure = match error {
            Error::InvalidMessage(_) => TlsFailureKind::NotTls,
            Error::InvalidCertificate(wrong) => match wrong {
                Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => TlsFailureKind::Name,
                Wrong::UnknownIssuer => TlsFailureKind::Issuer,
                Wrong::Expired
                | Wrong::ExpiredContext { .. }
                | Wrong::NotValidYet
                | Wrong::NotValidYetContext { .. } => TlsFailureKind::Expired,
                _ => TlsFailureKind::Certificate,
            },
            Error::NoCertificatesPresented => TlsFailureKind::Certificate,
            Error::AlertReceived(_) => TlsFailureKind::Refused,
            _ => TlsFailureKind::Protocol,
        };
        Self { failure, text: error.to_string() }
    }
}
