//! Counts of tunnels by affinity key, for `limits.per_key`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::UpstreamAdmission;
use crate::slots::{GiveBack, Slots};

/// Identity of a key: its place on the ring and its digest in logs, 64 bits together. Tunnels keep both, and take them
/// along to another process. They do not keep the key itself, which may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u32, u32);

impl KeyId {
    /// The identity of the key with this hash ([`Ring::hash`](crate::upstream::Ring::hash)) and this digest of eight
    /// hexadecimal digits.
    pub fn new(hash: u32, digest: &str) -> Self {
        Self(hash, u32::from_str_radix(digest, 16).unwrap_or_default())
    }
}

/// Number of tunnels of an upstream for each key. Handshakes that may become tunnels are included.
///
/// Bound: an entry for each key that has a tunnel.
#[derive(Debug, Default)]
pub struct KeyTunnels {
    counted: AtomicBool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    slots: HashMap<KeyId, usize>,
    /// The number of tunnels of each key that has some.
    counts: Slots<(KeyId, usize)>,
}

/// Place of a key among the counts, while it has a tunnel: four bytes, because every tunnel has room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySlot(NonZeroU32);

impl KeyTunnels {
    /// True while tunnels are counted.
    pub fn are_counted(&self) -> bool {
        self.counted.load(Relaxed)
    }

    pub(super) fn count(&self, counted: bool) {
        self.counted.store(counted, Relaxed);
    }

    /// Counts one tunnel more of a key. Returns `None` for a key that has `most` tunnels.
    pub fn add(&self, id: KeyId, most: usize) -> Option<KeySlot> {
        let mut all = self.lock();
        let Counts { slots, counts } = &mut *all;
        let known = slots.get(&id).copied();
        let count = known.and_then(|slot| counts.get_mut(slot));
        let slot = match (known, count) {
            (Some(slot), Some((_, count))) if *count < most => {
                *count += 1;
                slot
            }
            (None, _) if most > 0 => {
                let slot = counts.insert(|_| (id, 1));
                slots.insert(id, slot);
                slot
            }
            _ => return None,
        };
        // There are fewer tunnels than that, and the number is not zero.
        u32::try_from(slot).ok().and_then(|slot| NonZeroU32::new(slot.wrapping_add(1))).map(KeySlot)
    }

    /// Tells whether the key has as many tunnels as it may.
    pub(in crate::upstream) fn is_full(&self, id: KeyId, most: usize) -> bool {
        let all = self.lock();
        let slot = all.slots.get(&id).and_then(|slot| all.counts.get(*slot));
        slot.map_or(0, |(_, count)| *count) >= most
    }

    /// Counts one tunnel less of the key in a slot.
    pub(in crate::upstream) fn remove(&self, KeySlot(slot): KeySlot) {
        let mut all = self.lock();
        let slot = slot.get() as usize - 1;
        let Some((id, count)) = all.counts.get_mut(slot) else { return };
        *count -= 1;
        if *count == 0 {
            let id = *id;
            let Counts { slots, counts } = &mut *all;
            counts.remove(slot);
            slots.remove(&id);
            slots.give_back(slots.len());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One handshake of a key, counted while it lives, or until a tunnel takes over.
#[derive(Debug)]
#[must_use = "dropped at once it counts nothing"]
pub struct HeldKey {
    admission: Arc<UpstreamAdmission>,
    slot: Option<KeySlot>,
}

impl HeldKey {
    /// Counts one handshake more of a key. Returns `None` for a key that has `most` tunnels.
    pub fn within(admission: &Arc<UpstreamAdmission>, id: KeyId, most: usize) -> Option<Self> {
        let slot = admission.keys.add(id, most)?;
        Some(Self { admission: Arc::clone(admission), slot: Some(slot) })
    }

    /// Gives the count to the caller, who ends it by [`remove`](KeyTunnels::remove).
    pub(in crate::upstream) fn into_slot(mut self) -> Option<KeySlot> {
        self.slot.take()
    }
}

impl Drop for HeldKey {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.admission.keys.remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_of_a_key_are_counted_while_they_live_and_no_longer() {
        let admission = Arc::new(UpstreamAdmission::default());
        let (key, other) = (KeyId::new(7, "0000002a"), KeyId::new(7, "0000002b"));
        let kept: Vec<_> = (0..2).map(|_| HeldKey::within(&admission, key, 2).unwrap()).collect();
        assert!(HeldKey::within(&admission, key, 2).is_none());
        let another = HeldKey::within(&admission, other, 1);
        assert!(another.is_some());
        drop(kept);
        drop(another);
        assert!(admission.keys.lock().slots.is_empty(), "nothing is kept of keys without tunnels");
        let slot = HeldKey::within(&admission, key, 1).and_then(HeldKey::into_slot).unwrap();
        assert!(HeldKey::within(&admission, key, 1).is_none(), "the tunnel counts on");
        admission.keys.remove(slot);
        assert!(HeldKey::within(&admission, key, 1).is_some());
        assert!(HeldKey::within(&admission, key, 0).is_none());
    }
}
