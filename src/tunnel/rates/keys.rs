//! Rates that the tunnels of one affinity key share, on whichever worker they are.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::bucket::{RateBucket, SECOND, cost};
use crate::affinity::Digest;
use crate::slots::GiveBack;
use crate::tunnel::record::Record;

/// The keys of all open tunnels whose upstream limits the rates of keys.
///
/// Bound: twice the number of those keys; a key without a tunnel is kept until its buckets are full again, so that
/// coming back gains nothing.
pub(in crate::tunnel) struct RatedKeys {
    start: Instant,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<KeyId, Arc<KeyRates>>,
    /// Number of keys at which those that are not needed are removed.
    sweep_at: usize,
}

/// Identity of a key: two hashes of it, because a key may be a secret, and each of them has 32 bits alone.
#[derive(PartialEq, Eq, Hash)]
struct KeyId {
    upstream: Box<str>,
    digest: Digest,
    hash: Option<u32>,
}

/// The buckets of one key, and whose turn it is.
#[derive(Debug, Default)]
pub(in crate::tunnel) struct KeyRates {
    pub(super) messages: RateBucket,
    pub(super) bytes: RateBucket,
    /// Moment at which everybody who waits has had a turn. Whoever has to wait stands behind it, and is given so much
    /// time as what it waits for takes: so the tunnels of a key go on in the order in which they came to wait.
    turns_until: AtomicU64,
}

impl RatedKeys {
    pub(in crate::tunnel) fn new() -> Self {
        Self { start: Instant::now(), known: Mutex::default() }
    }

    /// Moment that the buckets count their time from.
    pub(in crate::tunnel) fn start(&self) -> Instant {
        self.start
    }

    /// Buckets that the tunnels of this one's key share; `None` for a tunnel without a key.
    pub(super) fn of(&self, record: &Record) -> Option<Arc<KeyRates>> {
        let id = KeyId {
            upstream: record.backend().upstream().into(),
            digest: record.key.digest()?,
            hash: record.key.hash(),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.keys.len() >= known.sweep_at {
            let now = nanoseconds(self.start, Instant::now());
            let is_full = |key: &KeyRates| key.bytes.full_in(now).max(key.messages.full_in(now)) == 0;
            known.keys.retain(|_, key| Arc::strong_count(key) > 1 || !is_full(key));
            known.sweep_at = (known.keys.len() * 2).max(LEAST_SWEPT);
            let keys = &mut known.keys;
            keys.give_back(keys.len());
        }
        Some(Arc::clone(known.keys.entry(id).or_default()))
    }
}

impl KeyRates {
    /// Tells whether somebody waits for its turn.
    pub(super) fn is_awaited(&self, now: u64) -> bool {
        self.turns_until.load(Relaxed) > now
    }

    /// Waits for a turn to pass so much; the moment at which it comes.
    pub(super) fn queue(&self, amount: u64, rate: NonZeroU64, now: u64) -> u64 {
        let after = |until: u64| until.max(now) + cost(amount.min(rate.get()), rate).min(SECOND);
        let before = self.turns_until.fetch_update(Relaxed, Relaxed, |until| Some(after(until)));
        after(before.unwrap_or_else(|until| until))
    }
}

/// Nanoseconds between two moments.
pub(super) fn nanoseconds(start: Instant, moment: Instant) -> u64 {
    u64::try_from(moment.saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Number of keys up to which the table is not swept.
const LEAST_SWEPT: usize = 64;
