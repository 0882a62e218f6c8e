//! Handshakes that are ready to be carried on, in two lines.

use std::collections::VecDeque;

/// Handshakes at which something happened.
///
/// Handshakes that take a backend's time come first. When a client's turn at a backend has come and is used late, the
/// turns of the next clients have come, too, and the backend gets all of them at once. Clients that only arrive have to
/// wait in any case.
#[derive(Default)]
pub(super) struct ReadyHandshakes {
    /// Its turn at a backend has come, a backend has answered, or a limit in time has passed.
    at_backends: VecDeque<usize>,
    /// A client has connected, or has sent something.
    arriving: VecDeque<usize>,
}

impl ReadyHandshakes {
    /// Adds a handshake that takes a backend's time, behind the others of that kind.
    pub(super) fn at_backend(&mut self, slot: usize) {
        self.at_backends.push_back(slot);
    }

    /// Adds a handshake whose client arrives, behind all others.
    pub(super) fn arriving(&mut self, slot: usize) {
        self.arriving.push_back(slot);
    }

    /// Takes the next one.
    pub(super) fn next(&mut self) -> Option<usize> {
        self.at_backends.pop_front().or_else(|| self.arriving.pop_front())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at_backends.is_empty() && self.arriving.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_at_backends_are_used_before_clients_are_heard_and_each_line_keeps_its_order() {
        let mut ready = ReadyHandshakes::default();
        assert!(ready.is_empty() && ready.next().is_none());
        ready.arriving(1);
        ready.at_backend(2);
        ready.arriving(3);
        ready.at_backend(4);
        let order: Vec<_> = std::iter::from_fn(|| ready.next()).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert!(ready.is_empty());
    }
}
