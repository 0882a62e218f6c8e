//! Values of `limits`: what one client may take of the gateway before it has asked for anything.

use std::time::Duration;

/// `limits`: bounds on what clients send and on how long they are waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// `head`: the head of a request.
    pub head: HeadLimits,
    /// `keep_alive`: connections between two requests.
    pub keep_alive: KeepAlive,
}

/// `limits.head`: bounds on the head of one request, its first line and its header fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// `time`: longest time for the whole head, 100 ms to 1 h, default 10 s. It begins when a connection is accepted,
    /// and on a kept connection with the head's first byte. A head that takes longer is answered 408.
    pub time: Duration,
    /// `size`: most bytes of the head, 1 KiB to 1 MiB, default 32 KiB; a longer one is answered 431.
    pub size: usize,
    /// `lines`: most header lines, 1 to 256, default 128; one more is answered 431.
    pub lines: usize,
    /// `target`: most bytes of the request target, 64 B to 1 MiB, default 8 KiB; a longer one is answered 414.
    pub target: usize,
}

/// `limits.keep_alive`: bounds on connections between two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// `idle`: longest time without a byte between two requests, 1 s to 1 d, default 75 s (nginx's); `None` when `off`.
    pub idle: Option<Duration>,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(10), size: 32 * 1024, lines: 128, target: 8 * 1024 }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Some(Duration::from_secs(75)) }
    }
}
