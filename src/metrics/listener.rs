//! Counters of one listener.

use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};

use super::LocalFailure;

/// The counters of one listener, by its address in the configuration.
#[derive(Clone, Debug)]
pub struct ListenerMetrics {
    address: String,
    accepted: IntCounter,
    accept_seconds: Histogram,
    open: IntGauge,
    refused: IntCounterVec,
    accept_errors: IntCounterVec,
}

/// The families that listeners have their counters in.
#[derive(Clone, Debug)]
pub(super) struct ListenerFamilies {
    pub(super) accepted: IntCounterVec,
    pub(super) accept_seconds: HistogramVec,
    pub(super) open: prometheus::IntGaugeVec,
    pub(super) refused: IntCounterVec,
    pub(super) accept_errors: IntCounterVec,
}

/// Why no connection could be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptError {
    /// A shortage of the gateway's own.
    Local(LocalFailure),
    /// The descriptors that are left are kept for control, metrics and checks.
    Kept,
    /// The client was gone before it was accepted.
    Aborted,
    /// Any other error of the system's.
    Other,
}

impl AcceptError {
    /// Every value.
    fn all() -> impl Iterator<Item = Self> {
        LocalFailure::ALL.into_iter().map(Self::Local).chain([Self::Kept, Self::Aborted, Self::Other])
    }

    /// The `kind` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local(failure) => failure.as_str(),
            Self::Kept => "kept",
            Self::Aborted => "aborted",
            Self::Other => "other",
        }
    }
}

impl ListenerMetrics {
    pub(super) fn new(address: &str, families: &ListenerFamilies) -> Self {
        for error in AcceptError::all() {
            families.accept_errors.with_label_values(&[address, error.as_str()]);
        }
        Self {
            address: address.to_owned(),
            accepted: families.accepted.with_label_values(&[address]),
            accept_seconds: families.accept_seconds.with_label_values(&[address]),
            open: families.open.with_label_values(&[address]),
            refused: families.refused.clone(),
            accept_errors: families.accept_errors.clone(),
        }
    }

    /// Counts a connection as accepted, and as open for as long as the guard lives.
    pub fn accepted(&self) -> OpenConnection {
        self.accepted.inc();
        self.open.inc();
        OpenConnection { gauge: self.open.clone() }
    }

    /// Counts the first head of a connection that was accepted so long ago.
    pub fn first_head(&self, after: Duration) {
        self.accept_seconds.observe(after.as_secs_f64());
    }

    /// Counts a connection or a request that is refused; `reason` is one of a fixed list.
    pub fn refused(&self, reason: &'static str) {
        self.refused.with_label_values(&[self.address.as_str(), reason]).inc();
    }

    /// Counts a connection that could not be accepted.
    pub fn accept_failed(&self, error: AcceptError) {
        self.accept_errors.with_label_values(&[self.address.as_str(), error.as_str()]).inc();
    }
}

/// A client's connection, counted as open while this lives.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct OpenConnection {
    gauge: IntGauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}
