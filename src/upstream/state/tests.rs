//! Promises of live state: counters that never drift, and identities that outlive reloads.

use super::*;
use crate::upstream::{DownBy, Registry};

const RULES: Thresholds = Thresholds { rise: 1, fall: 1 };

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn load_is_counted_while_the_guard_lives() {
    let state = Registry::default().backend("u", "a", address(1));
    let request = state.occupy();
    let mut tunnel = state.occupy();
    tunnel.mark_tunnel();
    tunnel.mark_tunnel();
    assert_eq!((state.load(), state.tunnels()), (2, 1));
    drop(request);
    assert_eq!((state.load(), state.tunnels()), (1, 1));
    drop(tunnel);
    assert_eq!((state.load(), state.tunnels()), (0, 0));
}

#[test]
fn a_backend_is_occupied_up_to_the_limit_and_no_further() {
    let state = Registry::default().backend("u", "a", address(1));
    let guards: Vec<_> = (0..5).map_while(|_| state.occupy_within(3, Room::unbounded(Demand::Request))).collect();
    assert_eq!((guards.len(), state.load()), (3, 3));
    drop(guards);
    assert!(state.occupy_within(1, Room::unbounded(Demand::Request)).is_some());
    assert!(state.occupy_within(0, Room::unbounded(Demand::Request)).is_none());
    assert_eq!(state.load(), 0);
}

#[test]
fn a_change_of_health_is_seen_without_the_lock() {
    let state = Registry::default().backend("u", "a", address(1));
    assert_eq!(
        state.check_failed(RULES, "refused"),
        Some(HealthChange::Down { reason: "refused".to_owned(), by: DownBy::Checks })
    );
    assert!(!state.is_up());
    assert_eq!(
        state.check_passed(RULES, "passed", Instant::now()),
        Some(HealthChange::Up { reason: "passed".to_owned() })
    );
    assert!(state.is_up());
}

#[test]
fn a_success_clears_the_failures_before_it() {
    let state = Registry::default().backend("u", "a", address(1));
    let rules = Thresholds { rise: 1, fall: 2 };
    for _ in 0..5 {
        assert_eq!(state.connect_failed(rules, "refused"), None);
        assert_eq!(state.traffic_succeeded(Instant::now), None);
    }
    assert!(state.is_up());
}

#[test]
fn a_backend_with_a_new_address_keeps_what_it_carries_and_its_drain_and_begins_its_health_anew() {
    let registry = Registry::default();
    let before = registry.backend("u", "shard-0", address(1));
    let _tunnel = before.occupy();
    before.set_draining(true);
    before.check_failed(RULES, "refused");
    let after = registry.backend("u", "shard-0", address(2));
    assert!(after.is_same(&before) && !Arc::ptr_eq(&after, &before));
    assert_eq!((after.load(), after.is_draining(), after.is_up()), (1, true, false));
    after.settle();
    assert!(after.is_up());
    assert_eq!(before.check_failed(RULES, "refused"), None, "the result is about an address that it has no more");
    assert!(after.is_up() && after.check_failed(RULES, "refused").is_some());
    assert_eq!((before.to_string(), after.address()), ("u/shard-0 (127.0.0.1:1)".to_owned(), address(2)));
}
