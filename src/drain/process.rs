//! The drain of the process: not ready any more, then closed to everything new, then empty.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Progress;
use crate::config::Drain;
use crate::snapshot::{GatewayPhase, Running};
use crate::tunnel::{Reason, Scope};

/// A drain of the process that has begun.
pub struct ProcessDrain {
    running: Arc<Running>,
    settings: Drain,
    closes_at: Instant,
    deadline: Instant,
}

/// End of a drain of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainEnd {
    /// Nothing is left.
    Empty,
    /// The deadline has come before the end of these.
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
        running.phases.enter(GatewayPhase::Grace);
        Self { closes_at: now + settings.grace, deadline: now + limit(settings, longest), running, settings }
    }

    /// Waits out `drain.grace`, closes the listeners with `close_listeners`, ends the tunnels, and waits until nothing
    /// is left or the deadline comes. Must be awaited once.
    pub async fn run(&self, close_listeners: impl FnOnce()) -> DrainEnd {
        tokio::time::sleep_until(self.closes_at.into()).await;
        self.running.phases.enter(GatewayPhase::Closing);
        close_listeners();
        self.running.close_admission();
        self.running.tunnels.end(&Scope::All, self.reason(), self.settings.window);
        // Clients that were accepted a moment ago become requests meanwhile.
        tokio::time::sleep(ACCEPTED_TO_REQUEST).await;
        match tokio::time::timeout_at(self.deadline.into(), self.running.idle()).await {
            Ok(()) => DrainEnd::Empty,
            Err(_) => DrainEnd::Late { tunnels: self.running.tunnels.count(), requests: self.running.requests() },
        }
    }

    /// Progress of the drain.
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

/// Time in which a client that was accepted, and has sent its request, is counted as a request.
const ACCEPTED_TO_REQUEST: Duration = Duration::from_millis(50);

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
