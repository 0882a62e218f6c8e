//! The hooks of a chain asked about a message, one after the other.

use super::{Chain, Contexts, Failure, Link};
use crate::hook::{Direction, Message, Mode, Phase, Tunnel, Verdict, sendable};

impl Chain {
    /// Asks about a message in a direction whose mode is [`Mode::Sync`]: what comes from the client in the order of the hooks,
    /// what comes from the backend in the reverse order, each hook about what the one before made of it.
    ///
    /// [`Verdict::Pass`]: it is as it was. [`Verdict::Replace`]: with what the last one made of it.
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
            let (link, context) = self.at(place, direction, contexts);
            if link.messages.of(direction) == Mode::None {
                continue;
            }
            let message = replaced.as_ref().unwrap_or(message);
            let call = || link.hook.on_message(tunnel, direction, message, &mut **context);
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
            let (link, context) = self.at(place, direction, contexts);
            let message = replaced.as_ref().unwrap_or(message);
            let verdict = match link.messages.of(direction) {
                Mode::None => continue,
                Mode::Sync => {
                    let call = || link.hook.on_message(tunnel, direction, message, &mut **context);
                    link.guard_sync(Phase::Message, call)?
                }
                Mode::Async => {
                    let call = link.hook.on_message_async(tunnel, direction, message, &mut **context);
                    link.guard(Phase::Message, call).await?
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

    /// The hook that a message of a direction comes to in this place, and what it keeps.
    fn at<'c>(
        &self,
        place: usize,
        direction: Direction,
        contexts: &'c mut Contexts,
    ) -> (&Link, &'c mut Box<super::Context>) {
        let index = match direction {
            Direction::ToBackend => place,
            Direction::ToClient => self.links.len() - 1 - place,
        };
        (&self.links[index], &mut contexts.0[index])
    }
}

impl Link {
    /// Counts a verdict that changes the course of things, and sees to it that it can be carried out.
    fn judged(&self, verdict: Verdict) -> Verdict {
        let (name, verdict) = match verdict {
            Verdict::Pass => return Verdict::Pass,
            Verdict::Replace(message) => ("replace", Verdict::Replace(message)),
            Verdict::Drop => ("drop", Verdict::Drop),
            Verdict::Reply(message) => ("reply", Verdict::Reply(message)),
            Verdict::Close { code, reason } => ("close", Verdict::Close { code: sendable(code), reason }),
        };
        self.metrics.verdict(Phase::Message.as_str(), name);
        verdict
    }
}
