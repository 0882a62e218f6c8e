//! A survey of the open tunnels: their ages, generations, keys and rates, found in one visit.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Age;
use super::rates::{CountedBytes, Rates};
use super::tunnel::{Row, TunnelStatus};
use crate::affinity::{Digest, KeySource};
use crate::hook::TunnelId;
use crate::snapshot::{Running, Snapshot};
use crate::tunnel::Seen;
use crate::upstream::BackendState;

/// Surveys of the open tunnels, one after the other.
#[derive(Default)]
pub struct Survey {
    /// Bytes of each tunnel at the last look; `None` where rates are not asked for.
    before: Option<HashMap<TunnelId, CountedBytes>>,
}

/// Findings of one survey.
#[derive(Clone, Debug, Default)]
pub struct Surveyed {
    /// Open tunnels by age, the youngest first.
    pub ages: Vec<Age>,
    /// Open tunnels whose key belongs to another backend by now.
    pub away_from_home: u64,
    /// Open tunnels by backend and generation.
    pub generations: Vec<GenerationCount>,
    /// Keys whose tunnels carry the most, at most ten.
    pub keys: Vec<HotKey>,
    /// Tunnels that carry the most, at most ten.
    pub talkers: Vec<TunnelStatus>,
}

/// Open tunnels of one backend that one configuration opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GenerationCount {
    /// Name of the upstream.
    pub upstream: String,
    /// Name of the backend, which may have left the configuration.
    pub backend: String,
    /// Number of the configuration; `None` for tunnels that came from a predecessor.
    pub generation: Option<u32>,
    /// Number of tunnels.
    pub tunnels: u64,
}

/// A key, and the open tunnels that it chose the backend of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotKey {
    /// Name of the upstream.
    pub upstream: String,
    /// Eight hexadecimal digits of the key's SHA-1.
    pub key: String,
    /// Source of the key.
    pub key_source: String,
    /// Name of the backend of one of the tunnels.
    pub backend: String,
    /// Number of tunnels.
    pub tunnels: u64,
    /// Bytes a second that they carry, both ways together.
    pub bytes_a_second: u64,
}

impl Survey {
    /// A survey of ages and generations alone.
    pub fn new() -> Self {
        Self::default()
    }

    /// A survey that is made again and again, and finds keys and talkers by what passed in between.
    pub fn following() -> Self {
        Self { before: Some(HashMap::new()) }
    }

    /// Looks at every open tunnel, a slice at a time.
    pub async fn look(&mut self, running: &Running) -> Surveyed {
        let tally = Tally { before: self.before.take(), ..Tally::default() };
        let (snapshot, tally) = (running.snapshot(), Arc::new(Mutex::new(tally)));
        let told = Arc::clone(&tally);
        let look = move |seen: &Seen<'_>| {
            told.lock().unwrap_or_else(PoisonError::into_inner).count(seen, &snapshot);
        };
        running.tunnels.visit(Arc::new(look)).await;
        let tally = std::mem::take(&mut *tally.lock().unwrap_or_else(PoisonError::into_inner));
        self.before = tally.before.is_some().then_some(tally.counted);
        tally.found.into()
    }
}

/// Counts of a survey under way.
#[derive(Default)]
struct Tally {
    before: Option<HashMap<TunnelId, CountedBytes>>,
    counted: HashMap<TunnelId, CountedBytes>,
    found: Found,
}

#[derive(Default)]
struct Found {
    ages: [u64; RANGES.len() + 1],
    away: u64,
    /// By the backend's place in memory and the generation.
    places: HashMap<(usize, u32), (Arc<BackendState>, u64)>,
    /// By the upstream's place in memory and the key.
    keys: HashMap<(usize, Digest), KeyTally>,
    talkers: BinaryHeap<Reverse<Talker>>,
}

struct KeyTally {
    backend: Arc<BackendState>,
    source: Option<KeySource>,
    tunnels: u64,
    rate: u64,
}

struct Talker {
    row: Row,
    rates: Rates,
}

impl Tally {
    fn count(&mut self, seen: &Seen<'_>, snapshot: &Snapshot) {
        let record = seen.record();
        let found = &mut self.found;
        found.ages[range(seen.age())] += 1;
        found.away += u64::from(snapshot.is_away(record));
        let backend = record.backend();
        let place = (Arc::as_ptr(backend).addr(), record.generation);
        found.places.entry(place).or_insert_with(|| (Arc::clone(backend), 0)).1 += 1;
        let Some(before) = &self.before else { return };

        let counted = CountedBytes::of(seen);
        let rates = before.get(&record.id).map(|before| counted.since(before));
        self.counted.insert(record.id, counted);
        let rate = rates.map_or(0, Rates::total);
        if let Some(key) = record.key.digest() {
            let upstream = Arc::as_ptr(&record.metrics).addr();
            let tally = found.keys.entry((upstream, key)).or_insert_with(|| KeyTally {
                backend: Arc::clone(backend),
                source: record.key_source,
                tunnels: 0,
                rate: 0,
            });
            tally.tunnels += 1;
            tally.rate = tally.rate.saturating_add(rate);
        }
        if let Some(rates) = rates.filter(|_| rate > 0) {
            found.heard(seen, rates);
        }
    }
}

impl Found {
    /// Keeps a tunnel if it is among those that carry the most.
    fn heard(&mut self, seen: &Seen<'_>, rates: Rates) {
        let least = self.talkers.peek().map_or(0, |Reverse(least)| least.rates.total());
        if self.talkers.len() >= MOST_SHOWN {
            if rates.total() <= least {
                return;
            }
            self.talkers.pop();
        }
        self.talkers.push(Reverse(Talker { row: Row::of(seen), rates }));
    }
}

impl From<Found> for Surveyed {
    fn from(found: Found) -> Self {
        let age = |(index, tunnels): (usize, u64)| Age { under_seconds: RANGES.get(index).copied(), tunnels };
        let generation = |((_, generation), (backend, tunnels)): ((usize, u32), (Arc<BackendState>, u64))| {
            let (upstream, backend) = (backend.upstream().to_owned(), backend.name().to_owned());
            GenerationCount { upstream, backend, generation: (generation > 0).then_some(generation), tunnels }
        };
        let mut generations: Vec<_> = found.places.into_iter().map(generation).collect();
        generations.sort_by_key(|one| Reverse(one.tunnels));
        generations.truncate(MOST_PLACES);
        generations.sort();
        let mut keys: Vec<_> = found.keys.into_iter().collect();
        keys.sort_by_key(|((_, key), tally)| (Reverse((tally.rate, tally.tunnels)), key.to_string()));
        keys.truncate(MOST_SHOWN);
        let key = |((_, key), tally): ((usize, Digest), KeyTally)| HotKey {
            upstream: tally.backend.upstream().to_owned(),
            key: key.to_string(),
            key_source: KeySource::name_of(tally.source).to_owned(),
            backend: tally.backend.name().to_owned(),
            tunnels: tally.tunnels,
            bytes_a_second: tally.rate,
        };
        let talker = |Reverse(Talker { row, rates })| TunnelStatus { rates: Some(rates), ..TunnelStatus::from(row) };
        Self {
            ages: found.ages.into_iter().enumerate().map(age).collect(),
            away_from_home: found.away,
            generations,
            keys: keys.into_iter().map(key).collect(),
            // The greatest first: the order is that of `Reverse`.
            talkers: found.talkers.into_sorted_vec().into_iter().map(talker).collect(),
        }
    }
}

impl PartialEq for Talker {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Talker {}

impl PartialOrd for Talker {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Talker {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.rates.total(), self.row.id).cmp(&(other.rates.total(), other.row.id))
    }
}

/// Index of the range that an age falls in.
fn range(age: Duration) -> usize {
    RANGES.iter().position(|under| age.as_secs() < *under).unwrap_or(RANGES.len())
}

/// Ends of the ranges of age in seconds: a minute, ten minutes, an hour, six hours, a day, a week.
const RANGES: [u64; 6] = [60, 600, 3_600, 6 * 3_600, 86_400, 7 * 86_400];
/// Keys and talkers: a look at more is `longhaul tunnels --sort rate`.
const MOST_SHOWN: usize = 10;
/// Backends by generations: a screen has fewer.
const MOST_PLACES: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ages_ends_where_the_next_begins() {
        let seconds = Duration::from_secs;
        assert_eq!([0, 59, 60, 599, 600].map(|age| range(seconds(age))), [0, 0, 1, 1, 2]);
        assert_eq!(range(Duration::from_millis(59_999)), 0);
        assert_eq!([7 * 86_400 - 1, 7 * 86_400, u64::MAX].map(|age| range(seconds(age))), [5, 6, 6]);
    }
}
