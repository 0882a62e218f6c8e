//! Counters of TLS at the listeners.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::families::{SECONDS, add, counters};
use crate::tls::HandshakeFailure;

/// Counters of TLS at the listeners.
pub struct TlsMetrics {
    handshakes: IntCounterVec,
    failures: IntCounterVec,
    seconds: Histogram,
    reloads: IntCounterVec,
    expiry: IntGaugeVec,
}

impl TlsMetrics {
    pub(super) fn register(registry: &Registry) -> Self {
        let expiry = Opts::new(
            "longhaul_certificate_expiry_timestamp_seconds",
            "When a certificate in use expires; the label is the first name that it is for.",
        );
        let metrics = Self {
            handshakes: counters(
                registry,
                "longhaul_tls_handshakes_total",
                "TLS handshakes of clients that succeeded.",
                &["protocol", "kind"],
            ),
            failures: counters(
                registry,
                "longhaul_tls_handshake_failures_total",
                "TLS handshakes of clients that failed.",
                &["failure"],
            ),
            seconds: add(
                registry,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "longhaul_tls_handshake_duration_seconds",
                        "From the beginning of a client's TLS handshake to its end, of those that succeeded.",
                    )
                    .buckets(SECONDS.to_vec()),
                ),
            ),
            reloads: counters(
                registry,
                "longhaul_tls_file_reloads_total",
                "Files of certificates, keys and authorities that were read again, by their outcome.",
                &["outcome"],
            ),
            expiry: add(registry, IntGaugeVec::new(expiry, &["name"])),
        };
        for failure in HandshakeFailure::ALL {
            metrics.failures.with_label_values(&[failure.as_str()]);
        }
        for protocol in PROTOCOLS {
            for kind in [FULL, RESUMED] {
                metrics.handshakes.with_label_values(&[protocol, kind]);
            }
        }
        for outcome in [DONE, FAILED] {
            metrics.reloads.with_label_values(&[outcome]);
        }
        metrics
    }

    /// Counts a handshake that succeeded, by its version (`TLSv1.3`), and the time that it took.
    pub fn shaken(&self, version: &'static str, resumed: bool, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        self.handshakes.with_label_values(&[version, if resumed { RESUMED } else { FULL }]).inc();
    }

    /// Counts a handshake that failed.
    pub fn failed(&self, failure: HandshakeFailure) {
        self.failures.with_label_values(&[failure.as_str()]).inc();
    }

    /// Counts files that were read again: `renewed` took force, `failed` did not.
    pub fn files_read(&self, renewed: usize, failed: usize) {
        self.reloads.with_label_values(&[DONE]).inc_by(renewed as u64);
        self.reloads.with_label_values(&[FAILED]).inc_by(failed as u64);
    }

    /// Sets the ends of the certificates in use, in seconds since 1970: of several of one name the earliest.
    pub fn certificates(&self, ends: impl Iterator<Item = (String, u64)>) {
        self.expiry.reset();
        for (name, end) in ends {
            let gauge = self.expiry.with_label_values(&[&name]);
            let (end, before) = (end.cast_signed(), gauge.get());
            gauge.set(if before == 0 { end } else { before.min(end) });
        }
    }
}

const PROTOCOLS: [&str; 2] = ["TLSv1.2", "TLSv1.3"];
const FULL: &str = "full";
const RESUMED: &str = "resumed";
const DONE: &str = "done";
const FAILED: &str = "failed";
