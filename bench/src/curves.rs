//! Growth of cost with the number of tunnels: CPU and context switches per message, memory, latency.

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::load::Fleet;
use crate::peer::{Ground, Peer, Site};
use crate::proc;
use crate::report::{About, Line, Panel, Ratio, Results, draw_lines};
use crate::scheduling;
use crate::work::{Work, cost_each, cost_of};
use crate::ws::Message;

/// Plan of the measurements.
pub struct Plan {
    /// The peers, in the order in which they take turns.
    pub peers: Vec<Peer>,
    /// Number of rounds.
    pub repeats: usize,
    /// Length of each load.
    pub load: Duration,
    /// Messages a second, over all tunnels together: the same work for every number of tunnels.
    pub rate: f64,
}

/// Numbers of tunnels. 20,000 descriptors allow the last one.
const TUNNELS: [usize; 4] = [10, 100, 1_000, 9_900];

/// Figures of each number of tunnels: CPU µs per message, MiB of user memory that the tunnels take, latency µs at 99 %,
/// voluntary and involuntary context switches per message.
const FIGURES: [[&str; 5]; 4] = [
    ["10.cpu", "10.memory", "10.p99", "10.voluntary", "10.involuntary"],
    ["100.cpu", "100.memory", "100.p99", "100.voluntary", "100.involuntary"],
    ["1000.cpu", "1000.memory", "1000.p99", "1000.voluntary", "1000.involuntary"],
    ["9900.cpu", "9900.memory", "9900.p99", "9900.voluntary", "9900.involuntary"],
];

/// Rows of the table without a chart.
const SWITCHES: [&str; 2] = ["Context switches per message, voluntary", "Context switches per message, involuntary"];

/// The three charts: title with unit; true for a logarithmic y axis.
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
    let results = rounds(plan, ground)?;
    let method = format!(
        "Medians of {} rounds, in which peers took turns, in the opposite order in every other round; {} messages of \
         64 B a second over all tunnels together, for {} s. Ratios are the median of the rounds' ratios. The \
         generator, each backend and each gateway have {}.",
        plan.repeats,
        plan.rate,
        plan.load.as_secs_f64(),
        scheduling::sessions()
    );
    let about = About::here(&plan.peers, &ground.longhaul, method);
    let mut page = format!("{}{}\n{}", table(&results), ratios(&results), about.markdown());
    for warning in results.warnings.iter().chain(&results.failures) {
        let _ = writeln!(page, "\nWarning: {warning}.");
    }
    print!("{page}");
    let Some(folder) = out else { return Ok(()) };
    std::fs::create_dir_all(folder).context("the folder cannot be made")?;
    std::fs::write(folder.join("curves.md"), page)?;
    std::fs::write(folder.join("curves.json"), format!("{:#}\n", as_json(&results, &about)))?;
    let title = "Cost over the number of tunnels, at the same messages a second: lower is better";
    std::fs::write(folder.join("curves.svg"), draw_lines(title, &panels(&results)))?;
    Ok(())
}

fn rounds(plan: &Plan, ground: &Ground) -> Result<Results> {
    let mut results = Results::default();
    results.warnings.extend(scheduling::machine(&ground.stop)?);
    let twice = |peer: &Peer| if *peer == Peer::Longhaul { vec![Peer::Again, *peer] } else { vec![*peer] };
    let mut contestants: Vec<Peer> = plan.peers.iter().flat_map(twice).collect();
    for repeat in 1..=plan.repeats {
        for (tunnels, ids) in TUNNELS.iter().zip(&FIGURES) {
            for peer in &contestants {
                let measured = measure(*peer, *tunnels, plan, ground);
                ground.stop.check()?;
                // A round that failed keeps its place, so that the others stay paired.
                let (figures, differences) = measured.unwrap_or_else(|error| {
                    eprintln!("longhaul-bench: {tunnels} tunnels with {}: {error:#}", peer.title());
                    results.failures.push(format!("{tunnels} tunnels with {}: {error:#}", peer.title()));
                    ([f64::NAN; 5], Vec::new())
                });
                eprintln!("{repeat} {tunnels} tunnels, {}: {:.2} µs a message", peer.title(), figures[0]);
                results.warnings.extend(differences);
                for (id, figure) in ids.iter().zip(figures) {
                    results.add(id, *peer, figure);
                }
            }
        }
        contestants.reverse();
    }
    Ok(results)
}

/// Figures of one measurement, and differences in the scheduling of its processes.
fn measure(peer: Peer, tunnels: usize, plan: &Plan, ground: &Ground) -> Result<([f64; 5], Vec<String>)> {
    let site = Site::start(peer, Work::Paced.setting(), ground)?;
    let stop = &ground.stop;
    stop.wait(Duration::from_millis(300))?;
    let before = proc::memory(&site.processes()).anonymous;
    let message = Message::new(64);
    let mut fleet = Fleet::open(&site.targets, tunnels, stop)?;
    fleet.paced(&message, plan.rate, Duration::from_secs(1))?;
    let (outcome, cost) = cost_of(&site, stop, || fleet.paced(&message, plan.rate, plan.load))?;
    anyhow::ensure!(outcome.errors == 0, "{} errors", outcome.errors);
    let memory = proc::memory(&site.processes()).anonymous.saturating_sub(before);
    let [cpu, voluntary, involuntary] = cost_each(cost, outcome.done as f64);
    let latency = outcome.latency.quantile(0.99).as_secs_f64() * 1e6;
    Ok(([cpu, memory as f64 / f64::from(1 << 20), latency, voluntary, involuntary], site.differences()))
}

/// The line of one chart and peer.
fn line(results: &Results, chart: usize, peer: Peer) -> Vec<(f64, f64)> {
    let figure = |ids: &[&'static str; 5]| results.spread(ids[chart], peer).map(|spread| spread.median);
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
    for (row, title) in CHARTS.iter().map(|(title, _)| *title).chain(SWITCHES).enumerate() {
        for peer in results.peers() {
            let _ = write!(table, "| {title} | {} |", peer.title());
            for ids in &FIGURES {
                let figure =
                    results.spread(ids[row], peer).map_or_else(|| "–".into(), |s| crate::report::number(s.median));
                let _ = write!(table, " {figure} |");
            }
            table.push('\n');
        }
    }
    table
}

/// The tables of CPU and latency ratios: Longhaul beside each peer, and beside itself.
fn ratios(results: &Results) -> String {
    [("CPU", 0), ("latency at 99 %", 2)].map(|(title, row)| ratios_of(results, title, row)).concat()
}

fn ratios_of(results: &Results, title: &str, row: usize) -> String {
    let numbers = "10 tunnels | 100 | 1,000 | 9,900 |\n|---|---:|---:|---:|---:|";
    let mut table = format!("\n| {title}, Longhaul ÷ … | {numbers}\n");
    let peers = results.peers().into_iter().filter(|peer| *peer != Peer::Longhaul);
    for peer in peers.chain([Peer::Again]) {
        let title = if peer == Peer::Again { "itself (self-check: 1.00 ± 0.03 for CPU)" } else { peer.title() };
        let _ = write!(table, "| {title} |");
        for ids in FIGURES {
            let ratio = results.ratio(ids[row], Peer::Longhaul, peer);
            let cell = |Ratio { median, low, high, .. }| format!("{median:.2} ({low:.2}–{high:.2})");
            let _ = write!(table, " {} |", ratio.map_or_else(|| "–".into(), cell));
        }
        table.push('\n');
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
