//! What the health rules promise.

use super::*;

const RULES: Thresholds = Thresholds { rise: 2, fall: 3 };

fn down() -> Option<Change> {
    Some(Change::Down { reason: "refused".to_owned() })
}

fn up() -> Option<Change> {
    Some(Change::Up { reason: "passed".to_owned() })
}

/// A backend whose first check has passed.
fn checked() -> HealthState {
    let mut health = HealthState::default();
    assert_eq!(health.check_passed(RULES, "passed"), None);
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
        assert_eq!(health.check_passed(RULES, "passed"), None);
    }
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), down());
    assert_eq!(health.check_failed(RULES, "refused"), None);
}

#[test]
fn it_takes_rise_passes_in_a_row_to_come_back() {
    let mut health = fallen();
    assert_eq!(health.check_passed(RULES, "passed"), None);
    assert_eq!(health.check_failed(RULES, "refused"), None);
    assert_eq!(health.check_passed(RULES, "passed"), None);
    assert!(!health.is_up());
    assert_eq!(health.check_passed(RULES, "passed"), up());
    assert!(health.is_up());
    assert_eq!(health.check_passed(RULES, "passed"), None);
}

#[test]
fn a_passed_check_forgives_no_failure_of_real_traffic() {
    let mut health = checked();
    for expected in [None, None, down()] {
        assert_eq!(health.traffic_failed(RULES, "refused"), expected);
        health.check_passed(RULES, "passed");
    }
}

#[test]
fn a_success_of_real_traffic_forgives_its_failures_but_not_those_of_checks() {
    let mut health = checked();
    for _ in 0..2 {
        assert_eq!(health.traffic_failed(RULES, "refused"), None);
        assert_eq!(health.check_failed(RULES, "refused"), None);
    }
    health.traffic_succeeded();
    assert!(!health.is_doubted());
    assert_eq!(health.traffic_failed(RULES, "refused"), None);
    assert_eq!(health.check_failed(RULES, "refused"), down());
}

#[test]
fn real_traffic_takes_down_even_before_the_first_check_and_checks_bring_back() {
    let mut health = HealthState::default();
    for expected in [None, None, down()] {
        assert_eq!(health.traffic_failed(RULES, "refused"), expected);
    }
    health.traffic_succeeded();
    assert!(!health.is_up());
    assert_eq!(health.check_passed(RULES, "passed"), None);
    assert_eq!(health.check_passed(RULES, "passed"), up());
}

#[test]
fn coming_back_forgives_all_failures() {
    let mut health = checked();
    for _ in 0..3 {
        health.traffic_failed(RULES, "refused");
    }
    assert_eq!(health.traffic_failed(RULES, "refused"), None);
    health.check_passed(RULES, "passed");
    assert_eq!(health.check_passed(RULES, "passed"), up());
    assert!(!health.is_doubted());
    assert_eq!(health.traffic_failed(RULES, "refused"), None);
    assert_eq!(health.traffic_failed(RULES, "refused"), None);
    assert_eq!(health.traffic_failed(RULES, "refused"), down());
}

#[test]
fn thresholds_of_zero_count_as_one() {
    let rules = Thresholds { rise: 0, fall: 0 };
    let mut health = checked();
    assert_eq!(health.traffic_failed(rules, "refused"), down());
    assert_eq!(health.check_passed(rules, "passed"), up());
    assert_eq!(health.check_failed(rules, "refused"), down());
}
