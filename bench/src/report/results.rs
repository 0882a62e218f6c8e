//! All figures of a run, by row and peer.

use std::collections::BTreeMap;

use crate::peer::Peer;

/// The figures of a run. Each measurement adds one to its row and peer.
#[derive(Default)]
pub struct Results {
    figures: BTreeMap<(&'static str, Peer), Vec<f64>>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

/// Of one row and peer: the middle, and how far apart the measurements were.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one; of two, their mean.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Results {
    /// Adds a figure.
    pub fn add(&mut self, id: &'static str, peer: Peer, figure: f64) {
        self.figures.entry((id, peer)).or_default().push(figure);
    }

    /// Each measurement's figure.
    pub fn all(&self, id: &'static str, peer: Peer) -> &[f64] {
        self.figures.get(&(id, peer)).map_or(&[], Vec::as_slice)
    }

    /// The middle and the spread; `None` if it was not measured. Errors are added up instead.
    pub fn spread(&self, id: &'static str, peer: Peer) -> Option<Spread> {
        let figures = self.all(id, peer);
        if id == "errors" && !figures.is_empty() {
            let sum = figures.iter().sum();
            return Some(Spread { median: sum, least: sum, most: sum });
        }
        spread(figures)
    }

    /// The peers that have a figure in any row.
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.figures.keys().map(|(_, peer)| *peer).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}

fn spread(figures: &[f64]) -> Option<Spread> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    let half = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[half] } else { (sorted[half - 1] + sorted[half]) / 2.0 };
    Some(Spread { median, least, most })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn errors_are_added_up_over_works_and_repeats() {
        let mut results = Results::default();
        for errors in [0.0, 2.0, 1.0] {
            results.add("errors", Peer::Nginx, errors);
        }
        assert_eq!(results.spread("errors", Peer::Nginx).map(|s| s.median), Some(3.0));
    }
}
