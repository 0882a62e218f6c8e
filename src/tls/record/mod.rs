//! Record layer of a connection after its handshake: two keys, two sequence numbers, and no buffer.
//!
//! Does no I/O. What it does to a byte stream is RFC 8446 §5 and RFC 5246 §6.2 with RFC 5288 and RFC 7905.

mod alert;
mod keys;
mod messages;
mod open;
mod seal;
mod state;

pub use alert::Alert;
use keys::RecordKeys;
pub use keys::{Cipher, RecordVersion};
use messages::HandshakeMessages;
pub use messages::Role;
pub use open::{OpenedRecords, StreamEnd};
pub use seal::{SealedRecords, WornOut};
pub use state::RecordState;

use super::secrets::{Secret, TrafficSecrets};

/// A connection whose handshake is done, as keys and numbers.
pub struct Records {
    version: RecordVersion,
    role: Role,
    /// Protects what this side sends.
    sealing: RecordKeys,
    /// Protects what the other side sends.
    opening: RecordKeys,
    messages: HandshakeMessages,
    /// KeyUpdate that goes before the next record of data.
    owed: Owed,
    /// A request for another handshake has to be declined (TLS 1.2).
    declines: bool,
    /// Records without data that came one after the other.
    fruitless: u8,
}

/// Shows no key.
impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("version", &self.version).field("role", &self.role).finish_non_exhaustive()
    }
}

/// KeyUpdate to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Owed {
    Nothing,
    /// Changes the keys of this side.
    Update,
    /// Asks the other side to change its own as well.
    Request,
}

/// Key and mask of one direction, as rustls tells them.
pub(super) struct Extracted<'a> {
    pub(super) cipher: Cipher,
    pub(super) key: &'a [u8],
    pub(super) iv: [u8; 12],
    pub(super) sequence: u64,
}

impl Records {
    /// Goes on with the keys of a connection of TLS 1.3; `None` when `secrets` are not what the keys come from.
    pub(super) fn tls13(role: Role, [tx, rx]: [Extracted<'_>; 2], secrets: &TrafficSecrets) -> Option<Self> {
        let [client, server] = [secrets.client.as_ref()?, secrets.server.as_ref()?];
        let (own, other) = if role == Role::Client { (client, server) } else { (server, client) };
        let keys = |extracted: Extracted<'_>, first: &Secret| {
            let secret = keys::secret_of(extracted.cipher, first, extracted.key)?;
            RecordKeys::tls13(extracted.cipher, secret, extracted.sequence)
        };
        Some(Self::new(RecordVersion::Tls13, role, keys(tx, own)?, keys(rx, other)?))
    }

    /// Goes on with the keys of a connection of TLS 1.2.
    pub(super) fn tls12(role: Role, both: [Extracted<'_>; 2]) -> Option<Self> {
        let keys = |Extracted { cipher, key, iv, sequence }: Extracted<'_>| {
            RecordKeys::tls12(cipher, Secret::new(key)?, iv, sequence)
        };
        let [tx, rx] = both.map(keys);
        Some(Self::new(RecordVersion::Tls12, role, tx?, rx?))
    }

    fn new(version: RecordVersion, role: Role, sealing: RecordKeys, opening: RecordKeys) -> Self {
        let messages = HandshakeMessages::default();
        Self { version, role, sealing, opening, messages, owed: Owed::Nothing, declines: false, fruitless: 0 }
    }

    /// Bytes of a sealed record that are neither data nor header.
    fn overhead(&self) -> usize {
        match (self.version, self.sealing.cipher) {
            // The tag, and the type of the content.
            (RecordVersion::Tls13, _) => TAG + 1,
            // The tag, and the explicit part of the nonce.
            (RecordVersion::Tls12, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => TAG + EXPLICIT,
            (RecordVersion::Tls12, Cipher::Chacha20Poly1305) => TAG,
        }
    }
}

/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;

/// Bytes of a record's header.
const HEADER: usize = 5;
/// Bytes of an AEAD tag.
const TAG: usize = 16;
/// Bytes of a nonce that a record of AES-GCM in TLS 1.2 states.
const EXPLICIT: usize = 8;
/// Most bytes of content in a record.
const MOST_CONTENT: usize = 1 << 14;
/// Most bytes of a whole record, of any version.
pub(super) const LONGEST_RECORD: usize = HEADER + MOST_CONTENT + 2048;

#[cfg(test)]
mod tests;
