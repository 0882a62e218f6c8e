//! `routes[].reattach`: clients stay connected while their backend changes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `reattach` of a route: a tunnel whose backend goes is held, and goes on with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reattach {
    /// `within`: the longest time that a client is held without a backend, 100 ms to 1 h, default 30 s.
    pub within: Duration,
    /// `buffer`: bytes of a client that are kept meanwhile, 1 KiB to 64 MiB, default 256 KiB.
    pub buffer: u32,
    /// `on`: the occasions, all of them by default.
    pub on: Occasions,
    /// `code`: code of the Close frame of a client that cannot be re-attached, default 1012.
    pub code: u16,
}

/// Occasions on which a tunnel is re-attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occasions {
    /// `leaving`: the gateway takes the backend away: drained, weight 0, removed, moved, leaving, or not home any more.
    pub leaving: bool,
    /// `going_away`: the backend says so itself, by Close 1001 or 1012.
    pub going_away: bool,
    /// `crash`: the backend's stream ends without a Close frame.
    pub crash: bool,
}

impl Default for Reattach {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(30),
            buffer: 256 * 1024,
            on: Occasions { leaving: true, going_away: true, crash: true },
            code: 1012,
        }
    }
}
