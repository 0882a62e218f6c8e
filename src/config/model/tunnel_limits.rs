//! Values of `tunnel` that limit open tunnels in time and size.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// `tunnel`: limits of open tunnels. `None` stands for `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TunnelLimits {
    /// `idle`: the longest time without a byte in either direction, default 1 d; then Close 1001.
    pub idle: Option<Duration>,
    /// `max_age`: the longest life (less up to 10 % of jitter), default off; then Close 1001.
    pub max_age: Option<Duration>,
    /// `ping`: silence of a side after which it gets a Ping; after as long again the tunnel is ended. Default off.
    pub ping: Option<Duration>,
    /// `max_message`: bytes of one message's payload, default off; a longer one ends the tunnel with Close 1009.
    pub max_message: Option<u64>,
    /// `tcp_user_timeout`: longest time for which a side's kernel may leave our bytes or keep-alive probes
    /// unacknowledged, default 60 s.
    pub tcp_user_timeout: Option<Duration>,
    /// `stall`: how long a side may take none of the bytes that wait for it, default 60 s; then Close 1001 for both.
    #[serde(default)]
    pub stall: Option<Duration>,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(86_400)),
            max_age: None,
            ping: None,
            max_message: None,
            tcp_user_timeout: Some(Duration::from_secs(60)),
            stall: Some(Duration::from_secs(60)),
        }
    }
}
