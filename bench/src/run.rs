//! One run: every work on every peer, in turn, several times over.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::peer::{Ground, Peer, Site};
use crate::report::Results;
use crate::work::{Amount, Figures, Work};

/// What is to be measured.
pub struct Plan {
    /// Which peers, in the order they take turns.
    pub peers: Vec<Peer>,
    /// Which work.
    pub works: Vec<Work>,
    /// How often.
    pub repeats: usize,
    /// How often work is done that hardly differs from time to time; at most `repeats`.
    pub steady_repeats: usize,
    /// How much of it.
    pub amount: Amount,
}

impl Plan {
    /// How it is measured, in a sentence for the reader of the results.
    pub fn method(&self) -> String {
        format!(
            "Medians of {} runs (± half the distance between the extremes) in which peers took turns; {} s of load each; the old \
             processes of reloads and upgrades were watched for {} s.",
            self.repeats,
            self.amount.load.as_secs_f64(),
            self.amount.watch.as_secs_f64()
        )
    }
}

/// Measures all of it. Peers alternate within each work, so that a change of the machine's mood hits all of them.
///
/// # Errors
/// When the user wants an end. A peer that fails is named in the results, and left out of that work from then on.
pub fn run(plan: &Plan, ground: &Ground) -> Result<Results> {
    ensure!(!plan.peers.is_empty(), "there is nothing to measure");
    let mut results = Results::default();
    let mut failed: Vec<(Work, Peer)> = Vec::new();
    for repeat in 1..=plan.repeats {
        for work in &plan.works {
            for peer in &plan.peers {
                ground.stop.check()?;
                let is_enough = work.is_steady() && repeat > plan.steady_repeats;
                if is_enough || !work.concerns(*peer) || failed.contains(&(*work, *peer)) {
                    continue;
                }
                let begun = Instant::now();
                match measure(*work, *peer, plan, ground) {
                    Ok(figures) => {
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

fn measure(work: Work, peer: Peer, plan: &Plan, ground: &Ground) -> Result<Figures> {
    let _pinned = if work.is_pinned() { Some(Pinned::to_one_core()?) } else { None };
    let mut site = Site::start(peer, ground)?;
    work.measure(&mut site, peer, &plan.amount, &ground.stop)
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
        // It was allowed before.
        let _ = sched_setaffinity(None, &self.before);
    }
}
