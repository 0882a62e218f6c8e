//! Pairs whose client is held to rates: a throttle stands between what is read of the client and what is done with it.

use std::time::Instant;

use super::{End, Pair, Rare, Reason, Side};
use crate::metrics::UpstreamMetrics;
use crate::tunnel::rates::{RatesInForce, Throttle};
use crate::ws::Cursor;

impl<E: End> Pair<E> {
    /// Holds the client to these rates from now on. Moments of buckets are counted from `start`.
    pub(in crate::tunnel) fn limit_rates(&mut self, given: RatesInForce, start: Instant, now: Instant) {
        if let Some(state) = self.rare.as_mut().and_then(|rare| rare.crossed.take()) {
            // What it held has yet to pass, whatever the rates are here.
            self.rare.get_or_insert_default().throttle = Some(Box::new(Throttle::resume(*state, given, start, now)));
        } else if let Some(throttle) = throttle_of(&mut self.rare) {
            throttle.change(given, now);
        } else if given.rates.are_on() {
            self.rare.get_or_insert_default().throttle = Some(Box::new(Throttle::new(given, None, start)));
        }
        self.nearer = true;
        self.note_special();
        self.align();
    }

    /// Tells whether it was held to rates in another process, and not yet in this one.
    pub(in crate::tunnel) fn has_crossed(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.crossed.is_some())
    }

    /// The throttle of its client; `None` where its rates are not limited.
    pub(super) fn throttle(&self) -> Option<&Throttle> {
        self.rare.as_ref()?.throttle.as_deref()
    }

    /// Tells whether bytes of its client wait for their turn.
    pub(in crate::tunnel) fn holds_back(&self) -> bool {
        self.has_crossed() || self.throttle().is_some_and(|throttle| throttle.held() > 0)
    }

    /// Tells the throttle where the client's stream stands, as soon as that is known.
    fn align(&mut self) {
        let Some(throttle) = throttle_of(&mut self.rare).filter(|throttle| !throttle.is_aligned()) else { return };
        let passed = self.flows[Side::Client].cursor();
        match &self.inspector {
            None => throttle.align(passed.clone()),
            Some(inspector) if inspector.has_held(Side::Client) => {}
            Some(inspector) if !inspector.assembles(Side::Client) => throttle.align(passed.clone()),
            Some(inspector) if inspector.is_between(Side::Client) => throttle.align(Cursor::new(Side::Client)),
            Some(_) => {}
        }
    }

    /// Notes whether bytes are dealt with in another way than most.
    pub(super) fn note_special(&mut self) {
        self.is_special = self.inspector.is_some() || self.throttle().is_some() || self.reattach().is_some();
    }

    /// Tells whether `side` is not read because of its rates.
    pub(super) fn is_throttled(&self, side: Side) -> bool {
        let throttle = self.throttle().filter(|_| side == Side::Client && !self.flows[side].is_cut());
        throttle.is_some_and(|throttle| throttle.resume_at().is_some())
    }

    /// Moment at which a client that is not read because of its rates is read again.
    pub(super) fn resumes_at(&self) -> Option<Instant> {
        self.throttle().filter(|_| self.is_throttled(Side::Client))?.resume_at()
    }

    /// Tells whether bytes from `side` can be dealt with at once, on a pair where that takes more than reading them.
    pub(super) fn can_go_on_specially(&self, side: Side, unread: bool) -> bool {
        let holds = side == Side::Client && self.throttle().is_some_and(|throttle| throttle.held() > 0);
        let is_stopped = self.is_full(side) || side == Side::Backend && self.is_held();
        let unread = (unread && !is_stopped || holds) && !self.is_throttled(side);
        if self.inspector.is_some() { self.has_more(side, unread) } else { unread }
    }

    /// Goes on with what was kept waiting of `side`; says whether it may be read.
    pub(super) fn go_on_specially(&mut self, side: Side, now: Instant, counters: &UpstreamMetrics) -> bool {
        if self.inspector.is_some() && !self.go_on(side, now, counters) {
            return false;
        }
        match side {
            Side::Client => self.forget_written(),
            Side::Backend if self.is_held() => return false,
            Side::Backend => {}
        }
        if self.is_full(side) {
            return false;
        }
        let flow = &self.flows[side];
        let Some(throttle) = throttle_of(&mut self.rare).filter(|_| side == Side::Client) else { return true };
        if !flow.kept().is_empty() || !throttle.may_resume(now) && !flow.is_cut() {
            return false;
        }
        if throttle.held() > 0 {
            let (held, seen) = throttle.take_held();
            let passed = self.relay_specially(side, &held[seen..], now, counters);
            // It has sent this long since: only now it has a chance to be heard.
            self.ends[side].heard = now;
            self.ends[side].pinging = None;
            self.nearer = true;
            if let Some(throttle) = throttle_of(&mut self.rare) {
                throttle.put_back(held, seen + passed);
            }
        }
        if self.throttle().is_some_and(|throttle| throttle.is_done()) {
            if let Some(rare) = &mut self.rare {
                rare.throttle = None;
            }
            self.note_special();
        }
        let holds = self.throttle().is_some_and(|throttle| throttle.held() > 0);
        let is_busy = self.inspector.is_some() && self.has_more_or_is_held_up(side);
        !holds && !is_busy && self.flows[side].kept().is_empty() && !self.is_throttled(side)
    }

    /// Relays a chunk on a pair where that takes more than passing it on; returns how much of it was dealt with. The
    /// rest is for the caller to hold.
    fn relay_specially(&mut self, side: Side, chunk: &[u8], now: Instant, counters: &UpstreamMetrics) -> usize {
        let pass = self.admit(side, chunk, now, counters);
        let part = &chunk[..pass];
        if self.inspector.is_some() {
            self.relay_inspected(side, part, now, counters);
        } else {
            self.pass(side, part, self.limits.max_message(), now, counters);
        }
        if pass < chunk.len() && self.throttle().is_some_and(|throttle| throttle.closes()) {
            // Nothing of what is over the rate passes, a Close frame at the next boundary included.
            let close = self.flows[side].cut_now(Reason::OverRate);
            self.keep_close(side, close);
            self.end(Reason::OverRate, now);
            return chunk.len();
        }
        pass
    }

    /// Relays a chunk that was read from `side`, and holds what its rates do not let pass yet.
    pub(super) fn relay_read(&mut self, side: Side, chunk: &[u8], now: Instant, counters: &UpstreamMetrics) {
        let passed = self.relay_specially(side, chunk, now, counters);
        if let Some(throttle) = throttle_of(&mut self.rare).filter(|_| passed < chunk.len()) {
            throttle.hold(&chunk[passed..]);
        }
    }

    /// Length of the part of a chunk that the rates of `side` let pass.
    fn admit(&mut self, side: Side, chunk: &[u8], now: Instant, counters: &UpstreamMetrics) -> usize {
        // What follows a cut passes on nothing: only the client's Close frame is waited for.
        if side != Side::Client || self.flows[side].is_cut() {
            return chunk.len();
        }
        self.align();
        let Some(throttle) = throttle_of(&mut self.rare) else { return chunk.len() };
        let admitted = throttle.admit(chunk, now);
        self.nearer |= admitted.pass < chunk.len();
        if let Some(limit) = admitted.begins {
            counters.throttled(limit);
        }
        admitted.pass
    }
}

/// The throttle among the rare parts of a pair, beside which the others can be used.
fn throttle_of(rare: &mut Option<Box<Rare>>) -> Option<&mut Throttle> {
    rare.as_mut()?.throttle.as_deref_mut()
}
