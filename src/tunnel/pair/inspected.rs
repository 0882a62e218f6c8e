//! Pairs on routes with hooks: the inspector stands between their ends and their flows.

use std::sync::Arc;
use std::time::Instant;

use super::{End, Pair, Pinging, Reason, Side};
use crate::hook::{Chain, Item, Message, Tunnel, sendable};
use crate::metrics::UpstreamMetrics;
use crate::tunnel::inspect::{self, CallOutcome, Caller, Inspector, Step, Travels};

impl<E: End> Pair<E> {
    /// Lets the hooks of its route look at the tunnel from its first byte on.
    pub(in crate::tunnel) fn watch(&mut self, inspector: Box<Inspector>) {
        self.inspector = Some(inspector);
        self.note_special();
    }

    pub(in crate::tunnel) fn inspector(&self) -> Option<&Inspector> {
        self.inspector.as_deref()
    }

    /// Packs what another process needs to go on with the tunnel, of which `room` bytes may travel.
    pub(in crate::tunnel) fn pack(&mut self, room: usize) -> Travels {
        let kept = self.kept();
        if !self.is_settled() {
            return Travels::Later;
        }
        match &mut self.inspector {
            Some(inspector) => inspector.pack(room.saturating_sub(kept)),
            None => Travels::Now,
        }
    }

    /// Size of what another process would have to be given: bytes on their way, and state that hooks packed.
    pub(in crate::tunnel) fn weight(&self) -> usize {
        self.kept() + self.inspector.as_ref().map_or(0, |inspector| inspector.weight())
    }

    /// Lets the hooks of its route go on with a tunnel that comes from another process.
    pub(in crate::tunnel) fn watch_on(
        &mut self,
        state: inspect::InspectorState,
        chain: Arc<Chain>,
        tunnel: Tunnel,
        caller: Arc<Caller>,
        now: Instant,
    ) {
        let (inspector, can_go_on) = Inspector::resume(state, chain, tunnel, caller, self.limits.max_message());
        self.watch(Box::new(inspector));
        if !can_go_on {
            self.end(Reason::HookFailed, now);
        }
    }

    /// Takes the hooks off a tunnel that has ended.
    pub(in crate::tunnel) fn take_inspector(&mut self) -> Option<Box<Inspector>> {
        let taken = self.inspector.take();
        self.note_special();
        taken
    }

    pub(in crate::tunnel) fn inspector_mut(&mut self) -> Option<&mut Inspector> {
        self.inspector.as_deref_mut()
    }

    /// Tells the hooks that the tunnel is open.
    pub(in crate::tunnel) fn open_hooks(&mut self, now: Instant, counters: &UpstreamMetrics) {
        let Some(inspector) = &mut self.inspector else { return };
        let outcome = inspector.open();
        let sent = inspector.take_sent();
        self.put_in_sent(sent, now);
        if let Some(outcome) = outcome {
            self.heard(outcome, now, counters);
        }
    }

    /// Acts on what came of a call that was waited for; the pair is to be driven then.
    pub(in crate::tunnel) fn heard(&mut self, outcome: CallOutcome, now: Instant, counters: &UpstreamMetrics) {
        let Some(inspector) = &mut self.inspector else { return };
        let outcome = match outcome {
            CallOutcome::Changed(told, change) => {
                inspector.end_call();
                return self.heard_of_change(told, change, now);
            }
            other => other,
        };
        let mut frames = Vec::new();
        let flows = &self.flows;
        let (side, step) = inspector.heard(outcome, |side| flows[side].is_cut(), &mut frames);
        self.pass(side, &frames, None, now, counters);
        self.carry_out(side, step, now);
    }

    /// Does what comes from outside; says whether it could be done. The pair is to be driven then.
    pub(in crate::tunnel) fn inject(&mut self, item: &Item, now: Instant) -> bool {
        let Some(inspector) = &mut self.inspector else { return false };
        match item {
            Item::Message(direction, message) => self.put_in((*direction).into(), message),
            Item::Close { code, reason } => {
                let goes_on = self.rare.as_ref().is_none_or(|rare| rare.plans.deadline.is_none());
                if goes_on {
                    inspector.set_last_word(reason);
                    self.end(Reason::HookClosed { code: sendable(*code) }, now);
                }
                goes_on
            }
            Item::GoOn(messages) => self.note_release(messages),
        }
    }

    /// Does what the hooks of the tunnel asked for during a call.
    pub(super) fn put_in_sent(&mut self, sent: Option<inspect::SentItems>, now: Instant) {
        for item in sent.iter().flat_map(|sent| &sent.items) {
            // `Tunnel::send` does not tell whether a message arrived.
            let _ = self.inject(item, now);
        }
    }

    fn put_in(&mut self, from: Side, message: &Message) -> bool {
        let queued = self.inspector.as_ref().map_or(0, |inspector| inspector.queued(from));
        let flow = &self.flows[from];
        let takes = flow.takes_pings() && flow.kept().len() + queued < MOST_OWED;
        if takes {
            self.put_between(from, &inspect::encode(from, message));
        }
        takes
    }

    /// Puts frames into the flow from `side` as soon as it stands between two messages.
    fn put_between(&mut self, side: Side, frames: &[u8]) {
        let flow = &mut self.flows[side];
        let Some(inspector) = &mut self.inspector else { return };
        let queue = inspector.queue(side);
        if flow.is_between() && queue.is_empty() {
            flow.keep(frames);
        } else if flow.takes_pings() {
            queue.extend_from_slice(frames);
        }
    }

    /// Bytes that hooks replied to `side` and it has not taken, at the most: bytes before them count only while
    /// some of it is left.
    fn owed(&self, side: Side) -> usize {
        let Some(inspector) = &self.inspector else { return 0 };
        let is_taken = self.flows[side.other()].kept().is_empty() && inspector.queued(side.other()) == 0;
        if is_taken { 0 } else { inspector.replied(side) }
    }

    /// Tells whether `side` is not read for the sake of hooks: hooks are busy, or the side does not take their replies.
    pub(super) fn is_held_up(&self, side: Side) -> bool {
        let Some(inspector) = &self.inspector else { return false };
        !self.flows[side].is_cut()
            && (inspector.is_held_back() || inspector.holds_up(side) || self.owed(side) >= MOST_OWED)
    }

    /// Tells whether `side` is not to be read for the sake of hooks, or before what is held of it was looked at.
    pub(super) fn has_more_or_is_held_up(&self, side: Side) -> bool {
        self.is_held_up(side) || self.inspector.as_ref().is_some_and(|inspector| inspector.has_held(side))
    }

    /// Tells whether more bytes from `side` can be dealt with at once. `unread`: there may be something to read.
    pub(super) fn has_more(&self, side: Side, unread: bool) -> bool {
        let has_held = self.inspector.as_ref().is_some_and(|inspector| inspector.has_held(side));
        (has_held || unread) && !self.is_held_up(side)
    }

    /// Goes on with what hooks kept waiting of `side`; says whether it may be read.
    pub(super) fn go_on(&mut self, side: Side, now: Instant, counters: &UpstreamMetrics) -> bool {
        if !self.flows[side].kept().is_empty() {
            return false;
        }
        let held_up = self.is_held_up(side);
        let Some(inspector) = &mut self.inspector else { return true };
        if !held_up && inspector.has_held(side) {
            let held = inspector.take_held(side);
            let left = self.look_at(side, held.bytes(), now, counters).len();
            self.put_back(side, held, left);
        }
        let held_up = self.is_held_up(side);
        self.note_held_up(side, held_up, now);
        !held_up && self.inspector.as_ref().is_some_and(|inspector| !inspector.has_held(side))
    }

    fn put_back(&mut self, side: Side, held: inspect::HeldBytes, left: usize) {
        if let Some(inspector) = &mut self.inspector {
            inspector.put_back(side, held, left);
        }
    }

    /// A side that was not read cannot have answered a Ping: it is given its time anew.
    fn note_held_up(&mut self, side: Side, held_up: bool, now: Instant) {
        if self.inspector.as_mut().is_some_and(|inspector| inspector.note_held_up(side, held_up)) {
            let Some(ping) = self.limits.ping() else { return };
            let leg = &mut self.ends[side];
            let sent = leg.pinged().map(|_| now);
            leg.pinging = Some(Box::new(Pinging { sent, not_before: now + ping }));
            self.nearer = true;
        }
    }

    /// Deals with a chunk from `side`, and holds what has to wait.
    pub(super) fn relay_inspected(&mut self, side: Side, chunk: &[u8], now: Instant, counters: &UpstreamMetrics) {
        let rest = if self.is_held_up(side) { chunk } else { self.look_at(side, chunk, now, counters) };
        if let Some(inspector) = &mut self.inspector {
            inspector.hold(side, rest);
        }
    }

    /// Deals with bytes from `side` as far as hooks let it; returns what has to wait.
    fn look_at<'c>(&mut self, side: Side, chunk: &'c [u8], now: Instant, counters: &UpstreamMetrics) -> &'c [u8] {
        let Some(inspector) = &self.inspector else { return chunk };
        if inspector.assembles(side) {
            return self.assemble(side, chunk, now, counters);
        }
        let limit = self.limits.max_message();
        let mut rest = chunk;
        if inspector.queued(side) > 0 {
            let (before, after) = chunk.split_at(self.flows[side].until_between(chunk));
            self.pass(side, before, limit, now, counters);
            self.put_queued(side);
            rest = after;
        }
        self.pass(side, rest, limit, now, counters);
        &[]
    }

    fn put_queued(&mut self, side: Side) {
        let flow = &mut self.flows[side];
        let Some(inspector) = &mut self.inspector else { return };
        let queue = inspector.queue(side);
        if flow.is_between() {
            flow.keep(&std::mem::take(queue));
        } else if !flow.takes_pings() {
            // There will be no such place any more.
            *queue = Vec::new();
        }
    }

    /// Puts messages together and passes on what hooks make of them.
    fn assemble<'c>(&mut self, side: Side, chunk: &'c [u8], now: Instant, counters: &UpstreamMetrics) -> &'c [u8] {
        let mut rest = chunk;
        let mut frames = Vec::new();
        if let Some(inspector) = &mut self.inspector {
            inspector.begin_turn();
        }
        loop {
            let deaf = self.flows[side].is_cut();
            let Some(inspector) = &mut self.inspector else { return rest };
            let step = inspector.step(side, &mut rest, deaf, &mut frames);
            if let Some(sent) = inspector.take_sent() {
                // The messages before the call go first, then what hooks sent during it, then what they decided.
                let decided = frames.split_off(sent.at);
                if !frames.is_empty() {
                    self.pass(side, &frames, None, now, counters);
                }
                frames = decided;
                self.put_in_sent(Some(sent), now);
            }
            if matches!(step, Step::On) && frames.len() < WRITTEN_AT_ONCE {
                continue;
            }
            if !frames.is_empty() {
                self.pass(side, &frames, None, now, counters);
                frames.clear();
            }
            let stops = matches!(step, Step::Wait | Step::Done);
            self.carry_out(side, step, now);
            let flow = &self.flows[side];
            let is_full = !flow.kept().is_empty() || self.owed(side) >= MOST_OWED;
            if stops || is_full && !flow.is_cut() {
                return rest;
            }
        }
    }

    fn reply(&mut self, side: Side, frames: &[u8]) {
        let owed = self.owed(side);
        if let Some(inspector) = &mut self.inspector {
            inspector.note_replied(side, owed + frames.len());
        }
        self.put_between(side.other(), frames);
    }

    /// Stops reading the tunnel, because its unfinished messages are among the largest while memory is short. `None`
    /// lets it go on.
    pub(in crate::tunnel) fn hold_back(&mut self, since: Option<Instant>) {
        if let Some(inspector) = &mut self.inspector {
            inspector.hold_back(since);
        }
    }

    /// Ends the tunnel because its unfinished messages take too much memory, which is given back at once.
    pub(in crate::tunnel) fn end_for_memory(&mut self, now: Instant) {
        self.end(Reason::HookMemory, now);
        for side in Side::ALL {
            if let Some(inspector) = self.inspector.as_mut().filter(|inspector| inspector.assembles(side)) {
                inspector.give_up_messages(side);
                self.flows[side].give_up(Reason::HookMemory.close_code().unwrap_or_default());
            }
        }
    }

    /// Does what hooks decided, but for passing frames on.
    fn carry_out(&mut self, side: Side, step: Step, now: Instant) {
        match step {
            Step::On | Step::Done | Step::Wait => {}
            Step::Reply(frames) => self.reply(side, &frames),
            Step::ReplyAndEnd(frames, reason) => {
                self.reply(side, &frames);
                self.end(reason, now);
            }
            Step::End(reason) => self.end(reason, now),
            Step::Broken(reason) => {
                self.end(reason, now);
                self.flows[side].give_up(reason.close_code().unwrap_or_default());
            }
        }
    }
}

/// Frames are written when there are so many bytes of them, and at the end of a chunk.
const WRITTEN_AT_ONCE: usize = 64 * 1024;
/// Whoever leaves so much of replies and of messages from outside unread is not read itself, and nothing more is put
/// in.
const MOST_OWED: usize = 64 * 1024;
