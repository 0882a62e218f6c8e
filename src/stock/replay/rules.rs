//! Rules of one hook, and what they make of a tunnel's messages.

use serde::{Deserialize, Serialize};

use super::memory::{Full, Keep, MemoryBound, MemoryNote, MessageKey, MessageMemory, RepeatedMessages, SentMessage};
use super::mqtt::{MqttOutcome, MqttSession};
use super::settings::{JsonSettings, Protocol, Settings};
use super::{json, phoenix, stomp};
use crate::hook::{Direction, Message, SetupError, Verdict};

/// Rules of one hook.
#[derive(Debug)]
pub(super) struct ReplayRules {
    way: Way,
    first: u8,
    first_answers: u8,
    bound: MemoryBound,
}

#[derive(Debug)]
enum Way {
    First,
    Json(json::JsonRules),
    Mqtt,
    Stomp,
    Phoenix,
}

/// State of one tunnel.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// Messages that passed to backends.
    passed: u64,
    /// Why the tunnel cannot be carried to another backend.
    off: Option<String>,
    memory: MessageMemory,
    mqtt: Option<Box<MqttSession>>,
}

impl ReplayRules {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        settings.check()?;
        let way = match (settings.protocol, &settings.json) {
            (Some(Protocol::GraphqlWs), _) => Way::Json(JsonSettings::graphql_ws().rules()?),
            (Some(Protocol::Mqtt), _) => Way::Mqtt,
            (Some(Protocol::Stomp), _) => Way::Stomp,
            (Some(Protocol::Phoenix), _) => Way::Phoenix,
            (None, Some(json)) => Way::Json(json.rules()?),
            (None, None) => Way::First,
        };
        let Settings { first, first_answers, .. } = *settings;
        Ok(Self { way, first, first_answers, bound: settings.bound()? })
    }

    /// Decides about a message, and notes what it means.
    pub(super) fn judge(&self, state: &mut Context, direction: Direction, message: &Message) -> Verdict {
        let verdict = match self.way {
            Way::Mqtt => self.judge_mqtt(state, direction, message.as_bytes()),
            _ => self.judge_notes(state, direction, message),
        };
        if direction == Direction::ToBackend && matches!(verdict, Verdict::Pass | Verdict::Replace(_)) {
            state.passed += 1;
        }
        verdict
    }

    /// Messages that the next backend is sent before anything else. The gateway still has the last `held` messages that
    /// passed.
    pub(super) fn replay(&self, state: &mut Context, held: u64) -> RepeatedMessages {
        let held_from = state.passed.saturating_sub(held);
        match &mut state.mqtt {
            Some(session) => {
                let messages = session.replay(held_from).into_iter().map(Message::binary).collect();
                RepeatedMessages { messages, is_greeting: false }
            }
            None => state.memory.replay(held_from, self.first_answers),
        }
    }

    fn judge_mqtt(&self, state: &mut Context, direction: Direction, payload: &[u8]) -> Verdict {
        let session = state.mqtt.get_or_insert_default();
        if state.off.is_none() {
            match session.take(direction, payload, state.passed, self.bound) {
                Ok(MqttOutcome::Pass) => return Verdict::Pass,
                Ok(MqttOutcome::Replace(packets)) if packets.is_empty() => return Verdict::Drop,
                Ok(MqttOutcome::Replace(packets)) => return Verdict::Replace(Message::binary(packets)),
                Ok(MqttOutcome::Refused) => return refusal(),
                Err(unfit) => {
                    state.off = Some(unfit.to_string());
                    session.give_up();
                }
            }
        }
        let all = session.forgo(direction, payload);
        if all.len() == payload.len() { Verdict::Pass } else { Verdict::Replace(Message::binary(all)) }
    }

    fn judge_notes(&self, state: &mut Context, direction: Direction, message: &Message) -> Verdict {
        if state.off.is_some() {
            return Verdict::Pass;
        }
        let mut notes = Vec::new();
        match &self.way {
            Way::First | Way::Mqtt => {}
            Way::Json(rules) => rules.read(direction, message.as_bytes(), &mut notes),
            Way::Stomp => stomp::read(direction, message.as_bytes(), &mut notes),
            Way::Phoenix => phoenix::read(direction, message.as_bytes(), &mut notes),
        }
        match direction {
            Direction::ToBackend => {
                if let Err(Full) = self.sent(state, message, notes) {
                    state.off = Some(FULL.into());
                    state.memory.forget_all();
                    if state.memory.is_greeting() {
                        return Verdict::close(SERVICE_RESTART, FULL);
                    }
                }
                Verdict::Pass
            }
            Direction::ToClient => self.answered(&mut state.memory, &notes),
        }
    }

    fn sent(&self, state: &mut Context, message: &Message, notes: Vec<MemoryNote>) -> Result<(), Full> {
        let sent = SentMessage { message, number: state.passed };
        let is_first = state.passed < self.first.into();
        if is_first {
            let key = MessageKey::new(FIRST, &state.passed.to_string());
            let keep = Keep { key, answer: None, greets: self.first_answers > 0 };
            state.memory.keep(keep, &sent, self.bound)?;
        }
        for note in notes {
            match note {
                MemoryNote::Keep(_) if is_first => {}
                MemoryNote::Keep(keep) => state.memory.keep(keep, &sent, self.bound)?,
                MemoryNote::Forget(key) => state.memory.forget(&key),
                MemoryNote::ForgetAll => state.memory.forget_all(),
                MemoryNote::Answer(_) | MemoryNote::Refusal(_) => {}
            }
        }
        Ok(())
    }

    fn answered(&self, memory: &mut MessageMemory, notes: &[MemoryNote]) -> Verdict {
        let mut is_repeated = memory.is_repeated_first(self.first_answers);
        for note in notes {
            match note {
                MemoryNote::Answer(key) => is_repeated |= memory.is_repeated(key),
                MemoryNote::Refusal(key) if memory.is_refused_now(key) => return refusal(),
                MemoryNote::Forget(key) => memory.forget(key),
                MemoryNote::Keep(_) | MemoryNote::Refusal(_) | MemoryNote::ForgetAll => {}
            }
        }
        if is_repeated { Verdict::Drop } else { Verdict::Pass }
    }
}

impl Context {
    /// Why the tunnel cannot be carried to another backend; `None` where it can.
    pub(super) fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// Messages that follow a greeting, once the next backend has answered it.
    pub(super) fn after_greeting(&mut self) -> Option<Vec<Message>> {
        self.memory.after_greeting()
    }
}

fn refusal() -> Verdict {
    Verdict::close(SERVICE_RESTART, "the next backend refuses what the one before had accepted")
}

const FULL: &str = "what is to be kept exceeds the bound";
/// Close code of a service that restarts (IANA, WebSocket Close Code Number Registry).
const SERVICE_RESTART: u16 = 1012;
/// Rule of the first messages, apart from those that settings count up.
const FIRST: usize = u8::MAX as usize;
