//! The door of a backend that takes one handshake at a time: each takes a while, and so many may wait for theirs.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Handshakes that wait for their turn, by the connection and its serial number: the place of a connection that has
/// ended may be another's.
pub(super) struct Door {
    each: Duration,
    most: usize,
    waiting: VecDeque<(usize, u64)>,
    /// End of the handshake at work.
    free: Instant,
}

impl Door {
    /// A door at which a handshake takes `each`, and at most `most` wait.
    pub(super) fn new(each: Duration, most: usize, now: Instant) -> Self {
        Self { each, most, waiting: VecDeque::new(), free: now }
    }

    /// A handshake comes. False where it is turned away.
    pub(super) fn come(&mut self, connection: (usize, u64), now: Instant) -> bool {
        if self.waiting.len() >= self.most {
            return false;
        }
        if self.waiting.is_empty() {
            self.free = self.free.max(now) + self.each;
        }
        self.waiting.push_back(connection);
        true
    }

    /// The next handshake that is done by `now`. One whose client has left takes its time all the same.
    pub(super) fn done(&mut self, now: Instant) -> Option<(usize, u64)> {
        if self.waiting.is_empty() || self.free > now {
            return None;
        }
        let done = self.waiting.pop_front();
        if !self.waiting.is_empty() {
            self.free += self.each;
        }
        done
    }

    /// Time until the next handshake is done; `None` while there is none.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        (!self.waiting.is_empty()).then(|| self.free.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_taken_at_a_time_and_too_many_are_turned_away() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut door = Door::new(Duration::from_millis(2), 3, start);
        let came: Vec<_> = (0..4).map(|n| door.come((n, 7), start)).collect();
        assert_eq!(came, [true, true, true, false]);
        assert_eq!((door.done(after(1)), door.done(after(2)), door.done(after(3))), (None, Some((0, 7)), None));
        assert_eq!((door.done(after(9)), door.done(after(9)), door.done(after(9))), (Some((1, 7)), Some((2, 7)), None));
        assert!(door.come((4, 8), after(20)));
        assert_eq!(door.next(after(20)), Some(Duration::from_millis(2)));
    }
}
