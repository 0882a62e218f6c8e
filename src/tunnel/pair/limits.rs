//! Limits of a tunnel, in as little room as they take: every tunnel has its own copy.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use crate::config::TunnelLimits;

/// [`TunnelLimits`] in half the room; none of them is ever zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct PairLimits {
    idle: Option<Nanoseconds>,
    max_age: Option<Nanoseconds>,
    stall: Option<Milliseconds>,
    ping: Option<Nanoseconds>,
    max_message: Option<NonZeroU64>,
    tcp_user_timeout: Option<Milliseconds>,
}

impl PairLimits {
    /// As [`TunnelLimits::idle`].
    pub(super) fn idle(&self) -> Option<Duration> {
        self.idle.map(Nanoseconds::duration)
    }

    /// As [`TunnelLimits::max_age`].
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.max_age.map(Nanoseconds::duration)
    }

    /// As [`TunnelLimits::stall`].
    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall.map(Milliseconds::duration)
    }

    /// As [`TunnelLimits::ping`].
    pub(super) fn ping(&self) -> Option<Duration> {
        self.ping.map(Nanoseconds::duration)
    }

    /// As [`TunnelLimits::tcp_user_timeout`].
    pub(super) fn tcp_user_timeout(&self) -> Option<Duration> {
        self.tcp_user_timeout.map(Milliseconds::duration)
    }

    /// As [`TunnelLimits::max_message`].
    pub(super) fn max_message(&self) -> Option<u64> {
        self.max_message.map(NonZeroU64::get)
    }
}

impl From<TunnelLimits> for PairLimits {
    fn from(limits: TunnelLimits) -> Self {
        let TunnelLimits { idle, max_age, ping, max_message, tcp_user_timeout, stall } = limits;
        Self {
            idle: idle.map(Nanoseconds::of),
            max_age: max_age.map(Nanoseconds::of),
            stall: stall.map(Milliseconds::of),
            ping: ping.map(Nanoseconds::of),
            max_message: max_message.map(at_least_one),
            tcp_user_timeout: tcp_user_timeout.map(Milliseconds::of),
        }
    }
}

impl From<PairLimits> for TunnelLimits {
    fn from(limits: PairLimits) -> Self {
        Self {
            idle: limits.idle(),
            max_age: limits.max_age(),
            stall: limits.stall(),
            ping: limits.ping(),
            max_message: limits.max_message(),
            tcp_user_timeout: limits.tcp_user_timeout.map(Milliseconds::duration),
        }
    }
}

/// A time of a second at the least and of 100 years at the most, whoever set the limit: a file or a hook. So no moment
/// that is computed from it overflows, and no limit keeps its worker busy.
#[derive(Clone, Copy, Debug)]
struct Nanoseconds(NonZeroU64);

impl Nanoseconds {
    fn of(time: Duration) -> Self {
        let time = time.clamp(LEAST, MOST);
        Self(at_least_one(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn duration(self) -> Duration {
        Duration::from_nanos(self.0.get())
    }
}

/// A time of a second at the least and of 49 days at the most, in half the room of [`Nanoseconds`].
#[derive(Clone, Copy, Debug)]
struct Milliseconds(NonZeroU32);

impl Milliseconds {
    fn of(time: Duration) -> Self {
        let milliseconds = u32::try_from(time.max(LEAST).as_millis()).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(milliseconds).unwrap_or(NonZeroU32::MIN))
    }

    fn duration(self) -> Duration {
        Duration::from_millis(self.0.get().into())
    }
}

fn at_least_one(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)
}

/// The least that a configuration may say.
const LEAST: Duration = Duration::from_secs(1);
/// Longer than any process runs, and than a configuration may say.
const MOST: Duration = Duration::from_secs(100 * 365 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were() {
        let all = TunnelLimits {
            idle: Some(Duration::from_secs(365 * 86_400)),
            max_age: Some(Duration::from_secs(1)),
            ping: Some(Duration::from_nanos(1_500_000_001)),
            max_message: Some(u64::MAX),
            tcp_user_timeout: Some(Duration::from_secs(1)),
            stall: Some(Duration::from_secs(3_600)),
        };
        let none = TunnelLimits {
            idle: None,
            max_age: None,
            ping: None,
            max_message: None,
            tcp_user_timeout: None,
            stall: None,
        };
        for limits in [all, none] {
            assert_eq!(TunnelLimits::from(PairLimits::from(limits)), limits);
        }
    }

    #[test]
    fn limits_that_no_file_may_say_are_brought_into_bounds() {
        let of = |idle| PairLimits::from(TunnelLimits { idle: Some(idle), ..TunnelLimits::default() }).idle();
        assert_eq!(of(Duration::MAX), Some(MOST));
        assert_eq!(of(Duration::ZERO), Some(LEAST));
    }
}
