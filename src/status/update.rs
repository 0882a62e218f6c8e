//! Updates for whoever follows the gateway live: the status, the totals and the busiest tunnels at one moment.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::survey::{GenerationCount, HotKey, Survey, Surveyed};
use super::{BackendStatus, Status, StatusSource, TunnelStatus, UpstreamStatus};
use crate::metrics::Totals;

/// The gateway at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// Status, without its histories. Of more than 500 backends those in trouble come first, then those with the most
    /// tunnels; the others are left out.
    pub status: Status,
    /// Counts over all backends, those left out included.
    pub overview: Overview,
    /// Counts since the process started.
    pub totals: Totals,
    /// Open tunnels by backend and generation.
    pub generations: Vec<GenerationCount>,
    /// Keys whose tunnels carry the most.
    pub keys: Vec<HotKey>,
    /// Tunnels that carry the most.
    pub talkers: Vec<TunnelStatus>,
}

/// Counts of backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// All of them.
    pub backends: usize,
    /// Number of them that are down.
    pub down: usize,
    /// Number of them that are ejected.
    pub ejected: usize,
    /// Number of them that an operator drains, or that leave.
    pub draining: usize,
    /// Number of them that the status leaves out.
    pub left_out: usize,
    /// Clients that wait for their turn.
    pub waiting: usize,
}

/// Makes updates, one after the other.
pub struct Reporter {
    source: StatusSource,
    survey: Survey,
}

impl Reporter {
    /// A reporter of the gateway that `source` tells of. Its first update knows no rates.
    pub fn new(source: StatusSource) -> Self {
        Self { source, survey: Survey::following() }
    }

    /// Makes an update; visits every open tunnel. Returns it with the time to wait before the next one: a second, and
    /// longer where there are so many tunnels that workers would be kept from their work.
    pub async fn update(&mut self) -> (Update, Duration) {
        let begun = Instant::now();
        let Surveyed { ages, away_from_home, generations, keys, talkers } =
            self.survey.look(&self.source.running).await;
        let mut status = self.source.status_with(ages, away_from_home);
        let overview = thin(&mut status.upstreams);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let totals = self.source.running.metrics.totals();
        let update = Update { at_ms, status, overview, totals, generations, keys, talkers };
        (update, PAUSE.max(begun.elapsed().saturating_mul(REST)))
    }
}

/// Counts backends, and leaves out those beyond [`MOST_BACKENDS`].
fn thin(upstreams: &mut [UpstreamStatus]) -> Overview {
    let mut overview = Overview::default();
    for one in upstreams.iter().flat_map(|upstream| &upstream.backends) {
        overview.backends += 1;
        overview.down += usize::from(!one.up);
        overview.ejected += usize::from(one.ejected);
        overview.draining += usize::from(one.draining || one.leaving);
        overview.waiting += one.waiting;
    }
    overview.left_out = overview.backends.saturating_sub(MOST_BACKENDS);
    if overview.left_out > 0 {
        let places = upstreams.iter().enumerate().flat_map(|(upstream, status)| {
            status.backends.iter().enumerate().map(move |(place, one)| (rank(one), upstream, place))
        });
        let mut places: Vec<_> = places.collect();
        places.sort_unstable();
        let kept: HashSet<_> =
            places.into_iter().take(MOST_BACKENDS).map(|(_, upstream, place)| (upstream, place)).collect();
        for (number, upstream) in upstreams.iter_mut().enumerate() {
            let mut place = 0..;
            upstream.backends.retain(|_| place.next().is_some_and(|place| kept.contains(&(number, place))));
        }
    }
    overview
}

/// Rank of a backend: what needs a look comes first.
fn rank(one: &BackendStatus) -> (bool, Reverse<usize>) {
    let in_trouble = !one.up || one.ejected || one.draining || one.leaving || one.waiting > 0;
    (!in_trouble, Reverse(one.tunnels))
}

/// Time between two updates.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause in multiples of the time that an update took: at most a twentieth of one processor goes into updates.
const REST: u32 = 20;
/// Backends of an update: some 120 KiB of JSON.
const MOST_BACKENDS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(number: u16, up: bool, tunnels: usize) -> BackendStatus {
        BackendStatus {
            name: format!("b{number}"),
            address: ([127, 0, 0, 1], number).into(),
            weight: 1,
            up,
            checked: true,
            draining: false,
            leaving: false,
            absent: false,
            away_seconds: None,
            held: 0,
            ejected: false,
            tunnels,
            load: tunnels,
            waiting: 0,
            rate: None,
        }
    }

    #[test]
    fn of_too_many_backends_those_in_trouble_and_the_fullest_are_kept() {
        let many = |from: u16| (from..from + 400).map(|number| backend(number, true, usize::from(number))).collect();
        let upstream = |name: &str, backends| UpstreamStatus { name: name.to_owned(), backends, discovery: None };
        let mut upstreams = [upstream("a", many(1)), upstream("b", many(1_001))];
        upstreams[0].backends[0] = backend(1, false, 0);
        let overview = thin(&mut upstreams);
        assert_eq!(overview, Overview { backends: 800, down: 1, left_out: 300, ..Overview::default() });
        let names: Vec<_> = upstreams[0].backends.iter().map(|one| one.name.as_str()).collect();
        assert_eq!((names.len(), names[0], names[1], upstreams[1].backends.len()), (100, "b1", "b302", 400));
    }
}
