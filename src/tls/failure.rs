//! Reasons for which TLS handshakes fail, as they are counted.

use std::io;

use rustls::{Error, PeerIncompatible};

/// Why a TLS handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeFailure {
    /// The other side did not get done in time.
    #[error("it took too long")]
    Timeout,
    /// The other side closed the connection, or it broke.
    #[error("the other side left")]
    Closed,
    /// The other side sent more than a handshake takes.
    #[error("the other side sent more than a handshake takes")]
    TooLong,
    /// HTTP without TLS on a port that speaks TLS.
    #[error("the client spoke HTTP without TLS")]
    PlainHttp,
    /// TLS on a port that speaks none.
    #[error("the client spoke TLS to a plain port")]
    PlainPort,
    /// PROXY header on a port that speaks TLS and reads no such header.
    #[error("a PROXY protocol header came, which is read with `proxy_protocol: optional` or `required` only")]
    ProxyHeader,
    /// Bytes that no TLS record or message begins with.
    #[error("the bytes were not TLS")]
    NotTls,
    /// No version that both sides speak.
    #[error("the two sides speak no common version")]
    Version,
    /// No cipher suite, group or signature scheme that both sides know.
    #[error("the two sides know no common cipher suite, group or signature scheme")]
    Parameters,
    /// No protocol of ALPN that both sides speak.
    #[error("the two sides speak no common protocol above TLS")]
    Alpn,
    /// The client has no certificate, and needs one.
    #[error("the client had no certificate")]
    CertificateMissing,
    /// The other side's certificate is not to be trusted.
    #[error("the other side's certificate was not accepted")]
    CertificateRefused,
    /// The other side ended the handshake by an alert, for want of trust most often.
    #[error("the other side ended it by an alert")]
    Alert,
    /// The other side broke another rule of the protocol.
    #[error("the other side broke the protocol")]
    Protocol,
}

impl HandshakeFailure {
    /// Every value.
    pub const ALL: [Self; 14] = [
        Self::Timeout,
        Self::Closed,
        Self::TooLong,
        Self::PlainHttp,
        Self::PlainPort,
        Self::ProxyHeader,
        Self::NotTls,
        Self::Version,
        Self::Parameters,
        Self::Alpn,
        Self::CertificateMissing,
        Self::CertificateRefused,
        Self::Alert,
        Self::Protocol,
    ];

    /// The `failure` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::TooLong => "too_long",
            Self::PlainHttp => "plain_http",
            Self::PlainPort => "plain_port",
            Self::ProxyHeader => "proxy_header",
            Self::NotTls => "not_tls",
            Self::Version => "version",
            Self::Parameters => "parameters",
            Self::Alpn => "alpn",
            Self::CertificateMissing => "certificate_missing",
            Self::CertificateRefused => "certificate_refused",
            Self::Alert => "alert",
            Self::Protocol => "protocol",
        }
    }
}

impl From<&Error> for HandshakeFailure {
    fn from(error: &Error) -> Self {
        match error {
            Error::InvalidMessage(_) => Self::NotTls,
            Error::PeerIncompatible(incompatible) => match incompatible {
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => Self::Version,
                _ => Self::Parameters,
            },
            Error::NoApplicationProtocol => Self::Alpn,
            Error::NoCertificatesPresented => Self::CertificateMissing,
            Error::InvalidCertificate(_) => Self::CertificateRefused,
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Protocol,
        }
    }
}

impl From<&io::Error> for HandshakeFailure {
    fn from(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut { Self::Timeout } else { Self::Closed }
    }
}
