//! Greetings: hooks talk with a backend that was attached, and the client waits until it has answered them.

use std::time::Instant;

use log::info;

use crate::hook::Message;
use crate::metrics::UpstreamMetrics;
use crate::tunnel::inspect;
use crate::tunnel::pair::{End, Pair, Reason, Side};
use crate::tunnel::reattach::Holding;

/// State of a pair whose hooks greet its backend.
pub(super) struct Greeting {
    /// The client's messages, which go on when the greeting is over.
    pub(super) holding: Holding,
    /// Beginning of the greeting.
    pub(super) since: Instant,
    /// Messages of hooks that go before the client's; `Some` when the greeting is over.
    over: Option<Vec<Message>>,
}

impl<E: End> Pair<E> {
    /// Holds the client until hooks release it.
    pub(super) fn begin_greeting(&mut self, holding: Holding, since: Instant) {
        if let Some(reattach) = self.reattach_mut() {
            reattach.greeting = Some(Box::new(Greeting { holding, since, over: None }));
        }
    }

    fn greeting_mut(&mut self) -> Option<&mut Greeting> {
        self.reattach_mut()?.greeting.as_deref_mut()
    }

    /// Tells whether the client waits for the end of a greeting.
    pub(in crate::tunnel::pair) fn is_greeting(&self) -> bool {
        self.reattach().is_some_and(|reattach| reattach.greeting.is_some())
    }

    /// Holds bytes of a client that waits for the end of a greeting; returns whether it does.
    pub(super) fn hold_greeting(&mut self, chunk: &[u8]) -> bool {
        let Some(greeting) = self.greeting_mut() else { return false };
        if let Some(payload) = greeting.holding.take(chunk) {
            // Inside a frame a Pong has no place. The client will send another Ping.
            let _ = self.flows[Side::Backend].pong(&payload);
        }
        true
    }

    /// Notes that hooks release the client; returns whether it waited for that, and the pair is to be driven.
    pub(in crate::tunnel::pair) fn note_release(&mut self, messages: &[Message]) -> bool {
        let Some(greeting) = self.greeting_mut() else { return false };
        greeting.over.get_or_insert_with(|| messages.to_vec());
        true
    }

    /// Passes on the messages of hooks and then the client's, where hooks have released the client.
    pub(in crate::tunnel::pair) fn release_client(&mut self, now: Instant, counters: &UpstreamMetrics) {
        if self.greeting_mut().is_none_or(|greeting| greeting.over.is_none()) {
            return;
        }
        let Some(greeting) = self.reattach_mut().and_then(|reattach| reattach.greeting.take()) else { return };
        let Greeting { holding, over, .. } = *greeting;
        for message in over.iter().flatten() {
            self.pass_on(Side::Client, &inspect::encode(Side::Client, message), None, now, counters);
        }
        let held = holding.into_bytes();
        if !held.is_empty() {
            self.pass(Side::Client, &held, self.limits.max_message(), now, counters);
        }
        self.nearer = true;
    }

    /// Gives up a greeting of a pair that ends.
    pub(super) fn end_greeting(&mut self) {
        if let Some(greeting) = self.reattach_mut().and_then(|reattach| reattach.greeting.take()) {
            self.flows[Side::Client].stand_at(greeting.holding.cursor().clone());
        }
    }

    /// Ends a pair whose backend has not answered a greeting in time; returns whether it does.
    pub(super) fn check_greeting(&mut self, now: Instant) -> bool {
        let Some(reattach) = self.reattach() else { return false };
        let policy = reattach.kept.policy;
        let is_late = |greeting: &Greeting| now.saturating_duration_since(greeting.since) >= policy.within;
        if !reattach.greeting.as_deref().is_some_and(is_late) {
            return false;
        }
        if let Some(inspector) = &self.inspector {
            info!("tunnel {}: its next backend has not answered what hooks sent it", inspector.tunnel().id);
        }
        self.end(Reason::NotReattached { code: policy.code }, now);
        true
    }
}
