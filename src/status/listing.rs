//! Listings of open tunnels: looked at in slices, so that no worker is held up, and shown as they come or in an order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::filter::{CompiledFilter, FilterError, TunnelFilter};
use super::rates::CountedBytes;
use super::tunnel::{Row, TunnelStatus};
use crate::hook::TunnelId;
use crate::snapshot::Running;
use crate::tunnel::{Look, NextSlice, Seen, Tunnels};

/// A request for a list of open tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelsAsked {
    /// The tunnels meant.
    pub filter: TunnelFilter,
    /// Order, the greatest first; as they come where it is left out.
    pub sort: Option<Sort>,
    /// Most tunnels shown. All are where it is left out, but for [`MOST_SORTED`] in an order.
    pub limit: Option<usize>,
    /// Milliseconds between two looks, from which rates are reckoned, a minute at the most. Left out, there are no
    /// rates, unless they give the order: then it is a second.
    pub rate_ms: Option<u64>,
}

/// Measure by which tunnels are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// Time since they opened.
    Age,
    /// Time since bytes last came.
    Idle,
    /// Bytes a second, both ways together.
    Rate,
    /// Bytes, both ways together.
    Bytes,
    /// Messages, both ways together.
    Messages,
}

/// Counts of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingCounts {
    /// Open tunnels.
    pub open: usize,
    /// Tunnels that the filter fits.
    pub matched: usize,
    /// Tunnels that were shown.
    pub shown: usize,
    /// Name in the filter that nothing has, where no tunnel fits, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Fault of a request for a list of tunnels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListingError {
    /// Fault of its filter.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// More rows to be put in order than are kept.
    #[error("at most {MOST_SORTED} tunnels are put in an order; leave `sort` out for a longer list")]
    Limit,
    /// Looks that are too far apart.
    #[error("rates are reckoned over {} at most", humantime::format_duration(LONGEST_RATE))]
    Rate,
}

/// A listing under way.
pub struct Listing {
    tunnels: Arc<Tunnels>,
    rows: Arc<Rows>,
    look: Arc<Look>,
    /// Place at which the next slice begins; `None` once all tunnels were looked at.
    next: Option<NextSlice>,
    chosen: Arc<CompiledFilter>,
    sort: Option<Sort>,
    limit: usize,
    rate: Option<Duration>,
    /// Bytes of each tunnel when it was first looked at.
    before: HashMap<TunnelId, CountedBytes>,
    /// Rows in their order, once they are.
    sorted: Option<std::vec::IntoIter<TunnelStatus>>,
    shown: usize,
    unknown: Option<String>,
}

/// Rows that a slice gave.
#[derive(Default)]
struct Rows {
    found: Mutex<Vec<Row>>,
    matched: AtomicUsize,
}

impl Listing {
    /// Begins a listing. Nothing is looked at before [`next`](Self::next) is called.
    ///
    /// # Errors
    /// [`ListingError`]
    pub fn begin(running: &Running, asked: &TunnelsAsked) -> Result<Self, ListingError> {
        let chosen = Arc::new(asked.filter.read()?);
        let limit = match (asked.sort, asked.limit) {
            (Some(_), Some(limit)) if limit > MOST_SORTED => return Err(ListingError::Limit),
            (Some(_), limit) => limit.unwrap_or(MOST_SORTED),
            (None, limit) => limit.unwrap_or(usize::MAX),
        };
        let by_rate = (asked.sort == Some(Sort::Rate)).then_some(DEFAULT_RATE);
        let rate = asked.rate_ms.map(Duration::from_millis).or(by_rate);
        if rate.is_some_and(|rate| rate > LONGEST_RATE || rate.is_zero()) {
            return Err(ListingError::Rate);
        }
        let rows = Arc::new(Rows::default());
        // In an order every row has to be seen; else no more than are shown.
        let kept = if asked.sort.is_some() { usize::MAX } else { limit };
        let look = look(Arc::clone(&rows), Arc::clone(&chosen), kept);
        Ok(Self {
            tunnels: Arc::clone(&running.tunnels),
            rows,
            look,
            next: Some(NextSlice::default()),
            chosen,
            sort: asked.sort,
            limit,
            rate,
            before: HashMap::new(),
            sorted: None,
            shown: 0,
            unknown: asked.filter.unknown(&running.snapshot()),
        })
    }

    /// Makes the first of two looks, where rates are asked for, and waits until the second is due.
    pub async fn prepare(&mut self) {
        if let Some(rate) = self.rate.take() {
            self.look_before().await;
            tokio::time::sleep(rate).await;
        }
    }

    /// The next tunnels, once it is [prepared](Self::prepare); `None` when all have been shown.
    pub async fn next(&mut self) -> Option<Vec<TunnelStatus>> {
        let some = match self.sort {
            None => self.next_as_they_come().await?,
            Some(by) => {
                if self.sorted.is_none() {
                    self.sorted = Some(self.all_by(by).await.into_iter());
                }
                let some: Vec<_> = self.sorted.as_mut()?.by_ref().take(AT_ONCE).collect();
                (!some.is_empty()).then_some(some)?
            }
        };
        self.shown += some.len();
        Some(some)
    }

    /// The counts, complete once [`next`](Self::next) has returned `None`.
    pub fn listed(&self) -> ListingCounts {
        let matched = self.rows.matched.load(Ordering::Relaxed);
        let note = self.unknown.clone().filter(|_| matched == 0);
        ListingCounts { open: self.tunnels.count(), matched, shown: self.shown, note }
    }

    async fn next_as_they_come(&mut self) -> Option<Vec<TunnelStatus>> {
        loop {
            self.next = self.tunnels.visit_slice(&self.look, self.next?).await;
            let rows = self.take_rows();
            if !rows.is_empty() {
                return Some(rows);
            }
        }
    }

    async fn all_by(&mut self, by: Sort) -> Vec<TunnelStatus> {
        let mut best: Vec<TunnelStatus> = Vec::new();
        let keep_best = |rows: &mut Vec<TunnelStatus>, limit| {
            rows.sort_by_cached_key(|row| std::cmp::Reverse(row.measure(by)));
            rows.truncate(limit);
        };
        while let Some(rows) = self.next_as_they_come().await {
            best.extend(rows);
            if best.len() >= self.limit.saturating_mul(2).max(AT_ONCE) {
                keep_best(&mut best, self.limit);
            }
        }
        keep_best(&mut best, self.limit);
        best
    }

    fn take_rows(&self) -> Vec<TunnelStatus> {
        let rows = std::mem::take(&mut *self.rows.found.lock().unwrap_or_else(PoisonError::into_inner));
        rows.into_iter().map(|row| self.with_rate(row)).collect()
    }

    fn with_rate(&self, row: Row) -> TunnelStatus {
        let rates = self.before.get(&row.id).map(|before| row.counted().since(before));
        TunnelStatus { rates, ..row.into() }
    }

    async fn look_before(&mut self) {
        let counted: Arc<Mutex<HashMap<_, _>>> = Arc::default();
        let (told, chosen) = (Arc::clone(&counted), Arc::clone(&self.chosen));
        let look = move |seen: &Seen<'_>| {
            if chosen.holds(seen) {
                let mut counted = told.lock().unwrap_or_else(PoisonError::into_inner);
                counted.insert(seen.record().id, CountedBytes::of(seen));
            }
        };
        self.tunnels.visit(Arc::new(look)).await;
        self.before = std::mem::take(&mut *counted.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// A look that keeps `most` rows of tunnels that fit, and counts all.
fn look(rows: Arc<Rows>, chosen: Arc<CompiledFilter>, most: usize) -> Arc<Look> {
    Arc::new(move |seen: &Seen<'_>| {
        if chosen.holds(seen) && rows.matched.fetch_add(1, Ordering::Relaxed) < most {
            rows.found.lock().unwrap_or_else(PoisonError::into_inner).push(Row::of(seen));
        }
    })
}

/// Tunnels that are put in an order: each takes half a KiB while it is.
pub const MOST_SORTED: usize = 10_000;
/// Longest time between two looks.
const LONGEST_RATE: Duration = Duration::from_secs(60);
const DEFAULT_RATE: Duration = Duration::from_secs(1);
/// Tunnels that one answer of an ordered list has.
const AT_ONCE: usize = 256;
