//! The pace of a client that sends a body or takes an answer, against the least one that its limits ask for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::config;

/// Follows how long a client is waited for, and how many bytes it moves meanwhile.
///
/// A client begins with the time of `idle`. Waiting for it uses that time up, and each byte gives some of it back: as
/// much as the byte may take by `min_rate`, and never more than the whole. With none left the client is too slow.
/// Time in which it is not waited for, because a backend or a hook is, does not count.
///
/// Bytes are counted at a look, four of which come within the time of `idle`: a client that moves as much as it can
/// costs next to nothing.
#[derive(Default)]
pub(super) struct ClientPace {
    limits: Option<config::Pace>,
    /// Made when the client is first waited for.
    watch: Option<Box<Watch>>,
    is_lost: bool,
}

/// Account of the time that a client was waited for.
struct Watch {
    /// Rings when the next look is due.
    alarm: Pin<Box<Sleep>>,
    /// Time that the client may still be waited for, as of the last look.
    left: Duration,
    /// Time that it was waited for since the last look.
    waited: Duration,
    /// Moment since which it is waited for.
    since: Option<Instant>,
    /// Count of its bytes at the last look.
    count: u64,
}

/// The client is slower than its limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooSlow;

impl ClientPace {
    /// A client at its beginning, under these limits.
    pub(super) fn new(limits: config::Pace) -> Self {
        let are_on = limits.idle.is_some() || limits.min_rate.is_some();
        Self { limits: are_on.then_some(limits), watch: None, is_lost: false }
    }

    /// Notes that the client is waited for; ready once it is too slow. `count` counts the bytes it has moved so far.
    pub(super) fn poll_wait(&mut self, cx: &mut Context<'_>, count: impl Fn() -> u64) -> Poll<TooSlow> {
        let Some(limits) = self.limits else { return Poll::Pending };
        if self.is_lost {
            return Poll::Ready(TooSlow);
        }
        let whole = limits.idle.unwrap_or(WINDOW);
        let watch = self.watch.get_or_insert_with(|| {
            let alarm = Box::pin(sleep_until(Instant::now() + whole / LOOKS));
            Box::new(Watch { alarm, left: whole, waited: Duration::ZERO, since: None, count: count() })
        });
        watch.since.get_or_insert_with(Instant::now);
        loop {
            ready!(watch.alarm.as_mut().poll(cx));
            // Whoever looks much later has not waited for the client alone.
            let now = Instant::now().min(watch.alarm.deadline() + LATE);
            watch.stop(now);
            let (waited, counted) = (std::mem::take(&mut watch.waited), count());
            let moved = counted.saturating_sub(std::mem::replace(&mut watch.count, counted));
            watch.left = (watch.left + gained(limits, moved, whole)).saturating_sub(waited).min(whole);
            if watch.left.is_zero() {
                self.is_lost = true;
                return Poll::Ready(TooSlow);
            }
            let now = Instant::now();
            watch.since = Some(now);
            watch.alarm.as_mut().reset(now + watch.left.min(whole / LOOKS));
        }
    }

    /// Notes that the client is not waited for at the moment.
    pub(super) fn go_on(&mut self) {
        if let Some(watch) = self.watch.as_mut().filter(|watch| watch.since.is_some()) {
            watch.stop(Instant::now());
        }
    }

    /// Forgets all that was noted, and gives its memory back.
    pub(super) fn rest(&mut self) {
        self.watch = None;
    }
}

impl Watch {
    fn stop(&mut self, now: Instant) {
        if let Some(since) = self.since.take() {
            self.waited += now.saturating_duration_since(since);
        }
    }
}

/// Time that a client gains by moving so many bytes.
fn gained(limits: config::Pace, moved: u64, whole: Duration) -> Duration {
    match limits.min_rate {
        Some(rate) => whole.min(Duration::from_micros(moved.saturating_mul(1_000_000) / rate)),
        None if moved > 0 => whole,
        None => Duration::ZERO,
    }
}

/// Time over which the rate is averaged where `idle` is off.
const WINDOW: Duration = Duration::from_secs(60);
/// Looks within the whole time.
const LOOKS: u32 = 4;
/// A look that comes so much later than it was due was not waited for.
const LATE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::poll_fn;
    use std::num::NonZeroU64;

    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn limits(idle: Option<u64>, min_rate: u64) -> config::Pace {
        config::Pace { idle: idle.map(Duration::from_secs), min_rate: NonZeroU64::new(min_rate) }
    }

    /// Waits for a client that moves `bytes` a second; the seconds after which it was too slow, if it was within 1,000.
    async fn waited_for(limits: config::Pace, bytes: u64) -> Option<u64> {
        let (mut pace, count, begun) = (ClientPace::new(limits), Cell::new(0), Instant::now());
        for _ in 0..1_000 {
            count.set(count.get() + bytes);
            if timeout(SECOND, poll_fn(|cx| pace.poll_wait(cx, || count.get()))).await.is_ok() {
                return Some(begun.elapsed().as_secs());
            }
            pace.go_on();
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_is_too_slow_below_the_least_rate_and_never_above_it() {
        assert_eq!(waited_for(limits(Some(60), 100), 0).await, Some(60));
        assert_eq!(waited_for(limits(Some(60), 100), 100).await, None);
        assert_eq!(waited_for(limits(Some(60), 100), 1_024).await, None);
        let half = waited_for(limits(Some(60), 100), 50).await.unwrap();
        assert!((100..=140).contains(&half), "{half} s");
        let trickle = waited_for(limits(Some(60), 100), 1).await.unwrap();
        assert!((60..=62).contains(&trickle), "{trickle} s");
        assert_eq!(waited_for(limits(None, 100), 0).await, Some(60));
        assert_eq!(waited_for(limits(None, 0), 0).await, None);
        assert_eq!(waited_for(limits(Some(5), 0), 1).await, None, "a byte a second is never idle");
        assert_eq!(waited_for(limits(Some(5), 0), 0).await, Some(5));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_somebody_else_is_waited_for_does_not_count() {
        let mut pace = ClientPace::new(limits(Some(10), 100));
        for _ in 0..100 {
            assert!(timeout(SECOND / 20, poll_fn(|cx| pace.poll_wait(cx, || 0))).await.is_err());
            pace.go_on();
            advance(Duration::from_secs(3_600)).await;
        }
        let left = timeout(Duration::from_secs(6), poll_fn(|cx| pace.poll_wait(cx, || 0))).await;
        assert_eq!(left, Ok(TooSlow), "5 of its 10 seconds were used");
        assert!(poll_fn(|cx| Poll::Ready(pace.poll_wait(cx, || 1 << 20).is_ready())).await, "it stays lost");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_buys_no_more_than_the_whole_time() {
        let (mut pace, count) = (ClientPace::new(limits(Some(20), 100)), Cell::new(0));
        assert!(timeout(SECOND, poll_fn(|cx| pace.poll_wait(cx, || count.get()))).await.is_err());
        count.set(1 << 30);
        let begun = Instant::now();
        assert_eq!(poll_fn(|cx| pace.poll_wait(cx, || count.get())).await, TooSlow);
        assert!(begun.elapsed() <= Duration::from_secs(25), "{:?}", begun.elapsed());
    }
}
