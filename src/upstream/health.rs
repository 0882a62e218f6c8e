//! The health rules: when a backend counts as down, and when as up again.
//!
//! A backend starts as up. The first check decides at once; after it `fall` failures in a row take it down, of checks
//! or of real traffic. The two are counted apart: a check that only connects passes on a backend whose every handshake
//! fails, and must not make those failures forgotten. Only checks bring a backend back, `rise` of them in a row.

use crate::config;

/// How many results in a row decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Checks that must pass before a backend that is down counts as up; 0 counts as 1.
    pub rise: u32,
    /// Failures that take a backend down; 0 counts as 1.
    pub fall: u32,
}

impl From<&config::Health> for Thresholds {
    fn from(health: &config::Health) -> Self {
        Self { rise: health.rise, fall: health.fall }
    }
}

/// A backend's health turned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was down and is up.
    Up {
        /// As given with the result that decided.
        reason: String,
    },
    /// It was up and is down.
    Down {
        /// As given with the result that decided.
        reason: String,
    },
}

/// What is known of one backend's health. Pure: results go in, changes come out.
#[derive(Debug)]
pub struct HealthState {
    up: bool,
    checked: bool,
    /// Of checks, in a row, while up.
    check_failures: u32,
    /// Of checks, in a row, while down.
    check_passes: u32,
    /// Of real traffic, in a row, while up.
    traffic_failures: u32,
}

impl Default for HealthState {
    fn default() -> Self {
        Self { up: true, checked: false, check_failures: 0, check_passes: 0, traffic_failures: 0 }
    }
}

impl HealthState {
    /// Whether the backend counts as up.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Whether real traffic has failed since it last succeeded, the backend still being up.
    pub fn is_doubted(&self) -> bool {
        self.traffic_failures > 0
    }

    /// A check passed. Failures of real traffic stay counted, unless this brings the backend up.
    pub fn check_passed(&mut self, thresholds: Thresholds, reason: &str) -> Option<Change> {
        self.checked = true;
        self.check_failures = 0;
        if self.up {
            return None;
        }
        self.check_passes = self.check_passes.saturating_add(1);
        if self.check_passes < thresholds.rise {
            return None;
        }
        *self = Self { checked: true, ..Self::default() };
        Some(Change::Up { reason: reason.to_owned() })
    }

    /// A check failed. The first one of a backend takes it down at once, whatever `fall` says.
    pub fn check_failed(&mut self, thresholds: Thresholds, reason: &str) -> Option<Change> {
        let first = !std::mem::replace(&mut self.checked, true);
        self.check_passes = 0;
        if !self.up {
            return None;
        }
        self.check_failures = self.check_failures.saturating_add(1);
        (first || self.check_failures >= thresholds.fall).then(|| self.take_down(reason))
    }

    /// Real traffic reached the backend and was answered as it should be.
    pub fn traffic_succeeded(&mut self) {
        self.traffic_failures = 0;
    }

    /// Real traffic failed by the backend's fault. While down it changes nothing.
    pub fn traffic_failed(&mut self, thresholds: Thresholds, reason: &str) -> Option<Change> {
        if !self.up {
            return None;
        }
        self.traffic_failures = self.traffic_failures.saturating_add(1);
        (self.traffic_failures >= thresholds.fall).then(|| self.take_down(reason))
    }

    fn take_down(&mut self, reason: &str) -> Change {
        *self = Self { up: false, checked: self.checked, ..Self::default() };
        Change::Down { reason: reason.to_owned() }
    }
}

#[cfg(test)]
mod tests;
