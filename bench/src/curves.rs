//! How cost grows with the number of tunnels: CPU per message, memory, latency.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::load::Fleet;
use crate::peer::{Ground, Peer, Site};
use crate::proc;
use crate::report::{About, Line, Panel, Results, draw_lines};
use crate::work::cpu_of;
use crate::ws::Message;

/// What is to be measured.
pub struct Plan {
    /// Which peers, in the order they take turns.
    pub peers: Vec<Peer>,
    /// How often.
    pub repeats: usize,
    /// Length of each load.
    pub load: Duration,
    /// Messages a second, over all tunnels together: the same work for every number of them.
    pub rate: f64,
}

/// Numbers of tunnels; the last is what 20,000 descriptors allow.
const TUNNELS: [usize; 4] = [10, 100, 1_000, 9_900];

/// Figures of each number of tunnels: CPU µs per message, MiB of user memory that the tunnels take, latency µs at 99 %.
const FIGURES: [[&str; 3]; 4] = [
    ["10.cpu", "10.memory", "10.p99"],
    ["100.cpu", "100.memory", "100.p99"],
    ["1000.cpu", "1000.memory", "1000.p99"],
    ["9900.cpu", "9900.memory", "9900.p99"],
];

/// The three charts: title with unit, and whether the y axis is logarithmic.
const CHARTS: [(&str, bool); 3] = [
    ("CPU per message, µs", false),
    ("User memory of all tunnels, MiB", true),
    ("Latency from the due moment, 99 %, µs", true),
];

/// Measures, prints a table, and writes `curves.md`, `curves.json` and `curves.svg` into `out`.
///
/// # Errors
/// When the user wants an end, or a file cannot be written. A peer that fails is named and left out.
pub fn run(plan: &Plan, ground: &Ground, out: Option<&Path>) -> Result<()> {
    let mut results = Results::default();
    for repeat in 1..=plan.repeats {
        for (tunnels, ids) in TUNNELS.iter().zip(&FIGURES) {
            for peer in &plan.peers {
                let figures = measure(*peer, *tunnels, plan, ground);
                ground.stop.check()?;
                match figures {
                    Ok(figures) => {
                        eprintln!("{repeat} {tunnels} tunnels, {}: {:.2} µs a message", peer.title(), figures[0]);
                        for (id, figure) in ids.iter().zip(figures) {
                            results.add(id, *peer, figure);
                        }
                    }
                    Err(error) => eprintln!("longhaul-bench: {tunnels} tunnels with {}: {error:#}", peer.title()),
                }
            }
        }
    }
    let method = format!(
        "Medians of {} runs; {} messages of 64 B a second over all tunnels together, for {} s.",
        plan.repeats,
        plan.rate,
        plan.load.as_secs_f64()
    );
    let about = About::here(&plan.peers, &ground.longhaul, method);
    let page = format!("{}\n{}", table(&results), about.markdown());
    print!("{page}");
    let Some(folder) = out else { return Ok(()) };
    std::fs::create_dir_all(folder).context("the folder cannot be made")?;
    std::fs::write(folder.join("curves.md"), page)?;
    std::fs::write(folder.join("curves.json"), format!("{:#}\n", as_json(&results, &about)))?;
    let title = "Cost over the number of tunnels, at the same messages a second: lower is better";
    std::fs::write(folder.join("curves.svg"), draw_lines(title, &panels(&results)))?;
    Ok(())
}

fn measure(peer: Peer, tunnels: usize, plan: &Plan, ground: &Ground) -> Result<[f64; 3]> {
    let site = Site::start(peer, ground)?;
    let stop = &ground.stop;
    stop.wait(Duration::from_millis(300))?;
    let before = proc::memory(&site.processes()).anonymous;
    let message = Message::new(64);
    let mut fleet = Fleet::open(&site.targets, tunnels, stop)?;
    fleet.paced(&message, plan.rate, Duration::from_secs(1))?;
    let (outcome, cpu) = cpu_of(&site, stop, || fleet.paced(&message, plan.rate, plan.load))?;
    anyhow::ensure!(outcome.errors == 0, "{} errors", outcome.errors);
    let memory = proc::memory(&site.processes()).anonymous.saturating_sub(before);
    Ok([
        cpu.as_secs_f64() * 1e6 / outcome.done as f64,
        memory as f64 / f64::from(1 << 20),
        outcome.latency.quantile(0.99).as_secs_f64() * 1e6,
    ])
}

/// The line of one chart and peer.
fn line(results: &Results, chart: usize, peer: Peer) -> Vec<(f64, f64)> {
    let figure = |ids: &[&'static str; 3]| results.spread(ids[chart], peer).map(|spread| spread.median);
    TUNNELS.iter().zip(&FIGURES).filter_map(|(tunnels, ids)| Some((*tunnels as f64, figure(ids)?))).collect()
}

fn panels(results: &Results) -> Vec<Panel> {
    let lines = |chart| {
        let line = |peer: Peer| Line {
            name: peer.title(),
            points: line(results, chart, peer),
            is_ours: peer == Peer::Longhaul,
        };
        results.peers().into_iter().map(line).collect()
    };
    let panel = |(chart, (title, log)): (usize, &(&str, bool))| Panel {
        title: (*title).to_owned(),
        x_title: "tunnels",
        log: (true, *log),
        lines: lines(chart),
    };
    CHARTS.iter().enumerate().map(panel).collect()
}

fn table(results: &Results) -> String {
    let mut table = String::from("| | gateway | 10 tunnels | 100 | 1,000 | 9,900 |\n|---|---|---:|---:|---:|---:|\n");
    for (chart, (title, _)) in CHARTS.iter().enumerate() {
        for peer in results.peers() {
            let _ = write!(table, "| {title} | {} |", peer.title());
            for ids in &FIGURES {
                let figure =
                    results.spread(ids[chart], peer).map_or_else(|| "–".into(), |s| crate::report::number(s.median));
                let _ = write!(table, " {figure} |");
            }
            table.push('\n');
        }
    }
    table
}

fn as_json(results: &Results, about: &About) -> serde_json::Value {
    let charts = CHARTS.iter().enumerate().map(|(chart, (title, _))| {
        let lines = results.peers().into_iter().map(|peer| (peer.name().to_owned(), json!(line(results, chart, peer))));
        json!({ "title": title, "lines": serde_json::Map::from_iter(lines) })
    });
    json!({ "about": about, "charts": charts.collect::<Vec<_>>() })
}
