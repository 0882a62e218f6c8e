//! State of a record layer in a form that another process can go on with.

use serde::{Deserialize, Serialize};

use super::keys::RecordKeys;
use super::messages::HandshakeMessages;
use super::{Cipher, Owed, RecordVersion, Records, Role};
use crate::tls::secrets::Secret;

/// State of a record layer. Its secrets are zeroed when it is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct RecordState {
    version: RecordVersion,
    role: Role,
    cipher: Cipher,
    sealing: Direction,
    opening: Direction,
    #[serde(default, skip_serializing_if = "is_default")]
    messages: HandshakeMessages,
    owed: Owed,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    declines: bool,
    fruitless: u8,
}

/// State of the keys of one direction.
#[derive(Debug, Serialize, Deserialize)]
struct Direction {
    /// In TLS 1.3 the traffic secret, in TLS 1.2 the key.
    secret: Secret,
    /// Mask of the nonces; in TLS 1.3 it comes from the secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iv: Option<Secret>,
    sequence: u64,
}

impl Records {
    /// The state as it is now. Only one of the two may go on, or nonces are used twice.
    pub fn state(&self) -> RecordState {
        let direction = |keys: &RecordKeys| {
            let (source, iv) = keys.parts();
            let iv = (self.version == RecordVersion::Tls12).then(|| Secret::new(&iv)).flatten();
            Direction { secret: source.clone(), iv, sequence: keys.sequence }
        };
        RecordState {
            version: self.version,
            role: self.role,
            cipher: self.sealing.cipher,
            sealing: direction(&self.sealing),
            opening: direction(&self.opening),
            messages: self.messages.clone(),
            owed: self.owed,
            declines: self.declines,
            fruitless: self.fruitless,
        }
    }

    /// Goes on where another record layer left off; `None` when the state's parts do not fit together.
    pub fn resume(state: RecordState) -> Option<Self> {
        let RecordState { version, role, cipher, sealing, opening, messages, owed, declines, fruitless } = state;
        let keys = |Direction { secret, iv, sequence }: Direction| match version {
            RecordVersion::Tls13 => RecordKeys::tls13(cipher, secret, sequence),
            RecordVersion::Tls12 => RecordKeys::tls12(cipher, secret, iv?.as_bytes().try_into().ok()?, sequence),
        };
        let [sealing, opening] = [keys(sealing)?, keys(opening)?];
        Some(Self { version, role, sealing, opening, messages, owed, declines, fruitless })
    }
}

fn is_default(messages: &HandshakeMessages) -> bool {
    *messages == HandshakeMessages::default()
}
