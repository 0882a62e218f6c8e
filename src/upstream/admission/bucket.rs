//! The token bucket: a number of handshakes at once, and a rate of handshakes from then on.

use std::time::{Duration, Instant};

/// A token bucket that begins full. In any span of time it gives at most `burst` tokens more than its rate yields in
/// that span.
#[derive(Clone, Debug)]
pub(super) struct TokenBucket {
    /// Tokens at the moment `at`, never more than `burst`.
    tokens: f64,
    at: Instant,
    /// Tokens a second; `None` where any number may be taken.
    rate: Option<f64>,
    burst: f64,
}

impl TokenBucket {
    /// A full bucket. A `rate` is above 0.
    pub(super) fn new(rate: Option<f64>, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { tokens: burst, at: now, rate, burst }
    }

    /// Changes rate and burst. Tokens that were earned at the old rate are kept, as far as there is room for them.
    pub(super) fn change(&mut self, rate: Option<f64>, burst: u32, now: Instant) {
        self.fill(now);
        self.rate = rate;
        self.burst = f64::from(burst.max(1));
        self.tokens = self.tokens.min(self.burst);
    }

    /// Changes the rate alone.
    pub(super) fn pace(&mut self, rate: f64, now: Instant) {
        self.fill(now);
        self.rate = Some(rate);
    }

    /// Tokens a second; `None` where there is no rate.
    pub(super) fn rate(&self) -> Option<f64> {
        self.rate
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.rate.is_none() {
            return true;
        }
        self.fill(now);
        let is_there = self.tokens >= WHOLE;
        if is_there {
            self.tokens -= 1.0;
        }
        is_there
    }

    /// Puts a token back that was not used.
    pub(super) fn put_back(&mut self) {
        self.tokens = (self.tokens + 1.0).min(self.burst);
    }

    /// The moment at which there is a token, at the present rate; no later than `now` when there is one.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let Some(rate) = self.rate else { return now };
        let missing = (1.0 - self.tokens).max(0.0);
        // A nanosecond more, so that the moment is never a rounding early.
        let wait = Duration::try_from_secs_f64(missing / rate).unwrap_or(Duration::MAX);
        self.at.checked_add(wait.saturating_add(Duration::from_nanos(1))).unwrap_or(now)
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at);
        if let Some(rate) = self.rate {
            self.tokens = (self.tokens + passed.as_secs_f64() * rate).min(self.burst);
        }
        self.at = self.at.max(now);
    }
}

/// One token, less the error that sums of fractions may have.
const WHOLE: f64 = 1.0 - 1e-9;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_comes_first_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Some(10.0), 3, start);
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        let next = bucket.next(start);
        assert!(next > start + Duration::from_millis(99) && next < start + Duration::from_millis(101));
        assert!(bucket.take(next));
        assert!(!bucket.take(next));
    }

    #[test]
    fn a_token_that_is_put_back_can_be_taken_again() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Some(1.0), 1, start);
        assert!(bucket.take(start));
        assert!(!bucket.take(start));
        bucket.put_back();
        assert!(bucket.take(start));
        bucket.put_back();
        bucket.put_back();
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 1, "never more than the burst");
    }

    #[test]
    fn another_rate_counts_from_the_moment_it_is_set() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Some(1.0), 1, start);
        assert!(bucket.take(start));
        bucket.change(Some(100.0), 5, start);
        assert!(!bucket.take(start + Duration::from_millis(9)));
        assert!(bucket.take(start + Duration::from_millis(11)));
        bucket.change(None, 5, start);
        assert!((0..1000).all(|_| bucket.take(start)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_burst_and_the_rate_times_the_time(
            rate in 0.5..5_000.0f64,
            burst in 1..200u32,
            steps in prop::collection::vec((0..50_000u64, 1..20usize), 1..200),
        ) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(Some(rate), burst, start);
            let mut now = start;
            let mut taken = 0;
            for (microseconds, asked) in steps {
                now += Duration::from_micros(microseconds);
                taken += (0..asked).filter(|_| bucket.take(now)).count();
                let most = f64::from(burst) + rate * (now - start).as_secs_f64();
                prop_assert!(taken as f64 <= most + 1e-3, "{taken} of {most}");
            }
        }

        #[test]
        fn a_token_is_there_at_the_moment_that_is_named(rate in 0.01..1_000_000.0f64, burst in 1..200u32) {
            let start = Instant::now();
            let mut bucket = TokenBucket::new(Some(rate), burst, start);
            while bucket.take(start) {}
            prop_assert!(bucket.take(bucket.next(start)));
        }
    }
}
