//! Counters of one hook.

use prometheus::IntCounterVec;

/// The counters of one hook, by its name in the configuration.
#[derive(Debug)]
pub struct HookMetrics {
    hook: String,
    failures: IntCounterVec,
    verdicts: IntCounterVec,
}

impl HookMetrics {
    pub(super) fn new(hook: &str, failures: &IntCounterVec, verdicts: &IntCounterVec) -> Self {
        Self { hook: hook.to_owned(), failures: failures.clone(), verdicts: verdicts.clone() }
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
