//! The hooks of a chain asked about a message, one after the other.

use super::{Chain, Contexts, Failure, Link};
use crate::hook::{Direction, Message, Mode, Phase, Tunnel, Verdict, sendable};

impl Chain {
    /// Asks the hooks about a message in a direction whose mode is [`Mode::Sync`]: in their order about a message of
    /// the client, in reverse order about one of the backend. Each hook is asked about the result of the one before.
    ///
    /// [`Verdict::Pass`]: the message is as it was. [`Verdict::Replace`]: the result of the last hook.
    ///
    /// # Errors
    /// The first failure.
    pub fn on_message(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        contexts: &mut Contexts,
    ) -> Result<Verdict, Failure> {
        let mut replaced = None;
        for place in 0..self.links.len() {
            let Some((link, context)) = self.at(place, direction, contexts) else { continue };
            if link.messages.of(direction) == Mode::None {
                continue;
            }
            let message = replaced.as_ref().unwrap_or(message);
            let call = || link.hook.on_message(tunnel, direction, message, context);
            match link.judged(link.guard_sync(Phase::Message, call)?) {
                Verdict::Pass => {}
                Verdict::Replace(message) => replaced = Some(message),
                last => return Ok(last),
            }
        }
        Ok(replaced.map_or(Verdict::Pass, Verdict::Replace))
    }

    /// As [`on_message`](Self::on_message), in a direction whose mode is [`Mode::Async`].
    ///
    /// # Errors
    /// The first failure.
    pub async fn on_message_async(
        &self,
        tunnel: &Tunnel,
        direction: Direction,
        message: &Message,
        contexts: &mut Contexts,
    ) -> Result<Verdict, Failure> {
        let mut replaced = None;
        for place in 0..self.links.len() {
            let Some((link, context)) = self.at(place, direction, contexts) else { continue };
            let message = replaced.as_ref().unwrap_or(message);
            let verdict = match link.messages.of(direction) {
                Mode::None => continue,
                Mode::Sync => {
                    let call = || link.hook.on_message(tunnel, direction, message, context);
                    link.guard_sync(Phase::Message, call)?
                }
                Mode::Async => {
                    let hook = &link.hook;
                    link.guard(Phase::Message, || hook.on_message_async(tunnel, direction, message, context)).await?
                }
            };
            match link.judged(verdict) {
                Verdict::Pass => {}
                Verdict::Replace(message) => replaced = Some(message),
                last => return Ok(last),
            }
        }
        Ok(replaced.map_or(Verdict::Pass, Verdict::Replace))
    }

    /// The hook that a message of a direction comes to in this place, with its context; `None` for one that has none.
    fn at<'c>(
        &'c self,
        place: usize,
        direction: Direction,
        contexts: &'c mut Contexts,
    ) -> Option<(&'c Link, &'c mut super::Context)> {
        let index = match direction {
            Direction::ToBackend => place,
            Direction::ToClient => self.links.len() - 1 - place,
        };
        let context = contexts.0[index].as_mut()?;
        Some((&self.links[index], &mut ***context))
    }
}

impl Link {
    /// Counts a verdict other than [`Verdict::Pass`], and replaces a close code that must not be sent.
    fn judged(&self, verdict: Verdict) -> Verdict {
        let (name, verdict) = match verdict {
            Verdict::Pass => return Verdict::Pass,
            Verdict::Replace(message) => ("replace", Verdict::Replace(message)),
            Verdict::Drop => ("drop", Verdict::Drop),
            Verdict::Reply(message) => ("reply", Verdict::Reply(message)),
            Verdict::ReplyAndClose { message, code, reason } => {
                ("reply_and_close", Verdict::ReplyAndClose { message, code: sendable(code), reason })
            }
            Verdict::Close { code, reason } => ("close", Verdict::Close { code: sendable(code), reason }),
        };
        self.verdict(Phase::Message, name);
        verdict
    }
}
