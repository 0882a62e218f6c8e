//! Totals of the gateway: sums over upstreams and listeners, for whoever shows rates.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::{Metric, MetricFamily};
use serde::{Deserialize, Serialize};

use super::Metrics;

/// Counts since the process started, over all upstreams and listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Tunnels opened.
    pub opened: u64,
    /// Tunnels taken over from a predecessor.
    pub adopted: u64,
    /// Tunnels ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Tunnels ended, by who ended them and with which close code.
    pub close_codes: Vec<CloseCodes>,
    /// Messages passed on.
    pub messages: Directions,
    /// Bytes passed on.
    pub bytes: Directions,
    /// Plain HTTP requests answered, by the class of the status.
    pub requests: BTreeMap<String, u64>,
    /// Time from an upgrade request to the backend's 101.
    pub handshakes: Distribution,
    /// Handshakes in progress now.
    pub handshakes_in_progress: u64,
    /// Handshakes that were given their turn at a backend.
    pub admitted: u64,
    /// Time from a handshake's arrival to its turn.
    pub waits: Distribution,
    /// Clients that were not admitted to a backend, by reason.
    pub not_admitted: BTreeMap<String, u64>,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections that are open now and are no tunnel.
    pub connections: u64,
    /// Connections and requests refused, by reason.
    pub refused: BTreeMap<String, u64>,
}

/// Number of tunnels that one side ended with one close code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloseCodes {
    /// Party that ended them: `client`, `backend` or `gateway`.
    pub by: String,
    /// Close code, or the name of a range of codes.
    pub code: String,
    /// Number of tunnels.
    pub tunnels: u64,
}

/// Counts by direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directions {
    /// From clients to backends.
    pub to_backend: u64,
    /// From backends to clients.
    pub to_client: u64,
}

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Upper ends of the buckets in seconds, inclusive; what is longer than the last has a bucket of its own.
    pub bounds: Vec<f64>,
    /// Number of measurements in each bucket, one more than there are ends.
    pub counts: Vec<u64>,
    /// Sum of the measurements in seconds.
    pub sum_seconds: f64,
}

impl Metrics {
    /// The totals now.
    pub fn totals(&self) -> Totals {
        let (families, listeners) = (&self.families, &self.listeners);
        let positive = |gauge: i64| u64::try_from(gauge).unwrap_or(0);
        Totals {
            opened: sum(&families.tunnels.opened),
            adopted: sum(&families.tunnels.adopted),
            ended: by(&families.tunnels.ended, "reason"),
            close_codes: close_codes(&families.tunnels.close_codes),
            messages: directions(&families.tunnels.messages),
            bytes: directions(&families.tunnels.bytes),
            requests: by(&families.requests, "code"),
            handshakes: distribution(&families.handshake_seconds),
            handshakes_in_progress: positive(self.handshakes_in_progress.get()),
            admitted: sum(&families.admission.admitted),
            waits: distribution(&families.admission.wait_seconds),
            not_admitted: by(&families.admission.not_admitted, "reason"),
            accepted: sum(&listeners.accepted),
            connections: each(&listeners.open).map(|one| one.get_gauge().get_value().max(0.0) as u64).sum(),
            refused: by(&listeners.refused, "reason"),
        }
    }
}

fn each(family: &impl Collector) -> impl Iterator<Item = Metric> {
    family.collect().into_iter().flat_map(|mut family: MetricFamily| family.take_metric())
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

/// Value of a counter. Prometheus keeps counts as floating point numbers once they are collected.
fn count(metric: &Metric) -> u64 {
    metric.get_counter().get_value() as u64
}

fn sum(family: &impl Collector) -> u64 {
    each(family).map(|metric| count(&metric)).sum()
}

/// Sums by a label, without those that are 0.
fn by(family: &impl Collector, name: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for metric in each(family).filter(|metric| count(metric) > 0) {
        *sums.entry(label(&metric, name).to_owned()).or_insert(0) += count(&metric);
    }
    sums
}

fn close_codes(family: &impl Collector) -> Vec<CloseCodes> {
    let mut sums = BTreeMap::new();
    for metric in each(family) {
        let key = (label(&metric, "by").to_owned(), label(&metric, "code").to_owned());
        *sums.entry(key).or_insert(0) += count(&metric);
    }
    sums.into_iter().map(|((by, code), tunnels)| CloseCodes { by, code, tunnels }).collect()
}

fn directions(family: &impl Collector) -> Directions {
    let sums = by(family, "direction");
    let of = |direction| sums.get(direction).copied().unwrap_or(0);
    Directions { to_backend: of("to_backend"), to_client: of("to_client") }
}

fn distribution(family: &impl Collector) -> Distribution {
    let mut all = Distribution::default();
    for metric in each(family) {
        let histogram = metric.get_histogram();
        let ends: Vec<_> = histogram.get_bucket().iter().filter(|bucket| bucket.upper_bound().is_finite()).collect();
        if all.bounds.is_empty() {
            all.bounds = ends.iter().map(|bucket| bucket.upper_bound()).collect();
            all.counts = vec![0; ends.len() + 1];
        }
        // Buckets of Prometheus count everything below their end.
        let below = ends.iter().map(|bucket| bucket.cumulative_count()).chain([histogram.get_sample_count()]);
        let mut before = 0;
        for (total, below) in all.counts.iter_mut().zip(below) {
            *total += below.saturating_sub(before);
            before = below;
        }
        all.sum_seconds += histogram.get_sample_sum();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_are_summed() {
        let metrics = Metrics::new();
        for name in ["a", "b"] {
            let upstream = metrics.upstream(name);
            upstream.opened.inc();
            upstream.ended("client_close", "client", 1000);
            upstream.ended("shutdown", "gateway", 1012);
            upstream.handshake_seconds.observe(0.003);
            upstream.handshake_seconds.observe(1_000.0);
        }
        let totals = metrics.totals();
        assert_eq!((totals.opened, totals.adopted), (2, 0));
        assert_eq!(totals.ended, BTreeMap::from([("client_close".to_owned(), 2), ("shutdown".to_owned(), 2)]));
        let codes: Vec<_> = totals.close_codes.iter().map(|one| (&*one.by, &*one.code, one.tunnels)).collect();
        assert_eq!(codes, [("client", "1000", 2), ("gateway", "1012", 2)]);
        let Distribution { bounds, counts, sum_seconds } = totals.handshakes;
        assert_eq!(counts.len(), bounds.len() + 1);
        let place = bounds.iter().position(|end| *end >= 0.003).unwrap();
        assert_eq!((counts[place], counts[bounds.len()], counts.iter().sum::<u64>()), (2, 2, 4));
        assert!((sum_seconds - 2_000.006).abs() < 1e-6);
    }
}
