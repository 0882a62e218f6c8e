//! Due moments of the messages of an open loop, and the timer that wakes the generator for them.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::Token;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Token of the timer's events.
pub(super) const TIMER: Token = Token(usize::MAX);

/// A steady pace. It has a timer of its own, because epoll waits in whole milliseconds.
pub struct Pace {
    timer: OwnedFd,
    gap: Duration,
    next: Instant,
}

impl Pace {
    /// A pace of `rate` messages a second, from now on.
    ///
    /// # Errors
    /// When there is no timer.
    pub fn new(rate: f64) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .context("no timer")?;
        Ok(Self { timer, gap: Duration::from_secs_f64(1.0 / rate), next: Instant::now() })
    }

    /// The moment of the next message, if it has come and lies before `end`.
    pub fn due(&mut self, now: Instant, end: Instant) -> Option<Instant> {
        let due = self.next;
        if due > now || due >= end {
            return None;
        }
        self.next += self.gap;
        Some(due)
    }

    /// Sets the timer to the moment of the next message, or to `end`; after that it stays silent.
    ///
    /// # Errors
    /// When the timer cannot be set.
    pub fn arm(&self, end: Instant) -> Result<()> {
        let now = Instant::now();
        if now >= end {
            return Ok(());
        }
        // Zero would disarm it.
        let left = self.next.min(end).saturating_duration_since(now).max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &once).context("the timer failed")?;
        Ok(())
    }
}

impl AsFd for Pace {
    /// The timer. Each setting of it raises a new event.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl AsRawFd for Pace {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_raw_fd()
    }
}
