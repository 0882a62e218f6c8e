//! Rates of tunnels: bytes that were counted at two looks, and the time between the looks.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::tunnel::Seen;
use crate::ws::Sides;

/// Bytes a second, by the side they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// From the client.
    pub from_client: u64,
    /// From the backend.
    pub from_backend: u64,
}

impl Rates {
    /// Both ways together.
    pub(super) fn total(self) -> u64 {
        self.from_client.saturating_add(self.from_backend)
    }
}

/// Bytes of a tunnel at one look.
#[derive(Clone, Copy, Debug)]
pub(super) struct CountedBytes {
    bytes: Sides<u64>,
    at: Instant,
}

impl CountedBytes {
    pub(super) fn of(seen: &Seen<'_>) -> Self {
        Self::new(&seen.passed(), seen.now)
    }

    /// Bytes of a tunnel by which so many bytes and messages had passed.
    pub(super) fn new(passed: &Sides<(u64, u64)>, at: Instant) -> Self {
        let [(client, _), (backend, _)] = passed.each_ref().into_array();
        Self { bytes: Sides::new(*client, *backend), at }
    }

    pub(super) fn since(&self, before: &Self) -> Rates {
        let time = self.at.saturating_duration_since(before.at).as_secs_f64().max(f64::EPSILON);
        let [client, backend] = self.bytes.into_array();
        let [client_before, backend_before] = before.bytes.into_array();
        let rate = |bytes: u64, before: u64| (bytes.saturating_sub(before) as f64 / time).round() as u64;
        Rates { from_client: rate(client, client_before), from_backend: rate(backend, backend_before) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rate_is_of_the_time_between_two_looks() {
        let at = Instant::now();
        let before = CountedBytes::new(&Sides::new((100, 1), (1_000, 1)), at);
        let after = CountedBytes::new(&Sides::new((300, 2), (500, 2)), at + Duration::from_secs(2));
        // Counts never fall; one that does is no reason to stop.
        assert_eq!(after.since(&before), Rates { from_client: 100, from_backend: 0 });
    }
}
