//! Promises of doubt: one client ejects nobody, and an ejection ends with one request on trial.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const FALL: u32 = 3;

fn network(number: u8) -> ClientNetwork {
    IpAddr::from([10, 0, number, 1]).into()
}

/// A request of a network's that is not on trial.
fn usual(number: u8) -> FailedRequest {
    FailedRequest { network: network(number), on_trial: false }
}

/// A request of a network's that is on trial.
fn trial(number: u8) -> FailedRequest {
    FailedRequest { network: network(number), on_trial: true }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A backend that is ejected at `now`.
fn ejected(now: Instant) -> Doubt {
    let mut doubt = Doubt::default();
    assert_eq!(doubt.eject(now), SHORTEST);
    doubt
}

#[test]
fn failures_of_one_network_are_no_evidence_unless_nobody_else_comes() {
    let (mut doubt, now) = (Doubt::default(), Instant::now());
    for _ in 0..100 {
        assert!(!doubt.failed(usual(1), false, FALL, now));
    }
    assert!(doubt.failed(usual(1), true, FALL, now));
    let mut doubt = Doubt::default();
    assert!(!doubt.failed(usual(1), true, FALL, now));
    assert!(!doubt.failed(usual(1), true, FALL, now));
    assert!(doubt.failed(usual(1), true, FALL, now));
}

#[test]
fn fall_failures_in_a_row_from_three_networks_are_evidence() {
    let (mut doubt, now) = (Doubt::default(), Instant::now());
    assert!(!doubt.failed(usual(1), false, FALL, now));
    assert!(!doubt.failed(usual(2), false, FALL, now));
    assert!(!doubt.failed(usual(2), false, FALL, now));
    assert!(doubt.failed(usual(3), false, FALL, now));
    let mut doubt = Doubt::default();
    (1..=3).for_each(|number| assert!(!doubt.failed(usual(number), false, 4, now)));
    assert!(doubt.failed(usual(1), false, 4, now));
}

#[test]
fn a_success_of_anybody_forgets_all_failures() {
    let (mut doubt, now) = (Doubt::default(), Instant::now());
    for _ in 0..10 {
        assert!(!doubt.failed(usual(1), false, FALL, now));
        assert!(!doubt.failed(usual(2), false, FALL, now));
        assert!(doubt.is_any());
        assert!(!doubt.succeeded(now));
        assert!(!doubt.is_any());
    }
}

#[test]
fn a_check_that_passes_forgets_failures_a_minute_old_and_no_others() {
    let (mut doubt, now) = (Doubt::default(), Instant::now());
    doubt.failed(usual(1), false, FALL, now);
    doubt.check_passed(now + seconds(59));
    assert!(doubt.is_any());
    doubt.check_passed(now + seconds(60));
    assert!(!doubt.is_any());
    let mut doubt = ejected(now);
    doubt.check_passed(now + seconds(1_000));
    assert!(doubt.is_ejected());
}

#[test]
fn an_ejection_admits_nobody_until_its_time_and_then_one_request() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    assert_eq!(doubt.attend(now + seconds(4)), Some(now + seconds(5)));
    assert!(!doubt.admits() && !doubt.take_trial());
    assert_eq!(doubt.attend(now + seconds(5)), None);
    assert!(doubt.admits());
    assert!(doubt.take_trial());
    assert!(!doubt.admits() && !doubt.take_trial());
}

#[test]
fn a_trial_that_succeeds_ends_the_ejection() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    doubt.attend(now + seconds(5));
    doubt.take_trial();
    assert!(doubt.succeeded(now + seconds(6)));
    doubt.trial_ended();
    assert!(!doubt.is_ejected() && doubt.admits() && !doubt.is_any());
}

#[test]
fn a_trial_that_its_client_leaves_is_given_to_the_next_request() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    doubt.attend(now + seconds(5));
    doubt.take_trial();
    doubt.trial_ended();
    assert!(doubt.is_ejected() && doubt.admits());
    assert!(doubt.take_trial());
}

#[test]
fn trials_that_fail_make_ejections_longer_up_to_five_minutes() {
    let mut now = Instant::now();
    let mut doubt = ejected(now);
    let mut length = seconds(5);
    for expected in [10, 20, 40, 80, 160, 300, 300, 300] {
        now += length;
        doubt.attend(now);
        assert!(doubt.take_trial());
        assert!(doubt.failed(trial(1), true, FALL, now));
        length = doubt.eject(now);
        assert_eq!(length, seconds(expected));
    }
}

#[test]
fn an_ejection_soon_after_the_last_one_is_longer_and_one_long_after_is_not() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    doubt.succeeded(now + seconds(5));
    assert_eq!(doubt.eject(now + seconds(300)), seconds(10));
    doubt.succeeded(now + seconds(310));
    assert_eq!(doubt.eject(now + seconds(610)), seconds(5));
}

#[test]
fn trials_of_one_network_do_not_prolong_an_ejection_and_those_of_three_do() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    doubt.attend(now + seconds(5));
    for _ in 0..10 {
        assert!(doubt.take_trial());
        assert!(!doubt.failed(trial(1), false, FALL, now + seconds(6)));
        doubt.trial_ended();
    }
    assert!(doubt.take_trial() && !doubt.failed(trial(2), false, FALL, now + seconds(6)));
    doubt.trial_ended();
    assert!(doubt.take_trial() && doubt.failed(trial(3), false, FALL, now + seconds(6)));
    assert_eq!(doubt.eject(now + seconds(6)), seconds(10));
}

#[test]
fn stragglers_change_nothing_once_the_trial_is_open_either() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    doubt.attend(now + seconds(5));
    (0..10).for_each(|number| assert!(!doubt.failed(usual(number), true, 1, now)));
    assert!(doubt.admits());
}

#[test]
fn stragglers_of_an_ejected_backend_change_nothing() {
    let now = Instant::now();
    let mut doubt = ejected(now);
    (0..10).for_each(|number| assert!(!doubt.failed(usual(number), true, 1, now)));
    assert_eq!(doubt.attend(now), Some(now + seconds(5)));
}

proptest! {
    /// Two networks together, with whatever timing, never are evidence while others come.
    #[test]
    fn fewer_than_three_networks_eject_nobody(steps in prop::collection::vec((1_u8..3, 0_u8..4, 0_u64..100), 0..200)) {
        let (mut doubt, mut now) = (Doubt::default(), Instant::now());
        for (number, step, later) in steps {
            now += seconds(later);
            match step {
                0 => _ = doubt.succeeded(now),
                1 => doubt.check_passed(now),
                _ => prop_assert!(!doubt.failed(usual(number), false, FALL, now)),
            }
        }
    }

    /// However requests, failures and time mix, an ejected backend has at most one request on trial.
    #[test]
    fn at_most_one_request_is_on_trial(steps in prop::collection::vec((0_u8..6, 0_u64..10), 0..200)) {
        let mut now = Instant::now();
        let mut doubt = ejected(now);
        let mut on_trial = 0;
        for (step, later) in steps {
            now += seconds(later);
            match step {
                0 => _ = doubt.attend(now),
                1 => on_trial += u32::from(doubt.take_trial()),
                2 if on_trial > 0 => {
                    on_trial -= 1;
                    doubt.trial_ended();
                }
                3 if on_trial > 0 && doubt.failed(trial(1), true, FALL, now) => {
                    doubt.eject(now);
                    on_trial = 0;
                }
                _ => {}
            }
            prop_assert!(on_trial <= 1 && doubt.is_ejected());
        }
    }
}
