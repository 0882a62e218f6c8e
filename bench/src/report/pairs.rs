//! The tables of ratios, round by round: Longhaul beside each peer, and beside itself.

use std::fmt::Write;

use super::{METRICS, Metric, Ratio, Results};
use crate::peer::Peer;

/// Two tables in Markdown: the self-check, and Longhaul beside each peer.
pub fn pairs(results: &Results) -> String {
    let rows = || METRICS.iter().filter(|metric| metric.is_paired);
    if !rows().any(|metric| results.spread(metric.id, Peer::Longhaul).is_some()) {
        return "\nNo ratios and no self-check: Longhaul was not measured.\n".into();
    }
    let mut text = String::from("\n| self-check: the same program twice | ratio | quartiles | pairs | |\n");
    text += "|---|---:|---|---:|---|\n";
    for metric in rows().filter(|metric| metric.id.ends_with(".cpu")) {
        if let Some(ratio) = results.self_check(metric.id) {
            let verdict =
                if ratio.is_one() { "holds" } else { "does not hold: the ratios of this row are not certain" };
            let Ratio { median, low, high, pairs } = ratio;
            let title = metric.whole_title();
            let _ = writeln!(text, "| {title} | {median:.2} | {low:.2}–{high:.2} | {pairs} | {verdict} |");
        }
    }
    let peers = results.peers().into_iter().filter(|peer| !matches!(peer, Peer::Direct | Peer::Longhaul));
    let peers: Vec<Peer> = peers.collect();
    if peers.is_empty() {
        return text;
    }
    text += "\n| Longhaul ÷ … |";
    for peer in &peers {
        let _ = write!(text, " {} |", peer.title());
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(peers.len()));
    for metric in rows() {
        text += &row(metric, results, &peers).unwrap_or_default();
    }
    text
}

fn row(metric: &Metric, results: &Results, peers: &[Peer]) -> Option<String> {
    let ratios: Vec<Option<Ratio>> = peers.iter().map(|peer| results.ratio(metric.id, Peer::Longhaul, *peer)).collect();
    ratios.iter().flatten().next()?;
    let cells = ratios.into_iter().map(|ratio| ratio.map_or_else(|| "–".into(), cell));
    Some(format!("| {} | {} |\n", metric.whole_title(), cells.collect::<Vec<_>>().join(" | ")))
}

fn cell(ratio: Ratio) -> String {
    if ratio.pairs == 1 {
        return format!("{:.2}", ratio.median);
    }
    format!("{:.2} ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(again: [f64; 3]) -> Results {
        let mut results = Results::default();
        for (round, again) in again.into_iter().enumerate() {
            let mood = [1.0, 1.5, 1.1][round];
            results.add("echo64.cpu", Peer::Longhaul, 8.0 * mood);
            results.add("echo64.cpu", Peer::Again, again * mood);
            results.add("echo64.cpu", Peer::Nginx, 10.0 * mood);
        }
        results
    }

    #[test]
    fn a_program_beside_itself_and_beside_a_peer_has_a_row_each() {
        let text = pairs(&results([8.0, 8.0, 8.1]));
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| echo")).collect();
        let check = "| echo 64 B, 64 tunnels: CPU, µs | 1.00 | 0.99–1.00 | 3 | holds |";
        assert_eq!(rows, [check, "| echo 64 B, 64 tunnels: CPU, µs | 0.80 (0.80–0.80) |"]);
    }

    #[test]
    fn a_self_check_that_does_not_hold_says_so() {
        assert!(pairs(&results([9.0, 9.0, 9.0])).contains("| 0.89 | 0.89–0.89 | 3 | does not hold"));
    }

    #[test]
    fn without_longhaul_the_report_says_that_there_is_no_self_check() {
        let mut results = Results::default();
        results.add("echo64.cpu", Peer::Nginx, 8.0);
        assert_eq!(pairs(&results), "\nNo ratios and no self-check: Longhaul was not measured.\n");
    }
}
