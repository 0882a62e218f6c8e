//! Counters of hooks.

use prometheus::{IntCounterVec, Registry};

use super::families::counters;

/// The counters of one hook, by its name in the configuration.
#[derive(Debug)]
pub struct HookMetrics {
    hook: String,
    failures: IntCounterVec,
    verdicts: IntCounterVec,
}

/// The counters of all hooks.
pub(super) struct HookFamilies {
    failures: IntCounterVec,
    verdicts: IntCounterVec,
}

impl HookFamilies {
    pub(super) fn register(registry: &Registry) -> Self {
        Self {
            failures: counters(
                registry,
                "longhaul_hook_failures_total",
                "Calls of hooks that failed.",
                &["hook", "phase", "cause"],
            ),
            verdicts: counters(
                registry,
                "longhaul_hook_verdicts_total",
                "Calls by which hooks changed the course of a request or message.",
                &["hook", "phase", "verdict"],
            ),
        }
    }
}

impl HookMetrics {
    pub(super) fn new(hook: &str, families: &HookFamilies) -> Self {
        Self { hook: hook.to_owned(), failures: families.failures.clone(), verdicts: families.verdicts.clone() }
    }

    /// Counts a call that failed; `cause` is `error`, `panic` or `timeout`.
    pub fn failure(&self, phase: &'static str, cause: &'static str) {
        self.failures.with_label_values(&[self.hook.as_str(), phase, cause]).inc();
    }

    /// Counts a call by which the hook changed the course of things: `answer`, `veto`, `replace`, `drop`, `reply`,
    /// `close`.
    pub fn verdict(&self, phase: &'static str, verdict: &'static str) {
        self.verdicts.with_label_values(&[self.hook.as_str(), phase, verdict]).inc();
    }
}
