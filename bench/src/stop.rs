//! An early end by SIGINT or SIGTERM: waits return at once, and loops check for it.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Tells that the user wants an end. Every wait of this program goes through it.
pub struct Stop {
    asked: Arc<AtomicBool>,
    /// Readable from the first signal on, since nobody reads from it.
    bell: UnixStream,
}

impl Stop {
    /// Handles SIGINT and SIGTERM. Their default would leave child processes behind.
    ///
    /// # Errors
    /// When the handlers cannot be set.
    pub fn on_signals() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let (bell, ringer) = UnixStream::pair().context("no socket pair")?;
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&asked)).context("signals cannot be taken over")?;
            signal_hook::low_level::pipe::register(signal, ringer.try_clone().context("no descriptor")?)
                .context("signals cannot be taken over")?;
        }
        Ok(Self { asked, bell })
    }

    /// # Errors
    /// When the user wants an end.
    pub fn check(&self) -> Result<()> {
        if self.asked.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Waits for `duration`.
    ///
    /// # Errors
    /// When the user wants an end, at once.
    pub fn wait(&self, duration: Duration) -> Result<()> {
        let until = Instant::now() + duration;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
            // A signal interrupts the wait with an error. The next check sees it.
            let _ = poll(&mut [PollFd::new(&self.bell, PollFlags::IN)], Some(&timeout));
        }
    }

    /// Waits for `duration` even after a signal, while processes are being ended.
    pub fn pause(duration: Duration) {
        let timeout = Timespec { tv_sec: duration.as_secs() as i64, tv_nsec: i64::from(duration.subsec_nanos()) };
        let _ = poll(&mut [], Some(&timeout));
    }

    /// Calls `done` every 10 ms for at most `duration`. Returns true as soon as it does.
    ///
    /// # Errors
    /// Errors of `done`, or that the user wants an end.
    pub fn wait_until(&self, duration: Duration, mut done: impl FnMut() -> Result<bool>) -> Result<bool> {
        let until = Instant::now() + duration;
        loop {
            if done()? {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            self.wait(Duration::from_millis(10))?;
        }
    }
}
