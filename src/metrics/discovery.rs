//! Counts of the sources of members.

use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Opts};

use super::Metrics;

/// Counts of the sources of members, by upstream and source.
#[derive(Debug)]
pub struct DiscoveryMetrics {
    members: IntGaugeVec,
    updates: IntCounterVec,
    errors: IntCounterVec,
    /// Age of each source's last good answer; to be set when it is collected, and not in the registry by itself.
    pub age: GaugeVec,
}

impl DiscoveryMetrics {
    /// Adds the families to the gateway's, but for `age`.
    pub fn register(metrics: &Metrics) -> Self {
        let labels = &["upstream", "source"];
        let legal = "metric names and labels are constants that follow Prometheus's rules";
        let members = Opts::new("longhaul_discovery_members", "Members of upstreams whose members are discovered.");
        let updates = Opts::new("longhaul_discovery_updates_total", "Answers of sources that changed members.");
        let errors = Opts::new("longhaul_discovery_errors_total", "Times that a source was of no use.");
        let age = Opts::new("longhaul_discovery_age_seconds", "Time since the last good answer of a source.");
        let discovery = Self {
            members: IntGaugeVec::new(members, labels).expect(legal),
            updates: IntCounterVec::new(updates, labels).expect(legal),
            errors: IntCounterVec::new(errors, labels).expect(legal),
            age: GaugeVec::new(age, labels).expect(legal),
        };
        metrics.include(Box::new(discovery.members.clone()));
        metrics.include(Box::new(discovery.updates.clone()));
        metrics.include(Box::new(discovery.errors.clone()));
        discovery
    }

    /// Shows a source that begins, with what is known of its members.
    pub fn begin(&self, labels: [&str; 2], members: usize) {
        self.members.with_label_values(&labels).set(as_i64(members));
        self.updates.with_label_values(&labels);
        self.errors.with_label_values(&labels);
    }

    /// Counts an answer that changed the members.
    pub fn updated(&self, labels: [&str; 2], members: usize) {
        self.members.with_label_values(&labels).set(as_i64(members));
        self.updates.with_label_values(&labels).inc();
    }

    /// Counts an answer that was of no use, or none where one was due.
    pub fn failed(&self, labels: [&str; 2]) {
        self.errors.with_label_values(&labels).inc();
    }

    /// Number of times that a source was of no use.
    pub fn errors(&self, labels: [&str; 2]) -> u64 {
        self.errors.with_label_values(&labels).get()
    }

    /// Takes a source away that has ended.
    pub fn forget(&self, labels: [&str; 2]) {
        // A child that was never shown is none to be removed.
        let _ = self.members.remove_label_values(&labels);
    }
}

fn as_i64(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
