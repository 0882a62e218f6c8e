//! `replay`: repeats a conversation's greeting and its subscriptions to the backend that a tunnel is re-attached to.

mod json;
mod memory;
mod mqtt;
mod phoenix;
mod rules;
mod settings;
mod stomp;

use crate::hook::{Direction, Entry, Hook, Message, Messages, Reattach, Result, Setup, SetupError, Tunnel, Verdict};

use memory::RepeatedMessages;
use rules::{Context, ReplayRules};

pub use settings::{JsonSettings, KeepSettings, Protocol, Settings};

/// Keeps messages of the client's, and sends them to the next backend before anything else. Answers to them that the
/// client has already had do not reach it again.
pub struct Replay {
    rules: ReplayRules,
}

impl Hook for Replay {
    type Settings = Settings;
    type Context = Context;

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        Ok(Self { rules: ReplayRules::new(&settings)? })
    }

    fn messages(&self) -> Messages {
        Messages::BOTH
    }

    fn on_message(&self, tunnel: &Tunnel, way: Direction, message: &Message, state: &mut Context) -> Result<Verdict> {
        let verdict = self.rules.judge(state, way, message);
        if let Some(messages) = state.after_greeting() {
            tunnel.go_on(messages);
        }
        Ok(verdict)
    }

    async fn on_reattach(&self, _: &Tunnel, reattach: &mut Reattach, state: &mut Context) -> Result<()> {
        if let Some(why) = state.off() {
            reattach.refuse(why);
            return Ok(());
        }
        let RepeatedMessages { messages, is_greeting } = self.rules.replay(state, reattach.held());
        if is_greeting {
            reattach.hold_client();
        }
        messages.into_iter().try_for_each(|message| reattach.send(Direction::ToBackend, message))
    }

    fn on_log(&self, entry: &mut Entry<'_>, state: &mut Context) {
        if let Some(why) = state.off() {
            entry.add("replay_off", why);
        }
    }

    fn pack(&self, state: &Context) -> Option<Vec<u8>> {
        // The beginning of a long packet may not fit: the tunnel stays until it is whole.
        serde_json::to_vec(state).ok().filter(|packed| packed.len() <= MOST_PACKED)
    }

    fn unpack(&self, packed: &[u8]) -> Result<Context> {
        Ok(serde_json::from_slice(packed)?)
    }
}

/// The most that a hook may pack of a tunnel.
const MOST_PACKED: usize = 256 * 1024;

#[cfg(test)]
mod tests;
