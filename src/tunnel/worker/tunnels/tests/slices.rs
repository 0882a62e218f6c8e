//! Work on all tunnels in slices: what one leaves, others do, and it comes to the same.

use std::sync::atomic::AtomicUsize;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::crowd::{Crowd, PING};
use super::*;
use crate::tunnel::worker::{Judged, RuleVerdict, Standing};

/// A rule with one verdict, which takes so long that a slice is over after the least number of tunnels. Counts its
/// calls.
fn slow(verdict: RuleVerdict) -> (Arc<TunnelRule>, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let rule = move |_: &Standing<'_>| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(20) {
            std::hint::spin_loop();
        }
        counted.fetch_add(1, Ordering::Relaxed);
        verdict
    };
    (Arc::new(rule), calls)
}

impl Crowd {
    fn changing(&self, slot: usize) -> Option<(Instant, Reason)> {
        self.bench.tunnels.slots[slot].pair.changing()
    }

    /// Begins to judge, and judges for one slice.
    fn judge(&mut self, rule: Arc<TunnelRule>) -> oneshot::Receiver<Judged> {
        let (done, judged) = oneshot::channel();
        self.bench.tunnels.judge(rule, done, self.bench.now);
        self.bench.tunnels.judge_on(self.bench.now);
        judged
    }

    /// Goes on to judge until all are; returns the number of slices that took.
    fn judge_the_rest(&mut self) -> usize {
        let mut slices = 0;
        while self.bench.tunnels.is_busy() {
            self.bench.tunnels.drive(self.bench.now);
            self.bench.tunnels.judge_on(self.bench.now);
            slices += 1;
        }
        slices
    }
}

const ENDS: RuleVerdict = RuleVerdict::End { reason: Reason::Changed, over: PING };

#[test]
fn a_rule_decides_in_slices_and_ends_are_spread_as_if_it_had_decided_at_once() {
    let mut crowd = Crowd::opened(40, Duration::ZERO);
    let (rule, calls) = slow(ENDS);
    let mut judged = crowd.judge(rule);
    assert_eq!(calls.load(Ordering::Relaxed), 16, "as many as there are between two looks at the clock");
    assert_eq!(judged.try_recv(), Err(TryRecvError::Empty));
    assert!((0..40).all(|slot| crowd.changing(slot).is_none()), "not before it is known how many end");
    assert!(crowd.judge_the_rest() >= 2);
    assert_eq!(judged.try_recv(), Ok(Judged { changed: 40, ..Judged::default() }));
    for slot in 0..40_u32 {
        let (at, reason) = crowd.changing(slot as usize).unwrap();
        let share = PING / 40;
        assert!((share * slot..=share * (slot + 1)).contains(&(at - crowd.bench.now)), "{slot}");
        assert_eq!(reason, Reason::Changed);
    }
    assert_eq!(calls.load(Ordering::Relaxed), 40, "each was judged once");
    assert!(crowd.bench.tunnels.due().is_some_and(|due| due <= crowd.bench.now + PING / 40 + STEP));
}

#[test]
fn tunnels_that_come_and_go_between_two_slices_are_judged_once() {
    let mut crowd = Crowd::opened(40, Duration::ZERO);
    let (rule, calls) = slow(ENDS);
    let mut judged = crowd.judge(rule);
    // One that was judged, and one that was not.
    for slot in [3, 30] {
        crowd.bench.tunnels.remove(slot, crowd.bench.now);
        crowd.open(100 + slot);
    }
    crowd.open(140);
    let newcomers = [3, 30, 40].map(|slot| crowd.changing(slot).expect("it was judged as it opened"));
    crowd.judge_the_rest();
    assert_eq!([3, 30, 40].map(|slot| crowd.changing(slot).unwrap()), newcomers);
    assert_eq!(calls.load(Ordering::Relaxed), 39 + 3);
    assert_eq!(judged.try_recv(), Ok(Judged { changed: 39, ..Judged::default() }));
}

#[test]
fn a_rule_that_comes_meanwhile_and_a_handover_find_all_tunnels_judged() {
    let mut crowd = Crowd::opened(40, Duration::ZERO);
    let [mut first, mut second] = [ENDS, RuleVerdict::Keep].map(|verdict| crowd.judge(slow(verdict).0));
    assert_eq!(first.try_recv(), Ok(Judged { changed: 40, ..Judged::default() }));
    assert_eq!(second.try_recv(), Err(TryRecvError::Empty));
    let batch = crowd.bench.tunnels.freeze(1, true, crowd.bench.now);
    assert_eq!((batch.frozen.len(), batch.busy, batch.staying), (1, 0, 0));
    assert_eq!(second.try_recv(), Ok(Judged { called_off: 40, ..Judged::default() }));
    assert!(!crowd.bench.tunnels.is_busy());
}

#[test]
fn limits_that_are_due_together_are_looked_at_in_slices() {
    let mut crowd = Crowd::opened(300, Duration::ZERO);
    crowd.bench.now += PING + STEP;
    let mut looks = Vec::new();
    while crowd.bench.tunnels.due().is_some_and(|due| due <= crowd.bench.now) {
        looks.push(crowd.bench.tunnels.check(crowd.bench.now));
        crowd.bench.tunnels.drive(crowd.bench.now);
    }
    assert!(looks.iter().all(|looked_at| (1..=CHECKED_AT_ONCE).contains(looked_at)), "{looks:?}");
    assert_eq!(looks.iter().sum::<usize>(), 2 * 300, "a look for the Ping of each side");
    let next = crowd.bench.now + PING;
    assert!(crowd.bench.tunnels.slots.iter().all(|(_, tunnel)| tunnel.pair.due() == Some(next)), "all sent Pings");
}
