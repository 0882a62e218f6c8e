//! Rules of one hook, and what they make of a tunnel's messages.

use serde::{Deserialize, Serialize};

use super::memory::{Bound, Full, Keep, Key, Memory, Note, Repeated, Sent};
use super::mqtt::{Session, Taken};
use super::settings::{Json, Protocol, Settings};
use super::{json, phoenix, stomp};
use crate::hook::{Direction, Message, SetupError, Verdict};

/// Rules of one hook.
#[derive(Debug)]
pub(super) struct Rules {
    way: Way,
    first: u8,
    first_answers: u8,
    bound: Bound,
}

#[derive(Debug)]
enum Way {
    First,
    Json(json::Rules),
    Mqtt,
    Stomp,
    Phoenix,
}

/// State of one tunnel.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Messages that passed to backends.
    passed: u64,
    /// Why the tunnel cannot be carried to another backend.
    off: Option<String>,
    memory: Memory,
    mqtt: Option<Box<Session>>,
}

impl Rules {
    pub(super) fn new(settings: &Settings) -> Result<Self, SetupError> {
        settings.check()?;
        let way = match (settings.protocol, &settings.json) {
            (Some(Protocol::GraphqlWs), _) => Way::Json(Json::graphql_ws().rules()?),
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
    pub(super) fn judge(&self, state: &mut State, direction: Direction, message: &Message) -> Verdict {
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
    pub(super) fn replay(&self, state: &mut State, held: u64) -> Repeated {
        let held_from = state.passed.saturating_sub(held);
        match &mut state.mqtt {
            Some(session) => {
                let messages = session.replay(held_from).into_iter().map(Message::binary).collect();
                Repeated { messages, is_greeting: false }
            }
            None => state.memory.replay(held_from, self.first_answers),
        }
    }

    fn judge_mqtt(&self, state: &mut State, direction: Direction, payload: &[u8]) -> Verdict {
        let session = state.mqtt.get_or_insert_default();
        if state.off.is_none() {
            match session.take(direction, payload, state.passed, self.bound) {
                Ok(Taken::Pass) => return Verdict::Pass,
                Ok(Taken::Replace(packets)) if packets.is_empty() => return Verdict::Drop,
                Ok(Taken::Replace(packets)) => return Verdict::Replace(Message::binary(packets)),
                Ok(Taken::Refused) => return refusal(),
                Err(unfit) => {
                    state.off = Some(unfit.to_string());
                    session.give_up();
                }
            }
        }
        let all = session.forgo(direction, payload);
        if all.len() == payload.len() { Verdict::Pass } else { Verdict::Replace(Message::binary(all)) }
    }

    fn judge_notes(&self, state: &mut State, direction: Direction, message: &Message) -> Verdict {
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

    fn sent(&self, state: &mut State, message: &Message, notes: Vec<Note>) -> Result<(), Full> {
        let sent = Sent { message, number: state.passed };
        let is_first = state.passed < self.first.into();
        if is_first {
            let key = Key::new(FIRST, &state.passed.to_string());
            let keep = Keep { key, answer: None, greets: self.first_answers > 0 };
            state.memory.keep(keep, &sent, self.bound)?;
        }
        for note in notes {
            match note {
                Note::Keep(_) if is_first => {}
                Note::Keep(keep) => state.memory.keep(keep, &sent, self.bound)?,
                Note::Forget(key) => state.memory.forget(&key),
                Note::ForgetAll => state.memory.forget_all(),
                Note::Answer(_) | Note::Refusal(_) => {}
            }
        }
        Ok(())
    }

    fn answered(&self, memory: &mut Memory, notes: &[Note]) -> Verdict {
        let mut is_repeated = memory.is_repeated_first(self.first_answers);
        for note in notes {
            match note {
                Note::Answer(key) => is_repeated |= memory.is_repeated(key),
                Note::Refusal(key) if memory.is_refused_now(key) => return refusal(),
                Note::Forget(key) => memory.forget(key),
                Note::Keep(_) | Note::Refusal(_) | Note::ForgetAll => {}
            }
        }
        if is_repeated { Verdict::Drop } else { Verdict::Pass }
    }
}

impl State {
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
