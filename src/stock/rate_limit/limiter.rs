//! One limit: the amount that each key has used lately (GCRA, by `governor`), for a bounded number of keys.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};
use lru::LruCache;

use super::key::LimitKey;
use super::settings::Rate;

/// A rate, and the amount of it that each key has used.
pub(super) struct Limiter<C: Clock = MonotonicClock> {
    rate: Rate,
    max_keys: NonZeroU32,
    /// Amount that one unit of the limiter stands for: more than one byte where bytes come faster than the limiter can
    /// count.
    unit: u64,
    table: Arc<Table>,
    start: C::Instant,
    limiter: RateLimiter<LimitKey, Shared, C, NoOpMiddleware<C::Instant>>,
}

/// Why an amount cannot pass now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// The amount would pass after this time, if nothing else came.
    For(Duration),
    /// The amount is more than may ever come at once.
    Always,
}

impl<C: Clock> Limiter<C> {
    pub(super) fn new(rate: Rate, max_keys: NonZeroU32, clock: C) -> Self {
        let a_second = rate.count.div_ceil(rate.period.as_secs());
        let unit = a_second.div_ceil(FASTEST);
        let units = rate.period.as_nanos() * u128::from(unit) / u128::from(rate.count);
        let each = Duration::from_nanos(u64::try_from(units).expect("a period is at most a day, and a unit small"));
        let burst = u32::try_from(rate.burst.div_ceil(unit)).unwrap_or(u32::MAX);
        let quota = Quota::with_period(each).expect("a unit takes at least 1 ns");
        let quota = quota.allow_burst(NonZeroU32::new(burst).expect("a burst is at least 1"));
        let table = Arc::new(Table::new(max_keys));
        let start = clock.now();
        let limiter = RateLimiter::new(quota, Shared(Arc::clone(&table)), clock);
        Self { rate, max_keys, unit, table, start, limiter }
    }

    /// Returns true for a limiter that these settings would make: it can go on under them.
    pub(super) fn is_of(&self, rate: Rate, max_keys: NonZeroU32) -> bool {
        (self.rate, self.max_keys) == (rate, max_keys)
    }

    /// Amount that may come at once.
    pub(super) fn burst(&self) -> u64 {
        self.rate.burst
    }

    /// Takes `amount` (at least 1) from a key's limit, all of it or nothing.
    pub(super) fn take(&self, key: &LimitKey, amount: u64) -> Result<(), Excess> {
        let units = u32::try_from(amount.max(1).div_ceil(self.unit)).ok().and_then(NonZeroU32::new);
        let taken = units.map(|units| self.limiter.check_key_n(key, units));
        match taken {
            Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(not_until))) => Err(Excess::For(not_until.wait_time_from(self.limiter.clock().now()))),
            Some(Err(_)) | None => Err(Excess::Always),
        }
    }

    /// The keys that have used some of their limit lately, the latest first. With each key: the nanoseconds until its
    /// count is back at zero.
    pub(super) fn save(&self, most: usize) -> Vec<(LimitKey, u64)> {
        let now = self.now();
        let mut saved = Vec::new();
        for shard in &self.table.shards {
            let shard = locked(shard);
            let owing = shard.iter().map(|(key, until)| (*key, until.as_u64().saturating_sub(now)));
            saved.extend(owing.filter(|(_, left)| *left > 0).take(most.div_ceil(SHARDS)));
        }
        saved
    }

    /// Adds the counts that [`save`](Self::save) gave to those that are there already.
    pub(super) fn restore(&self, saved: &[(LimitKey, u64)]) {
        let now = self.now();
        // What another rate made of a key must not outlast what this one would.
        let each = self.rate.period.as_nanos() * u128::from(self.rate.burst) / u128::from(self.rate.count);
        let most = u64::try_from(each).unwrap_or(u64::MAX / 2);
        for (key, left) in saved {
            let until = now + (*left).min(most);
            let Ok(()) = self.table.measure_and_replace(key, |at| {
                Ok::<_, std::convert::Infallible>(((), Nanos::new(at.map_or(0, Nanos::as_u64).max(until))))
            });
        }
    }

    fn now(&self) -> u64 {
        self.limiter.clock().now().duration_since(self.start).as_u64()
    }
}

/// Most units a second. A unit then takes a microsecond or more, and the error of rounding it to whole nanoseconds is
/// at most 0.1 %.
const FASTEST: u64 = 1_000_000;

/// The state of every key that is remembered; those used longest ago are forgotten first.
struct Table {
    shards: [Mutex<LruCache<LimitKey, Nanos>>; SHARDS],
    shard_keys: usize,
    hasher: RandomState,
}

/// Number of parts with a lock each, so that threads that count different keys seldom wait for each other.
const SHARDS: usize = 16;

impl Table {
    fn new(max_keys: NonZeroU32) -> Self {
        let max_keys = usize::try_from(max_keys.get()).unwrap_or(usize::MAX);
        // A cache with a bound of its own would make room for all at once.
        let shards = std::array::from_fn(|_| Mutex::new(LruCache::unbounded()));
        Self { shards, shard_keys: max_keys.div_ceil(SHARDS), hasher: RandomState::new() }
    }
}

impl StateStore for Table {
    type Key = LimitKey;

    fn measure_and_replace<T, F, E>(&self, key: &LimitKey, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let shard = usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).expect("is below SHARDS");
        let mut shard = locked(&self.shards[shard]);
        // Also where nothing passes: whoever keeps trying is not to be forgotten for it.
        let (outcome, next) = measure(shard.get(key).copied())?;
        shard.put(*key, next);
        if shard.len() > self.shard_keys {
            shard.pop_lru();
        }
        Ok(outcome)
    }
}

fn locked<T>(shard: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in the lock's sections leaves a shard half changed.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table, shared with the limiter.
struct Shared(Arc<Table>);

impl StateStore for Shared {
    type Key = LimitKey;

    fn measure_and_replace<T, F, E>(&self, key: &LimitKey, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.0.measure_and_replace(key, measure)
    }
}

#[cfg(test)]
mod tests;
