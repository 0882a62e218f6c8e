//! A tunnel's limits, in as little room as they take: every tunnel has its own copy.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::config::TunnelLimits;

/// [`TunnelLimits`] in half the room; none of them is ever zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    idle: Option<Nanoseconds>,
    max_age: Option<Nanoseconds>,
    ping: Option<Nanoseconds>,
    max_message: Option<NonZeroU64>,
    tcp_user_timeout: Option<Nanoseconds>,
}

impl Limits {
    /// As [`TunnelLimits::idle`].
    pub(super) fn idle(&self) -> Option<Duration> {
        self.idle.map(Nanoseconds::duration)
    }

    /// As [`TunnelLimits::ping`].
    pub(super) fn ping(&self) -> Option<Duration> {
        self.ping.map(Nanoseconds::duration)
    }

    /// As [`TunnelLimits::max_message`].
    pub(super) fn max_message(&self) -> Option<u64> {
        self.max_message.map(NonZeroU64::get)
    }
}

impl From<TunnelLimits> for Limits {
    fn from(limits: TunnelLimits) -> Self {
        let TunnelLimits { idle, max_age, ping, max_message, tcp_user_timeout } = limits;
        Self {
            idle: idle.map(Nanoseconds::of),
            max_age: max_age.map(Nanoseconds::of),
            ping: ping.map(Nanoseconds::of),
            max_message: max_message.map(at_least_one),
            tcp_user_timeout: tcp_user_timeout.map(Nanoseconds::of),
        }
    }
}

impl From<Limits> for TunnelLimits {
    fn from(limits: Limits) -> Self {
        Self {
            idle: limits.idle(),
            max_age: limits.max_age.map(Nanoseconds::duration),
            ping: limits.ping(),
            max_message: limits.max_message(),
            tcp_user_timeout: limits.tcp_user_timeout.map(Nanoseconds::duration),
        }
    }
}

/// A time of up to 584 years.
#[derive(Clone, Copy, Debug)]
struct Nanoseconds(NonZeroU64);

impl Nanoseconds {
    fn of(time: Duration) -> Self {
        Self(at_least_one(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    fn duration(self) -> Duration {
        Duration::from_nanos(self.0.get())
    }
}

fn at_least_one(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN)
}

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
            tcp_user_timeout: Some(Duration::from_millis(1)),
        };
        let none = TunnelLimits { idle: None, max_age: None, ping: None, max_message: None, tcp_user_timeout: None };
        for limits in [all, none] {
            assert_eq!(TunnelLimits::from(Limits::from(limits)), limits);
        }
    }
}
