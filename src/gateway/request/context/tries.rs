//! Tries of a request: the backends that it is sent to, one after the other, and the answer when none is left.

use std::net::SocketAddr;
use std::time::Instant;

use super::Ctx;
use crate::affinity;
use crate::dial::TryError;
use crate::hook::Answer;
use crate::metrics::{LocalFailure, UpstreamRefusal};
use crate::snapshot::Destination;
use crate::upstream::{Demand, PickedBackend, Unavailable};

impl Ctx {
    /// Chooses a backend that was not tried yet and that no hook vetoes; the error is the answer to give. Hooks are
    /// asked until the moment `until` at the latest.
    pub(in crate::gateway) async fn choose(
        &mut self,
        to: &Destination,
        demand: Demand,
        until: Option<Instant>,
    ) -> Result<SocketAddr, Answer> {
        let mut pick = self.next_pick(to, demand)?;
        // While hooks are asked no backend is at work: what time they take is not held against it.
        while let Some(hooks) = &mut self.hooks
            && !hooks.accept_until(&pick, self.tried.len(), until).await?
        {
            self.tried.push(pick.index);
            pick = self.next_pick(to, demand)?;
        }
        Ok(self.pick.insert(pick).state.address())
    }

    fn next_pick(&mut self, to: &Destination, demand: Demand) -> Result<PickedBackend, Answer> {
        let not_asked = self.not_asked();
        match to.upstream.pick_within(demand, self.key(), &self.tried) {
            Ok(pick) => {
                if self.tried.is_empty() {
                    to.metrics.pick(affinity::KeySource::name_of(self.key_source()));
                } else if self.tried.len() > not_asked {
                    to.metrics.failovers.inc();
                }
                Ok(pick)
            }
            Err(Unavailable::AllFull) => {
                self.not_admitted(to, UpstreamRefusal::Full);
                Err(Answer::all_full())
            }
            Err(Unavailable::AllTried) if self.tried.len() == not_asked => {
                Err(Answer::nobody_healthy(to.retry_after()))
            }
            Err(Unavailable::AllDown) => Err(Answer::nobody_healthy(to.retry_after())),
            Err(_) => Err(self.answer_of_the_last_try()),
        }
    }

    /// Counts the request as one that is not admitted to a backend, and notes the reason for its log line.
    pub(in crate::gateway) fn not_admitted(&mut self, to: &Destination, refusal: UpstreamRefusal) {
        to.metrics.refused(refusal);
        self.failure = Some(refusal.as_str().to_owned());
    }

    /// Lets go of the backend at work, and does not come back to it for this request.
    pub(in crate::gateway) fn give_up_on_pick(&mut self) -> Option<usize> {
        let pick = self.pick.take()?;
        self.tried.push(pick.index);
        Some(pick.index)
    }

    /// Tells the client why the last try failed.
    fn answer_of_the_last_try(&self) -> Answer {
        match (self.short, self.timed_out) {
            (true, _) => Answer::gateway_is_short(),
            (false, true) => Answer::too_slow(),
            (false, false) => Answer::backend_failed(),
        }
    }

    /// The answer to give after a try that failed with this error; `None` where the next backend is to be asked.
    pub(in crate::gateway) fn answer_instead_of_a_try(&self, to: &Destination, error: &TryError) -> Option<Answer> {
        let is_over = match error {
            TryError::Exchange(_) => self.sent >= to.upstream.config().tries,
            TryError::Connect(_) => false,
            TryError::Local(shortage, _) => !is_of_one_backend(*shortage),
        };
        is_over.then(|| self.answer_of_the_last_try())
    }

    /// Tells if the request may be sent to another backend after the one at work.
    pub(in crate::gateway) fn may_try_another(&self, to: &Destination) -> bool {
        self.sent + 1 < to.upstream.config().tries
    }

    /// Tells if another backend could be asked after the one at work. Picks none.
    pub(in crate::gateway) fn has_another(&self, to: &Destination) -> bool {
        let (upstream, at_work) = (&to.upstream, self.pick.as_ref().map(|pick| pick.index));
        upstream.members().iter().enumerate().any(|(index, member)| {
            member.takes_new()
                && Some(index) != at_work
                && !self.tried.contains(&index)
                && upstream.is_up(index)
                && !upstream.states()[index].is_draining()
        })
    }

    /// Number of backends tried that were not asked: hooks vetoed them, or they left the configuration.
    pub(in crate::gateway) fn not_asked(&self) -> usize {
        self.hooks.as_ref().map_or(0, |hooks| hooks.vetoes()) + self.passed_over
    }

    /// Number of backends that were asked, the one at work included.
    pub(in crate::gateway) fn tries(&self) -> u64 {
        (self.tried.len() - self.not_asked()) as u64 + u64::from(self.pick.is_some())
    }
}

/// Tells if a shortage concerns a single backend, so that another one may be reached all the same.
pub(in crate::gateway) fn is_of_one_backend(shortage: LocalFailure) -> bool {
    shortage == LocalFailure::SourcePorts
}
