//! Promises of the health rules.

use super::*;
use crate::upstream::ClientNetwork;

const RULES: Thresholds = Thresholds { rise: 2, fall: 3 };

fn down() -> Option<HealthChange> {
    down_by(DownBy::Checks)
}

fn down_by(by: DownBy) -> Option<HealthChange> {
    Some(HealthChange::Down { reason: "refused".to_owned(), by })
}

fn network(number: u8) -> ClientNetwork {
    std::net::IpAddr::from([10, 0, number, 1]).into()
}

fn up() -> Option<HealthChange> {
    Some(HealthChange::Up { reason: "passed".to_owned() })
}

/// A backend whose first check has passed.
fn checked() -> HealthState {
    let mut health = HealthState::default();
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
    health
}

/// A backend that is down, by checks.
fn fallen() -> HealthState {
    let mut health = HealthState::default();
    assert_eq!(health.check_failed(RULES, "refused"), down());
    health
}

#[test]
fn a_backend_starts_as_up() {
    assert!(HealthState::default().is_up());
}

#[test]
fn the_first_check_decides_at_once() {
    assert!(!fallen().is_up());
    assert!(checked().is_up());
}

#[test]
fn after_the_first_check_it_takes_fall_failures_in_a_row() {
    let mut health = checked();
    for _ in 0..5 {
        assert_eq!(health.check_failed(RULES, "refused"), None);
        assert_eq!(health.check_failed(RULES, "refused"), None);
        assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
    }
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), down());
    assert_eq!(health.check_failed(RULES, "refused"), None);
}

#[test]
fn it_takes_rise_passes_in_a_row_to_come_back() {
    let mut health = fallen();
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
    assert!(!health.is_up());
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), up());
    assert!(health.is_up());
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
}

#[test]
fn a_passed_check_forgives_no_failed_connect() {
    let mut health = checked();
    for expected in [None, None, down_by(DownBy::Connects)] {
        assert_eq!(health.connect_failed(RULES, "refused"), expected);
        health.check_passed(RULES, "passed", Instant::now());
    }
}

#[test]
fn a_connect_forgives_those_that_failed_but_not_checks_that_did() {
    let mut health = checked();
    for _ in 0..2 {
        assert_eq!(health.connect_failed(RULES, "refused"), None);
        assert_eq!(health.check_failed(RULES, "refused"), None);
    }
    health.connected();
    assert!(!health.is_doubted());
    assert_eq!(health.connect_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), down());
}

#[test]
fn failed_connects_take_down_even_before_the_first_check_and_checks_bring_back() {
    let mut health = HealthState::default();
    for expected in [None, None, down_by(DownBy::Connects)] {
        assert_eq!(health.connect_failed(RULES, "refused"), expected);
    }
    assert_eq!(health.traffic_succeeded(Instant::now()), None);
    assert!(!health.is_up());
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), None);
    assert_eq!(health.check_passed(RULES, "passed", Instant::now()), up());
}

#[test]
fn checks_that_fail_confirm_what_connects_said_once() {
    let mut health = checked();
    (0..3).for_each(|_| _ = health.connect_failed(RULES, "refused"));
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), Some(HealthChange::Confirmed { reason: "refused".to_owned() }));
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert!(!health.is_up());
}

#[test]
fn coming_back_forgives_all_failures() {
    let mut health = checked();
    let now = Instant::now();
    health.request_failed(FailedRequest { network: network(1), on_trial: false }, false, 3, now);
    (0..3).for_each(|_| _ = health.connect_failed(RULES, "refused"));
    assert_eq!(health.connect_failed(RULES, "refused"), None);
    health.check_passed(RULES, "passed", now);
    assert_eq!(health.check_passed(RULES, "passed", now), up());
    assert!(!health.is_doubted());
    for expected in [None, None, down_by(DownBy::Connects)] {
        assert_eq!(health.connect_failed(RULES, "refused"), expected);
    }
}

#[test]
fn whatever_strangers_make_fail_a_backend_that_passes_its_checks_stays_up() {
    let mut health = checked();
    for n in 0..1_000_u32 {
        let network = ClientNetwork::from(std::net::IpAddr::from(n.to_be_bytes()));
        health.request_failed(FailedRequest { network, on_trial: false }, true, 1, Instant::now());
        assert!(health.is_up());
    }
}

#[test]
fn thresholds_of_zero_count_as_one() {
    let rules = Thresholds { rise: 0, fall: 0 };
    let mut health = checked();
    assert_eq!(health.connect_failed(rules, "refused"), down_by(DownBy::Connects));
    assert_eq!(health.check_passed(rules, "passed", Instant::now()), up());
    assert_eq!(health.check_failed(rules, "refused"), down());
}
