//! Measures of the workers: the length of their turns, and the bytes that they keep.

use prometheus::core::Collector;
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
            "Bytes that workers keep: not taken by their receivers yet, or of unfinished messages that hooks wait for.",
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

    /// Bytes that the workers keep, all together.
    pub fn kept(&self) -> &IntGauge {
        &self.kept
    }
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// From 50 µs (a message or two) to 1 s (something blocks the worker).
const TURNS: [f64; 13] = [0.000_05, 0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
