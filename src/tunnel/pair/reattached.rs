//! Pairs that may be re-attached: how they leave a backend, hold the client, and go on with another backend.
//!
//! | stage | client's messages | backend |
//! |---|---|---|
//! | attached | pass | a Close frame of its own is looked at before it passes |
//! | parting | pass to the end of the message under way, then are held | gets a Close frame there, is read to its end |
//! | held | are held | none: the worker asks for one |
//! | attached, and hooks greet the backend | are held | as attached |
//! | over | as on any other pair | as on any other pair |

mod greeting;
mod hooks;
mod parting;

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{End, Leg, Pair, Reason, Side, WayOut};
use crate::hook::{self, Loss};
use crate::metrics::UpstreamMetrics;
use crate::tunnel::reattach::{Heads, Holding, KeptRequest, MOST_HEAD, ReattachOutcome, ReattachReport, Tail};
use crate::ws::{Cursor, frame};
use greeting::Greeting;

/// State of a pair that may be re-attached.
pub(super) struct ReattachProgress {
    kept: Arc<KeptRequest>,
    /// Number of re-attachments.
    times: u32,
    /// Backends that went soon after they were attached, in a row.
    failures: u32,
    /// Moment at which the backend was attached.
    since: Instant,
    tail: Tail,
    /// The part of a backend's Close frame that has come.
    closing: Vec<u8>,
    stage: Stage,
    /// The client's messages, while hooks greet the backend that was attached.
    greeting: Option<Box<Greeting>>,
    /// Slot of the last search for a backend.
    search: Option<usize>,
    /// Outcome that the worker has yet to tell of.
    told: Option<ReattachReport>,
}

enum Stage {
    Attached,
    Parting(Box<Between>),
    Held(Box<Between>),
    Over,
}

/// State of a pair between two backends.
struct Between {
    loss: Loss,
    /// Moment at which the client's messages began to be held, or at which they were to be.
    since: Instant,
    /// Reason of the Close frame for the old backend.
    reason: Reason,
    /// The client's messages; `None` until the message under way has ended.
    holding: Option<Holding>,
    /// Bytes of the Close frame that the old backend was sent last.
    close_length: usize,
    /// A Ping of the client that has yet to be answered.
    pong: Option<Vec<u8>>,
    /// Headers and messages of hooks for the next backend; `None` before they were asked, and on a route without hooks.
    by_hooks: Option<Box<hook::Reattach>>,
    /// The worker has been told to ask for a backend.
    is_asking: bool,
    /// A message of the client was dropped, because its beginning was not kept.
    dropped: bool,
}

/// Search for the next backend that a pair asks for.
pub(in crate::tunnel) struct Wanted {
    pub(in crate::tunnel) kept: Arc<KeptRequest>,
    pub(in crate::tunnel) loss: Loss,
    pub(in crate::tunnel) number: u32,
    pub(in crate::tunnel) not_before: Instant,
    pub(in crate::tunnel) until: Instant,
    /// Headers that hooks set.
    pub(in crate::tunnel) headers: Vec<(HeaderName, HeaderValue)>,
}

impl<E: End> Pair<E> {
    /// Lets the pair be re-attached with this state.
    pub(in crate::tunnel) fn reattach_with(&mut self, kept: Arc<KeptRequest>, now: Instant) {
        self.rare.get_or_insert_default().reattach = Some(Box::new(ReattachProgress::new(kept, now)));
        self.note_special();
    }

    pub(super) fn reattach(&self) -> Option<&ReattachProgress> {
        self.rare.as_ref()?.reattach.as_deref()
    }

    fn reattach_mut(&mut self) -> Option<&mut ReattachProgress> {
        self.rare.as_mut()?.reattach.as_deref_mut()
    }

    /// Number of times that the pair was re-attached; `None` where it never can be.
    pub(in crate::tunnel) fn reattached(&self) -> Option<u32> {
        self.reattach().map(|reattach| reattach.times)
    }

    /// Tells whether the pair is between two backends, or on its way there.
    pub(in crate::tunnel) fn is_between_backends(&self) -> bool {
        self.reattach().is_some_and(|reattach| matches!(reattach.stage, Stage::Parting(_) | Stage::Held(_)))
    }

    /// Tells whether the pair has no backend.
    pub(in crate::tunnel) fn is_held(&self) -> bool {
        self.reattach().is_some_and(|reattach| matches!(reattach.stage, Stage::Held(_)))
    }

    /// Tells whether another process could go on with the pair as it is.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_between_backends()
            && self.reattach().is_none_or(|reattach| reattach.closing.is_empty() && reattach.greeting.is_none())
    }

    /// Bytes that are kept for the next backend.
    pub(super) fn kept_for_next(&self) -> usize {
        let Some(reattach) = self.reattach() else { return 0 };
        let held = reattach.holding().map_or(0, Holding::len);
        held + reattach.tail.len() + reattach.closing.len()
    }

    /// Takes the outcome of a re-attachment that has yet to be told of.
    pub(in crate::tunnel) fn take_told(&mut self) -> Option<ReattachReport> {
        if !self.is_special { None } else { self.reattach_mut()?.told.take() }
    }

    /// Notes the slot of the search that the pair asked for.
    pub(in crate::tunnel) fn note_search(&mut self, slot: usize) {
        if let Some(reattach) = self.reattach_mut() {
            reattach.search = Some(slot);
        }
    }

    /// Slot of the last search, which may have come to its end.
    pub(in crate::tunnel) fn search(&self) -> Option<usize> {
        self.reattach()?.search
    }

    /// Tells whether as many bytes of `side` are held as `reattach.buffer` allows.
    pub(super) fn is_full(&self, side: Side) -> bool {
        let Some(reattach) = self.reattach().filter(|_| side == Side::Client) else { return false };
        reattach
            .holding()
            .is_some_and(|holding| !holding.skips() && holding.len() >= reattach.kept.policy.buffer as usize)
    }

    /// Passes on bytes from `side`, holds them or drops them, by the stage of the pair.
    pub(super) fn pass(
        &mut self,
        side: Side,
        chunk: &[u8],
        limit: Option<u64>,
        now: Instant,
        counters: &UpstreamMetrics,
    ) {
        let is_plain =
            self.flows[side].is_cut() || self.reattach().is_none_or(|reattach| matches!(reattach.stage, Stage::Over));
        match side {
            _ if is_plain => self.pass_on(side, chunk, limit, now, counters),
            Side::Client => self.pass_from_client(chunk, limit, now, counters),
            Side::Backend => self.pass_from_backend(chunk, limit, now, counters),
        }
    }

    fn pass_from_client(&mut self, chunk: &[u8], limit: Option<u64>, now: Instant, counters: &UpstreamMetrics) {
        if self.hold_greeting(chunk) {
            return;
        }
        let Some(reattach) = self.reattach() else { return };
        let until = match &reattach.stage {
            Stage::Parting(between) if between.holding.is_none() => self.flows[Side::Client].until_between(chunk),
            Stage::Parting(_) | Stage::Held(_) => 0,
            Stage::Attached | Stage::Over => chunk.len(),
        };
        let (passed, held) = chunk.split_at(until);
        if !passed.is_empty() {
            let before = self.flows[Side::Client].cursor().clone();
            self.pass_on(Side::Client, passed, limit, now, counters);
            self.note_passed(passed, before);
        }
        let is_parting = self
            .reattach()
            .is_some_and(|reattach| matches!(&reattach.stage, Stage::Parting(between) if between.holding.is_none()));
        if is_parting && !self.is_ending() && self.flows[Side::Client].stands_between() {
            self.cut_client(now);
        }
        if !held.is_empty() {
            self.hold_client(held);
        }
    }

    /// Notes what was passed on to the backend, as far as its socket has not taken it.
    fn note_passed(&mut self, passed: &[u8], before: Cursor) {
        let flow = &self.flows[Side::Client];
        let (after, all_written) = (flow.cursor(), flow.kept().is_empty());
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let most = reattach.kept.policy.buffer as usize;
        reattach.tail.note(passed, before, after, all_written, most);
    }

    /// Forgets the messages that the backend's socket has taken.
    pub(super) fn forget_written(&mut self) {
        let flow = &self.flows[Side::Client];
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let close_length = between(&reattach.stage).map_or(0, |between| between.close_length);
        if !reattach.tail.is_empty() && flow.kept().len() <= close_length {
            reattach.tail.forget_written(flow.cursor(), Cursor::new(Side::Client));
        }
    }

    /// Holds bytes of the client, and answers its Pings.
    fn hold_client(&mut self, chunk: &[u8]) {
        let Some(between) = self.reattach_mut().and_then(|reattach| between_mut(&mut reattach.stage)) else { return };
        let Some(holding) = &mut between.holding else { return };
        if let Some(payload) = holding.take(chunk) {
            between.pong = Some(payload);
        }
        self.answer_ping();
    }

    /// Answers the client's last Ping, where the stream to it stands between two frames.
    fn answer_ping(&mut self) {
        let Some(reattach) = self.rare.as_mut().and_then(|rare| rare.reattach.as_deref_mut()) else { return };
        let Some(between) = between_mut(&mut reattach.stage) else { return };
        if let Some(payload) = between.pong.take()
            && !self.flows[Side::Backend].pong(&payload)
        {
            between.pong = Some(payload);
        }
    }

    fn pass_from_backend(&mut self, chunk: &[u8], limit: Option<u64>, now: Instant, counters: &UpstreamMetrics) {
        let is_closing = self.reattach().is_some_and(|reattach| !reattach.closing.is_empty());
        let until = if is_closing { 0 } else { self.flows[Side::Backend].until_close(chunk) };
        let (passed, rest) = chunk.split_at(until);
        if !passed.is_empty() {
            self.pass_on(Side::Backend, passed, limit, now, counters);
            self.answer_ping();
        }
        if rest.is_empty() {
            return;
        }
        if self.flows[Side::Backend].is_cut() {
            return self.pass_on(Side::Backend, rest, limit, now, counters);
        }
        let Some(reattach) = self.reattach_mut() else { return };
        // A longer frame is no Close frame, and its header is enough to tell that.
        reattach.closing.extend_from_slice(&rest[..rest.len().min(MOST_CLOSE)]);
        match frame::control_payload(&reattach.closing) {
            Ok(None) => {}
            Ok(Some(payload)) if self.backend_closed(frame::close_code(&payload), now) => {}
            Ok(Some(_)) | Err(_) => {
                let closing = self.reattach_mut().map(|reattach| std::mem::take(&mut reattach.closing));
                self.pass_on(Side::Backend, &closing.unwrap_or_default(), limit, now, counters);
            }
        }
    }

    /// Goes on with another backend, whose first bytes are `early`. Returns whether it does: a pair that has ended
    /// meanwhile does not.
    pub(in crate::tunnel) fn attach(
        &mut self,
        backend: E,
        early: &[u8],
        now: Instant,
        counters: &UpstreamMetrics,
    ) -> bool {
        let ending = self.is_ending();
        let Some(reattach) = self.reattach_mut().filter(|_| !ending) else { return false };
        let between = match std::mem::replace(&mut reattach.stage, Stage::Attached) {
            Stage::Held(between) => between,
            other => {
                reattach.stage = other;
                return false;
            }
        };
        reattach.times += 1;
        reattach.since = now;
        (reattach.closing, reattach.search) = (Vec::new(), None);
        reattach.tell(&between, ReattachOutcome::Attached, now);
        self.ends[Side::Backend] = Leg::new(backend, now);
        Side::ALL.into_iter().for_each(|side| self.flows[side].restart());
        // A client that ended its stream while it was held ends the tunnel.
        self.reason = self.flows[Side::Client].ended.then_some(Reason::ClientGone);
        (self.refused, self.nearer) = (None, true);
        self.forget_plans_to_leave();
        if let Some(inspector) = &mut self.inspector {
            inspector.meet_next_backend();
        }
        let Between { by_hooks, holding, .. } = *between;
        let holds_client = by_hooks.as_ref().is_some_and(|change| change.holds_client());
        self.send_of_hooks(by_hooks, now, counters);
        let held = match holding {
            Some(holding) if holds_client => {
                self.begin_greeting(holding, now);
                Vec::new()
            }
            holding => holding.map(Holding::into_bytes).unwrap_or_default(),
        };
        if !held.is_empty() {
            self.pass(Side::Client, &held, self.limits.max_message(), now, counters);
        }
        if !early.is_empty() {
            self.relay(Side::Backend, early, now, counters, WayOut::default());
        }
        true
    }
}

/// State of a pair that may be re-attached, for another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReattachState {
    kept: KeptRequest,
    times: u32,
    failures: u32,
    /// See [`Tail`]; `None` where it was too long to be kept.
    tail: Option<String>,
}

impl ReattachState {
    pub(super) fn share_head(&mut self, heads: &Heads) {
        heads.keep_again(&mut self.kept.head);
    }

    pub(super) fn is_sound(&self) -> bool {
        self.kept.head.length() <= MOST_HEAD && self.tail.as_ref().is_none_or(|tail| STANDARD.decode(tail).is_ok())
    }
}

impl ReattachProgress {
    /// The state of a pair that is attached.
    pub(super) fn state(&self) -> ReattachState {
        let tail = self.tail.bytes().map(|bytes| STANDARD.encode(bytes));
        ReattachState { kept: (*self.kept).clone(), times: self.times, failures: self.failures, tail }
    }

    /// Goes on in this process.
    pub(super) fn resume(state: ReattachState, now: Instant) -> Self {
        let ReattachState { kept, times, failures, tail } = state;
        // A sound state can be decoded.
        let tail = Tail::of(tail.and_then(|tail| STANDARD.decode(tail).ok()));
        Self { times, failures, tail, ..Self::new(Arc::new(kept), now) }
    }

    fn new(kept: Arc<KeptRequest>, since: Instant) -> Self {
        Self {
            kept,
            times: 0,
            failures: 0,
            since,
            tail: Tail::default(),
            closing: Vec::new(),
            stage: Stage::Attached,
            greeting: None,
            search: None,
            told: None,
        }
    }

    /// The client's messages that are held.
    fn holding(&self) -> Option<&Holding> {
        let greeting = self.greeting.as_ref().map(|greeting| &greeting.holding);
        between(&self.stage).and_then(|between| between.holding.as_ref()).or(greeting)
    }

    /// Notes an outcome for the worker to tell of.
    fn tell(&mut self, between: &Between, outcome: ReattachOutcome, now: Instant) {
        let number = if outcome == ReattachOutcome::Attached { self.times } else { self.times + 1 };
        let gap = now.saturating_duration_since(between.since);
        self.told = Some(ReattachReport { loss: between.loss, outcome, number, gap, dropped: between.dropped });
    }
}

fn between(stage: &Stage) -> Option<&Between> {
    match stage {
        Stage::Parting(between) | Stage::Held(between) => Some(between),
        Stage::Attached | Stage::Over => None,
    }
}

fn between_mut(stage: &mut Stage) -> Option<&mut Between> {
    match stage {
        Stage::Parting(between) | Stage::Held(between) => Some(between),
        Stage::Attached | Stage::Over => None,
    }
}

/// The longest Close frame, masked.
const MOST_CLOSE: usize = 131;
