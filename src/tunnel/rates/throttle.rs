//! The throttle of one client: the part of its bytes that passes now, and the moment at which more may.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::RatesInForce;
use super::bucket::RateBucket;
use super::keys::{KeyRates, nanoseconds};
use crate::config::{OverRate, TunnelRates};
use crate::metrics::LimitedRate;
use crate::ws::Cursor;

/// Holds one client to its rates.
///
/// A message takes its place when its first byte is about to pass, and a byte when it passes. Control frames are bytes
/// and no messages; a Close frame costs nothing.
pub(in crate::tunnel) struct Throttle {
    rates: Arc<TunnelRates>,
    key: Option<Arc<KeyRates>>,
    /// Moment from which those of the buckets are counted; the same for all tunnels of a process.
    start: Instant,
    messages: RateBucket,
    bytes: RateBucket,
    /// Place of the client's stream, as far as it was let pass; `None` where a tunnel with hooks stands within a
    /// message that nobody has followed: until its end no message is counted.
    cursor: Option<Cursor>,
    /// Bytes that were read and not let pass yet: `held[seen..]`, one buffer at the most.
    held: Vec<u8>,
    seen: usize,
    /// Moment before which the client is not read.
    resume_at: Option<Instant>,
    /// The turn among the tunnels of its key that it waits for: so much of the one or the other.
    turn: Option<(LimitedRate, u64)>,
    /// The latest look held the client back.
    is_over: bool,
}

/// The part of some bytes that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tunnel) struct PassingBytes {
    /// So many bytes, from the first on.
    pub(in crate::tunnel) pass: usize,
    /// The limit that holds the client back from now on; `None` where none does, or one did before.
    pub(in crate::tunnel) begins: Option<LimitedRate>,
}

/// State of a throttle, with moments as nanoseconds from now, for another process.
#[derive(Debug, Serialize, Deserialize)]
pub(in crate::tunnel) struct ThrottleState {
    #[serde(with = "crate::base64_text")]
    held: Vec<u8>,
    cursor: Option<Cursor>,
    full_in: [u64; 2],
    key_full_in: [u64; 2],
}

/// Part of the client's stream up to the end of a frame, or of the chunk.
struct Step {
    length: usize,
    /// A message begins with it.
    opens: bool,
    /// True when it belongs to a Close frame.
    is_close: bool,
}

/// The most that may be taken of the key's buckets in one look.
struct Share {
    messages: u64,
    bytes: u64,
}

impl Throttle {
    /// A client that has sent up to where `cursor` stands. Moments are counted from `start`.
    pub(in crate::tunnel) fn new(given: RatesInForce, cursor: Option<Cursor>, start: Instant) -> Self {
        Self {
            rates: given.rates,
            key: given.key,
            start,
            messages: RateBucket::default(),
            bytes: RateBucket::default(),
            cursor,
            held: Vec::new(),
            seen: 0,
            resume_at: None,
            turn: None,
            is_over: false,
        }
    }

    /// Puts other rates in force, from now on. What was taken of the buckets before counts.
    pub(in crate::tunnel) fn change(&mut self, given: RatesInForce, now: Instant) {
        if *self.rates != *given.rates {
            (self.resume_at, self.turn) = (self.resume_at.map(|_| now), None);
        }
        (self.rates, self.key) = (given.rates, given.key);
    }

    /// Tells whether it holds nobody back any more, and nothing is left of what it held.
    pub(in crate::tunnel) fn is_done(&self) -> bool {
        !self.rates.are_on() && self.held() == 0
    }

    /// Tells whether a client that sends too much is to be closed.
    pub(in crate::tunnel) fn closes(&self) -> bool {
        self.rates.over_rate == OverRate::Close
    }

    /// Moment at which the client may be read again; `None` where it may be read.
    pub(in crate::tunnel) fn resume_at(&self) -> Option<Instant> {
        self.resume_at
    }

    /// Notes that the client may be read again if it may; tells whether it may.
    pub(in crate::tunnel) fn may_resume(&mut self, now: Instant) -> bool {
        self.resume_at.take_if(|at| now >= *at);
        self.resume_at.is_none()
    }

    /// Bytes that it holds back.
    pub(in crate::tunnel) fn held(&self) -> usize {
        self.held.len() - self.seen
    }

    /// Holds bytes back.
    pub(in crate::tunnel) fn hold(&mut self, bytes: &[u8]) {
        self.held.extend_from_slice(bytes);
    }

    /// Takes out what it holds back, with the place from which on it does.
    pub(in crate::tunnel) fn take_held(&mut self) -> (Vec<u8>, usize) {
        (std::mem::take(&mut self.held), std::mem::take(&mut self.seen))
    }

    /// Puts back what was taken out, and was let pass up to `seen`; an emptied buffer is given back.
    pub(in crate::tunnel) fn put_back(&mut self, held: Vec<u8>, seen: usize) {
        if seen < held.len() {
            (self.held, self.seen) = (held, seen);
        }
    }

    /// Tells whether it knows where the client's stream stands.
    pub(in crate::tunnel) fn is_aligned(&self) -> bool {
        self.cursor.is_some()
    }

    /// Notes where the client's stream stands.
    pub(in crate::tunnel) fn align(&mut self, cursor: Cursor) {
        self.cursor.get_or_insert(cursor);
    }

    /// Decides how much of a chunk passes now. What passes takes its place in the buckets.
    pub(in crate::tunnel) fn admit(&mut self, chunk: &[u8], now: Instant) -> PassingBytes {
        let moment = nanoseconds(self.start, now);
        let mut share = self.share(moment);
        let (mut pass, mut limit) = (0, None);
        while pass < chunk.len() {
            let rest = &chunk[pass..];
            let step = self.step(rest);
            match self.grant(&step, &mut share, moment) {
                Ok(granted) => {
                    if let Some(cursor) = &mut self.cursor {
                        cursor.advance(&rest[..granted], &mut |_| {});
                    }
                    pass += granted;
                }
                Err(over) => {
                    limit = Some(over);
                    break;
                }
            }
        }
        if let Some(limit) = limit {
            self.wait(limit, (chunk.len() - pass) as u64, moment);
        }
        let was_over = std::mem::replace(&mut self.is_over, limit.is_some());
        PassingBytes { pass, begins: limit.filter(|_| !was_over) }
    }

    /// Most that may be taken of the key's buckets now: nothing while others wait for their turn, as much as it waited
    /// for in its own, and else all there is.
    fn share(&mut self, moment: u64) -> Share {
        let mut share = Share { messages: u64::MAX, bytes: u64::MAX };
        let turn = self.turn.take();
        let Some(key) = self.key.as_ref().filter(|_| !self.closes()) else { return share };
        if key.is_awaited(moment) {
            match turn {
                Some((LimitedRate::KeyMessages, most)) => share.messages = most,
                Some((_, most)) => share.bytes = most,
                None => share = Share { messages: 0, bytes: 0 },
            }
        }
        share
    }

    /// The next part of the client's stream that is looked at alone.
    fn step(&self, rest: &[u8]) -> Step {
        let Some(cursor) = &self.cursor else { return Step { length: rest.len(), opens: false, is_close: false } };
        let length = cursor.clone().next_boundary(rest, &mut |_| {});
        Step { length, opens: cursor.opens_message(rest[0]), is_close: cursor.is_close(rest[0]) }
    }

    /// Takes the places for as much of a step as may pass.
    ///
    /// # Errors
    /// Nothing of it may, for this limit.
    fn grant(&self, step: &Step, share: &mut Share, moment: u64) -> Result<usize, LimitedRate> {
        if step.is_close {
            return Ok(step.length);
        }
        let (each, per_key) = (self.rates.each, self.rates.per_key);
        let key = self.key.as_deref();
        let of_key = |rate: Option<NonZeroU64>| key.zip(rate);
        let mut granted = step.length as u64;
        if let Some(rate) = each.bytes {
            granted = granted.min(self.bytes.holds(rate, moment));
            enough(granted, LimitedRate::Bytes)?;
        }
        if let Some((key, rate)) = of_key(per_key.bytes) {
            granted = granted.min(share.bytes).min(key.bytes.holds(rate, moment));
            enough(granted, LimitedRate::KeyBytes)?;
        }
        if step.opens {
            if let Some(rate) = each.messages {
                enough(self.messages.holds(rate, moment), LimitedRate::Messages)?;
            }
            if let Some((key, rate)) = of_key(per_key.messages) {
                enough(key.messages.take(share.messages.min(1), rate, moment), LimitedRate::KeyMessages)?;
                share.messages -= 1;
            }
            if let Some(rate) = each.messages {
                self.messages.take(1, rate, moment);
            }
        }
        if let Some((key, rate)) = of_key(per_key.bytes) {
            // Another worker may have taken of them meanwhile.
            granted = key.bytes.take(granted, rate, moment);
            enough(granted, LimitedRate::KeyBytes)?;
            share.bytes -= granted;
        }
        if let Some(rate) = each.bytes {
            self.bytes.take(granted, rate, moment);
        }
        // No more than the step has.
        Ok(usize::try_from(granted).unwrap_or(step.length))
    }

    /// Notes when the client may go on, of which `left` bytes are held back.
    fn wait(&mut self, limit: LimitedRate, left: u64, moment: u64) {
        // What comes within the precision of a deadline (`tunnel::deadlines`) is let pass at once.
        let part = |rate: NonZeroU64| left.clamp(1, (rate.get() / 10).max(1));
        let (each, per_key) = (self.rates.each, self.rates.per_key);
        let (rate, amount) = match limit {
            LimitedRate::Messages => (each.messages, 1),
            LimitedRate::Bytes => (each.bytes, each.bytes.map_or(1, part)),
            LimitedRate::KeyMessages => (per_key.messages, 1),
            LimitedRate::KeyBytes => (per_key.bytes, per_key.bytes.map_or(1, part)),
        };
        let Some(rate) = rate else { return };
        let at = match (limit, &self.key) {
            (LimitedRate::Messages, _) => self.messages.holds_at(amount, rate),
            (LimitedRate::KeyMessages | LimitedRate::KeyBytes, Some(key)) => {
                self.turn = Some((limit, amount));
                key.queue(amount, rate, moment)
            }
            _ => self.bytes.holds_at(amount, rate),
        };
        self.resume_at = self.start.checked_add(Duration::from_nanos(at));
    }

    /// The state as of `now`.
    pub(in crate::tunnel) fn state(&self, now: Instant) -> ThrottleState {
        let moment = nanoseconds(self.start, now);
        let full_in = |[messages, bytes]: [&RateBucket; 2]| [messages.full_in(moment), bytes.full_in(moment)];
        ThrottleState {
            held: self.held[self.seen..].to_vec(),
            cursor: self.cursor.clone(),
            full_in: full_in([&self.messages, &self.bytes]),
            key_full_in: self.key.as_ref().map_or([0; 2], |key| full_in([&key.messages, &key.bytes])),
        }
    }

    /// A throttle that goes on `now` where another process left off.
    pub(in crate::tunnel) fn resume(state: ThrottleState, given: RatesInForce, start: Instant, now: Instant) -> Self {
        let moment = nanoseconds(start, now);
        let [messages, bytes] = state.full_in.map(|time| RateBucket::full_at(moment.saturating_add(time)));
        if let Some(key) = &given.key {
            let [messages, bytes] = state.key_full_in.map(|time| moment.saturating_add(time));
            key.messages.no_fuller_than(messages);
            key.bytes.no_fuller_than(bytes);
        }
        Self { messages, bytes, held: state.held, ..Self::new(given, state.cursor, start) }
    }
}

fn enough(amount: u64, limit: LimitedRate) -> Result<(), LimitedRate> {
    if amount > 0 { Ok(()) } else { Err(limit) }
}
