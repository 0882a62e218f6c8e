//! Messages as hooks see them: whole, unmasked, inflated.

use bytes::Bytes;

use super::Direction;

/// One message (RFC 6455 §5.6), whole: its fragments are joined, its mask and compression taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    text: bool,
    payload: Bytes,
}

impl Message {
    /// A text message.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: true, payload: text.into().into() }
    }

    /// A binary message.
    pub fn binary(payload: impl Into<Bytes>) -> Self {
        Self { text: false, payload: payload.into() }
    }

    /// Returns true for a text message.
    pub fn is_text(&self) -> bool {
        self.text
    }

    /// The text of a text message; `None` for a binary one.
    pub fn as_text(&self) -> Option<&str> {
        if !self.text {
            return None;
        }
        // Every text message is checked when it is made.
        Some(std::str::from_utf8(&self.payload).expect("a text message is UTF-8"))
    }

    /// The payload of either kind.
    pub fn as_bytes(&self) -> &[u8] {
        &self.payload
    }

    /// The payload of either kind, to keep.
    pub fn payload(&self) -> Bytes {
        self.payload.clone()
    }
}

/// Decision about a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// Passes the message on, to the next hook or to its receiver.
    Pass,
    /// Passes this message on in its place.
    Replace(Message),
    /// Drops the message without telling anybody.
    Drop,
    /// Drops the message and sends this one back to its sender. No further hook sees either.
    Reply(Message),
    /// Drops the message, sends this one back to its sender, and then ends the tunnel as [`Verdict::Close`] does.
    ReplyAndClose {
        /// The reply.
        message: Message,
        /// As in [`Verdict::Close`].
        code: u16,
        /// As in [`Verdict::Close`].
        reason: String,
    },
    /// Drops the message and ends the tunnel with a Close frame to both sides.
    Close {
        /// The status code: 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999 (RFC 6455 §7.4); another becomes 1011.
        code: u16,
        /// The reason, at most 123 bytes; cut at the last whole character.
        reason: String,
    },
}

impl Verdict {
    /// [`Verdict::Close`] with this code and reason.
    pub fn close(code: u16, reason: impl Into<String>) -> Self {
        Self::Close { code, reason: reason.into() }
    }

    /// [`Verdict::ReplyAndClose`] with this reply, code and reason.
    pub fn reply_and_close(message: Message, code: u16, reason: impl Into<String>) -> Self {
        Self::ReplyAndClose { message, code, reason: reason.into() }
    }
}

/// The way a hook sees the messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    #[default]
    None,
    /// By [`on_message`](super::Hook::on_message).
    Sync,
    /// By [`on_message_async`](super::Hook::on_message_async).
    Async,
}

/// Messages that a hook sees, by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Messages from the client.
    pub to_backend: Mode,
    /// Messages from the backend.
    pub to_client: Mode,
}

impl Messages {
    /// None: the tunnel's bytes pass unseen.
    pub const NONE: Self = Self { to_backend: Mode::None, to_client: Mode::None };
    /// Messages of both directions, by [`on_message`](super::Hook::on_message).
    pub const BOTH: Self = Self { to_backend: Mode::Sync, to_client: Mode::Sync };
    /// Messages from the client, by [`on_message`](super::Hook::on_message).
    pub const TO_BACKEND: Self = Self { to_backend: Mode::Sync, to_client: Mode::None };
    /// Messages from the backend, by [`on_message`](super::Hook::on_message).
    pub const TO_CLIENT: Self = Self { to_backend: Mode::None, to_client: Mode::Sync };

    /// The same directions, by [`on_message_async`](super::Hook::on_message_async).
    #[must_use]
    pub const fn awaited(self) -> Self {
        const fn awaited(mode: Mode) -> Mode {
            match mode {
                Mode::None => Mode::None,
                Mode::Sync | Mode::Async => Mode::Async,
            }
        }
        Self { to_backend: awaited(self.to_backend), to_client: awaited(self.to_client) }
    }

    /// Mode of one direction.
    pub fn of(self, direction: Direction) -> Mode {
        match direction {
            Direction::ToBackend => self.to_backend,
            Direction::ToClient => self.to_client,
        }
    }

    /// Returns true when the hook sees messages of any direction.
    pub fn any(self) -> bool {
        self != Self::NONE
    }
}

/// Returns `code` if a hook may close with it, else 1011.
pub(crate) fn sendable(code: u16) -> u16 {
    match code {
        1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999 => code,
        _ => 1011,
    }
}
