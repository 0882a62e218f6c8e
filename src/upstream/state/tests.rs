//! Promises of live state: counters that never drift, and identities that outlive reloads.

use super::*;
use crate::upstream::DownBy;

const RULES: Thresholds = Thresholds { rise: 1, fall: 1 };

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn load_is_counted_while_the_guard_lives() {
    let state = Registry::default().backend("u", address(1));
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
    let state = Registry::default().backend("u", address(1));
    let guards: Vec<_> = (0..5).map_while(|_| state.occupy_within(3)).collect();
    assert_eq!((guards.len(), state.load()), (3, 3));
    drop(guards);
    assert!(state.occupy_within(1).is_some());
    assert!(state.occupy_within(0).is_none());
    assert_eq!(state.load(), 0);
}

#[test]
fn an_identity_in_use_is_found_again_and_one_out_of_use_begins_anew() {
    let registry = Registry::default();
    let state = registry.backend("u", address(1));
    state.connect_failed(RULES, "refused");
    let guard = registry.backend("u", address(1)).occupy();
    assert!(!Arc::ptr_eq(&state, &registry.backend("other", address(1))));
    assert!(!Arc::ptr_eq(&state, &registry.backend("u", address(2))));
    drop(state);

    let again = registry.backend("u", address(1));
    assert_eq!((again.load(), again.is_up()), (1, false));
    drop((again, guard));
    assert!(registry.backend("u", address(1)).is_up());
}

#[test]
fn the_registry_forgets_what_no_one_uses() {
    let registry = Registry::default();
    let kept: Vec<_> = (0..10).map(|port| registry.backend("kept", address(port))).collect();
    for round in 0..1_000 {
        drop(registry.backend(&format!("u{round}"), address(1)));
    }
    let backends = lock(&registry.backends);
    let entries: usize = backends.by_upstream.values().map(HashMap::len).sum();
    assert_eq!(entries, backends.entries);
    assert!(entries <= 2 * (kept.len() + 1) + 1, "{entries} entries for {} backends", kept.len());
}

#[test]
fn a_change_of_health_is_seen_without_the_lock() {
    let state = Registry::default().backend("u", address(1));
    assert_eq!(
        state.check_failed(RULES, "refused"),
        Some(Change::Down { reason: "refused".to_owned(), by: DownBy::Checks })
    );
    assert!(!state.is_up());
    assert_eq!(state.check_passed(RULES, "passed", Instant::now()), Some(Change::Up { reason: "passed".to_owned() }));
    assert!(state.is_up());
}

#[test]
fn a_success_clears_the_failures_before_it() {
    let state = Registry::default().backend("u", address(1));
    let rules = Thresholds { rise: 1, fall: 2 };
    for _ in 0..5 {
        assert_eq!(state.connect_failed(rules, "refused"), None);
        assert_eq!(state.traffic_succeeded(Instant::now), None);
    }
    assert!(state.is_up());
}
