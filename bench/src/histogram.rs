//! A histogram of durations with buckets at most 1.6 % wide, and its quantiles.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A histogram of durations, from a nanosecond to centuries, of fixed size.
#[derive(Clone, Serialize, Deserialize)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; (64 - SUB_BITS as usize + 1) << SUB_BITS], count: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanoseconds)] += 1;
        self.count += 1;
    }

    /// Adds all durations of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
    }

    /// Number of durations.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The duration that the share `part` (0 to 1) of all does not exceed, up to a bucket's width; zero when there is
    /// none.
    pub fn quantile(&self, part: f64) -> Duration {
        let rank = ((self.count as f64 * part).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(index));
            }
        }
        Duration::ZERO
    }
}

/// Each power of two has 2^6 buckets.
const SUB_BITS: u32 = 6;

fn bucket(value: u64) -> usize {
    if value < 1 << SUB_BITS {
        return value as usize;
    }
    let power = value.ilog2() - SUB_BITS;
    ((power as usize + 1) << SUB_BITS) + ((value >> power) as usize - (1 << SUB_BITS))
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let row = index >> SUB_BITS;
    if row == 0 {
        return index as u64;
    }
    let power = row as u32 - 1;
    let lower = (((index & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS)) as u64) << power;
    lower + ((1_u64 << power) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_at_most_a_sixty_fourth_wide() {
        for value in [0, 1, 63, 64, 65, 127, 128, 1_000, 123_456_789, u64::MAX - 1, u64::MAX] {
            let top = upper(bucket(value));
            assert!(top >= value && top - value <= value / 64, "{value}: {top}");
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_values() {
        let mut histogram = Histogram::default();
        for value in 1..=1_000 {
            histogram.record(Duration::from_micros(value));
        }
        for (part, wanted) in [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1000.0)] {
            let found = histogram.quantile(part).as_secs_f64() * 1e6;
            assert!((found / wanted - 1.0).abs() < 0.016, "{part}: {found}");
        }
    }

    #[test]
    fn two_histograms_make_one() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        (1..=500).for_each(|value| low.record(Duration::from_micros(value)));
        (501..=1_000).for_each(|value| high.record(Duration::from_micros(value)));
        low.add(&high);
        assert_eq!(low.count(), 1_000);
        assert!((low.quantile(0.99).as_secs_f64() / 990e-6 - 1.0).abs() < 0.016);
    }

    #[test]
    fn nothing_counted_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(0.99), Duration::ZERO);
    }
}
