//! The calls that tell hooks of a tunnel's end, counted: the process waits for them before it ends.

use std::time::Duration;

use tokio::sync::watch;

/// Number of ended tunnels whose hooks have not returned from being told of the end.
#[derive(Clone, Debug)]
pub(in crate::tunnel) struct Farewells {
    count: watch::Sender<usize>,
}

/// One of them, counted while it lives.
pub(super) struct CountedFarewell(watch::Sender<usize>);

impl Farewells {
    pub(in crate::tunnel) fn new() -> Self {
        Self { count: watch::Sender::new(0) }
    }

    pub(super) fn begin(&self) -> CountedFarewell {
        self.count.send_modify(|count| *count += 1);
        CountedFarewell(self.count.clone())
    }

    /// Returns when all have been told, or after the time `within`; how many have not.
    pub(in crate::tunnel) async fn said(&self, within: Duration) -> usize {
        let mut count = self.count.subscribe();
        // The sender is at hand: it cannot be gone.
        let _ = tokio::time::timeout(within, count.wait_for(|count| *count == 0)).await;
        *self.count.borrow()
    }
}

impl Drop for CountedFarewell {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
