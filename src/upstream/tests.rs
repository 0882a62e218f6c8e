//! Promises of picks: the ring's order, bounds kept, turns taken, and honest answers when no one is left.

use std::collections::HashMap;
use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

mod absent;
mod draining;
mod ejection;
mod limits;
mod replacing;

/// An upstream of backends 10.0.h.l:80 with the given weights, with health on.
fn config(weights: &[u16]) -> config::Upstream {
    let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    let backend = |(n, &weight)| config::Backend { name: None, address: address(n), weight };
    config::Upstream {
        name: "u".to_owned(),
        affinity: Vec::new(),
        backends: weights.iter().enumerate().map(backend).collect(),
        discover: None,
        balance_factor: None,
        health: Some(config::Health { fall: 1, rise: 1, ..config::Health::default() }),
        fail_open: false,
        tries: 2,
        drain_window: std::time::Duration::from_secs(30),
        on_change: config::OnChange::Close,
        rehome: None,
        tls: None,
        limits: config::BackendLimits::default(),
        admission: None,
        absent: None,
        proxy_protocol: None,
        timeouts: config::Timeouts::default(),
        tunnel: config::TunnelLimits::default(),
        rates: config::TunnelRates::default(),
    }
}

fn upstream(weights: &[u16]) -> Upstream {
    Upstream::compile(&config(weights), &Registry::default())
}

fn bounded(weights: &[u16], factor: f64) -> Upstream {
    Upstream::compile(&config::Upstream { balance_factor: Some(factor), ..config(weights) }, &Registry::default())
}

fn take_down(upstream: &Upstream, index: usize) {
    assert!(upstream.connect_failed(index, "refused").is_some());
    assert!(!upstream.is_up(index));
}

fn index_and_rule(pick: Result<PickedBackend, Unavailable>) -> Result<(usize, Picked), Unavailable> {
    pick.map(|pick| (pick.index, pick.how))
}

#[test]
fn a_key_gets_the_first_on_the_ring_that_is_up_and_not_tried() {
    let upstream = upstream(&[1, 2, 3, 4]);
    let order = upstream.order(b"key");
    let pick = |tried: &[usize]| index_and_rule(upstream.pick(Some(b"key"), tried));
    assert_eq!(pick(&[]), Ok((order[0], Picked::Ring)));
    assert_eq!(pick(&order[..1]), Ok((order[1], Picked::NextOnRing)));
    take_down(&upstream, order[0]);
    assert_eq!(pick(&[]), Ok((order[1], Picked::NextOnRing)));
    assert_eq!(pick(&[order[1]]), Ok((order[2], Picked::NextOnRing)));
    upstream.states()[order[0]].check_passed(Thresholds { rise: 1, fall: 1 }, "passed", Instant::now());
    assert_eq!(pick(&[]), Ok((order[0], Picked::Ring)));
}

#[test]
fn a_pick_counts_as_load_while_it_is_kept() {
    let upstream = upstream(&[1]);
    let pick = upstream.pick(Some(b"key"), &[]).unwrap();
    assert_eq!((pick.state.load(), pick.state.tunnels()), (1, 0));
    let state = Arc::clone(&pick.state);
    drop(pick);
    assert_eq!(state.load(), 0);
}

#[test]
fn all_down_and_all_tried_are_told_apart() {
    let upstream = upstream(&[1, 1, 0]);
    assert_eq!(upstream.pick(Some(b"key"), &[0, 1]).unwrap_err(), Unavailable::AllTried);
    assert_eq!(upstream.pick(None, &[0, 1]).unwrap_err(), Unavailable::AllTried);
    take_down(&upstream, 0);
    assert_eq!(upstream.pick(Some(b"key"), &[1]).unwrap_err(), Unavailable::AllTried);
    take_down(&upstream, 1);
    assert_eq!(upstream.pick(Some(b"key"), &[]).unwrap_err(), Unavailable::AllDown);
    assert_eq!(upstream.pick(None, &[]).unwrap_err(), Unavailable::AllDown);
    assert_eq!(upstream.pick(None, &[0]).unwrap_err(), Unavailable::AllTried);
}

#[test]
fn failing_open_takes_all_as_up_once_all_are_down() {
    for balance_factor in [None, Some(1.25)] {
        let config = config::Upstream { fail_open: true, balance_factor, ..config(&[1, 1, 1, 0]) };
        let upstream = Upstream::compile(&config, &Registry::default());
        let order = upstream.order(b"key");
        take_down(&upstream, order[0]);
        take_down(&upstream, order[1]);
        assert_eq!(index_and_rule(upstream.pick(Some(b"key"), &[])), Ok((order[2], Picked::NextOnRing)));
        assert_eq!(upstream.pick(Some(b"key"), &[order[2]]).unwrap_err(), Unavailable::AllTried);
        take_down(&upstream, order[2]);
        assert_eq!(index_and_rule(upstream.pick(Some(b"key"), &[])), Ok((order[0], Picked::Ring)));
        assert_eq!(index_and_rule(upstream.pick(Some(b"key"), &order[..1])), Ok((order[1], Picked::NextOnRing)));
        assert_eq!(upstream.pick(Some(b"key"), &order).unwrap_err(), Unavailable::AllTried);
        assert!((0..100).all(|_| upstream.pick(None, &[]).unwrap().index != 3));
    }
}

#[test]
fn with_health_off_nothing_is_ever_down() {
    let registry = Registry::default();
    let checked = Upstream::compile(&config(&[1, 1]), &registry);
    take_down(&checked, 0);
    let unchecked = Upstream::compile(&config::Upstream { health: None, ..config(&[1, 1]) }, &registry);
    assert!(unchecked.is_up(0));
    assert_eq!(unchecked.connect_failed(1, "refused"), None);
    assert!(unchecked.is_up(1));
}

#[test]
fn a_reload_keeps_load_and_health() {
    let registry = Registry::default();
    let old = Upstream::compile(&config(&[1, 1, 1]), &registry);
    let kept: Vec<_> = (0..6).map(|_| old.pick(None, &[]).unwrap()).collect();
    take_down(&old, 2);
    drop(old);
    let new = Upstream::compile(&config(&[1, 9]), &registry);
    assert_eq!([new.states()[0].load(), new.states()[1].load()], [2, 2]);
    let with_all = Upstream::compile(&config(&[1, 1, 1]), &registry);
    assert!(!with_all.is_up(2));
    drop(kept);
    assert_eq!(new.states()[0].load(), 0);
}

#[test]
fn after_a_reload_the_bound_is_reckoned_with_the_new_weights_and_the_load_there_was() {
    let registry = Registry::default();
    let compile = |weights| {
        let config = config::Upstream { balance_factor: Some(1.5), ..config(weights) };
        Upstream::compile(&config, &registry)
    };
    let old = compile(&[1, 1, 1]);
    let kept: Vec<_> = (0..9).map(|_| old.pick(Some(b"hot"), &[]).unwrap()).collect();
    let loads = |upstream: &Upstream| upstream.states().iter().map(|state| state.load()).collect::<Vec<_>>();
    let before = loads(&old);
    let new = compile(&[0, 1, 1]);
    drop(old);
    let load = before[1] + before[2];
    let more: Vec<_> = (0..20).map(|_| new.pick(Some(b"hot"), &[]).unwrap()).collect();
    // The load of backend 0 does not count in the bound any more.
    let limit = pick::load_limit(1.5, load + 19, 1, 2);
    assert_eq!(loads(&new)[more[0].index], limit, "{before:?} became {:?}", loads(&new));
    drop((kept, more));
    assert_eq!(loads(&new), [0, 0, 0]);
}

#[test]
fn an_empty_key_is_no_key() {
    let upstream = upstream(&[1; 8]);
    assert_eq!(upstream.pick(Some(b""), &[]).unwrap().how, Picked::LeastLoaded);
}

#[test]
fn a_backend_of_weight_0_gets_nothing_new() {
    for upstream in [upstream(&[0, 1, 0, 2]), bounded(&[0, 1, 0, 2], 1.1)] {
        for n in 0..200_u32 {
            let key = n.to_be_bytes();
            let key = (n % 2 == 0).then_some(&key[..]);
            assert!([1, 3].contains(&upstream.pick(key, &[]).unwrap().index));
            assert_eq!(upstream.pick(key, &[1]).unwrap().index, 3);
        }
    }
}

#[test]
fn keyless_tunnels_are_spread_by_weight() {
    let upstream = upstream(&[1, 2, 3, 0, 4]);
    let _kept: Vec<_> = (0..100).map(|_| upstream.pick(None, &[]).unwrap()).collect();
    let loads: Vec<_> = upstream.states().iter().map(|state| state.load()).collect();
    assert_eq!(loads, [10, 20, 30, 0, 40]);
}

#[test]
fn keyless_requests_one_after_the_other_are_spread_by_weight_too() {
    let upstream = upstream(&[1, 2, 3, 0, 4]);
    let mut counts = [0; 5];
    for _ in 0..1_000 {
        counts[upstream.pick(None, &[]).unwrap().index] += 1;
    }
    for (count, expected) in counts.into_iter().zip([100_i32, 200, 300, 0, 400]) {
        assert!((expected - count).abs() <= 10, "{counts:?}");
    }
}

#[test]
fn of_many_backends_idle_ones_take_turns_by_weight() {
    let weights: Vec<u16> = (0..500).map(|n| n % 4).collect();
    let upstream = upstream(&weights);
    let rounds = 50;
    let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
    let mut counts = vec![0_i32; weights.len()];
    for _ in 0..rounds * total {
        counts[upstream.pick(None, &[]).unwrap().index] += 1;
    }
    for (count, weight) in counts.into_iter().zip(weights) {
        let expected = rounds as i32 * i32::from(weight);
        assert!((expected - count).abs() <= 5, "{count} at weight {weight}, expected {expected}");
    }
}

#[test]
fn tunnels_on_many_backends_are_nearly_as_even_as_can_be() {
    let weights: Vec<u16> = (0..500).map(|n| n % 4).collect();
    let upstream = upstream(&weights);
    let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
    let each = 20;
    let _kept: Vec<_> = (0..each * total).map(|_| upstream.pick(None, &[]).unwrap()).collect();
    for (state, weight) in upstream.states().iter().zip(weights) {
        let expected = each * usize::from(weight);
        // The power of two choices: the most loaded is above the average by the logarithm of a logarithm (here 2.6),
        // however many tunnels there are; one choice alone would put it 20 or more above.
        assert!(state.load() <= expected + 6, "{} at weight {weight}, expected {expected}", state.load());
    }
}

#[test]
fn of_many_backends_those_that_are_down_or_tried_are_left_out() {
    let upstream = upstream(&[1; 200]);
    for index in (0..200).filter(|index| ![17, 170].contains(index)) {
        take_down(&upstream, index);
    }
    for _ in 0..100 {
        assert!([17, 170].contains(&upstream.pick(None, &[]).unwrap().index));
        assert_eq!(upstream.pick(None, &[17]).unwrap().index, 170);
    }
    assert_eq!(upstream.pick(None, &[17, 170]).unwrap_err(), Unavailable::AllTried);
    take_down(&upstream, 17);
    take_down(&upstream, 170);
    assert_eq!(upstream.pick(None, &[]).unwrap_err(), Unavailable::AllDown);
}

#[test]
fn of_many_backends_the_one_of_little_weight_is_found_when_it_is_all_that_is_left() {
    let mut weights = [1; 40];
    weights[3] = 60_000;
    let upstream = upstream(&weights);
    for index in (0..40).filter(|index| ![3, 4].contains(index)) {
        take_down(&upstream, index);
    }
    assert_eq!(upstream.pick(None, &[3]).unwrap().index, 4);
}

#[test]
fn keyless_requests_avoid_the_loaded() {
    let upstream = upstream(&[1, 1, 1]);
    let _kept = upstream.pick(None, &[1, 2]).unwrap();
    assert!((0..50).all(|_| upstream.pick(None, &[]).unwrap().index != 0));
    assert_eq!(upstream.pick(None, &[1, 2]).unwrap().index, 0);
}

#[test]
fn the_bound_passes_a_hot_key_on_along_the_ring_and_takes_it_back() {
    let upstream = bounded(&[1; 4], 1.25);
    let order = upstream.order(b"hot");
    let mut kept: Vec<PickedBackend> = (0..40).map(|_| upstream.pick(Some(b"hot"), &[]).unwrap()).collect();
    // 1.25 × 40 ÷ 4 = 12.5, so 13 at most. The bound grew with the load, and what came before it grew stayed where it
    // was.
    let loads: Vec<_> = order.iter().map(|&index| upstream.states()[index].load()).collect();
    assert_eq!(loads, [13, 13, 12, 2]);
    kept.retain(|pick| pick.index != order[0]);
    assert_eq!(index_and_rule(upstream.pick(Some(b"hot"), &[])), Ok((order[0], Picked::Ring)));
}

#[test]
fn the_bound_is_reckoned_over_backends_that_are_up() {
    let upstream = bounded(&[1, 1, 1, 0], 1.5);
    let order = upstream.order(b"hot");
    let dead: Vec<_> = (0..30).map(|_| upstream.states()[order[0]].occupy()).collect();
    take_down(&upstream, order[0]);
    let _kept: Vec<PickedBackend> = (0..8).map(|_| upstream.pick(Some(b"hot"), &[]).unwrap()).collect();
    // 1.5 × 8 ÷ 2 = 6.
    assert_eq!([1, 2].map(|place| upstream.states()[order[place]].load()), [6, 2]);
    drop(dead);
}

#[test]
fn with_all_others_tried_a_full_backend_is_better_than_none() {
    let upstream = bounded(&[1; 3], 1.01);
    let _kept: Vec<_> = (0..9).map(|_| upstream.states()[0].occupy()).collect();
    assert_eq!(index_and_rule(upstream.pick(Some(b"key"), &[1, 2])), Ok((0, Picked::LeastLoaded)));
}

#[test]
fn a_burst_from_many_threads_never_passes_the_bound() {
    for factor in [1.05, 1.25, 2.0] {
        let weights = [1, 2, 3, 4];
        let upstream = bounded(&weights, factor);
        let together = std::sync::Barrier::new(8);
        let kept: Vec<PickedBackend> = std::thread::scope(|scope| {
            let burst = || {
                together.wait();
                (0..250).map(|_| upstream.pick(Some(b"hot"), &[]).unwrap()).collect::<Vec<_>>()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(burst)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(kept.len(), 2_000);
        for (state, weight) in upstream.states().iter().zip(weights) {
            let by_bound = kept.iter().filter(|pick| pick.how != Picked::LeastLoaded);
            let load = by_bound.filter(|pick| Arc::ptr_eq(&pick.state, state)).count();
            let limit = pick::load_limit(factor, 1_999, weight, 10);
            assert!(load <= limit, "{load} of {limit} at weight {weight}, factor {factor}");
        }
    }
}

#[test]
fn ten_thousand_backends_with_one_up_find_it() {
    let upstream = upstream(&[1; 10_000]);
    let alive = upstream.order(b"key")[9_000];
    for index in (0..10_000).filter(|&index| index != alive) {
        take_down(&upstream, index);
    }
    assert_eq!(index_and_rule(upstream.pick(Some(b"key"), &[])), Ok((alive, Picked::NextOnRing)));
    take_down(&upstream, alive);
    assert_eq!(upstream.pick(Some(b"key"), &[]).unwrap_err(), Unavailable::AllDown);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Two gateways with the same backends, listed in another order, and one of them restarted in between.
    #[test]
    fn gateways_with_the_same_backends_agree(
        weights in prop::collection::vec(0_u16..5, 1..12),
        down in prop::collection::vec(any::<bool>(), 12),
        keys in prop::collection::vec("[a-z0-9]{1,20}", 1..40),
    ) {
        prop_assume!(weights.iter().any(|&weight| weight > 0));
        let config = config(&weights);
        let mut reversed = config.clone();
        reversed.backends.reverse();
        let one = Upstream::compile(&config, &Registry::default());
        let two = Upstream::compile(&reversed, &Registry::default());
        let last = weights.len() - 1;
        for index in (0..=last).filter(|&index| down[index]) {
            take_down(&one, index);
            take_down(&two, last - index);
        }
        for key in keys {
            let key = Some(key.as_bytes());
            let address = |upstream: &Upstream| upstream.pick(key, &[]).map(|pick| pick.state.address());
            prop_assert_eq!(address(&one), address(&two));
        }
    }

    /// Whatever comes and goes, nobody is above the bound that held when they got their last request.
    #[test]
    fn bounded_picks_stay_within_the_limit_of_their_moment(
        weights in prop::collection::vec(1_u16..5, 1..8),
        factor in 1.01_f64..3.0,
        steps in prop::collection::vec((any::<u8>(), any::<bool>(), any::<prop::sample::Index>()), 1..200),
    ) {
        let upstream = bounded(&weights, factor);
        let total_weight = weights.iter().map(|&weight| u64::from(weight)).sum();
        let mut kept: Vec<PickedBackend> = Vec::new();
        for (key, leave, which) in steps {
            if leave && !kept.is_empty() {
                kept.swap_remove(which.index(kept.len()));
                continue;
            }
            let pick = upstream.pick(Some(&[key]), &[]).unwrap();
            prop_assert!(pick.how != Picked::LeastLoaded);
            let limit = pick::load_limit(factor, kept.len(), weights[pick.index], total_weight);
            prop_assert!(pick.state.load() <= limit);
            kept.push(pick);
        }
        let mut loads: HashMap<usize, usize> = HashMap::new();
        kept.iter().for_each(|pick| *loads.entry(pick.index).or_default() += 1);
        for (index, state) in upstream.states().iter().enumerate() {
            prop_assert_eq!(state.load(), loads.get(&index).copied().unwrap_or(0));
        }
    }
}
