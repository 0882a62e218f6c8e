//! Deadlines come in order, once, and cost nothing that others of them could add to.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Takes everything that is due, and says how many entries the heap lost by that.
fn take(deadlines: &mut Deadlines, now: Instant) -> (Vec<usize>, usize) {
    let before = deadlines.heap.len();
    let taken = std::iter::from_fn(|| deadlines.take_due(now)).collect();
    (taken, before - deadlines.heap.len())
}

#[test]
fn a_due_limit_touches_no_other_tunnel_however_many_there_are() {
    for count in [100, 1_000, 9_900, 200_000] {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        let ping = Duration::from_secs(30);
        // Pings of `count` tunnels, spread over their 30 seconds.
        for slot in 0..count {
            deadlines.set(slot, start + ping.mul_f64(slot as f64 / count as f64));
        }
        let mut touched = 0;
        for step in 0..=300 {
            let now = start + STEP * step;
            let (due, entries) = take(&mut deadlines, now);
            assert_eq!(entries, due.len(), "nothing but what is due is touched");
            touched += entries;
            due.into_iter().for_each(|slot| deadlines.set(slot, now + ping));
        }
        assert!((count..=count + count / 100 + 2).contains(&touched), "{touched} looks in 30 s at {count} tunnels");
        assert!(deadlines.heap.len() <= 2 * count + SLACK);
    }
}

/// A worker that looks within the last millisecond before a moment would be told of it again and again.
#[test]
fn no_deadline_comes_before_its_moment() {
    let start = Instant::now();
    for late in [1, 999_999, 1_000_000, 99_999_999, 100_000_000] {
        let at = start + STEP * 7 + Duration::from_nanos(late);
        let mut deadlines = Deadlines::new(start);
        deadlines.set(0, at);
        assert_eq!(deadlines.take_due(at - Duration::from_nanos(1)), None, "{late} ns behind a step");
        assert_eq!(deadlines.take_due(at + STEP), Some(0));
    }
}

#[test]
fn a_deadline_that_is_brought_forward_comes_once() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(start);
    deadlines.set(3, start + Duration::from_secs(60));
    deadlines.set(3, start + Duration::from_secs(1));
    deadlines.set(3, start + Duration::from_secs(30));
    assert_eq!(deadlines.next(), Some(start + Duration::from_secs(1)));
    assert_eq!(take(&mut deadlines, start + Duration::from_secs(2)).0, [3]);
    assert_eq!(take(&mut deadlines, start + Duration::from_secs(90)).0, [0; 0]);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn deadlines_brought_forward_again_and_again_take_no_more_room() {
    let start = Instant::now();
    let mut deadlines = Deadlines::new(start);
    for round in (0..10_000).rev() {
        for slot in 0..10 {
            deadlines.set(slot, start + STEP * round);
        }
    }
    assert!(deadlines.heap.len() <= 2 * 10 + SLACK, "{} entries", deadlines.heap.len());
}

proptest! {
    #[test]
    fn every_slot_comes_at_its_earliest_moment_and_not_before(
        sets in vec((0_usize..20, 0_u64..5_000), 0..200),
        forgotten in vec(0_usize..20, 0..5),
    ) {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        let mut earliest = [None; 20];
        for (slot, milliseconds) in sets {
            let at = start + Duration::from_millis(milliseconds);
            deadlines.set(slot, at);
            earliest[slot] = Some(earliest[slot].map_or(at, |earlier: Instant| earlier.min(at)));
        }
        for slot in forgotten {
            deadlines.forget(slot);
            earliest[slot] = None;
        }
        for step in 0..=51 {
            let now = start + STEP * step;
            prop_assert_eq!(deadlines.next().is_some(), earliest.iter().any(Option::is_some));
            for slot in take(&mut deadlines, now).0 {
                let at = earliest[slot].take();
                prop_assert!(at.is_some_and(|at| at <= now && now < at + STEP), "{:?} at {:?}", at, now);
            }
        }
        prop_assert_eq!(earliest, [None; 20]);
        prop_assert_eq!(deadlines.live, 0);
    }
}
