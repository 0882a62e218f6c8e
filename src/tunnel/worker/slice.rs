//! Slices: a worker that has many tunnels to look at sees to the others between two of them.

use std::time::{Duration, Instant};

/// A slice of a worker's time for many tunnels one after the other.
pub(super) struct Slice {
    begun: Instant,
    tunnels: u32,
}

impl Slice {
    /// Begins a slice. The turn may have begun a while ago.
    pub(super) fn begin() -> Self {
        Self { begun: Instant::now(), tunnels: 0 }
    }

    /// Counts a tunnel that was looked at; tells whether the slice is over.
    pub(super) fn is_over(&mut self) -> bool {
        self.tunnels += 1;
        self.tunnels.is_multiple_of(BETWEEN_CLOCKS) && self.begun.elapsed() >= SLICE
    }
}

/// Longest time of a slice; the last tunnels take some of it on top.
const SLICE: Duration = Duration::from_micros(250);
/// Tunnels between two looks at the clock.
const BETWEEN_CLOCKS: u32 = 16;
