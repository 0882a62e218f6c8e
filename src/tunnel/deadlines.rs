//! Deadlines: the next moment of each of many things, found without looking at the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::slots::GiveBack;

/// The next deadline of each slot, in a heap.
///
/// A deadline costs the logarithm of their number to set and to take, and nothing while it is not due. One that is put
/// off need not be set again: whoever takes it looks at the moment that counts, and sets it anew. So traffic, which
/// puts idle limits off with every message, costs nothing here.
///
/// Bounds: one entry for each slot up to the last one that has a deadline. In the heap, one for each slot that has one,
/// and as many that count no longer; these are swept out when they are more than those. Memory is given back when three
/// quarters of it are free. Deadlines are kept in steps of [`STEP`], rounded up.
#[derive(Debug)]
pub struct Deadlines {
    start: Instant,
    heap: BinaryHeap<Reverse<(u32, u32)>>,
    /// The step that counts for each slot; [`NONE`] where none does, and not for the last one.
    steps: Vec<u32>,
    /// Slots that have a deadline.
    live: usize,
}

impl Deadlines {
    /// No deadlines; `now` is the earliest that can be set.
    pub fn new(now: Instant) -> Self {
        Self { start: now, heap: BinaryHeap::new(), steps: Vec::new(), live: 0 }
    }

    /// Sets the deadline of a slot, unless an earlier one is set already.
    pub fn set(&mut self, slot: usize, at: Instant) {
        let step = self.step_of(at);
        if slot >= self.steps.len() {
            self.steps.resize(slot + 1, NONE);
        }
        if self.steps[slot] <= step {
            return;
        }
        self.live += usize::from(self.steps[slot] == NONE);
        self.steps[slot] = step;
        let Ok(number) = u32::try_from(slot) else { return };
        self.heap.push(Reverse((step, number)));
        self.sweep();
    }

    /// Takes a deadline off its slot, which ends.
    pub fn forget(&mut self, slot: usize) {
        if self.steps.get(slot).is_some_and(|step| *step != NONE) {
            self.clear(slot);
            self.sweep();
        }
        self.drop_stale();
    }

    /// Takes the next slot whose deadline has passed.
    pub fn take_due(&mut self, now: Instant) -> Option<usize> {
        self.drop_stale();
        let &Reverse((step, slot)) = self.heap.peek()?;
        if self.moment_of(step) > now {
            return None;
        }
        self.heap.pop();
        self.clear(slot as usize);
        self.drop_stale();
        Some(slot as usize)
    }

    /// Takes the deadline off a slot that has one.
    fn clear(&mut self, slot: usize) {
        self.steps[slot] = NONE;
        self.live -= 1;
        if slot + 1 == self.steps.len() {
            let end = self.steps.iter().rposition(|step| *step != NONE).map_or(0, |last| last + 1);
            self.steps.truncate(end);
            self.steps.give_back(end);
        }
    }

    /// Removes entries that no longer count, once they are more than those that do.
    fn sweep(&mut self) {
        if self.heap.len() > 2 * self.live + SLACK {
            let steps = &self.steps;
            self.heap.retain(|Reverse((step, slot))| counts(steps, *slot, *step));
        }
        self.heap.give_back(self.heap.len());
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Instant> {
        // The first entry counts: whatever makes one stale sweeps it from there.
        self.heap.peek().map(|Reverse((step, _))| self.moment_of(*step))
    }

    /// Removes entries from the front that no longer count.
    fn drop_stale(&mut self) {
        while let Some(&Reverse((step, slot))) = self.heap.peek()
            && !counts(&self.steps, slot, step)
        {
            self.heap.pop();
        }
    }

    fn step_of(&self, at: Instant) -> u32 {
        // Of nanoseconds: whoever is told that a moment has come must not find it a fraction of a millisecond off, and
        // set it anew for the same step.
        let after = at.saturating_duration_since(self.start);
        // No division by 128 bits, in every handshake.
        let steps = after.as_secs().saturating_mul(STEPS_PER_SECOND);
        let steps = steps.saturating_add(after.subsec_nanos().div_ceil(STEP.subsec_nanos()).into());
        u32::try_from(steps).unwrap_or(NONE).min(NONE - 1)
    }

    fn moment_of(&self, step: u32) -> Instant {
        self.start + Duration::from_millis(u64::from(step) * STEP_MILLIS)
    }
}

/// The earlier of two moments that may not be there.
#[inline]
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Tells whether an entry of the heap is the one that counts for its slot.
fn counts(steps: &[u32], slot: u32, step: u32) -> bool {
    steps.get(slot as usize) == Some(&step)
}

/// Precision of a deadline, and so of every limit in time. 32 bits of such steps are 13 years.
pub const STEP: Duration = Duration::from_millis(STEP_MILLIS);
const STEP_MILLIS: u64 = 100;
const STEPS_PER_SECOND: u64 = 1_000 / STEP_MILLIS;
const NONE: u32 = u32::MAX;
/// Stale entries that are not worth a sweep.
const SLACK: usize = 64;

#[cfg(test)]
mod tests;
