//! Promises of the registry: identities that outlive reloads, and no memory of those that nobody uses.

use super::*;
use crate::upstream::Thresholds;

const RULES: Thresholds = Thresholds { rise: 1, fall: 1 };

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[test]
fn an_identity_in_use_is_found_again_and_one_out_of_use_begins_anew() {
    let registry = Registry::default();
    let state = registry.backend("u", "1", address(1));
    state.connect_failed(RULES, "refused");
    let guard = registry.backend("u", "1", address(1)).occupy();
    assert!(!Arc::ptr_eq(&state, &registry.backend("other", "1", address(1))));
    assert!(!Arc::ptr_eq(&state, &registry.backend("u", "2", address(2))));
    drop(state);

    let again = registry.backend("u", "1", address(1));
    assert_eq!((again.load(), again.is_up()), (1, false));
    drop((again, guard));
    assert!(registry.backend("u", "1", address(1)).is_up());
}

#[test]
fn the_registry_forgets_what_no_one_uses() {
    let registry = Registry::default();
    let kept: Vec<_> = (0..10).map(|port| registry.backend("kept", &port.to_string(), address(port))).collect();
    for round in 0..1_000 {
        drop(registry.backend(&format!("u{round}"), "1", address(1)));
    }
    let backends = lock(&registry.backends);
    let entries: usize = backends.by_upstream.values().map(HashMap::len).sum();
    assert_eq!(entries, backends.entries);
    assert!(entries <= 2 * (kept.len() + 1) + 1, "{entries} entries for {} backends", kept.len());
}
