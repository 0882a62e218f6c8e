//! Promise of a tally: after any changes it is what one would get by asking every backend.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::upstream::{BackendState, Demand, LoadGuard, Registry, Room, Thresholds};

const RULES: Thresholds = Thresholds { rise: 1, fall: 1 };

fn address(place: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, (place >> 8) as u8, place as u8], 80))
}

fn seated(weights: &[u16]) -> (Arc<Tally>, Vec<Arc<BackendState>>) {
    let registry = Registry::default();
    let tally = Arc::new(Tally::new(weights.len(), false));
    let states: Vec<_> =
        (0..weights.len()).map(|place| registry.backend("u", &place.to_string(), address(place))).collect();
    for (place, state) in states.iter().enumerate().filter(|&(place, _)| weights[place] > 0) {
        state.join(&tally, place, weights[place], false);
    }
    (tally, states)
}

/// The tally, made by asking every backend.
fn asked<'s>(
    weights: &'s [u16],
    states: &'s [Arc<BackendState>],
    counts: impl Fn(&BackendState) -> bool + 's,
) -> Asked {
    let members: Vec<usize> = (0..weights.len()).filter(|&at| weights[at] > 0 && counts(&states[at])).collect();
    Asked {
        weight: members.iter().map(|&at| u64::from(weights[at])).sum(),
        load: members.iter().map(|&at| states[at].load()).sum(),
        laid_out: members.iter().flat_map(|&at| std::iter::repeat_n(at, weights[at].into())).collect(),
        members,
    }
}

#[derive(Debug, PartialEq)]
struct Asked {
    members: Vec<usize>,
    weight: u64,
    load: usize,
    laid_out: Vec<usize>,
}

impl Asked {
    fn of(eligible: &Eligible, backends: usize) -> Self {
        Self {
            members: (0..backends).filter(|&place| eligible.holds(place)).collect(),
            weight: eligible.weight(),
            load: eligible.load(),
            laid_out: (0..eligible.weight()).map(|at| eligible.at(at).unwrap()).collect(),
        }
    }
}

fn assert_true(tally: &Tally, weights: &[u16], states: &[Arc<BackendState>]) {
    let up = asked(weights, states, |state| state.is_up() && state.admits() && !state.is_draining());
    assert_eq!(Asked::of(&tally.up, weights.len()), up);
    let up_or_down = asked(weights, states, |state| !state.is_draining());
    assert_eq!(Asked::of(&tally.up_or_down, weights.len()), up_or_down);
    let ejected = (0..weights.len()).any(|at| weights[at] > 0 && states[at].is_ejected());
    assert_eq!(tally.has_ejected(), ejected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_changes_the_tally_is_true(
        weights in prop::collection::vec(0_u16..5, 1..80),
        steps in prop::collection::vec((0_u8..9, any::<prop::sample::Index>()), 0..100),
    ) {
        let (tally, states) = seated(&weights);
        let mut guards: Vec<LoadGuard> = Vec::new();
        let start = Instant::now();
        for (step, which) in steps {
            let state = &states[which.index(states.len())];
            match step {
                0 => _ = state.check_failed(RULES, "refused"),
                1 => _ = state.check_passed(RULES, "passed", Instant::now()),
                2 => state.set_draining(!state.is_draining()),
                6 => _ = state.eject("refused", start),
                7 => _ = state.attend(start + Duration::from_secs(300)),
                8 => _ = state.traffic_succeeded(|| start),
                3 if !guards.is_empty() => _ = guards.swap_remove(which.index(guards.len())),
                _ => guards.extend(state.occupy_within(5, Room::unbounded(Demand::Request))),
            }
            assert_true(&tally, &weights, &states);
        }
        for state in &states {
            state.leave(&tally);
        }
        prop_assert_eq!((tally.up.weight(), tally.up.load()), (0, 0));
        prop_assert_eq!((tally.up_or_down.weight(), tally.up_or_down.load()), (0, 0));
        prop_assert!(!tally.has_ejected());
    }
}

#[test]
fn changes_by_many_threads_leave_it_true() {
    let weights: Vec<u16> = (0..100).map(|place| place % 4).collect();
    let (tally, states) = seated(&weights);
    let together = Barrier::new(4);
    let kept: Vec<LoadGuard> = std::thread::scope(|scope| {
        let change = |thread: usize| {
            let (states, together) = (&states, &together);
            move || {
                together.wait();
                let mut kept = Vec::new();
                for round in 0..20_000 {
                    // All threads meet at the same few backends.
                    let state = &states[(round * 7 + thread) % states.len()];
                    match (round + thread) % 5 {
                        0 => _ = state.check_failed(RULES, "refused"),
                        1 => _ = state.check_passed(RULES, "passed", Instant::now()),
                        2 => state.set_draining(round % 2 == 0),
                        3 => kept.push(state.occupy()),
                        _ => _ = kept.pop(),
                    }
                }
                kept
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(change(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_true(&tally, &weights, &states);
    drop(kept);
    assert_eq!(tally.up_or_down.load(), 0);
}

#[test]
fn every_number_of_backends_is_laid_end_to_end() {
    for count in 1..=130 {
        let weights = vec![3; count];
        let (tally, states) = seated(&weights);
        assert_true(&tally, &weights, &states);
        let beyond = tally.up.at(tally.up.weight());
        assert!(beyond.is_none_or(|place| !tally.up.holds(place)), "{beyond:?} of {count}");
    }
}
