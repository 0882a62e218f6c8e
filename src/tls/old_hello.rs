//! Hellos of clients that speak TLS 1.1 at most, and the alert that refuses them.

use rustls::{Error, PeerIncompatible};

/// Tells whether `error` is one of TLS 1.2 by which rustls refused an older client. rustls looks for
/// `signature_algorithms` before it looks at the version, and that extension came with TLS 1.2 (RFC 5246 §7.4.1.4.1).
///
/// `records` are those that the error is about. A hello that an old client cut into several calls is not recognised.
pub(super) fn is_hidden_by(error: &Error, records: &[u8]) -> bool {
    let extension_is_missing =
        matches!(error, Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired));
    extension_is_missing && matches!(records, [HANDSHAKE, _, _, _, _, CLIENT_HELLO, _, _, _, 3, ..=TLS11_MINOR, ..])
}

/// The error of a client that offers neither TLS 1.2 nor 1.3.
pub(super) fn refusal() -> Error {
    PeerIncompatible::Tls12NotOffered.into()
}

/// A record with the alert `protocol_version`, of the version that clients of every age read (RFC 8446 §5.1).
pub(super) const ALERT: [u8; 7] = [21, 3, 1, 0, 2, 2, 70];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// Second byte of version 1.1. The first byte is 3 in all versions since SSL 3.
const TLS11_MINOR: u8 = 2;
