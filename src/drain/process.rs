//! The drain of the process: not ready any more, then closed to everything new, then empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Progress;
use crate::config::Drain;
use crate::snapshot::{Phase, Running};
use crate::tunnel::{Reason, Scope};

/// A drain of the process that has begun. Reads no clock: `now` is handed in.
pub struct ProcessDrain {
    running: Arc<Running>,
    settings: Drain,
    closes_at: Instant,
    deadline: Instant,
}

/// How a drain of the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is left.
    Empty,
    /// The deadline has come, and so much is left.
    Late {
        /// Open tunnels.
        tunnels: usize,
        /// Requests under way.
        requests: usize,
    },
}

impl ProcessDrain {
    /// Begins: from now on the gateway says that it is not ready.
    ///
    /// The deadline is `drain.grace` + `drain.window` + 10 s, or `longest` (`grace_period_seconds`) where that is
    /// later.
    pub fn begin(running: Arc<Running>, longest: Option<Duration>, now: Instant) -> Self {
        let settings = running.snapshot().config.drain;
        running.phases.enter(Phase::Grace);
        Self { closes_at: now + settings.grace, deadline: now + limit(settings, longest), running, settings }
    }

    /// Does what is due, and says how the drain ended once it has. `close_listeners` is called once, when `drain.grace`
    /// is over.
    pub fn step(&mut self, now: Instant, close_listeners: impl FnOnce()) -> Option<DrainEnd> {
        if self.running.phases.now() != Phase::Closing {
            if now >= self.closes_at {
                self.running.phases.enter(Phase::Closing);
                close_listeners();
                self.running.tunnels.end(&Scope::All, self.reason(), self.settings.window);
            }
            // What was accepted a moment ago is looked at in the next step.
            return None;
        }
        // Requests first: a request whose tunnel opens meanwhile must be seen as the one or the other.
        let requests = self.running.requests();
        match (self.running.tunnels.count(), requests) {
            (0, 0) => Some(DrainEnd::Empty),
            (tunnels, requests) => (now >= self.deadline).then_some(DrainEnd::Late { tunnels, requests }),
        }
    }

    /// How far it is.
    pub fn progress(&self, now: Instant) -> Progress {
        Progress {
            phase: self.running.phases.now(),
            tunnels: self.running.tunnels.count(),
            requests: self.running.requests(),
            grace_ms: millis(self.closes_at.saturating_duration_since(now)),
            remaining_ms: millis(self.deadline.saturating_duration_since(now)),
        }
    }

    fn reason(&self) -> Reason {
        Reason::Shutdown { code: self.settings.code }
    }
}

/// The longest a drain takes. What is added to the window is for the last tunnel's answering Close (5 s) and its FIN.
fn limit(settings: Drain, longest: Option<Duration>) -> Duration {
    let usual = settings.grace + settings.window + Duration::from_secs(10);
    longest.map_or(usual, |longest| longest.max(usual))
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_deadline_is_grace_and_window_and_ten_seconds_or_the_longer_grace_period() {
        let seconds = Duration::from_secs;
        let settings = Drain { grace: seconds(5), window: seconds(30), code: 1001 };
        assert_eq!(limit(settings, None), seconds(45));
        assert_eq!(limit(settings, Some(seconds(20))), seconds(45));
        assert_eq!(limit(settings, Some(seconds(300))), seconds(300));
    }
}
