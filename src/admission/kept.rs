//! Bytes that are kept for one client, counted while they are.

use prometheus::IntGauge;

/// The bytes that are kept for one client; they count in `longhaul_kept_bytes` as long as this lives.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct KeptBytes {
    gauge: IntGauge,
    bytes: usize,
}

impl KeptBytes {
    /// Nothing is kept yet.
    pub(super) fn nothing(gauge: &IntGauge) -> Self {
        Self { gauge: gauge.clone(), bytes: 0 }
    }

    /// Sets how many bytes are kept now.
    pub fn set(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        if bytes != before {
            // Buffers are far below 2^63.
            self.gauge.add(bytes as i64 - before as i64);
        }
    }
}

impl Drop for KeptBytes {
    fn drop(&mut self) {
        self.set(0);
    }
}
