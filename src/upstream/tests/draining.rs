//! Backends that are drained: they get nothing new, and keep their place.

use super::*;

#[test]
fn a_backend_that_is_drained_gets_nothing_new_and_keeps_its_place() {
    for upstream in [upstream(&[1, 2, 3]), bounded(&[1, 2, 3], 1.25)] {
        let order = upstream.order(b"key");
        let first = |key: Option<&[u8]>| upstream.pick(key, &[]).map(|pick| pick.index);
        upstream.states()[order[0]].set_draining(true);
        assert_eq!(first(Some(b"key")), Ok(order[1]));
        assert_eq!(upstream.order(b"key"), order);
        for _ in 0..20 {
            assert_ne!(first(None), Ok(order[0]));
        }
        upstream.states()[order[1]].set_draining(true);
        upstream.states()[order[2]].set_draining(true);
        assert_eq!(first(Some(b"key")), Err(Unavailable::AllDown));
        assert_eq!(first(None), Err(Unavailable::AllDown));
        upstream.states()[order[0]].set_draining(false);
        assert_eq!(first(Some(b"key")), Ok(order[0]));
    }
}

#[test]
fn failing_open_leaves_what_is_drained_alone() {
    let upstream = Upstream::compile(&config::Upstream { fail_open: true, ..config(&[1, 1]) }, &Registry::default());
    take_down(&upstream, 0);
    take_down(&upstream, 1);
    upstream.states()[0].set_draining(true);
    for _ in 0..5 {
        assert_eq!(upstream.pick(None, &[]).map(|pick| pick.index), Ok(1));
    }
    upstream.states()[1].set_draining(true);
    assert!(upstream.pick(Some(b"key"), &[]).is_err());
}

#[test]
fn a_drain_outlives_a_reload() {
    let registry = Registry::default();
    let before = Upstream::compile(&config(&[1, 1]), &registry);
    before.states()[0].set_draining(true);
    let after = Upstream::compile(&config(&[5, 1]), &registry);
    drop(before);
    assert!(after.states()[0].is_draining());
    assert_eq!(after.pick(None, &[]).map(|pick| pick.index), Ok(1));
}
