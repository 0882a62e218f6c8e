//! All figures of a run, by row and peer.

use std::collections::{BTreeMap, BTreeSet};

use crate::peer::Peer;

/// The figures of a run. Each measurement adds one to its row and peer; all peers take a turn in each round, so figures
/// at the same place belong to the same round.
#[derive(Default)]
pub struct Results {
    figures: BTreeMap<(&'static str, Peer), Vec<f64>>,
    /// Measurements that failed, each with the reason.
    pub failures: Vec<String>,
    /// Reasons to doubt the figures: processes that were scheduled differently, a machine that was not quiet.
    pub warnings: BTreeSet<String>,
}

/// Ratio of two peers' figures, round by round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The median of the rounds' ratios.
    pub median: f64,
    /// The lower quartile.
    pub low: f64,
    /// The upper quartile.
    pub high: f64,
    /// Rounds in which both were measured.
    pub pairs: usize,
}

impl Ratio {
    /// Greatest distance from 1.00 at which the ratio of a program to itself counts as 1.00.
    pub const TOLERANCE: f64 = 0.03;

    /// True for a ratio that a program beside itself may have.
    pub fn is_one(&self) -> bool {
        // A hair more, so that 1.03 counts although binary fractions cannot hold it.
        (self.median - 1.0).abs() <= Self::TOLERANCE + 1e-9
    }
}

/// Median and extremes of one row and peer.
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

    /// Ratio of `of` to `to`, from the rounds in which both have a finite figure above zero; `None` without such a
    /// round.
    pub fn ratio(&self, id: &'static str, of: Peer, to: Peer) -> Option<Ratio> {
        let is_sane = |figure: &f64| figure.is_finite() && *figure > 0.0;
        let rounds = self.all(id, of).iter().zip(self.all(id, to));
        let mut ratios: Vec<f64> =
            rounds.filter(|(of, to)| is_sane(of) && is_sane(to)).map(|(of, to)| of / to).collect();
        ratios.sort_by(f64::total_cmp);
        Some(Ratio {
            median: quantile(&ratios, 0.5)?,
            low: quantile(&ratios, 0.25)?,
            high: quantile(&ratios, 0.75)?,
            pairs: ratios.len(),
        })
    }

    /// The self-check of a row: Longhaul beside itself. `None` where it was not measured twice.
    pub fn self_check(&self, id: &'static str) -> Option<Ratio> {
        self.ratio(id, Peer::Longhaul, Peer::Again)
    }

    /// Median and spread; `None` if it was not measured. Errors are added up instead.
    pub fn spread(&self, id: &'static str, peer: Peer) -> Option<Spread> {
        let figures = self.all(id, peer);
        if id == "errors" && !figures.is_empty() {
            let sum = figures.iter().sum();
            return Some(Spread { median: sum, least: sum, most: sum });
        }
        spread(figures)
    }

    /// The peers that have a figure in any row, the self-check left out.
    pub fn peers(&self) -> Vec<Peer> {
        let mut peers: Vec<Peer> = self.figures.keys().map(|(_, peer)| *peer).filter(|p| *p != Peer::Again).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }
}

fn spread(figures: &[f64]) -> Option<Spread> {
    let mut sorted: Vec<f64> = figures.iter().copied().filter(|figure| !figure.is_nan()).collect();
    sorted.sort_by(f64::total_cmp);
    let (least, most) = (*sorted.first()?, *sorted.last()?);
    Some(Spread { median: quantile(&sorted, 0.5)?, least, most })
}

/// The quantile of sorted figures, interpolated between two of them where needed.
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * (sorted.len().checked_sub(1)? as f64);
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    // Two figures that never came have no difference.
    Some(if below == above { below } else { below + (above - below) * place.fract() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one_or_the_mean_of_two() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, least: 1.0, most: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]).map(|s| s.median), Some(2.5));
        assert_eq!(spread(&[]), None);
        // A round that failed.
        assert_eq!(spread(&[f64::NAN, 2.0]).map(|s| s.median), Some(2.0));
    }

    #[test]
    fn a_ratio_is_the_median_of_the_rounds_and_not_a_ratio_of_medians() {
        let mut results = Results::default();
        // The machine was slow in the second round, for both.
        for (ours, theirs) in [(1.0, 2.0), (30.0, 40.0), (3.0, 4.0)] {
            results.add("echo64.cpu", Peer::Longhaul, ours);
            results.add("echo64.cpu", Peer::Nginx, theirs);
        }
        let ratio = results.ratio("echo64.cpu", Peer::Longhaul, Peer::Nginx).unwrap();
        assert_eq!(ratio, Ratio { median: 0.75, low: 0.625, high: 0.75, pairs: 3 });
        assert_eq!(results.ratio("echo64.cpu", Peer::Longhaul, Peer::Envoy), None);
    }

    #[test]
    fn rounds_without_a_figure_of_both_are_no_pairs() {
        let mut results = Results::default();
        for (ours, theirs) in [(1.0, 2.0), (1.0, 0.0), (1.0, f64::INFINITY)] {
            results.add("upgrade.old", Peer::Longhaul, ours);
            results.add("upgrade.old", Peer::Nginx, theirs);
        }
        results.add("upgrade.old", Peer::Longhaul, 5.0);
        assert_eq!(results.ratio("upgrade.old", Peer::Longhaul, Peer::Nginx).map(|ratio| ratio.pairs), Some(1));
    }

    #[test]
    fn the_self_check_holds_up_to_three_percent() {
        let ratio = |median| Ratio { median, low: median, high: median, pairs: 1 };
        assert!(ratio(1.03).is_one() && ratio(0.97).is_one() && ratio(1.0).is_one());
        assert!(!ratio(1.031).is_one() && !ratio(0.969).is_one());
    }

    #[test]
    fn the_second_longhaul_of_the_self_check_is_no_peer() {
        let mut results = Results::default();
        results.add("echo64.cpu", Peer::Longhaul, 1.0);
        results.add("echo64.cpu", Peer::Again, 1.0);
        assert_eq!(results.peers(), [Peer::Longhaul]);
        assert_eq!(results.self_check("echo64.cpu").map(|ratio| ratio.median), Some(1.0));
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
