//! Many tunnels with churn for a long time: memory must stay where it is.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::load::{Fleet, handshakes};
use crate::peer::{Ground, Peer, Site};
use crate::proc;
use crate::report::{About, Line, Panel, draw_lines};
use crate::work::Work;
use crate::ws::Message;

/// Plan of a soak.
pub struct Plan {
    /// The gateway.
    pub peer: Peer,
    /// Its length.
    pub length: Duration,
    /// Open tunnels.
    pub tunnels: usize,
}

/// Messages a second over all tunnels.
const RATE: f64 = 2_000.0;
/// Each second one of so many tunnels is closed without a Close frame and replaced. Besides, others are opened and
/// closed in order.
const CHURN: usize = 50;
/// Samples of a whole soak.
const SAMPLES: u32 = 180;

/// MiB at a moment, in minutes from the start.
type Sample = (f64, f64);

/// Runs it, prints the verdict, and writes `soak.md`, `soak.json` and `soak.svg` into `out`.
///
/// # Errors
/// When memory grew, a tunnel was lost or an answer was wrong; when the user wants an end.
pub fn run(plan: &Plan, ground: &Ground, out: Option<&Path>) -> Result<()> {
    let (samples, errors) = churn(plan, ground)?;
    let verdict = judge(&samples);
    let Verdict { early, late, is_flat } = verdict;
    let method = format!(
        "{} tunnels for {:.0} minutes, {RATE} messages of 64 B a second over them; each second {} of them were \
         replaced, and others opened and closed for 0.1 s.",
        plan.tunnels,
        plan.length.as_secs_f64() / 60.0,
        plan.tunnels / CHURN,
    );
    let about = About::here(&[plan.peer], &ground.longhaul, method);
    let page = format!(
        "User memory in the second quarter {early:.2} MiB, in the last {late:.2} MiB: {}. Errors: {errors}.\n\n{}",
        if is_flat { "flat" } else { "not flat" },
        about.markdown()
    );
    print!("{page}");
    if let Some(folder) = out {
        std::fs::create_dir_all(folder).context("the folder cannot be made")?;
        std::fs::write(folder.join("soak.md"), page)?;
        let json = json!({
            "about": about, "samples": samples, "early": early, "late": late, "flat": is_flat, "errors": errors
        });
        std::fs::write(folder.join("soak.json"), format!("{json:#}\n"))?;
        let panel = Panel {
            title: "User memory, MiB".into(),
            x_title: "minutes",
            log: (false, false),
            lines: vec![Line { name: plan.peer.title(), points: samples, is_ours: true }],
        };
        std::fs::write(folder.join("soak.svg"), draw_lines("Memory under churn", &[panel]))?;
    }
    if !is_flat || errors > 0 {
        bail!("memory is not flat, or there were errors");
    }
    Ok(())
}

fn churn(plan: &Plan, ground: &Ground) -> Result<(Vec<Sample>, u64)> {
    let site = Site::start(plan.peer, Work::Paced.setting(), ground)?;
    let message = Message::new(64);
    let mut fleet = Fleet::open(&site.targets, plan.tunnels, &ground.stop)?;
    let begun = Instant::now();
    let (mut samples, mut errors, mut from) = (Vec::new(), 0, 0);
    let mut due = Duration::ZERO;
    while begun.elapsed() < plan.length {
        errors += fleet.paced(&message, RATE, Duration::from_millis(900))?.errors;
        errors += handshakes(&site.targets, 8, Duration::from_millis(100), &ground.stop)?.errors;
        let count = (plan.tunnels / CHURN).max(1);
        fleet.replace(from, count)?;
        from = (from + count) % plan.tunnels;
        if begun.elapsed() >= due {
            due += plan.length / SAMPLES;
            let minutes = begun.elapsed().as_secs_f64() / 60.0;
            let memory = proc::memory(&site.processes()).anonymous as f64 / f64::from(1 << 20);
            eprintln!("{minutes:6.1} min: {memory:.2} MiB, {errors} errors, {} tunnels lost", fleet.lost());
            samples.push((minutes, memory));
        }
    }
    Ok((samples, errors + fleet.lost()))
}

#[derive(Debug, PartialEq)]
struct Verdict {
    early: f64,
    late: f64,
    is_flat: bool,
}

/// Flat: the middle of the last quarter lies at most 2 % and a quarter of a MiB above that of the second. The first
/// quarter is for warming up.
fn judge(samples: &[Sample]) -> Verdict {
    let quarter = samples.len() / 4;
    let middle = |part: &[Sample]| {
        let mut memory: Vec<f64> = part.iter().map(|(_, memory)| *memory).collect();
        memory.sort_by(f64::total_cmp);
        memory.get(memory.len() / 2).copied().unwrap_or(0.0)
    };
    let early = middle(&samples[quarter..quarter * 2]);
    let late = middle(&samples[samples.len() - quarter..]);
    Verdict { early, late, is_flat: quarter > 0 && late <= early * 1.02 + 0.25 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(memory: impl Fn(f64) -> f64) -> Vec<Sample> {
        (0..40).map(|at| (f64::from(at), memory(f64::from(at)))).collect()
    }

    #[test]
    fn memory_that_rises_at_first_and_then_stays_is_flat() {
        assert!(judge(&samples(|at| if at < 8.0 { at } else { 10.0 })).is_flat);
    }

    #[test]
    fn memory_that_goes_on_rising_is_not() {
        assert!(!judge(&samples(|at| 10.0 + at / 20.0)).is_flat);
    }

    #[test]
    fn too_few_samples_prove_nothing() {
        assert!(!judge(&[(0.0, 1.0), (1.0, 1.0)]).is_flat);
    }
}
