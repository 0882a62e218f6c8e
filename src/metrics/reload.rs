//! Metrics of reloads.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, IntGauge, Registry};

use super::families::{add, counters};

/// Outcome of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReloadOutcome {
    /// Everything in the file is in force.
    Done,
    /// Keys that need an upgrade kept their values; the rest is in force.
    Partly,
    /// The file was refused, and nothing changed.
    Failed,
}

impl ReloadOutcome {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Done, Self::Partly, Self::Failed];

    /// The `outcome` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partly => "partly",
            Self::Failed => "failed",
        }
    }
}

/// Counts of reloads, and the last one.
pub(super) struct ReloadMetrics {
    reloads: IntCounterVec,
    last_succeeded: IntGauge,
    last_seconds: IntGauge,
}

impl ReloadMetrics {
    /// Every outcome is there from the start, so that a rate can be taken of the first reload.
    pub(super) fn register(registry: &Registry) -> Self {
        let gauge = |name, help| add(registry, IntGauge::new(name, help));
        let metrics = Self {
            reloads: counters(registry, "longhaul_reloads_total", "Reloads, by their outcome.", &["outcome"]),
            last_succeeded: gauge("longhaul_last_reload_succeeded", "1 unless the last reload was refused."),
            last_seconds: gauge("longhaul_last_reload_timestamp_seconds", "When the last reload ended; 0 before any."),
        };
        for outcome in ReloadOutcome::ALL {
            metrics.reloads.with_label_values(&[outcome.as_str()]);
        }
        metrics.last_succeeded.set(1);
        metrics
    }

    pub(super) fn ended(&self, outcome: ReloadOutcome, at: SystemTime) {
        self.reloads.with_label_values(&[outcome.as_str()]).inc();
        self.last_succeeded.set(i64::from(outcome != ReloadOutcome::Failed));
        let seconds = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.last_seconds.set(seconds.cast_signed());
    }
}
