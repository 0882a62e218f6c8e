//! Measures of the workers: the length of their turns, and the bytes that are kept for clients.

use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::local::LocalHistogram;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge};

/// Measures of the workers of one gateway.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    turns: HistogramVec,
    kept: IntGauge,
}

impl WorkerMetrics {
    /// Measures in no registry; see [`collectors`](Self::collectors).
    pub fn new() -> Self {
        let turns = HistogramOpts::new(
            "longhaul_worker_turn_seconds",
            "Turns of a worker's loop, without the time it waits for something to do.",
        );
        let turns = HistogramVec::new(turns.buckets(TURNS.to_vec()), &["worker"]);
        let kept = IntGauge::new(
            "longhaul_kept_bytes",
            "Bytes kept for clients: not taken by their receivers yet, or of unfinished messages and heads.",
        );
        let legal = "metric names and labels are constants that follow Prometheus's rules";
        Self { turns: turns.expect(legal), kept: kept.expect(legal) }
    }

    /// The families, to be added to a registry.
    pub fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.turns.clone()), Box::new(self.kept.clone())]
    }

    /// The turns of the worker with this number. Each has its own, so that workers do not write to one place.
    pub fn turns(&self, worker: usize) -> Histogram {
        self.turns.with_label_values(&[&worker.to_string()])
    }

    /// Counts the turns of the worker with this number, on its thread.
    pub fn count_turns(&self, worker: usize) -> WorkerTurns {
        let report_at = Instant::now() + REPORT_AFTER;
        WorkerTurns { local: self.turns(worker).local(), report_at, is_pending: false }
    }

    /// Bytes that are kept for clients, all together.
    pub fn kept(&self) -> &IntGauge {
        &self.kept
    }
}

/// Turns of one worker. It counts them for itself, which takes no atomic operation, and reports them once a second:
/// a turn is counted for every message or two.
pub struct WorkerTurns {
    local: LocalHistogram,
    /// Moment from which on a turn reports the ones before.
    report_at: Instant,
    /// Turns were counted since.
    is_pending: bool,
}

impl WorkerTurns {
    /// Counts a turn. A long one is reported at once, others with the first turn that ends a second later.
    pub fn observe(&mut self, began: Instant, ended: Instant) {
        let turn = ended.saturating_duration_since(began);
        self.local.observe(turn.as_secs_f64());
        self.is_pending = turn < LONG && ended < self.report_at;
        if !self.is_pending {
            self.report_at = ended + REPORT_AFTER;
            self.local.flush();
        }
    }

    /// The moment from which a turn is wanted that reports the ones before; `None` when all are reported.
    pub fn due(&self) -> Option<Instant> {
        self.is_pending.then_some(self.report_at)
    }
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From 50 µs (a message or two) to 1 s (something blocks the worker).
const TURNS: [f64; 13] = [0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
/// Turns from this length on are reported at once.
const LONG: Duration = Duration::from_millis(10);
const REPORT_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_turns_are_reported_after_a_second_and_a_long_one_at_once() {
        let metrics = WorkerMetrics::new();
        let (mut turns, seen) = (metrics.count_turns(0), metrics.turns(0));
        let begun = turns.report_at - REPORT_AFTER;
        // Began, ended, and the number of turns reported afterwards.
        for (began, ended, reported) in
            [(0, 80, 0), (1_000_000, 1_000_100, 2), (1_000_100, 1_000_200, 2), (1_000_200, 1_020_200, 4)]
        {
            let at = |micros| begun + Duration::from_micros(micros);
            turns.observe(at(began), at(ended));
            assert_eq!(seen.get_sample_count(), reported, "{began} to {ended} µs");
            assert_eq!(turns.due().is_some(), [80, 1_000_200].contains(&ended), "{began} to {ended} µs");
        }
    }
}
