//! Slots are found again, the lowest is given first, and memory follows the number of things.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn filled(count: usize) -> Slots<Box<usize>> {
    let mut slots = Slots::default();
    (0..count).for_each(|number| assert_eq!(slots.insert(Box::new), number));
    slots
}

#[test]
fn the_lowest_free_slot_is_given_first() {
    let mut slots = filled(10);
    for slot in [3, 7, 5] {
        assert_eq!(slots.remove(slot), Some(Box::new(slot)));
        assert_eq!(slots.remove(slot), None);
    }
    assert_eq!((0..4).map(|_| slots.insert(Box::new)).collect::<Vec<_>>(), [3, 5, 7, 10]);
}

#[test]
fn what_a_crowd_took_is_given_back_when_it_has_gone() {
    for backwards in [false, true] {
        let mut slots = filled(10_000);
        let order: Vec<usize> = if backwards { (0..10_000).rev().collect() } else { (0..10_000).collect() };
        order.into_iter().for_each(|slot| drop(slots.remove(slot)));
        assert_eq!(slots.iter().count(), 0);
        assert!(slots.slots.capacity() <= 2 * LEAST && slots.free.capacity() <= 2 * LEAST, "{slots:?}");
    }
}

#[test]
fn a_thing_that_stays_in_an_upper_slot_holds_memory_only_until_it_goes() {
    let mut slots = filled(10_000);
    (0..9_999).for_each(|slot| drop(slots.remove(slot)));
    assert_eq!(slots.end(), 10_000);
    (0..100).for_each(|slot| assert_eq!(slots.insert(Box::new), slot));
    slots.remove(9_999);
    assert_eq!(slots.end(), 100);
    assert!(slots.slots.capacity() <= 200 && slots.free.capacity() <= 200);
    assert_eq!(slots.insert(Box::new), 100);
}

#[test]
fn a_thing_that_comes_and_goes_at_the_edge_moves_nothing() {
    for count in [0, 1, 63, 64, 100, 1_000, 1_024] {
        let mut slots = filled(count);
        slots.insert(Box::new);
        slots.remove(count);
        let capacity = slots.slots.capacity();
        for _ in 0..100 {
            assert_eq!(slots.insert(Box::new), count);
            assert_eq!(slots.slots.capacity(), capacity);
            slots.remove(count);
            assert_eq!(slots.slots.capacity(), capacity);
        }
    }
}

proptest! {
    #[test]
    fn every_thing_is_in_its_slot_until_it_is_taken_out(steps in vec((0_usize..300, any::<bool>()), 0..1_000)) {
        let mut slots = Slots::default();
        let mut known = std::collections::BTreeMap::new();
        for (number, (slot, comes)) in steps.into_iter().enumerate() {
            if comes {
                let lowest = (0..).find(|slot| !known.contains_key(slot)).unwrap();
                prop_assert_eq!(slots.insert(|_| number), lowest);
                known.insert(lowest, number);
            } else {
                prop_assert_eq!(slots.remove(slot), known.remove(&slot));
            }
            prop_assert_eq!(slots.end(), known.keys().next_back().map_or(0, |last| last + 1));
        }
        prop_assert!(slots.iter().map(|(slot, number)| (slot, *number)).eq(known));
    }
}
