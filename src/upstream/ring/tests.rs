//! Promises of the ring: its backends, their order for a key, and the keys that move when a backend leaves.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::upstream::MemberSource;

/// Members with these names. The ring does not ask for their addresses.
fn members(list: &[(&str, u16)]) -> Vec<Member> {
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    list.iter().map(|(name, weight)| member(name, address, *weight)).collect()
}

/// Backends 10.0.h.l:80 with the given weights.
fn numbered(weights: &[u16]) -> Vec<Member> {
    let address = |n: usize| SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 80));
    weights.iter().enumerate().map(|(n, &weight)| member(&address(n).to_string(), address(n), weight)).collect()
}

fn member(name: &str, address: SocketAddr, weight: u16) -> Member {
    Member {
        name: name.into(),
        place: None,
        address,
        weight,
        leaving: false,
        closing: None,
        source: MemberSource::Config,
    }
}

/// The first backend for each of `0..keys`.
fn owners(list: &[Member], keys: u32) -> Vec<usize> {
    let ring = Ring::new(list);
    (0..keys).map(|key| ring.walk(&key.to_be_bytes()).next().unwrap()).collect()
}

#[test]
fn the_ring_is_nginxs() {
    // Figures of nginx itself, as recorded in pingora-ketama's tests.
    let ring = Ring::new(&members(&[("127.0.0.1:7777", 1), ("127.0.0.1:7778", 1)]));
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
    let first = |list: &[Member]| list[Ring::new(list).walk(&279_u32.to_be_bytes()).next().unwrap()].address;
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
        let addresses = |list: &[Member]| -> Vec<_> {
            owners(list, 500).into_iter().map(|index| list[index].address).collect()
        };
        let (at_first, at_last) = (addresses(&before), addresses(&after));
        for (at_first, at_last) in at_first.iter().zip(&at_last) {
            prop_assert!(at_first == at_last || *at_first == before[leaving].address);
        }
        prop_assert_eq!(addresses(&drained), at_last);
    }

    /// Whatever came, left and changed its weight, and where points are shared.
    #[test]
    fn a_ring_that_was_changed_is_the_one_that_is_made_anew(
        before in prop::collection::vec(0_u16..6, 1..60),
        after in prop::collection::vec(0_u16..6, 1..60),
        changed in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mixed: Vec<u16> = (0..after.len())
            .map(|n| if changed[n] && n % 5 == 0 { after[n] } else { *before.get(n).unwrap_or(&after[n]) })
            .collect();
        for after in [&after, &mixed] {
            let (before, after) = (numbered(&before), numbered(after));
            let (old, new) = (Ring::new(&before), Ring::new(&after));
            let made = old.with_members(&before, &after);
            prop_assert!(made.points == new.points && made.shared == new.shared && made.members == new.members);
            prop_assert!(made.with_members(&after, &before).points == old.points);
        }
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
        let by_address = |list: &[Member]| -> Vec<_> {
            Ring::new(list).walk(&key.to_be_bytes()).map(|index| list[index].address).collect()
        };
        prop_assert_eq!(by_address(&list), by_address(&other));
    }
}

/// The point that backends 4 and 10 share goes to the one that is left, and back.
#[test]
fn a_shared_point_goes_to_whoever_is_left_of_those_who_share_it() {
    let all = numbered(&[3, 1, 1, 1, 5, 3, 3, 2, 4, 4, 3]);
    let ring = Ring::new(&all);
    assert_eq!(ring.shared.len(), 1);
    for gone in [4, 10] {
        let mut left = all.clone();
        left[gone].weight = 0;
        let without = ring.with_members(&all, &left);
        assert!(without.points == Ring::new(&left).points && without.shared.is_empty());
        let again = without.with_members(&left, &all);
        assert!(again.points == ring.points && again.shared == ring.shared);
    }
}

/// Text and not address decides, and the port is what stands behind the last colon, as in nginx.
#[test]
fn a_name_stands_on_the_ring_in_place_of_the_address() {
    let hashed = |name: &str| Name::of(name).hashed();
    assert_eq!(hashed("chat-2.internal:9001"), "chat-2.internal\x009001");
    assert_eq!(hashed("shard-0"), "shard-0\0");
    assert_eq!(hashed("shard:a"), "shard:a\0");
    assert_eq!(hashed("10.0.0.1:80"), "10.0.0.1\x0080");
    assert_eq!(hashed("[2001:db8::1]:80"), "[2001:db8::1]\x0080");
    let mut list = members(&[("a", 1), ("b", 2), ("10.0.0.1:80", 1)]);
    let before = owners(&list, 500);
    list.iter_mut().zip(1..).for_each(|(member, port)| member.address = SocketAddr::from(([192, 0, 2, 1], port)));
    assert_eq!(owners(&list, 500), before);
}

/// Three addresses of a name own together what the name owns alone, and one that leaves moves its own keys only.
#[test]
fn members_that_share_a_place_divide_its_keys() {
    let names = ["chat:80", "chat:80=10.0.0.2:80", "chat:80=10.0.0.3:80", "other:80"];
    let mut all = members(&names.map(|name| (name, 2)));
    all.iter_mut().filter(|member| member.name.starts_with("chat:80=")).for_each(|m| m.place = Some("chat:80".into()));
    let keys = 3_000;
    let alone = owners(&members(&[("chat:80", 2), ("other:80", 2)]), keys);
    let shared = owners(&all, keys);
    assert!(alone.iter().zip(&shared).all(|(alone, shared)| (*alone == 1) == (*shared == 3)));
    let count = |index: usize| shared.iter().filter(|owner| **owner == index).count();
    let fair = (count(0) + count(1) + count(2)) as f64 / 3.0;
    for index in 0..3 {
        assert!((count(index) as f64 - fair).abs() < fair * 0.4, "{index} has {}, fair is {fair}", count(index));
    }
    let left = [all[0].clone(), all[2].clone(), all[3].clone()];
    let after = owners(&left, keys);
    assert!(shared.iter().zip(after).all(|(before, after)| *before == 1 || [0, 2, 3][after] == *before));
    let ring = Ring::new(&all);
    assert!(ring.with_members(&all, &left).points == Ring::new(&left).points);
    for index in 0..3 {
        let near = Ring::hash(b"session");
        let point = ring.point_of(index, "chat:80", near).unwrap();
        assert_eq!(ring.walk_from(point).next(), Some(index));
    }
}
