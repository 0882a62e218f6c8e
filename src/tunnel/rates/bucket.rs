//! Buckets that let so much pass in a second, in whole numbers and with one atomic each.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bucket that holds what may pass in one second, and is filled evenly over it (a token bucket, kept as the one
/// moment of the generic cell rate algorithm, ITU-T I.371).
///
/// However long a span is, no more passes in it than the rate allows for its length and one full bucket. Times are
/// rounded up to a nanosecond, so that this holds exactly.
///
/// Moments are nanoseconds since any moment that is the same for all calls.
#[derive(Debug, Default)]
pub(super) struct RateBucket {
    /// Moment at which it will be full.
    full_at: AtomicU64,
}

/// A second.
pub(super) const SECOND: u64 = 1_000_000_000;

impl RateBucket {
    /// A bucket that will be full at a moment.
    pub(super) fn full_at(moment: u64) -> Self {
        Self { full_at: moment.into() }
    }

    /// Amount that it holds at a moment.
    pub(super) fn holds(&self, rate: NonZeroU64, now: u64) -> u64 {
        held(self.full_at.load(Relaxed), rate, now)
    }

    /// Takes so much of it, or as much as it holds where that is less; returns how much.
    pub(super) fn take(&self, most: u64, rate: NonZeroU64, now: u64) -> u64 {
        let mut full_at = self.full_at.load(Relaxed);
        loop {
            let taken = most.min(held(full_at, rate, now));
            if taken == 0 {
                return 0;
            }
            let later = full_at.max(now) + cost(taken, rate);
            match self.full_at.compare_exchange_weak(full_at, later, Relaxed, Relaxed) {
                Ok(_) => return taken,
                Err(other) => full_at = other,
            }
        }
    }

    /// Moment at which the bucket holds `amount`, if nothing is taken from it. An amount that does not fit counts as a
    /// full bucket.
    pub(super) fn holds_at(&self, amount: u64, rate: NonZeroU64) -> u64 {
        self.full_at.load(Relaxed).saturating_add(cost(amount.min(rate.get()), rate)).saturating_sub(whole(rate))
    }

    /// Time from `now` until it is full.
    pub(super) fn full_in(&self, now: u64) -> u64 {
        self.full_at.load(Relaxed).saturating_sub(now)
    }

    /// Makes it no fuller than one that is full at a moment.
    pub(super) fn no_fuller_than(&self, full_at: u64) {
        self.full_at.fetch_max(full_at, Relaxed);
    }
}

fn held(full_at: u64, rate: NonZeroU64, now: u64) -> u64 {
    let time = now.saturating_add(whole(rate)).saturating_sub(full_at.max(now));
    match unit(rate) {
        Some(unit) => time / unit,
        None => u64::try_from(u128::from(time) * u128::from(rate.get()) / u128::from(SECOND)).unwrap_or(u64::MAX),
    }
}

/// Time in which so much comes into a bucket.
pub(super) fn cost(amount: u64, rate: NonZeroU64) -> u64 {
    let time = match unit(rate) {
        Some(unit) => u128::from(amount) * u128::from(unit),
        None => (u128::from(amount) * u128::from(SECOND)).div_ceil(u128::from(rate.get())),
    };
    u64::try_from(time).unwrap_or(u64::MAX / 4)
}

/// Time in which an empty bucket is filled.
fn whole(rate: NonZeroU64) -> u64 {
    unit(rate).map_or(SECOND, |unit| unit * rate.get())
}

/// Time in which one comes into the bucket of a low rate, rounded up once and for all, so that as many as the rate
/// says fit one after the other. Of higher rates nobody notices a few bytes, but the roundings together.
fn unit(rate: NonZeroU64) -> Option<u64> {
    (rate.get() <= 1_000_000).then(|| SECOND.div_ceil(rate.get()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Over every span between two takes, the last one included.
        #[test]
        fn no_span_has_more_than_its_share_and_one_full_bucket(
            rate in prop_oneof![1_u64..50, 50_u64..1 << 30],
            steps in proptest::collection::vec((0_u64..3_000_000_000, 0_u64..5_000), 1..60),
        ) {
            let (rate, bucket, mut now) = (NonZeroU64::new(rate).unwrap(), RateBucket::default(), 0);
            let mut passed: Vec<(u64, u128)> = Vec::new();
            for (later, most) in steps {
                now += later;
                passed.push((now, bucket.take(most, rate, now).into()));
            }
            for first in 0..passed.len() {
                let mut sum = 0;
                for &(moment, taken) in &passed[first..] {
                    sum += taken;
                    let span = u128::from(moment - passed[first].0);
                    prop_assert!(sum * u128::from(SECOND) <= (span + u128::from(SECOND)) * u128::from(rate.get()));
                }
            }
        }

        #[test]
        fn whoever_takes_all_there_is_at_the_moment_told_gets_the_whole_rate(rate in 1_u64..1_000_000) {
            let (rate, bucket) = (NonZeroU64::new(rate).unwrap(), RateBucket::default());
            let (mut now, mut passed) = (0, bucket.take(u64::MAX, rate, 0));
            while now < 10 * SECOND {
                now = bucket.holds_at(1, rate).max(now + 1);
                let taken = bucket.take(u64::MAX, rate, now);
                prop_assert!(taken > 0);
                passed += taken;
                now += SECOND / 10;
            }
            prop_assert!(passed >= rate.get() * 10, "{passed} in {now} ns at {rate}");
        }
    }

    #[test]
    fn an_empty_bucket_says_when_it_holds_something() {
        let (rate, bucket) = (NonZeroU64::new(4).unwrap(), RateBucket::default());
        assert_eq!(bucket.take(10, rate, 5 * SECOND), 4);
        assert_eq!((bucket.holds(rate, 5 * SECOND), bucket.holds_at(1, rate)), (0, 5 * SECOND + SECOND / 4));
        assert_eq!(bucket.holds_at(100, rate), 6 * SECOND, "more than fits never comes");
        for rate in [1, 3, 7, 999, 1_000_000].map(|rate| NonZeroU64::new(rate).unwrap()) {
            let bucket = RateBucket::default();
            let at_once = (0..=rate.get()).filter(|_| bucket.take(1, rate, 77) == 1).count();
            assert_eq!(at_once as u64, rate.get(), "one after the other");
        }
    }
}
