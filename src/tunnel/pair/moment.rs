//! Moments in half the room of an [`Instant`].

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A moment within 292 years of the first that this process kept, to the nanosecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment(i64);

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let nanoseconds = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let first = *FIRST;
        Self(match at.checked_duration_since(first) {
            Some(after) => nanoseconds(after),
            None => -nanoseconds(first.duration_since(at)),
        })
    }
}

impl From<Moment> for Instant {
    fn from(Moment(from_first): Moment) -> Self {
        let distance = Duration::from_nanos(from_first.unsigned_abs());
        let at = if from_first < 0 { FIRST.checked_sub(distance) } else { FIRST.checked_add(distance) };
        // It came from an instant.
        at.unwrap_or(*FIRST)
    }
}

static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back_as_they_were() {
        let now = Instant::now();
        let distances = [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(400 * 86_400)];
        for distance in distances {
            // A machine may have started later.
            for at in [now.checked_add(distance), now.checked_sub(distance)].into_iter().flatten() {
                assert_eq!(Instant::from(Moment::from(at)), at);
            }
        }
    }
}
