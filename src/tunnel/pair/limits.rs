//! Limits of a tunnel. Tunnels with the same ones share them: few upstreams have thousands of tunnels each.

use std::cell::RefCell;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::time::Duration;

use crate::config::TunnelLimits;

/// [`TunnelLimits`] as its worker keeps them; none of them is ever zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PairLimits {
    max_message: Option<NonZeroU64>,
    idle: Option<ShortTime>,
    max_age: Option<ShortTime>,
    stall: Option<ShortTime>,
    ping: Option<ShortTime>,
    tcp_user_timeout: Option<ShortTime>,
}

thread_local! {
    /// Limits of tunnels that this thread opened lately, the latest ones last.
    static KNOWN: RefCell<Vec<Arc<PairLimits>>> = const { RefCell::new(Vec::new()) };
}

impl PairLimits {
    /// The limits of a tunnel, shared with those that this thread opened lately.
    pub(super) fn shared(limits: TunnelLimits) -> Arc<Self> {
        let limits = Self::new(limits);
        KNOWN.with_borrow_mut(|known| {
            if let Some(same) = known.iter().find(|other| ***other == limits) {
                return Arc::clone(same);
            }
            if known.len() == MOST_KNOWN {
                known.remove(0);
            }
            let limits = Arc::new(limits);
            known.push(Arc::clone(&limits));
            limits
        })
    }

    fn new(limits: TunnelLimits) -> Self {
        let TunnelLimits { idle, max_age, ping, max_message, tcp_user_timeout, stall } = limits;
        let span = |limit: Duration| ShortTime::of(limit.max(LEAST));
        Self {
            max_message: max_message.map(|most| NonZeroU64::new(most).unwrap_or(NonZeroU64::MIN)),
            idle: idle.map(span),
            max_age: max_age.map(span),
            stall: stall.map(span),
            ping: ping.map(span),
            tcp_user_timeout: tcp_user_timeout.map(span),
        }
    }

    /// Time from its opening in which a tunnel may stay: `max_age`, cut short by the share `jitter`.
    pub(super) fn lifetime(&self, jitter: f64) -> Option<ShortTime> {
        self.max_age.map(|age| ShortTime::of(age.duration().mul_f64(1.0 - jitter)))
    }

    /// As [`TunnelLimits::idle`].
    pub(super) fn idle(&self) -> Option<Duration> {
        self.idle.map(ShortTime::duration)
    }

    /// As [`TunnelLimits::max_age`].
    pub(super) fn max_age(&self) -> Option<Duration> {
        self.max_age.map(ShortTime::duration)
    }

    /// As [`TunnelLimits::stall`].
    pub(super) fn stall(&self) -> Option<Duration> {
        self.stall.map(ShortTime::duration)
    }

    /// As [`TunnelLimits::ping`].
    pub(super) fn ping(&self) -> Option<Duration> {
        self.ping.map(ShortTime::duration)
    }

    /// As [`TunnelLimits::tcp_user_timeout`].
    pub(super) fn tcp_user_timeout(&self) -> Option<Duration> {
        self.tcp_user_timeout.map(ShortTime::duration)
    }

    /// As [`TunnelLimits::max_message`].
    pub(super) fn max_message(&self) -> Option<u64> {
        self.max_message.map(NonZeroU64::get)
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
            tcp_user_timeout: limits.tcp_user_timeout(),
        }
    }
}

/// A time of 68 years at the most, in 32 bits: in milliseconds where that takes 31 of them (24 days), in seconds above.
/// Rounded up. Deadlines are kept in steps a hundred times as long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ShortTime(NonZeroU32);

impl ShortTime {
    pub(super) fn of(time: Duration) -> Self {
        let time = time.min(MOST);
        // No division by 128 bits, in every handshake.
        let milliseconds = time.as_secs() * 1_000 + u64::from(time.subsec_nanos().div_ceil(1_000_000));
        let number = match u32::try_from(milliseconds) {
            Ok(milliseconds) if milliseconds < IN_SECONDS => milliseconds,
            _ => IN_SECONDS | u32::try_from(milliseconds.div_ceil(1_000)).unwrap_or(MOST_SECONDS),
        };
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    pub(super) fn duration(self) -> Duration {
        match self.0.get() {
            milliseconds @ ..IN_SECONDS => Duration::from_millis(milliseconds.into()),
            seconds => Duration::from_secs((seconds & !IN_SECONDS).into()),
        }
    }
}

/// Most limits that a thread looks for others like them among. A hook may set other ones for each tunnel.
const MOST_KNOWN: usize = 8;
/// The bit of a [`ShortTime`] in seconds.
const IN_SECONDS: u32 = 1 << 31;
const MOST_SECONDS: u32 = IN_SECONDS - 1;
/// The least that a configuration may say. A hook may say less, and no limit is to keep its worker busy.
const LEAST: Duration = Duration::from_secs(1);
/// Longer than any process runs, and than a configuration may say.
const MOST: Duration = Duration::from_secs(MOST_SECONDS as u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were() {
        let all = TunnelLimits {
            idle: Some(Duration::from_secs(365 * 86_400)),
            max_age: Some(Duration::from_secs(1)),
            ping: Some(Duration::from_millis(1_501)),
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
            assert_eq!(TunnelLimits::from(PairLimits::new(limits)), limits);
        }
    }

    #[test]
    fn limits_that_no_file_may_say_are_brought_into_bounds() {
        let of = |idle| PairLimits::new(TunnelLimits { idle: Some(idle), ..TunnelLimits::default() }).idle();
        assert_eq!(of(Duration::MAX), Some(MOST));
        assert_eq!(of(Duration::ZERO), Some(LEAST));
    }

    #[test]
    fn times_are_kept_to_the_millisecond_up_to_24_days_and_to_the_second_above() {
        let day = Duration::from_secs(86_400);
        for (time, kept) in [
            (Duration::from_nanos(1), Duration::from_millis(1)),
            (Duration::from_nanos(1_000_001), Duration::from_millis(2)),
            (24 * day + Duration::from_nanos(1), 24 * day + Duration::from_millis(1)),
            (25 * day + Duration::from_nanos(1), 25 * day + Duration::from_secs(1)),
            (Duration::from_millis(u64::from(IN_SECONDS) - 1), Duration::from_millis(u64::from(IN_SECONDS) - 1)),
            (Duration::from_millis(u64::from(IN_SECONDS)), Duration::from_secs(u64::from(IN_SECONDS) / 1_000 + 1)),
        ] {
            assert_eq!(ShortTime::of(time).duration(), kept, "{time:?}");
        }
    }

    #[test]
    fn a_lifetime_is_cut_short_by_its_jitter_and_max_age_stays() {
        let limits = TunnelLimits { max_age: Some(Duration::from_secs(1_000)), ..TunnelLimits::default() };
        let limits = PairLimits::new(limits);
        let lifetime = limits.lifetime(0.1).map(ShortTime::duration);
        assert_eq!((lifetime, limits.max_age()), (Some(Duration::from_secs(900)), Some(Duration::from_secs(1_000))));
        assert_eq!(PairLimits::new(TunnelLimits::default()).lifetime(0.1), None);
    }

    #[test]
    fn tunnels_with_the_same_limits_share_them_while_few_others_come_between() {
        let of = |seconds| {
            let idle = Some(Duration::from_secs(seconds));
            PairLimits::shared(TunnelLimits { idle, ..TunnelLimits::default() })
        };
        let first = of(1);
        for other in 2..=MOST_KNOWN as u64 {
            assert!(!Arc::ptr_eq(&first, &of(other)));
        }
        assert!(Arc::ptr_eq(&first, &of(1)));
        of(1_000);
        let anew = of(1);
        assert!(!Arc::ptr_eq(&first, &anew) && first == anew);
    }
}
