//! Answers to connections that are refused: how many may be given, because an answer costs what the refusal saves.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bounds of the answers to connections that are refused.
#[derive(Debug)]
pub(super) struct RefusalAnswers {
    under_way: AtomicUsize,
    /// Most at once: each holds a descriptor.
    most: usize,
    /// Moment at which the next one is due at an even pace.
    due: Mutex<Instant>,
}

impl RefusalAnswers {
    /// At most half of `descriptors` at once: the others are for connections to backends.
    pub(super) fn new(descriptors: usize, now: Instant) -> Self {
        let most = (descriptors / 2).max(LEAST_AT_ONCE);
        Self { under_way: AtomicUsize::new(0), most, due: Mutex::new(now) }
    }

    /// Counts one more as under way, unless there are too many, or too many were given a moment ago.
    pub(super) fn begin(&self, now: Instant) -> bool {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let next = (*due).max(now) + INTERVAL;
        if next - now > BURST || self.under_way.load(Ordering::Relaxed) >= self.most {
            return false;
        }
        *due = next;
        // Under the lock, so that two who ask at the same moment are not both the last.
        self.under_way.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Counts one less.
    pub(super) fn end(&self) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

const LEAST_AT_ONCE: usize = 2;
/// A hundred a second: with a full TLS handshake for each, a fifth of a core.
const INTERVAL: Duration = Duration::from_millis(10);
/// A hundred may come at once.
const BURST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_at_once_and_in_a_second() {
        let now = Instant::now();
        let answers = RefusalAnswers::new(12, now);
        assert_eq!((0..20).filter(|_| answers.begin(now)).count(), 6, "half of the descriptors at once");
        answers.end();
        assert!(answers.begin(now));
        let answers = RefusalAnswers::new(10_000, now);
        let given = (0..1_000)
            .filter(|_| {
                answers.begin(now) && {
                    answers.end();
                    true
                }
            })
            .count();
        assert_eq!(given, 100);
        assert!(!answers.begin(now + Duration::from_millis(9)));
        assert!(answers.begin(now + Duration::from_millis(10)));
    }
}
