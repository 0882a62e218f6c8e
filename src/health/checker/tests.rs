//! The checkers on a clock that only tests move, with checks that are played.

mod real;

use std::sync::atomic::AtomicUsize;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::*;
use crate::config::{Check, Health};
use crate::dial::{Dialer, Layers};
use crate::metrics::LocalFailure;

const INTERVAL: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(1);
const AT_ONCE: usize = 256;

/// Keeps what it is told.
#[derive(Default)]
struct Told(Mutex<Vec<Report>>);

/// Moment and outcome.
type Report = (Instant, Result<(), String>);

impl Subject for Told {
    fn report(&self, outcome: Result<(), CheckError>) {
        self.0.lock().unwrap().push((Instant::now(), outcome.map_err(|failure| failure.to_string())));
    }
}

impl Told {
    fn times(&self) -> Vec<Instant> {
        self.0.lock().unwrap().iter().map(|told| told.0).collect()
    }

    fn outcomes(&self) -> Vec<Result<(), String>> {
        self.0.lock().unwrap().iter().map(|told| told.1.clone()).collect()
    }

    /// Tells whether all times between reports, but for the first check at once, are the interval, give or take 10 %
    /// and the clock's millisecond.
    fn kept_rhythm(&self) -> bool {
        let slack = Duration::from_millis(2);
        let wanted = INTERVAL.mul_f64(0.9) - slack..=INTERVAL.mul_f64(1.1) + slack;
        self.times()[1..].windows(2).all(|pair| wanted.contains(&(pair[1] - pair[0])))
    }
}

fn probe(timeout: Duration) -> Arc<Probe> {
    Arc::new(Probe::new(
        &Health { check: Check::Tcp, timeout, ..Health::default() },
        &Dialer::default(),
        &Layers::default(),
    ))
}

fn address(number: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 10_000 + number as u16))
}

/// One target, and what it is told.
fn target(number: usize) -> (CheckedBackend, Arc<Told>) {
    let told = Arc::new(Told::default());
    let subject: Arc<dyn Subject> = Arc::clone(&told) as _;
    (
        CheckedBackend {
            upstream: "chat".into(),
            name: number.to_string().into(),
            address: address(number),
            probe: probe(TIMEOUT),
            interval: INTERVAL,
            check_wanted: Arc::default(),
            subject,
        },
        told,
    )
}

fn targets(numbers: std::ops::Range<usize>) -> (Vec<CheckedBackend>, Vec<Arc<Told>>) {
    numbers.map(target).unzip()
}

/// Checkers whose checks pass at once.
fn passing() -> Checkers {
    Checkers::examining(AT_ONCE, |_, _| async { Ok(()) }.boxed())
}

/// Checkers whose checks never end of their own.
fn silent() -> Checkers {
    Checkers::examining(AT_ONCE, |_, _| futures::future::pending().boxed())
}

/// Tasks alive, after those that were ended had time to go.
async fn tasks() -> usize {
    sleep(Duration::from_millis(1)).await;
    Handle::current().metrics().num_alive_tasks()
}

#[tokio::test(start_paused = true)]
async fn new_targets_are_checked_at_once_then_spread_over_the_interval_and_keep_to_it() {
    let (targets, told) = targets(0..200);
    let mut checkers = passing();
    let start = Instant::now();
    checkers.sync(targets);
    sleep(INTERVAL * 20).await;

    assert!(told.iter().all(|told| told.times()[0] == start));
    let mut seconds: Vec<Duration> = told.iter().map(|told| told.times()[1] - start).collect();
    seconds.sort_unstable();
    assert!(seconds[199] <= INTERVAL + Duration::from_millis(2));
    let in_first_half = seconds.iter().filter(|second| **second < INTERVAL / 2).count();
    assert!((50..150).contains(&in_first_half), "{in_first_half} of 200");
    for told in told {
        assert!((19..=24).contains(&told.times().len()), "{}", told.times().len());
        assert!(told.kept_rhythm());
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_syncs_leave_as_many_tasks_as_targets() {
    let mut checkers = passing();
    for round in 0..1000 {
        let from = round * 7 % 50;
        checkers.sync(targets(from..from + 20 + round % 30).0);
        if round % 100 == 0 {
            assert_eq!(tasks().await, 20 + round % 30);
        }
    }
    checkers.sync(targets(5..42).0);
    assert_eq!(tasks().await, 37);
    checkers.sync([]);
    assert_eq!(tasks().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_target_named_twice_is_checked_once() {
    let mut checkers = passing();
    checkers.sync([target(1).0, target(1).0]);
    assert_eq!(tasks().await, 1);
}

#[tokio::test(start_paused = true)]
async fn unchanged_targets_keep_their_rhythm_over_syncs() {
    let mut checkers = passing();
    let (target, told) = target(1);
    for round in 0..1000 {
        let others = targets(100..100 + round % 3).0;
        checkers.sync(others.into_iter().chain([target.clone()]));
        sleep(INTERVAL / 10).await;
    }
    assert!((90..=112).contains(&told.times().len()), "{}", told.times().len());
    assert!(told.kept_rhythm());
}

#[tokio::test(start_paused = true)]
async fn a_target_taken_away_is_checked_no_more() {
    let mut checkers = passing();
    let (gone, told) = target(1);
    checkers.sync([gone, target(2).0]);
    sleep(INTERVAL * 3).await;
    checkers.sync([target(2).0]);
    let before = told.times().len();
    sleep(INTERVAL * 3).await;
    assert_eq!(told.times().len(), before);
}

#[tokio::test(start_paused = true)]
async fn a_changed_interval_counts_from_the_next_sync() {
    let mut checkers = passing();
    let (target, told) = target(1);
    checkers.sync([target.clone()]);
    sleep(INTERVAL * 2).await;
    checkers.sync([CheckedBackend { interval: INTERVAL / 10, ..target }]);
    let before = told.times().len();
    sleep(INTERVAL * 2).await;
    assert!((17..=24).contains(&(told.times().len() - before)), "{}", told.times().len() - before);
    assert_eq!(tasks().await, 1);
}

#[tokio::test(start_paused = true)]
async fn outcomes_go_to_the_subject_of_the_last_sync() {
    let mut checkers = passing();
    let (old, old_told) = target(1);
    checkers.sync([old]);
    sleep(INTERVAL * 2).await;
    let before = old_told.times().len();
    let (new, new_told) = target(1);
    checkers.sync([new]);
    sleep(INTERVAL * 2).await;
    assert_eq!(old_told.times().len(), before);
    assert!(!new_told.times().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_check_that_panics_fails_and_its_checker_goes_on() {
    let calls = AtomicUsize::new(0);
    let mut checkers = Checkers::examining(AT_ONCE, move |_, _| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => panic!("before its first poll"),
        1 => async { panic!("while polled") }.boxed(),
        _ => async { Ok(()) }.boxed(),
    });
    let (target, told) = target(1);
    checkers.sync([target]);
    sleep(INTERVAL * 5).await;
    let panicked = Err("the check panicked".to_owned());
    assert_eq!(told.outcomes()[..3], [panicked.clone(), panicked, Ok(())]);
}

#[tokio::test(start_paused = true)]
async fn a_subject_that_panics_does_not_end_its_checker() {
    struct Panicking(mpsc::UnboundedSender<()>);
    impl Subject for Panicking {
        fn report(&self, _: Result<(), CheckError>) {
            self.0.send(()).unwrap();
            panic!("a subject's own fault");
        }
    }
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut checkers = passing();
    checkers.sync([CheckedBackend { subject: Arc::new(Panicking(sender)), ..target(1).0 }]);
    for _ in 0..3 {
        receiver.recv().await.unwrap();
    }
    assert_eq!(tasks().await, 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_checks_run_at_once_than_may() {
    static RUNNING: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let examine = |_, _| {
        async {
            MOST.fetch_max(RUNNING.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(INTERVAL).await;
            RUNNING.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
        .boxed()
    };
    let mut checkers = Checkers::examining(AT_ONCE, examine);
    let (targets, told) = targets(0..600);
    checkers.sync(targets);
    sleep(INTERVAL * 10).await;
    assert_eq!(MOST.load(Ordering::SeqCst), AT_ONCE);
    assert!(told.iter().all(|told| !told.times().is_empty()), "each got its turn");
}

#[tokio::test(start_paused = true)]
async fn a_first_round_reports_every_target_once() {
    let (targets, told) = targets(0..2000);
    let mut checkers = Checkers::examining(AT_ONCE, |_, address| {
        async move {
            sleep(Duration::from_millis(50)).await;
            if address.port() % 2 == 0 { Ok(()) } else { Err(CheckError::Refused) }
        }
        .boxed()
    });
    let start = Instant::now();
    checkers.first_round(&targets).await;
    assert!(start.elapsed() < TIMEOUT);
    for (number, told) in told.iter().enumerate() {
        let expected = if number % 2 == 0 { Ok(()) } else { Err("connection refused".to_owned()) };
        assert_eq!(told.outcomes(), [expected]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_round_checks_every_silent_target_in_as_many_timeouts_as_that_takes() {
    let (targets, told) = targets(0..2000);
    let start = Instant::now();
    let mut checkers = silent();
    checkers.first_round(&targets).await;
    let rounds = u32::try_from(2000_usize.div_ceil(AT_ONCE)).unwrap();
    assert!(start.elapsed() <= (TIMEOUT + GRACE) * rounds + Duration::from_millis(2), "{:?}", start.elapsed());
    for told in told {
        assert_eq!(told.outcomes(), [Err("no answer within 1s".to_owned())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_round_ends_each_check_after_its_own_timeout_s_share() {
    let mut checkers = silent();
    let (short, told_short) = target(1);
    let (long, told_long) = target(2);
    let long = CheckedBackend { probe: probe(TIMEOUT * 3), ..long };
    let start = Instant::now();
    checkers.first_round(&[short, long]).await;
    assert!(start.elapsed() <= TIMEOUT * 3 + GRACE + Duration::from_millis(2));
    assert_eq!(told_short.outcomes(), [Err("no answer within 1s".to_owned())]);
    assert_eq!(told_long.outcomes(), [Err("no answer within 3s".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_target_that_the_first_round_judged_is_not_checked_again_at_once() {
    let (targets, told) = targets(0..10);
    let mut checkers = passing();
    checkers.first_round(&targets[..5]).await;
    checkers.sync(targets);
    sleep(Duration::from_millis(1)).await;
    let counts: Vec<_> = told.iter().map(|told| told.outcomes().len()).collect();
    assert!(counts[5..].iter().all(|count| *count == 1), "{counts:?}");
    sleep(INTERVAL * 3).await;
    assert!(told.iter().all(|told| told.outcomes().len() > 2));
}

#[tokio::test(start_paused = true)]
async fn a_check_that_is_wanted_comes_before_its_time_and_no_sooner_than_a_tenth_of_the_interval_after_the_last() {
    let mut checkers = passing();
    let (target, told) = target(1);
    checkers.first_round(std::slice::from_ref(&target)).await;
    checkers.sync([target.clone()]);
    tokio::task::yield_now().await;
    target.check_wanted.notify_one();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(told.outcomes().len(), 2, "nothing was checked by the checker yet, so it comes at once");
    let until = Instant::now() + INTERVAL / 2;
    while Instant::now() < until {
        target.check_wanted.notify_one();
        sleep(INTERVAL / 1_000).await;
    }
    assert!((6..=7).contains(&told.outcomes().len()), "{}", told.outcomes().len());
}

#[tokio::test(start_paused = true)]
async fn a_check_for_which_the_gateway_was_short_of_something_is_not_the_backends_first() {
    let calls = AtomicUsize::new(0);
    let mut checkers = Checkers::examining(AT_ONCE, move |_, _| {
        let local = calls.fetch_add(1, Ordering::Relaxed) == 0;
        async move { if local { Err(CheckError::Local(LocalFailure::ProcessDescriptors)) } else { Ok(()) } }.boxed()
    });
    let (target, told) = target(1);
    checkers.first_round(std::slice::from_ref(&target)).await;
    checkers.sync([target]);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(told.outcomes().len(), 2, "it is checked again at once: nothing is known of it");
}

#[tokio::test(start_paused = true)]
async fn a_subject_is_called_at_the_moment_it_names() {
    struct Due(std::time::Instant, Mutex<Vec<std::time::Instant>>);
    impl Subject for Due {
        fn report(&self, _: Result<(), CheckError>) {}
        fn attend(&self) -> Option<std::time::Instant> {
            let now = Instant::now().into_std();
            self.1.lock().unwrap().push(now);
            (now < self.0).then_some(self.0)
        }
    }
    let at = (Instant::now() + INTERVAL / 20).into_std();
    let due = Arc::new(Due(at, Mutex::default()));
    let mut checkers = passing();
    let target = CheckedBackend { interval: INTERVAL * 1_000, subject: due.clone(), ..target(1).0 };
    checkers.sync([target]);
    sleep(INTERVAL / 10).await;
    let calls = due.1.lock().unwrap().clone();
    let late = calls.last().unwrap().duration_since(at);
    assert!(calls.len() >= 2 && late <= Duration::from_millis(2), "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_round_over_nothing_ends_at_once() {
    passing().first_round(&[]).await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_checkers_ends_them_all() {
    let mut checkers = silent();
    checkers.sync(targets(0..300).0);
    sleep(INTERVAL).await;
    assert_eq!(tasks().await, 300);
    drop(checkers);
    assert_eq!(tasks().await, 0);
}
