//! Handshakes in progress: counted while they last, and bounded.

use prometheus::IntGauge;

/// One handshake in progress, counted while it lives.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub(super) struct InProgress {
    gauge: IntGauge,
}

impl InProgress {
    /// Counts one handshake more; `None` when [`MOST`] are in progress.
    pub(super) fn begin(gauge: &IntGauge) -> Option<Self> {
        gauge.inc();
        // Counted first, so that two clients that ask at the same moment are not both accepted as the last one.
        let counted = Self { gauge: gauge.clone() };
        (gauge.get() <= MOST).then_some(counted)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// Most handshakes in progress. Each holds two descriptors and about 10 KiB, so that all together hold half of the
/// 65,536 descriptors that a service commonly has, and 160 MiB. At 10 ms each, 1.6 million clients a second can be
/// accepted.
const MOST: i64 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_is_refused_until_another_ends() {
        let gauge = IntGauge::new("handshakes", "In progress.").unwrap();
        let mut all: Vec<_> = (0..MOST).map(|_| InProgress::begin(&gauge).unwrap()).collect();
        assert!(InProgress::begin(&gauge).is_none());
        assert_eq!(gauge.get(), MOST);
        all.pop();
        assert!(InProgress::begin(&gauge).is_some());
        drop(all);
        assert_eq!(gauge.get(), 0);
    }
}
