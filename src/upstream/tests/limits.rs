//! Picks within `limits`: full backends are passed over, and nothing is counted twice or forgotten.

use super::*;
use crate::config::{Admission, BackendLimits};

fn limited(weights: &[u16], limits: BackendLimits, admission: Option<Admission>) -> Upstream {
    let config = config::Upstream { limits, admission, ..config(weights) };
    let upstream = Upstream::compile(&config, &Registry::default());
    upstream.enforce_admission(Instant::now());
    upstream
}

fn tunnels(most: usize) -> BackendLimits {
    BackendLimits { tunnels: Some(most), ..BackendLimits::default() }
}

#[test]
fn a_full_backend_is_passed_over_along_the_ring() {
    let upstream = limited(&[1, 1, 1], tunnels(2), None);
    let order = upstream.order(b"key");
    let pick = || upstream.pick_within(Demand::Tunnel, Some(b"key"), &[]);
    let mut kept: Vec<_> = (0..6).map(|_| pick().unwrap()).collect();
    let got: Vec<_> = kept.iter().map(|pick| pick.index).collect();
    assert_eq!(got, [order[0], order[0], order[1], order[1], order[2], order[2]]);
    assert_eq!((kept[0].how, kept[2].how), (Picked::Ring, Picked::NextOnRing));
    assert_eq!(pick().unwrap_err(), Unavailable::AllFull);
    kept.remove(0);
    assert_eq!(pick().unwrap().index, order[0], "its room is there again");
}

#[test]
fn keyless_clients_find_the_last_room_there_is() {
    let upstream = limited(&[1, 1, 1], tunnels(2), None);
    let kept: Vec<_> = (0..6).map(|_| upstream.pick_within(Demand::Tunnel, None, &[]).unwrap()).collect();
    assert!((0..3).all(|index| kept.iter().filter(|pick| pick.index == index).count() == 2));
    assert_eq!(upstream.pick_within(Demand::Tunnel, None, &[]).unwrap_err(), Unavailable::AllFull);
}

#[test]
fn tunnels_and_requests_are_bounded_apart() {
    let limits = BackendLimits { tunnels: Some(1), requests: Some(2), per_key: None };
    let upstream = limited(&[1], limits, None);
    let pick = |demand| upstream.pick_within(demand, Some(b"key"), &[]);
    let _tunnel = pick(Demand::Tunnel).unwrap();
    let _requests = [pick(Demand::Request).unwrap(), pick(Demand::Request).unwrap()];
    assert_eq!(pick(Demand::Request).unwrap_err(), Unavailable::AllFull);
    assert_eq!(pick(Demand::Tunnel).unwrap_err(), Unavailable::AllFull);
}

#[test]
fn a_backend_that_is_down_is_not_called_full() {
    let upstream = limited(&[1], tunnels(1), None);
    take_down(&upstream, 0);
    assert_eq!(upstream.pick_within(Demand::Tunnel, Some(b"key"), &[]).unwrap_err(), Unavailable::AllDown);
}

#[test]
fn where_there_is_a_queue_a_full_backend_is_picked_to_wait_for() {
    let upstream = limited(&[1, 1], tunnels(1), Some(Admission::default()));
    let order = upstream.order(b"key");
    let pick = || upstream.pick_within(Demand::Tunnel, Some(b"key"), &[]).unwrap();
    let kept: Vec<_> = (0..4).map(|_| pick()).collect();
    let got: Vec<_> = kept.iter().map(|pick| pick.index).collect();
    assert_eq!(got, [order[0], order[1], order[0], order[0]]);
    assert_eq!(upstream.states()[order[0]].claims(), 3);
}

#[test]
fn a_tunnel_that_came_from_another_process_counts() {
    let registry = Registry::default();
    let config = config::Upstream { limits: tunnels(1), ..config(&[1]) };
    let upstream = Upstream::compile(&config, &registry);
    let mut moved = registry.backend("u", &upstream.members()[0].name, upstream.members()[0].address).occupy();
    moved.mark_tunnel();
    assert_eq!(upstream.pick_within(Demand::Tunnel, None, &[]).unwrap_err(), Unavailable::AllFull);
    drop(moved);
    assert!(upstream.pick_within(Demand::Tunnel, None, &[]).is_ok());
    assert_eq!(upstream.states()[0].claims(), 0);
}

#[test]
fn threads_that_pick_at_once_never_pass_the_limit() {
    for key in [None, Some(&b"key"[..])] {
        let upstream = limited(&[1, 1, 1], tunnels(10), None);
        let kept = std::thread::scope(|scope| {
            let pick =
                || (0..20).filter_map(|_| upstream.pick_within(Demand::Tunnel, key, &[]).ok()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(pick)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(upstream.states().iter().all(|state| state.claims() <= 10));
        // Without a key two may choose the same backend at once, and one of them look in vain a few times.
        assert!(kept.len() == 30 || key.is_none() && kept.len() >= 27, "{}", kept.len());
    }
}
