//! Messages kept of one tunnel for its next backend, and the answers to them that the client has already had.

use serde::{Deserialize, Serialize};

use crate::hook::Message;

/// Identity of a kept message: the rule that it matched, and the id that tells messages of that rule apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageKey {
    rule: u8,
    id: Box<str>,
}

impl MessageKey {
    pub(super) fn new(rule: usize, id: &str) -> Self {
        // Settings have far fewer rules.
        Self { rule: u8::try_from(rule).unwrap_or(u8::MAX), id: id.into() }
    }
}

/// Meaning of a message for what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemoryNote {
    /// The message is to be kept.
    Keep(Keep),
    /// The message with this key is over.
    Forget(MessageKey),
    /// The message is an answer, with this key.
    Answer(MessageKey),
    /// The message is an answer, with this key, by which the backend refuses.
    Refusal(MessageKey),
    /// The client ends the conversation: nothing is to be repeated any more.
    ForgetAll,
}

/// A message to keep. It takes the place of an earlier one with the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Keep {
    pub(super) key: MessageKey,
    /// Key of its answer; `None` for a message that has none.
    pub(super) answer: Option<MessageKey>,
    /// Nothing else is sent to a backend before the answer.
    pub(super) greets: bool,
}

/// A message on its way to the backend.
#[derive(Clone, Copy, Debug)]
pub(super) struct SentMessage<'m> {
    pub(super) message: &'m Message,
    /// Number of the message among those that went to backends.
    pub(super) number: u64,
}

/// Messages for the next backend.
#[derive(Debug, PartialEq)]
pub(super) struct RepeatedMessages {
    pub(super) messages: Vec<Message>,
    /// The messages are a greeting: more follow when it has been answered.
    pub(super) is_greeting: bool,
}

/// Messages kept of one tunnel, in the order in which the client sent them.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct MessageMemory {
    kept: Vec<Kept>,
    /// Answers that the next backend owes, and that the client has already had.
    owed: Vec<MessageKey>,
    /// First messages of the next backend that the client has already had, whatever they say.
    owed_first: u8,
    /// Number of the backends' first messages that the client has had.
    had_first: u8,
    /// Greeting that the next backend has not answered yet.
    greeting: Option<Greeting>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    key: MessageKey,
    answer: Option<MessageKey>,
    greets: bool,
    text: bool,
    #[serde(with = "crate::base64_text")]
    payload: Vec<u8>,
    number: u64,
    /// The client has had the answer.
    answered: bool,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Greeting {
    /// Answers that are awaited.
    awaited: Vec<MessageKey>,
    /// First messages of the backend that are awaited, whatever they say.
    awaited_first: u8,
    /// As in [`MessageMemory::replay`].
    held_from: u64,
}

/// The bound on what is kept was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl MessageMemory {
    /// Keeps a message, within `bound`.
    ///
    /// # Errors
    /// The message does not fit. Nothing is changed.
    pub(super) fn keep(&mut self, keep: Keep, sent: &SentMessage<'_>, bound: MemoryBound) -> Result<(), Full> {
        let Keep { key, answer, greets } = keep;
        let before = self.kept.iter().position(|kept| kept.key == key);
        let freed = before.map_or(0, |at| self.kept[at].weight());
        let (text, payload) = (sent.message.is_text(), sent.message.as_bytes().to_vec());
        let kept = Kept { key, answer, greets, text, payload, number: sent.number, answered: false };
        if self.weight() - freed + kept.weight() > bound.bytes {
            return Err(Full);
        }
        match before {
            Some(at) => self.kept[at] = kept,
            None if self.kept.len() >= bound.messages => return Err(Full),
            None => self.kept.push(kept),
        }
        Ok(())
    }

    /// Forgets the message with this key.
    pub(super) fn forget(&mut self, key: &MessageKey) {
        self.kept.retain(|kept| kept.key != *key);
    }

    /// Forgets every message.
    pub(super) fn forget_all(&mut self) {
        self.kept.clear();
    }

    /// Notes an answer. Returns true for one that the client has already had from an earlier backend.
    pub(super) fn is_repeated(&mut self, key: &MessageKey) -> bool {
        if let Some(greeting) = &mut self.greeting {
            greeting.awaited.retain(|awaited| awaited != key);
        }
        if let Some(at) = self.owed.iter().position(|owed| owed == key) {
            self.owed.remove(at);
            return true;
        }
        if let Some(kept) = self.kept.iter_mut().find(|kept| kept.answer.as_ref() == Some(key)) {
            kept.answered = true;
        }
        false
    }

    /// Notes an answer by which the backend refuses. Returns true where an earlier backend had accepted, as the client
    /// knows.
    pub(super) fn is_refused_now(&mut self, key: &MessageKey) -> bool {
        self.kept.retain(|kept| kept.answered || kept.answer.as_ref() != Some(key));
        self.owed.contains(key)
    }

    /// Notes a message of the backend, whatever it says. Returns true for one of its first `first` that the client has
    /// already had from an earlier backend.
    pub(super) fn is_repeated_first(&mut self, first: u8) -> bool {
        if let Some(greeting) = &mut self.greeting {
            greeting.awaited_first = greeting.awaited_first.saturating_sub(1);
        }
        if self.owed_first > 0 {
            self.owed_first -= 1;
            return true;
        }
        self.had_first = self.had_first.saturating_add(1).min(first);
        false
    }

    /// Messages that the next backend is sent, in order. Those from number `held_from` on are left out: the gateway
    /// still has them and sends them itself. `first`: messages of the backend that answer the client's first ones.
    pub(super) fn replay(&mut self, held_from: u64, first: u8) -> RepeatedMessages {
        let replayed = || self.kept.iter().filter(|kept| kept.number < held_from);
        let greetings = || replayed().filter(|kept| kept.greets);
        self.owed = replayed().filter(|kept| kept.answered).filter_map(|kept| kept.answer.clone()).collect();
        self.owed_first = self.had_first;
        let is_greeting = greetings().next().is_some();
        let messages = if is_greeting {
            greetings().map(Kept::message).collect()
        } else {
            replayed().map(Kept::message).collect()
        };
        let awaited: Vec<MessageKey> = greetings().filter_map(|kept| kept.answer.clone()).collect();
        let awaited_first = if greetings().any(|kept| kept.answer.is_none()) { first } else { 0 };
        self.greeting = is_greeting.then_some(Greeting { awaited, awaited_first, held_from });
        RepeatedMessages { messages, is_greeting }
    }

    /// Returns true while a backend has not answered its greeting.
    pub(super) fn is_greeting(&self) -> bool {
        self.greeting.is_some()
    }

    /// Messages that follow a greeting, once it has been answered.
    pub(super) fn after_greeting(&mut self) -> Option<Vec<Message>> {
        let Greeting { held_from, .. } =
            self.greeting.take_if(|greeting| greeting.awaited.is_empty() && greeting.awaited_first == 0)?;
        let rest = self.kept.iter().filter(|kept| kept.number < held_from && !kept.greets);
        Some(rest.map(Kept::message).collect())
    }

    /// Bytes that are kept.
    fn weight(&self) -> usize {
        self.kept.iter().map(Kept::weight).sum()
    }
}

impl Kept {
    fn weight(&self) -> usize {
        OVERHEAD + self.payload.len() + self.key.id.len() + self.answer.as_ref().map_or(0, |answer| answer.id.len())
    }

    fn message(&self) -> Message {
        match String::from_utf8(self.payload.clone()) {
            Ok(text) if self.text => Message::text(text),
            _ => Message::binary(self.payload.clone()),
        }
    }
}

/// Size of a kept message without its bytes, here and on its way to another process.
const OVERHEAD: usize = 96;

/// The most that is kept of one tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MemoryBound {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}
