//! Hooks of a pair that changes its backend: they are asked first, and what they send goes before everything else.

use std::time::Instant;

use log::info;

use super::{between, between_mut};
use crate::hook;
use crate::metrics::UpstreamMetrics;
use crate::tunnel::inspect;
use crate::tunnel::pair::{End, Pair, Reason};
use crate::tunnel::reattach::{Holding, ReattachOutcome};

impl<E: End> Pair<E> {
    /// Tells whether the hooks of a held pair have been asked about its next backend. Asks them where they have not.
    /// [`heard_of_change`](Self::heard_of_change) takes the outcome of a call that waits.
    pub(super) fn has_asked_hooks(&mut self, now: Instant) -> bool {
        let Some(reattach) = self.reattach() else { return false };
        let (times, Some(between)) = (reattach.times + 1, between(&reattach.stage)) else { return false };
        if self.inspector.is_none() || between.by_hooks.is_some() {
            return true;
        }
        let held = between.holding.as_ref().map_or(0, Holding::messages);
        let change = hook::Reattach::new(times, between.loss, held);
        let Some(inspector) = &mut self.inspector else { return true };
        let (outcome, sent) = (inspector.change(change), inspector.take_sent());
        self.put_in_sent(sent, now);
        if let Some(inspect::CallOutcome::Changed(told, change)) = outcome {
            self.heard_of_change(told, change, now);
        }
        self.reattach().and_then(|reattach| super::between(&reattach.stage)).is_some_and(|it| it.by_hooks.is_some())
    }

    /// Acts on what hooks made of the change to another backend.
    pub(in crate::tunnel::pair) fn heard_of_change(
        &mut self,
        told: Result<(), hook::Failure>,
        change: Box<hook::Reattach>,
        now: Instant,
    ) {
        if !self.is_held() {
            return;
        }
        if told.is_err() {
            return self.end(Reason::HookFailed, now);
        }
        if let Some(why) = change.refusal() {
            if let Some(inspector) = &self.inspector {
                info!("tunnel {} is not re-attached: {why}", inspector.tunnel().id);
            }
            return self.not_reattached(ReattachOutcome::RefusedByHook, now);
        }
        if let Some(between) = self.reattach_mut().and_then(|reattach| between_mut(&mut reattach.stage)) {
            between.by_hooks = Some(change);
        }
    }

    /// Passes on what hooks send before the conversation goes on with another backend.
    pub(super) fn send_of_hooks(
        &mut self,
        change: Option<Box<hook::Reattach>>,
        now: Instant,
        counters: &UpstreamMetrics,
    ) {
        for (direction, message) in change.iter().flat_map(|change| change.messages()) {
            // Not by `pass`: should this backend go before it has taken them, hooks send them to the next one anew.
            self.pass_on((*direction).into(), &inspect::encode((*direction).into(), message), None, now, counters);
        }
    }
}
