//! Due moments of the messages of an open loop, and the timer that wakes the generator for them.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// The timer's events.
pub(super) const TIMER: Token = Token(usize::MAX);

/// A steady pace. epoll waits in whole milliseconds, so it needs a timer.
pub(super) struct Pace {
    timer: OwnedFd,
    gap: Duration,
    next: Instant,
}

impl Pace {
    pub(super) fn new(poll: &Poll, rate: f64) -> Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)
            .context("no timer")?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)?;
        Ok(Self { timer, gap: Duration::from_secs_f64(1.0 / rate), next: Instant::now() })
    }

    /// The moment of the next message, if it has come and lies before `end`.
    pub(super) fn due(&mut self, now: Instant, end: Instant) -> Option<Instant> {
        let due = self.next;
        if due > now || due >= end {
            return None;
        }
        self.next += self.gap;
        Some(due)
    }

    /// Sets the timer to the moment of the next message.
    pub(super) fn arm(&self, end: Instant) -> Result<()> {
        // Zero would disarm it, and after the end nothing is due.
        let left = self.next.min(end).saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(self.timer.as_fd(), TimerfdTimerFlags::empty(), &once).context("the timer failed")?;
        Ok(())
    }

    pub(super) fn end(self, poll: &Poll) {
        // Closing it takes it out of the epoll set as well.
        let _ = poll.registry().deregister(&mut SourceFd(&self.timer.as_raw_fd()));
    }
}
