//! Measures of the workers: the length of their turns, and the bytes that are kept for clients.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

/// Measures of the workers of one gateway.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    turns: TurnsFamily,
    kept: IntGauge,
}

impl WorkerMetrics {
    /// Measures in no registry; see [`collectors`](Self::collectors).
    pub fn new() -> Self {
        let kept = IntGauge::new(
            "longhaul_kept_bytes",
            "Bytes kept for clients: not taken by their receivers yet, or of unfinished messages and heads.",
        );
        Self { turns: TurnsFamily::new(), kept: kept.expect(LEGAL) }
    }

    /// The families, to be added to a registry.
    pub fn collectors(&self) -> [Box<dyn Collector>; 2] {
        [Box::new(self.turns.clone()), Box::new(self.kept.clone())]
    }

    /// The turns of the worker with this number, as they are counted now.
    pub fn turns(&self, worker: usize) -> Histogram {
        self.turns.of(worker).histogram()
    }

    /// Counts the turns of the worker with this number, whose thread alone may do so.
    pub fn count_turns(&self, worker: usize) -> WorkerTurns {
        WorkerTurns { counts: self.turns.of(worker) }
    }

    /// Bytes that are kept for clients, all together.
    pub fn kept(&self) -> &IntGauge {
        &self.kept
    }
}

impl Default for WorkerMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts the turns of one worker.
pub struct WorkerTurns {
    counts: Arc<TurnCounts>,
}

impl WorkerTurns {
    /// Counts a turn.
    pub fn observe(&self, began: Instant, ended: Instant) {
        let turn = ended.saturating_duration_since(began);
        let nanos = turn.as_secs() * 1_000_000_000 + u64::from(turn.subsec_nanos());
        let place = ENDS.iter().position(|end| nanos <= *end).unwrap_or(ENDS.len());
        add(&self.counts.turns[place], 1);
        add(&self.counts.nanos, nanos);
    }
}

/// Turns of one worker. One thread writes them, so that no operation has to be atomic: a turn is counted for every
/// message or two. A histogram of `prometheus` takes three atomic ones for each.
#[derive(Debug, Default)]
struct TurnCounts {
    /// By length: up to each of [`ENDS`], and above.
    turns: [AtomicU64; ENDS.len() + 1],
    /// Length of all together.
    nanos: AtomicU64,
}

/// Adds to a count that no other thread writes.
fn add(count: &AtomicU64, more: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl TurnCounts {
    fn histogram(&self) -> Histogram {
        let mut below = 0;
        let mut buckets = Vec::new();
        for (place, count) in self.turns.iter().enumerate() {
            below += count.load(Ordering::Relaxed);
            if let Some(end) = ENDS.get(place) {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(seconds(*end));
                bucket.set_cumulative_count(below);
                buckets.push(bucket);
            }
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(below);
        histogram.set_sample_sum(seconds(self.nanos.load(Ordering::Relaxed)));
        histogram
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

/// The family of turns, by the worker's number.
#[derive(Clone, Debug)]
struct TurnsFamily {
    description: Desc,
    workers: Arc<Mutex<BTreeMap<usize, Arc<TurnCounts>>>>,
}

impl TurnsFamily {
    fn new() -> Self {
        let [name, help] = [NAME, HELP].map(str::to_owned);
        let description = Desc::new(name, help, vec![LABEL.to_owned()], HashMap::new());
        Self { description: description.expect(LEGAL), workers: Arc::default() }
    }

    fn of(&self, worker: usize) -> Arc<TurnCounts> {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(workers.entry(worker).or_default())
    }
}

impl Collector for TurnsFamily {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.description]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let metric = |(worker, counts): (&usize, &Arc<TurnCounts>)| {
            let mut label = LabelPair::default();
            label.set_name(LABEL.to_owned());
            label.set_value(worker.to_string());
            let mut metric = Metric::from_label(vec![label]);
            metric.set_histogram(counts.histogram());
            metric
        };
        let mut family = MetricFamily::default();
        family.set_name(NAME.to_owned());
        family.set_help(HELP.to_owned());
        family.set_field_type(MetricType::HISTOGRAM);
        family.set_metric(workers.iter().map(metric).collect());
        vec![family]
    }
}

const NAME: &str = "longhaul_worker_turn_seconds";
const HELP: &str = "Turns of a worker's loop, without the time it waits for something to do.";
const LABEL: &str = "worker";
const LEGAL: &str = "metric names and labels are constants that follow Prometheus's rules";
/// Ends of the buckets in nanoseconds: from 50 µs (a message or two) to 1 s (something blocks the worker).
const ENDS: [u64; 13] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    1_000_000_000,
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn turns_are_seen_at_once_each_in_the_bucket_of_its_length() {
        let metrics = WorkerMetrics::new();
        let (turns, began) = (metrics.count_turns(3), Instant::now());
        for micros in [0, 50, 51, 1_000_000, 2_000_000] {
            turns.observe(began, began + Duration::from_micros(micros));
        }
        // A clock that went back.
        turns.observe(began + Duration::from_secs(1), began);
        let seen = metrics.turns(3);
        assert_eq!((seen.get_sample_count(), seen.get_sample_sum()), (6, 3.000_101));
        let buckets: Vec<_> =
            seen.get_bucket().iter().map(|bucket| (bucket.upper_bound(), bucket.cumulative_count())).collect();
        assert_eq!((buckets[0], buckets[1], buckets[11], buckets[12]), ((5e-5, 3), (1e-4, 4), (0.25, 4), (1.0, 5)));
    }

    #[test]
    fn each_worker_has_a_histogram_of_its_own() {
        let metrics = WorkerMetrics::new();
        let registry = prometheus::Registry::new();
        metrics.collectors().into_iter().for_each(|family| registry.register(family).unwrap());
        let now = Instant::now();
        (0..2).for_each(|worker| metrics.count_turns(worker).observe(now, now));
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            "# TYPE longhaul_worker_turn_seconds histogram\n",
            "longhaul_worker_turn_seconds_bucket{worker=\"0\",le=\"0.00005\"} 1\n",
            "longhaul_worker_turn_seconds_bucket{worker=\"1\",le=\"+Inf\"} 1\n",
            "longhaul_worker_turn_seconds_count{worker=\"1\"} 1\n",
        ] {
            assert!(text.contains(line), "{line} in\n{text}");
        }
    }
}
