//! Values of `drain`: the end of the process.

use std::time::Duration;

/// `drain`: the end of the process on SIGTERM or `longhaul drain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// `grace`: time for which readiness answers 503 before the listeners close, default 0 s.
    pub grace: Duration,
    /// `window`: time after `grace` over which the tunnels are closed evenly, default 30 s.
    pub window: Duration,
    /// `code`: the status code of their Close frames, 1001 (the default), 1012 or 1013.
    pub code: u16,
}

impl Default for Drain {
    fn default() -> Self {
        Self { grace: Duration::ZERO, window: Duration::from_secs(30), code: 1001 }
    }
}
