//! Counts of the networks of clients that have something open, or shook hands a moment ago.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::RefusalReason;
use super::network::{Network, Seed};
use crate::config::{PerClient, Rate};
use crate::slots::GiveBack;

/// The table of networks.
///
/// Bound: a network that has something open has one entry, so those are no more than the connections and tunnels of the
/// process, which its file descriptors bound. A network that shook hands under a rate has one until its next handshake
/// could be its first again; of these a shard has twice [`MOST_IDLE`] at most. An entry has 32 bytes, and the table
/// about twice that for each, because up to half of its places are free. When three quarters are, the table shrinks.
#[derive(Debug)]
pub(super) struct Clients {
    shards: Box<[Mutex<Shard>]>,
    seed: Seed,
    /// Beginning of the time that rates are counted in.
    start: Instant,
}

/// Part of the table under one lock, which is held for the time of one lookup.
#[derive(Debug)]
struct Shard {
    counts: HashMap<Network, Counts, Seed>,
    /// Number of entries at which those that nobody needs are looked for.
    sweep_at: usize,
}

/// Counts of one network.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    connections: u32,
    tunnels: u32,
    /// Nanoseconds from the start at which the next handshake is due at an even pace; those that come earlier use up
    /// the burst (the "theoretical arrival time" of the generic cell rate algorithm, ITU-T I.371). 0 without a rate.
    due: u64,
}

/// Things of a network that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkCount {
    Connection,
    Tunnel,
}

impl Clients {
    pub(super) fn new(start: Instant) -> Self {
        let seed = Seed::draw();
        let shard = |_| Mutex::new(Shard { counts: HashMap::with_hasher(seed.clone()), sweep_at: LEAST_SWEEP });
        Self { shards: (0..SHARDS).map(shard).collect(), seed, start }
    }

    /// Counts one more of a network, unless it has `most` of them.
    pub(super) fn add(&self, network: Network, kind: NetworkCount, most: Option<NonZeroU32>) -> bool {
        let mut shard = self.shard(network);
        let count = shard.entry(network, || 0).of(kind);
        if most.is_some_and(|most| *count >= most.get()) {
            return false;
        }
        *count += 1;
        true
    }

    /// Counts the tunnel that a handshake is to open, unless the network has too many or shakes hands too fast.
    pub(super) fn shake_hands(&self, network: Network, limits: &PerClient, now: Instant) -> Result<(), RefusalReason> {
        let now = || u64::try_from((now.saturating_duration_since(self.start)).as_nanos()).unwrap_or(u64::MAX);
        let mut shard = self.shard(network);
        let counts = shard.entry(network, now);
        if limits.tunnels.is_some_and(|most| counts.tunnels >= most.get()) {
            return Err(RefusalReason::ClientTunnels);
        }
        if let Some(rate) = limits.handshakes
            && !counts.takes(rate, now())
        {
            return Err(RefusalReason::ClientHandshakes);
        }
        counts.tunnels += 1;
        Ok(())
    }

    /// Counts one less of a network.
    pub(super) fn remove(&self, network: Network, kind: NetworkCount) {
        let table = &mut self.shard(network).counts;
        if let Some(counts) = table.get_mut(&network) {
            let count = counts.of(kind);
            *count = count.saturating_sub(1);
            if !counts.holds_any() && counts.due == 0 {
                table.remove(&network);
                table.give_back(table.len());
            }
        }
    }

    fn shard(&self, network: Network) -> MutexGuard<'_, Shard> {
        // Bits that the maps inside do not choose a place by.
        let number = (self.seed.hash_one(network) >> 48) as usize % SHARDS;
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of networks in the table.
    pub(super) fn len(&self) -> usize {
        let length = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).counts.len();
        self.shards.iter().map(length).sum()
    }

    /// Bytes that the table takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let places: usize = self.shards.iter().map(|shard| shard.lock().unwrap().counts.capacity()).sum();
        // hashbrown fills seven of eight places, each with a byte of its own.
        places * 8 / 7 * (size_of::<(Network, Counts)>() + 1)
    }
}

impl Shard {
    /// The counts of a network. `now` is asked where entries that nobody needs are to go.
    fn entry(&mut self, network: Network, now: impl Fn() -> u64) -> &mut Counts {
        if self.counts.len() >= self.sweep_at {
            self.sweep(now());
        }
        self.counts.entry(network).or_default()
    }

    /// Drops entries of networks that have nothing open and may shake hands as if they never had.
    fn sweep(&mut self, now: u64) {
        self.counts.retain(|_, counts| counts.holds_any() || counts.due > now);
        let idle = self.counts.values().filter(|counts| !counts.holds_any()).count();
        if idle > MOST_IDLE {
            // More networks than a rate for each can hold off: what is open counts for more.
            self.counts.retain(|_, counts| counts.holds_any());
        }
        self.sweep_at = (2 * self.counts.len()).max(LEAST_SWEEP);
        self.counts.give_back(self.counts.len());
    }
}

impl Counts {
    fn of(&mut self, kind: NetworkCount) -> &mut u32 {
        match kind {
            NetworkCount::Connection => &mut self.connections,
            NetworkCount::Tunnel => &mut self.tunnels,
        }
    }

    fn holds_any(&self) -> bool {
        self.connections > 0 || self.tunnels > 0
    }

    /// Takes one of a rate, if one is left at this moment.
    fn takes(&mut self, rate: Rate, now: u64) -> bool {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let (interval, burst) = (nanos(rate.interval()), nanos(rate.per));
        let due = self.due.max(now).saturating_add(interval);
        let is_left = due - now <= burst;
        if is_left {
            self.due = due;
        }
        is_left
    }
}

/// Locks of the table. A worker or a runtime holds one for some 50 ns at a time, so that with 16 of them hardly anybody
/// waits.
const SHARDS: usize = 16;
/// Entries of a shard from which on those that nobody needs are looked for.
const LEAST_SWEEP: usize = 1_024;
/// Entries of networks without anything open that a shard keeps when it is swept. It is swept again when it has twice
/// as many entries, so that all shards together have 131,072 of these: 8 MiB.
const MOST_IDLE: usize = 4_096;

#[cfg(test)]
mod tests;
