//! `message_filter`: which messages may pass, and what is changed in them.

mod policy;
mod schema;
mod settings;

use std::sync::Arc;

use crate::hook::{Direction, Hook, Message, Messages, Result, Setup, SetupError, Tunnel, Verdict};

use policy::{Judgement, Policy};

pub use settings::{JsonDemand, OnViolation, Replace, SeenDirection, Settings, Type};

/// Lets messages pass by their size, their type, their JSON and their text, and replaces parts of their text.
pub struct MessageFilter {
    direction: SeenDirection,
    policy: Arc<Policy>,
    on_violation: OnViolation,
    code: Option<u16>,
}

impl MessageFilter {
    fn verdict(&self, judgement: Judgement) -> Verdict {
        let violation = match judgement {
            Judgement::Passes => return Verdict::Pass,
            Judgement::Becomes(text) => return Verdict::Replace(Message::text(text)),
            Judgement::Violates(violation) => violation,
        };
        match &self.on_violation {
            OnViolation::Close => Verdict::close(self.code.unwrap_or(violation.code()), violation.to_string()),
            OnViolation::Drop => Verdict::Drop,
            OnViolation::Reply(text) => Verdict::Reply(Message::text(text.clone())),
        }
    }
}

impl Hook for MessageFilter {
    type Settings = Settings;
    type Context = ();

    fn new(settings: Settings, _: &Setup<'_, Self>) -> Result<Self, SetupError> {
        let policy = Arc::new(Policy::new(&settings)?);
        let Settings { direction, on_violation, code, .. } = settings;
        match code {
            Some(_) if on_violation != OnViolation::Close => {
                return Err(SetupError::at("code", "a code goes with `on_violation: close` alone"));
            }
            Some(1000 | 1001 | 1003 | 1007..=1014 | 3000..=4999) | None => {}
            Some(code) => {
                let codes = "it is 1000, 1001, 1003, 1007 to 1014, or 3000 to 4999";
                return Err(SetupError::at("code", format!("{code} is not a code to close with: {codes}")));
            }
        }
        Ok(Self { direction, policy, on_violation, code })
    }

    fn messages(&self) -> Messages {
        let seen = match self.direction {
            SeenDirection::ToBackend => Messages::TO_BACKEND,
            SeenDirection::ToClient => Messages::TO_CLIENT,
            SeenDirection::Both => Messages::BOTH,
        };
        if self.policy.reads() { seen.awaited() } else { seen }
    }

    fn on_message(&self, _: &Tunnel, _: Direction, message: &Message, (): &mut ()) -> Result<Verdict> {
        Ok(self.verdict(self.policy.judge(message)))
    }

    async fn on_message_async(&self, _: &Tunnel, _: Direction, message: &Message, (): &mut ()) -> Result<Verdict> {
        if message.as_bytes().len() <= LONGEST_AT_ONCE {
            return Ok(self.verdict(self.policy.judge(message)));
        }
        let (policy, message) = (Arc::clone(&self.policy), message.clone());
        let judgement = tokio::task::spawn_blocking(move || policy.judge(&message)).await?;
        Ok(self.verdict(judgement))
    }
}

/// A longer message is read on a thread that may be blocked: at some 100 MB/s the other tunnels of the worker would
/// wait for more than half a millisecond.
const LONGEST_AT_ONCE: usize = 64 * 1024;

#[cfg(test)]
mod tests;
