//! Numbered messages of one client: which came back once and in order, and which did not.

use std::collections::BTreeMap;
use std::time::Instant;

/// Messages of one client, numbered from 0, each of which is to come back once.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Number of the next message.
    next: u64,
    /// Number that is to come back next.
    expected: u64,
    /// Messages that have not come back, with the moment at which they were sent.
    away: BTreeMap<u64, Instant>,
    /// Messages that came back after a later one.
    pub(super) reordered: u64,
    /// Messages that came back twice, or that were never sent.
    pub(super) doubled: u64,
}

impl Numbers {
    /// Number of a message that is sent now.
    pub(super) fn send(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.away.insert(number, now);
        number
    }

    /// Notes a message that came back; the moment at which it was sent, if it was awaited.
    pub(super) fn come(&mut self, number: u64) -> Option<Instant> {
        let sent = self.away.remove(&number);
        match sent {
            None => self.doubled += 1,
            Some(_) if number < self.expected => self.reordered += 1,
            Some(_) => self.expected = number + 1,
        }
        sent
    }

    /// Messages that have not come back.
    pub(super) fn away(&self) -> u64 {
        self.away.len() as u64
    }

    /// Messages so far.
    pub(super) fn sent(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_doubled_and_reordered_messages_are_told_apart() {
        let now = Instant::now();
        let mut numbers = Numbers::default();
        let sent: Vec<u64> = (0..6).map(|_| numbers.send(now)).collect();
        assert_eq!(sent, [0, 1, 2, 3, 4, 5]);
        for number in [0, 2, 1, 2, 4, 9] {
            numbers.come(number);
        }
        assert_eq!((numbers.reordered, numbers.doubled, numbers.away(), numbers.sent()), (1, 2, 2, 6));
    }
}
