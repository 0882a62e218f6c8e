//! Promises of the ring: its backends, their order for a key, and the keys that move when a backend leaves.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn backends(list: &[(&str, u16)]) -> Vec<Backend> {
    list.iter().map(|(address, weight)| Backend { address: address.parse().unwrap(), weight: *weight }).collect()
}

/// Backends 10.0.h.l:80 with the given weights.
fn numbered(weights: &[u16]) -> Vec<Backend> {
    let address = |n: usize| std::net::SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    weights.iter().enumerate().map(|(n, &weight)| Backend { address: address(n), weight }).collect()
}

/// The first backend for each of `0..keys`.
fn owners(backends: &[Backend], keys: u32) -> Vec<usize> {
    let ring = Ring::new(backends);
    (0..keys).map(|key| ring.walk(&key.to_be_bytes()).next().unwrap()).collect()
}

#[test]
fn the_ring_is_nginxs() {
    // Figures of nginx itself, as recorded in pingora-ketama's tests.
    let ring = Ring::new(&backends(&[("127.0.0.1:7777", 1), ("127.0.0.1:7778", 1)]));
    for (key, expected) in [
        ("/some/path", 1),
        ("/some/longer/path", 0),
        ("/sad/zaidoon", 1),
        ("/g", 0),
        ("/pingora/team/is/cool/and/this/is/a/long/uri", 1),
        ("/i/am/not/confident/in/this/code", 0),
    ] {
        assert_eq!(ring.walk(key.as_bytes()).next(), Some(expected), "{key}");
    }
}

#[test]
fn shares_of_keys_follow_the_weights() {
    let weights = [1, 2, 3, 5, 10];
    let mut counts = [0; 5];
    for owner in owners(&numbered(&weights), 100_000) {
        counts[owner] += 1;
    }
    for (count, weight) in counts.iter().zip(weights) {
        let fair = 100_000.0 * f64::from(weight) / 21.0;
        // With 160 points a unit of weight the share deviates by 8 % at one standard deviation; 4 of them.
        assert!((f64::from(*count) - fair).abs() < fair * 0.32, "weight {weight} has {count} keys, fair is {fair}");
    }
}

#[test]
fn an_empty_ring_walks_nowhere() {
    assert_eq!(Ring::new(&[]).walk(b"key").next(), None);
    assert_eq!(Ring::new(&numbered(&[0, 0])).walk(b"key").next(), None);
}

#[test]
fn ten_thousand_backends_are_walked_once_each() {
    let ring = Ring::new(&numbered(&vec![1; 10_000]));
    assert_eq!(ring.walk(b"key").collect::<HashSet<_>>().len(), 10_000);
    assert_eq!(ring.walk(b"key").count(), 10_000);
}

/// Backends 4 and 10 share a point, which key 279 comes to.
#[test]
fn a_shared_point_does_not_change_hands_when_a_third_leaves() {
    let before = numbered(&[3, 1, 1, 1, 5, 3, 3, 2, 4, 4, 3]);
    let first = |list: &[Backend]| list[Ring::new(list).walk(&279_u32.to_be_bytes()).next().unwrap()].address;
    assert_eq!(first(&before), first(&before[1..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_walk_meets_each_backend_with_weight_once(
        weights in prop::collection::vec(0_u16..6, 0..40),
        key in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let walked: Vec<usize> = Ring::new(&numbered(&weights)).walk(&key).collect();
        let mut sorted = walked.clone();
        sorted.sort_unstable();
        let expected: Vec<usize> = (0..weights.len()).filter(|&index| weights[index] > 0).collect();
        prop_assert_eq!(sorted, expected);
    }

    #[test]
    fn a_backend_that_leaves_moves_its_own_keys_only(
        weights in prop::collection::vec(1_u16..6, 2..12),
        leaving in any::<prop::sample::Index>(),
    ) {
        let before = numbered(&weights);
        let leaving = leaving.index(before.len());
        let mut after = before.clone();
        after.remove(leaving);
        let mut drained = before.clone();
        drained[leaving].weight = 0;
        let addresses = |list: &[Backend]| -> Vec<_> {
            owners(list, 500).into_iter().map(|index| list[index].address).collect()
        };
        let (at_first, at_last) = (addresses(&before), addresses(&after));
        for (at_first, at_last) in at_first.iter().zip(&at_last) {
            prop_assert!(at_first == at_last || *at_first == before[leaving].address);
        }
        prop_assert_eq!(addresses(&drained), at_last);
    }

    #[test]
    fn the_second_of_a_walk_is_the_first_once_the_first_has_left(
        weights in prop::collection::vec(1_u16..6, 2..12),
        key in any::<u64>(),
    ) {
        let mut list = numbered(&weights);
        let order: Vec<_> = Ring::new(&list).walk(&key.to_be_bytes()).map(|index| list[index].address).collect();
        for expected in order {
            let first = Ring::new(&list).walk(&key.to_be_bytes()).next().unwrap();
            prop_assert_eq!(list.remove(first).address, expected);
        }
    }

    #[test]
    fn the_order_of_the_list_does_not_matter(
        list in prop::collection::vec(0_u16..6, 1..12).prop_map(|weights| numbered(&weights)),
        shuffled in any::<u64>(),
        key in any::<u64>(),
    ) {
        let mut other = list.clone();
        other.sort_by_key(|backend| shuffled.rotate_left(u32::from(backend.address.to_string().as_bytes()[7])) & 0xff);
        let by_address = |list: &[Backend]| -> Vec<_> {
            Ring::new(list).walk(&key.to_be_bytes()).map(|index| list[index].address).collect()
        };
        prop_assert_eq!(by_address(&list), by_address(&other));
    }
}
