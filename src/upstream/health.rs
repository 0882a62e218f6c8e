//! The health rules: when a backend counts as down, when as up again, and when as ejected.
//!
//! A backend starts as up. Three books are kept about it. *Checks*: the first one decides at once, and after it `fall`
//! failures in a row take the backend down. *Connects* of traffic: `fall` failures in a row take it down too, because
//! no client can cause them. *Doubt*: failures after the request was sent may eject it for a time (see [`Doubt`]). Only
//! checks bring back a backend that is down, `rise` of them in a row, and only a request on trial ends an ejection.

use std::time::{Duration, Instant};

use super::{Doubt, FailedRequest};
use crate::config;

/// Number of results in a row that decide.
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

/// A turn of a backend's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// The backend was down and is up.
    Up {
        /// Text given with the result that decided.
        reason: String,
    },
    /// The backend was up and is down.
    Down {
        /// Text given with the result that decided.
        reason: String,
        /// The book that decided.
        by: DownBy,
    },
    /// The backend was down by its connects, and checks now say the same.
    Confirmed {
        /// Text given with the result that decided.
        reason: String,
    },
    /// The backend is ejected.
    Ejected {
        /// Text given with the failure that decided.
        reason: String,
        /// Time until a request goes to it on trial.
        length: Duration,
    },
    /// The backend was ejected and answered a request as it should.
    Returned,
}

/// The book that took a backend down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownBy {
    /// Checks.
    Checks,
    /// Connects of traffic.
    Connects,
}

/// Everything known of one backend's health. Pure: results go in, changes come out.
#[derive(Debug, Default)]
pub struct HealthState {
    checks: Checks,
    connects: Connects,
    /// Doubt about the backend.
    pub doubt: Doubt,
}

#[derive(Debug, Default)]
struct Checks {
    down: bool,
    any: bool,
    /// In a row.
    failures: u32,
    /// In a row, while the backend is down.
    passes: u32,
}

#[derive(Debug, Default)]
struct Connects {
    down: bool,
    /// In a row, while the backend is up.
    failures: u32,
}

impl HealthState {
    /// True when the backend counts as up; an ejected one does.
    pub fn is_up(&self) -> bool {
        !self.checks.down && !self.connects.down
    }

    /// True when a success of traffic would change anything.
    pub fn is_doubted(&self) -> bool {
        self.connects.failures > 0 || self.doubt.is_any()
    }

    /// Notes a check that passed.
    pub fn check_passed(&mut self, thresholds: Thresholds, reason: &str, now: Instant) -> Option<HealthChange> {
        self.checks.any = true;
        self.checks.failures = 0;
        if self.is_up() {
            self.doubt.check_passed(now);
            return None;
        }
        self.checks.passes = self.checks.passes.saturating_add(1);
        if self.checks.passes < thresholds.rise {
            return None;
        }
        // Older results are about a backend that has been down since.
        *self = Self { checks: Checks { any: true, ..Checks::default() }, ..Self::default() };
        Some(HealthChange::Up { reason: reason.to_owned() })
    }

    /// Notes a check that failed. The first one of a backend takes it down at once, whatever `fall` says.
    pub fn check_failed(&mut self, thresholds: Thresholds, reason: &str) -> Option<HealthChange> {
        let first = !std::mem::replace(&mut self.checks.any, true);
        self.checks.passes = 0;
        if self.checks.down {
            return None;
        }
        self.checks.failures = self.checks.failures.saturating_add(1);
        if !first && self.checks.failures < thresholds.fall {
            return None;
        }
        self.checks.down = true;
        let reason = reason.to_owned();
        match self.connects.down {
            true => Some(HealthChange::Confirmed { reason }),
            false => Some(HealthChange::Down { reason, by: DownBy::Checks }),
        }
    }

    /// Notes that traffic could not connect. While the backend is down it changes nothing.
    pub fn connect_failed(&mut self, thresholds: Thresholds, reason: &str) -> Option<HealthChange> {
        if !self.is_up() {
            return None;
        }
        self.connects.failures = self.connects.failures.saturating_add(1);
        if self.connects.failures < thresholds.fall {
            return None;
        }
        self.connects = Connects { down: true, failures: 0 };
        self.checks.passes = 0;
        Some(HealthChange::Down { reason: reason.to_owned(), by: DownBy::Connects })
    }

    /// Notes that traffic was connected. The request may yet fail.
    pub fn connected(&mut self) {
        self.connects.failures = 0;
    }

    /// Notes that a request failed after it was sent. True where that is evidence enough to eject the backend; see
    /// [`Doubt::failed`]. While the backend is down it changes nothing.
    pub fn request_failed(&mut self, request: FailedRequest, alone: bool, fall: u32, now: Instant) -> bool {
        self.connected();
        self.is_up() && self.doubt.failed(request, alone, fall.max(1), now)
    }

    /// Ejects the backend.
    pub fn eject(&mut self, reason: &str, now: Instant) -> HealthChange {
        HealthChange::Ejected { reason: reason.to_owned(), length: self.doubt.eject(now) }
    }

    /// Notes a request of traffic that was answered as it should be.
    pub fn traffic_succeeded(&mut self, now: Instant) -> Option<HealthChange> {
        self.connected();
        self.doubt.succeeded(now).then_some(HealthChange::Returned)
    }
}

#[cfg(test)]
mod tests;
