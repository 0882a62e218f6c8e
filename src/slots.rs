//! Things in numbered slots, in memory that follows their number down as well as up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hash};
use std::ops::{Index, IndexMut};

/// Things, each in a slot that it keeps while it is there.
///
/// The lowest free slot is given first. So the upper ones empty as things come and go, and their memory is given back.
///
/// Bounds: one entry for each slot up to the last one in use, four bytes for each free slot among these, and four times
/// that for room that is not given back yet ([`GiveBack`]).
#[derive(Debug)]
pub(crate) struct Slots<T> {
    /// The last one is in use.
    slots: Vec<Option<T>>,
    /// Every free slot, and slots that are free no longer or were given back.
    free: BinaryHeap<Reverse<u32>>,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: BinaryHeap::new() }
    }
}

impl<T> Slots<T> {
    /// Puts a thing, which may depend on its slot, into the lowest free slot; returns the slot.
    pub(crate) fn insert(&mut self, thing: impl FnOnce(usize) -> T) -> usize {
        while let Some(Reverse(slot)) = self.free.pop() {
            let slot = slot as usize;
            if let Some(free @ None) = self.slots.get_mut(slot) {
                *free = Some(thing(slot));
                return slot;
            }
        }
        let slot = self.slots.len();
        self.slots.push(Some(thing(slot)));
        slot
    }

    /// Takes a thing out; its slot is free from then on. `None` where the slot is free already.
    pub(crate) fn remove(&mut self, slot: usize) -> Option<T> {
        let thing = self.slots.get_mut(slot)?.take()?;
        if slot + 1 == self.slots.len() {
            self.give_back();
        } else {
            // A slot that 32 bits do not number is given back with those above it, and not before.
            self.free.extend(u32::try_from(slot).map(Reverse));
        }
        Some(thing)
    }

    /// Gives the free slots at the end back.
    fn give_back(&mut self) {
        let end = self.slots.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        self.slots.truncate(end);
        if self.slots.give_back(end) {
            self.free.retain(|Reverse(slot)| (*slot as usize) < end);
            self.free.give_back(self.free.len());
        }
    }

    /// The thing in a slot.
    #[inline]
    pub(crate) fn get(&self, slot: usize) -> Option<&T> {
        match self.slots.get(slot) {
            Some(Some(thing)) => Some(thing),
            _ => None,
        }
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        match self.slots.get_mut(slot) {
            Some(Some(thing)) => Some(thing),
            _ => None,
        }
    }

    /// All things, with their slots in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, thing)| Some((slot, thing.as_ref()?)))
    }

    /// The same, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut T)> {
        self.slots.iter_mut().enumerate().filter_map(|(slot, thing)| Some((slot, thing.as_mut()?)))
    }

    /// The slot behind the last one that is in use.
    pub(crate) fn end(&self) -> usize {
        self.slots.len()
    }
}

/// The thing in a slot that is in use.
impl<T> Index<usize> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: usize) -> &T {
        match self.slots.get(slot) {
            Some(Some(thing)) => thing,
            _ => panic!("slot {slot} is free"),
        }
    }
}

impl<T> IndexMut<usize> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: usize) -> &mut T {
        match self.slots.get_mut(slot) {
            Some(Some(thing)) => thing,
            _ => panic!("slot {slot} is free"),
        }
    }
}

/// Collections whose memory follows their length down.
pub(crate) trait GiveBack {
    /// Shrinks a collection that is to have room for `length` entries, if three quarters of its room are more than
    /// that; tells whether it did.
    ///
    /// A collection that shrinks keeps room for twice its entries. As many entries have to come or go before it is
    /// copied again, so that each of them costs one copy on average, as in growing.
    fn give_back(&mut self, length: usize) -> bool;
}

macro_rules! give_back {
    ($([$($generics:tt)*] $collection:ty),+) => {
        $(impl<$($generics)*> GiveBack for $collection {
            fn give_back(&mut self, length: usize) -> bool {
                let shrinks = self.capacity() > 2 * LEAST && length < self.capacity() / 4;
                if shrinks {
                    self.shrink_to((length * 2).max(LEAST));
                }
                shrinks
            }
        })+
    };
}

give_back!([T] Vec<T>, [T] VecDeque<T>, [T: Ord] BinaryHeap<T>, [K: Eq + Hash, V, S: BuildHasher] HashMap<K, V, S>);

/// Entries that are not worth a copy: room for up to twice as many is kept.
const LEAST: usize = 64;

#[cfg(test)]
mod tests;
