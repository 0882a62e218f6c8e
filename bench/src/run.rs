//! One run: every work on every peer, in turn, in several rounds.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::generator::Generator;
use crate::peer::{Ground, Peer, Site};
use crate::report::Results;
use crate::scheduling;
use crate::work::{Amount, Figures, Work};

/// Plan of a run.
pub struct Plan {
    /// The peers, in the order in which they take turns.
    pub peers: Vec<Peer>,
    /// The generator.
    pub generator: Generator,
    /// The work.
    pub works: Vec<Work>,
    /// Rounds.
    pub repeats: usize,
    /// Rounds of work whose figures hardly differ from round to round; at most `repeats`.
    pub steady_repeats: usize,
    /// Lengths, numbers and rates.
    pub amount: Amount,
}

impl Plan {
    /// The method, for the reader of the results.
    pub fn method(&self) -> String {
        format!(
            "Generator: {}. Peers took turns in {} rounds of {} s of load each, in the opposite order in every other \
             round. Figures are medians (± half the distance between the extremes), ratios the median of the rounds' \
             ratios with their quartiles. Context switches are counted per operation, as CPU is. The generator, each \
             backend and each gateway have {}. The old processes of reloads and upgrades were watched for {} s.",
            self.generator.title(),
            self.repeats,
            self.amount.load.as_secs_f64(),
            scheduling::sessions(),
            self.amount.watch.as_secs_f64()
        )
    }

    /// The peers, and Longhaul once more beside itself: the self-check.
    fn contestants(&self) -> Vec<Peer> {
        let twice = |peer: &Peer| if *peer == Peer::Longhaul { vec![Peer::Again, *peer] } else { vec![*peer] };
        self.peers.iter().flat_map(twice).collect()
    }
}

/// Measures all of it. Peers alternate within each work, so that a change of the machine's speed hits all of them.
/// Every other round has the opposite order, so that a steady drift cancels out.
///
/// # Errors
/// When the user wants an end. A peer that fails is named in the results, and left out of that work from then on.
pub fn run(plan: &Plan, ground: &Ground) -> Result<Results> {
    ensure!(!plan.peers.is_empty(), "there is nothing to measure");
    let mut results = Results::default();
    results.warnings.extend(scheduling::machine(&ground.stop)?);
    let contestants = plan.contestants();
    let mut failed: Vec<(Work, Peer)> = Vec::new();
    for repeat in 1..=plan.repeats {
        for work in &plan.works {
            for at in 0..contestants.len() {
                ground.stop.check()?;
                let peer = &contestants[if repeat % 2 == 1 { at } else { contestants.len() - 1 - at }];
                let is_enough = work.is_steady() && repeat > plan.steady_repeats;
                if is_enough || !work.concerns(*peer) || failed.contains(&(*work, *peer)) {
                    continue;
                }
                let begun = Instant::now();
                match measure(*work, *peer, plan, ground) {
                    Ok((figures, differences)) => {
                        results.warnings.extend(differences);
                        progress(repeat, *work, *peer, &figures, begun);
                        for (id, figure) in figures {
                            results.add(id, *peer, figure);
                        }
                    }
                    Err(error) => {
                        ground.stop.check()?;
                        let failure = format!("{work:?} with {}: {error:#}", peer.title());
                        eprintln!("longhaul-bench: {failure}");
                        results.failures.push(failure);
                        failed.push((*work, *peer));
                    }
                }
            }
        }
    }
    Ok(results)
}

/// Figures of one measurement, and differences in the scheduling of its processes.
fn measure(work: Work, peer: Peer, plan: &Plan, ground: &Ground) -> Result<(Figures, Vec<String>)> {
    let _pinned = if work.is_pinned() { Some(Pinned::to_one_core()?) } else { None };
    let mut site = Site::start(peer, work.setting(), ground)?;
    let figures = work.measure(&mut site, peer, &plan.amount, &ground.stop)?;
    Ok((figures, site.differences()))
}

fn progress(repeat: usize, work: Work, peer: Peer, figures: &Figures, begun: Instant) {
    let (id, first) = figures.first().copied().unwrap_or(("nothing", 0.0));
    let errors: f64 = figures.iter().filter(|(id, _)| *id == "errors").map(|(_, errors)| errors).sum();
    let errors = if errors > 0.0 { format!(", {errors} errors") } else { String::new() };
    let took = begun.elapsed().as_secs_f64();
    eprintln!("{repeat} {work:?} {}: {id} {first:.2}{errors} ({took:.1} s)", peer.title());
}

/// This thread, and every process it starts meanwhile, run on one core.
struct Pinned {
    before: CpuSet,
}

impl Pinned {
    fn to_one_core() -> Result<Self> {
        let before = sched_getaffinity(None).context("no affinity")?;
        let first = (0..CpuSet::MAX_CPU).find(|cpu| before.is_set(*cpu)).context("no core")?;
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).context("cannot be pinned to one core")?;
        Ok(Self { before })
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // These cores were allowed before.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn plan(peers: &[Peer]) -> Plan {
        let second = Duration::from_secs(1);
        let amount = Amount { load: second, idle: 1, wait: second, watch: second, rate: 1.0 };
        let generator = Generator::Mio;
        Plan { peers: peers.to_vec(), generator, works: vec![], repeats: 1, steady_repeats: 1, amount }
    }

    #[test]
    fn longhaul_is_measured_twice_side_by_side_and_no_other() {
        let contestants = plan(&[Peer::Direct, Peer::Longhaul, Peer::Nginx]).contestants();
        assert_eq!(contestants, [Peer::Direct, Peer::Again, Peer::Longhaul, Peer::Nginx]);
        assert_eq!(plan(&[Peer::Nginx]).contestants(), [Peer::Nginx]);
    }

    #[test]
    fn a_pinned_thread_is_let_go_again() {
        let before = sched_getaffinity(None).unwrap();
        let pinned = Pinned::to_one_core().unwrap();
        assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
        drop(pinned);
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }
}
