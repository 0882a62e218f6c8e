//! Handshake messages that come after the handshake, cut into records in any way.

use serde::{Deserialize, Serialize};

use super::Alert;
use super::keys::RecordVersion;

/// Side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Began the handshake.
    Client,
    /// Answered it.
    Server,
}

/// Reader of handshake messages. Keeps the header of the one under way, and nothing of its body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HandshakeMessages {
    header: [u8; 4],
    /// Bytes of the header that have come.
    have: u8,
    /// Bytes of the body that have yet to come.
    left: u32,
}

/// Request that a message made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MessageDemand {
    /// Nothing.
    Nothing,
    /// The records that follow are protected by the next keys. `answer`: this side is to change its own as well.
    NewKeys { answer: bool },
    /// Another handshake on this connection (TLS 1.2).
    Renegotiation,
}

impl HandshakeMessages {
    /// Tells whether a message is under way, in which no record of another kind may stand (RFC 8446 §5.1).
    pub(super) fn under_way(&self) -> bool {
        self.have > 0
    }

    /// Reads the content of a handshake record that came to `role`.
    ///
    /// # Errors
    /// The alert for a message that must not come here.
    pub(super) fn read(
        &mut self,
        mut content: &[u8],
        role: Role,
        version: RecordVersion,
    ) -> Result<MessageDemand, Alert> {
        let mut asked = MessageDemand::Nothing;
        while let [first, rest @ ..] = content {
            if self.have < 4 {
                self.header[usize::from(self.have)] = *first;
                self.have += 1;
                content = rest;
                if self.have == 4 {
                    self.begin(role, version)?;
                }
            } else if self.header[0] == KEY_UPDATE {
                *self = Self::default();
                // The keys change behind this message: nothing may share a record with it (RFC 8446 §5.1).
                return match (first, rest) {
                    (_, [_, ..]) => Err(Alert::UnexpectedMessage),
                    (0, _) => Ok(MessageDemand::NewKeys { answer: false }),
                    (1, _) => Ok(MessageDemand::NewKeys { answer: true }),
                    _ => Err(Alert::IllegalParameter),
                };
            } else {
                let skipped = content.len().min(self.left as usize);
                self.left -= u32::try_from(skipped).unwrap_or(self.left);
                content = &content[skipped..];
            }
            if self.have == 4 && self.left == 0 {
                if version == RecordVersion::Tls12 {
                    asked = MessageDemand::Renegotiation;
                }
                *self = Self::default();
            }
        }
        Ok(asked)
    }

    /// Judges a message by its header.
    fn begin(&mut self, role: Role, version: RecordVersion) -> Result<(), Alert> {
        let [kind, length @ ..] = self.header;
        self.left = u32::from_be_bytes([0, length[0], length[1], length[2]]);
        match (version, role, kind) {
            (RecordVersion::Tls13, _, KEY_UPDATE) if self.left == 1 => Ok(()),
            (RecordVersion::Tls13, _, KEY_UPDATE) => Err(Alert::DecodeError),
            (RecordVersion::Tls13, Role::Client, NEW_SESSION_TICKET)
            | (RecordVersion::Tls12, Role::Server, CLIENT_HELLO)
            | (RecordVersion::Tls12, Role::Client, HELLO_REQUEST)
                if self.left <= LONGEST =>
            {
                Ok(())
            }
            _ => Err(Alert::UnexpectedMessage),
        }
    }
}

/// Types of handshake messages (RFC 8446 §4, RFC 5246 §7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Longest message, as rustls has it.
const LONGEST: u32 = 0xFFFF;
