//! The pace of `handshakes: auto`: a rate that a backend's handshake latency makes (additive increase, multiplicative
//! decrease).
//!
//! The rate changes at most once in each [`WINDOW`]. While clients wait and the mean latency stays below the bound, the
//! rate grows by [`INCREASE`]. When the mean is above the bound, or a handshake failed, the rate is cut to [`DECREASE`]
//! of itself. Handshakes that had begun by then do not cut it again, because they began at the old rate. The bound is
//! twice the least latency and [`SLACK`]. The least latency is forgotten slowly, so that a backend that has become
//! slower for good is not starved.

use std::time::{Duration, Instant};

/// The rate of one backend, and the latencies that make it.
#[derive(Clone, Debug)]
pub(super) struct BackendPace {
    rate: f64,
    /// The least latency, in seconds; `None` before the first.
    least: Option<f64>,
    /// End of the window that is being measured.
    ends: Instant,
    /// Sum and number of the window's latencies.
    sum: f64,
    count: u32,
    failed: bool,
    /// True when clients waited within the window.
    wanted: bool,
    /// Handshakes that began before this moment do not count.
    since: Instant,
}

/// Time and outcome of a handshake at its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedHandshake {
    /// The moment at which it began.
    pub begun: Instant,
    /// The moment at which it was answered or failed.
    pub ended: Instant,
    /// The backend did not take it: no answer, or one of 429, 502, 503 and 504.
    pub failed: bool,
}

impl BackendPace {
    /// Handshakes a second at first: what a small application server takes.
    pub(super) const FIRST: f64 = 100.0;

    /// The pace that a backend begins with.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            rate: Self::FIRST,
            least: None,
            ends: now + WINDOW,
            sum: 0.0,
            count: 0,
            failed: false,
            wanted: false,
            since: now,
        }
    }

    /// Handshakes a second.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// Notes that a client waits. Only then is a higher rate of use.
    pub(super) fn wanted(&mut self) {
        self.wanted = true;
    }

    /// Notes a handshake. Returns the rate where it has changed.
    pub(super) fn told(&mut self, told: TimedHandshake) -> Option<f64> {
        if told.begun >= self.since {
            let latency = told.ended.saturating_duration_since(told.begun).as_secs_f64();
            self.failed |= told.failed;
            if !told.failed {
                self.least = Some(self.least.map_or(latency, |least| least.min(latency)));
                self.sum += latency;
                self.count += 1;
            }
        }
        if told.ended < self.ends {
            return None;
        }
        let before = self.rate;
        self.decide(told.ended);
        (self.rate != before).then_some(self.rate)
    }

    fn decide(&mut self, now: Instant) {
        let mean = self.sum / f64::from(self.count.max(1));
        let least = self.least.unwrap_or_default();
        let is_slow = self.count > 0 && mean > 2.0 * least + SLACK.as_secs_f64();
        if self.failed || is_slow {
            self.rate = (self.rate * DECREASE).max(LOWEST);
            self.since = now;
        } else if self.wanted && self.count > 0 {
            self.rate = (self.rate + INCREASE).min(HIGHEST);
        }
        if self.count > 0 {
            self.least = Some(least + (mean - least).max(0.0) * FORGET);
        }
        (self.sum, self.count, self.failed, self.wanted, self.ends) = (0.0, 0, false, false, now + WINDOW);
    }
}

/// Least rate. With it, a fleet of 20,000 clients is admitted in half an hour.
const LOWEST: f64 = 10.0;
/// Greatest rate. A higher one would protect no backend.
const HIGHEST: f64 = 10_000.0;
/// Growth of the rate in a window.
const INCREASE: f64 = 20.0;
/// Part of the rate that is left after a cut, as of TCP's window with CUBIC (RFC 9438).
const DECREASE: f64 = 0.7;
/// Time in which latencies are gathered before the rate changes once.
const WINDOW: Duration = Duration::from_millis(200);
/// Latency that may be added to twice the least one without being a sign of a queue.
const SLACK: Duration = Duration::from_millis(25);
/// Share of its distance to the mean by which the least latency moves in a window: half of it in about seven seconds.
const FORGET: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A backend that takes one handshake at a time, `each` long. Returns the rate after `seconds` of a long queue.
    fn settled(each: Duration, seconds: u64) -> (f64, usize) {
        let start = Instant::now();
        let mut pace = BackendPace::new(start);
        let (mut now, mut free, mut longest) = (start, start, 0);
        let mut told = std::collections::VecDeque::new();
        while now < start + Duration::from_secs(seconds) {
            free = free.max(now) + each;
            told.push_back(TimedHandshake { begun: now, ended: free, failed: false });
            longest = longest.max(told.len());
            now += Duration::from_secs_f64(1.0 / pace.rate());
            while told.front().is_some_and(|told| told.ended <= now) {
                pace.wanted();
                pace.told(told.pop_front().expect("it was looked at"));
            }
        }
        (pace.rate(), longest)
    }

    #[test]
    fn it_settles_near_what_a_backend_takes() {
        for (each, takes) in [(2, 500.0), (5, 200.0), (20, 50.0)] {
            let (rate, longest) = settled(MS * each, 60);
            assert!(rate > takes * 0.5 && rate < takes * 1.4, "{rate} of {takes}");
            assert!(longest < 100, "{longest} waited at the backend");
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let start = Instant::now();
        let mut pace = BackendPace::new(start);
        for window in 1..2_000 {
            pace.wanted();
            let begun = start + (WINDOW + MS) * window;
            pace.told(TimedHandshake { begun, ended: begun + MS, failed: false });
        }
        assert_eq!(pace.rate(), HIGHEST);
        for window in 2_000..2_100 {
            let begun = start + (WINDOW + MS) * window;
            pace.told(TimedHandshake { begun, ended: begun + MS, failed: true });
        }
        assert_eq!(pace.rate(), LOWEST);
    }

    #[test]
    fn a_rate_that_nobody_needs_does_not_grow() {
        let start = Instant::now();
        let mut pace = BackendPace::new(start);
        for window in 1..50 {
            let begun = start + (WINDOW + MS) * window;
            assert_eq!(pace.told(TimedHandshake { begun, ended: begun + MS, failed: false }), None);
        }
        assert_eq!(pace.rate(), BackendPace::FIRST);
    }

    #[test]
    fn handshakes_that_began_before_a_cut_do_not_cause_the_next() {
        let start = Instant::now();
        let mut pace = BackendPace::new(start);
        let late = |begun, ended| TimedHandshake { begun: start + MS * begun, ended: start + MS * ended, failed: true };
        assert_eq!(pace.told(late(1, 201)), Some(BackendPace::FIRST * DECREASE));
        assert_eq!(pace.told(late(150, 402)), None);
        assert_eq!(pace.told(late(202, 603)), Some(BackendPace::FIRST * DECREASE * DECREASE));
    }

    #[test]
    fn a_backend_that_is_slower_for_good_is_not_starved() {
        let start = Instant::now();
        let mut pace = BackendPace::new(start);
        let mut at = start;
        let mut window = |latency: u32| {
            at += WINDOW + MS;
            pace.wanted();
            pace.told(TimedHandshake { begun: at, ended: at + MS * latency, failed: false });
            at += MS * latency;
            pace.rate()
        };
        let quick = (0..20).map(|_| window(1)).last().unwrap();
        let cut = (0..20).map(|_| window(100)).last().unwrap();
        let again = (0..200).map(|_| window(100)).last().unwrap();
        assert!(cut < quick && again > cut, "{quick}, {cut}, {again}");
    }
}
