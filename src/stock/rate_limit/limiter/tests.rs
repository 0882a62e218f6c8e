//! Amounts that a limit lets pass as time goes by.

use governor::clock::FakeRelativeClock;
use proptest::prelude::*;

use super::*;
use crate::stock::rate_limit::settings::ByteRate;

fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
    crate::config::Settings::parse(text).unwrap().read().unwrap()
}

fn limiter(rate: &str, max_keys: u32) -> (Limiter<FakeRelativeClock>, FakeRelativeClock) {
    let clock = FakeRelativeClock::default();
    (Limiter::new(read(rate), NonZeroU32::new(max_keys).unwrap(), clock.clone()), clock)
}

fn key(number: u64) -> LimitKey {
    serde_json::from_value(number.into()).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_burst_passes_and_then_the_rate() {
    let (limiter, clock) = limiter("10/s burst 3", 100);
    for _ in 0..3 {
        assert_eq!(limiter.take(&key(1), 1), Ok(()));
    }
    assert_eq!(limiter.take(&key(1), 1), Err(Excess::For(SECOND / 10)));
    clock.advance(SECOND / 10);
    assert_eq!(limiter.take(&key(1), 1), Ok(()));
    assert!(limiter.take(&key(1), 1).is_err());
    clock.advance(SECOND * 3_600);
    assert_eq!(limiter.take(&key(1), 3), Ok(()), "no more than a burst comes back");
    assert!(limiter.take(&key(1), 1).is_err());
}

#[test]
fn without_a_burst_a_period_s_worth_may_come_at_once() {
    let (limiter, _) = limiter("10/m", 100);
    assert_eq!(limiter.take(&key(1), 10), Ok(()));
    assert_eq!(limiter.take(&key(1), 1), Err(Excess::For(SECOND * 6)));
}

#[test]
fn keys_are_counted_apart() {
    let (limiter, _) = limiter("1/d", 100);
    assert_eq!([1, 2].map(|number| limiter.take(&key(number), 1)), [Ok(()), Ok(())]);
    assert!([1, 2].iter().all(|number| limiter.take(&key(*number), 1).is_err()));
}

#[test]
fn more_than_a_burst_never_passes_at_once() {
    let (limiter, _) = limiter("10/s burst 3", 100);
    assert_eq!(limiter.take(&key(1), 4), Err(Excess::Always));
    assert_eq!(limiter.take(&key(1), u64::MAX), Err(Excess::Always));
    assert_eq!(limiter.take(&key(1), 3), Ok(()));
}

#[test]
fn keys_are_forgotten_beyond_the_bound() {
    let (limiter, _) = limiter("1/d", 32);
    for number in 0..1_000 {
        assert_eq!(limiter.take(&key(number), 1), Ok(()));
    }
    assert_eq!(limiter.save(usize::MAX).len(), 32);
}

#[test]
fn who_keeps_trying_is_not_forgotten_for_it() {
    let (limiter, _) = limiter("1/d", 32);
    limiter.take(&key(0), 1).unwrap();
    for number in 1..1_000 {
        assert!(limiter.take(&key(0), 1).is_err());
        limiter.take(&key(number), 1).unwrap();
    }
}

#[test]
fn what_was_had_is_carried_over_and_nothing_that_came_since_is_forgotten() {
    let (before, clock) = limiter("1/m burst 2", 100);
    assert_eq!(before.take(&key(1), 2), Ok(()));
    assert_eq!(before.take(&key(2), 1), Ok(()));
    clock.advance(SECOND * 60);
    let saved = before.save(100);
    assert_eq!(saved, [(key(1), 60_000_000_000)], "nothing is left of what the other had");
    let (after, _) = limiter("1/m burst 2", 100);
    after.take(&key(1), 2).unwrap();
    after.restore(&saved);
    assert_eq!(after.take(&key(1), 1), Err(Excess::For(SECOND * 60)));
}

#[test]
fn what_another_rate_made_does_not_outlast_this_one() {
    let (limiter, _) = limiter("1/s burst 2", 100);
    limiter.restore(&[(key(1), u64::MAX)]);
    assert_eq!(limiter.take(&key(1), 1), Err(Excess::For(SECOND)));
}

#[test]
fn bytes_that_come_fast_are_counted_to_the_thousandth() {
    for rate in ["64KiB/s", "999MB/s", "10GiB/s", "1MiB/d"] {
        let ByteRate(rate) = read(rate);
        let clock = FakeRelativeClock::default();
        let limiter = Limiter::new(rate, NonZeroU32::new(10).unwrap(), clock.clone());
        limiter.take(&key(1), rate.burst).unwrap();
        clock.advance(rate.period);
        assert_eq!(limiter.take(&key(1), rate.count * 999 / 1_000), Ok(()), "{rate:?}");
        assert!(limiter.take(&key(1), rate.count / 100).is_err(), "{rate:?}");
    }
}

proptest! {
    #[test]
    fn no_more_than_burst_and_rate_ever_passes(
        count in 1_u64..1_000,
        burst in 1_u64..50,
        steps in prop::collection::vec((0_u64..200, 1_u64..20), 1..100),
    ) {
        let (limiter, clock) = limiter(&format!("{count}/s burst {burst}"), 10);
        let (mut elapsed, mut passed) = (Duration::ZERO, 0);
        for (wait, amount) in steps {
            let wait = Duration::from_millis(wait);
            clock.advance(wait);
            elapsed += wait;
            passed += limiter.take(&key(1), amount).map_or(0, |()| amount);
            // A unit is rounded down to whole nanoseconds: at most 0.1 % more.
            let most = u128::from(burst) + elapsed.as_nanos() * u128::from(count) * 1_001 / 1_000_000_000_000 + 1;
            prop_assert!(u128::from(passed) <= most, "{passed} of {most}");
        }
    }

    #[test]
    fn whoever_waits_as_told_passes(count in 1_u64..1_000_000, burst in 1_u64..1_000, amount in 1_u64..1_000) {
        let (limiter, clock) = limiter(&format!("{count}/m burst {burst}"), 10);
        let amount = amount.min(burst);
        while limiter.take(&key(1), amount).is_ok() {}
        if let Err(Excess::For(wait)) = limiter.take(&key(1), amount) {
            clock.advance(wait);
        }
        prop_assert_eq!(limiter.take(&key(1), amount), Ok(()));
    }
}
