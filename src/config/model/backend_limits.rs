//! Values of an upstream's `limits` and `admission`: what one backend carries, and at which rate it takes handshakes.

use std::time::Duration;

/// `limits` of an upstream: bounds on what one backend carries. `None` stands for `off`, the default of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendLimits {
    /// `tunnels`: most open tunnels of one backend, handshakes that may become some included; 1 to 10 000 000.
    pub tunnels: Option<usize>,
    /// `requests`: most plain requests that one backend has at once; 1 to 10 000 000.
    pub requests: Option<usize>,
    /// `per_key`: most open tunnels of one affinity key in the whole upstream, handshakes included; 1 to 10 000 000.
    /// One more is answered 429.
    pub per_key: Option<usize>,
}

/// `admission` of an upstream: the queue before each backend, from which WebSocket handshakes are admitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Admission {
    /// `handshakes`: the rate of one backend, default `off`.
    pub handshakes: HandshakeRate,
    /// `burst`: handshakes that a backend is given at once after a rest, 1 to 1 000 000, default 100.
    pub burst: u32,
    /// `queue`: most clients that wait for one backend, 1 to 1 000 000, default 20 000. One more is answered 503.
    pub queue: usize,
    /// `wait`: longest time that a client waits, 100 ms to 1 h, default 15 s. Then it is answered 503.
    pub wait: Duration,
}

/// `admission.handshakes`: how many handshakes a second one backend is given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum HandshakeRate {
    /// `off`: no rate. The queue is for backends that are full.
    #[default]
    Off,
    /// `auto`: a rate that follows the backend's handshake latency.
    Auto,
    /// `500/s`: so many handshakes a second, 0.01 to 1 000 000.
    PerSecond(f64),
}

/// `absent` of an upstream: clients of a backend that is away for a moment wait until it is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// `hold`: a backend's clients wait so long after it went away, 100 ms to 1 h. Then the next one on the ring takes
    /// them.
    pub hold: Duration,
    /// `queue`: most clients that wait for one backend, 1 to 1 000 000, default 10 000. The next one on the ring takes
    /// one more.
    pub queue: usize,
}

impl Absent {
    /// The default of `queue`.
    pub const QUEUE: usize = 10_000;
}

impl Default for Admission {
    fn default() -> Self {
        Self { handshakes: HandshakeRate::Off, burst: 100, queue: 20_000, wait: Duration::from_secs(15) }
    }
}
