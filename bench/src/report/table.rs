//! The tables: what Longhaul has to reach and whether it does, then every figure.

use std::fmt::Write;

use super::{Better, Goal, METRICS, Metric, Results, Spread};
use crate::peer::Peer;

/// Two tables in Markdown: the rows with a goal, and all rows. Rows without any figure are left out.
pub fn markdown(results: &Results) -> String {
    let peers = results.peers();
    let measured = |metric: &&Metric| peers.iter().any(|peer| results.spread(metric.id, *peer).is_some());
    let mut text =
        String::from("| work | Longhaul | best peer | | Longhaul to it | goal | |\n|---|---:|---|---:|---:|---|---|\n");
    for metric in METRICS.iter().filter(measured).filter(|metric| metric.goal.is_some()) {
        text += &verdict(metric, results, &peers);
    }
    text += "\n| work |";
    for peer in &peers {
        let _ = write!(text, " {} |", peer.title());
    }
    let _ = writeln!(text, "\n|---|{}", "---:|".repeat(peers.len()));
    for metric in METRICS.iter().filter(measured) {
        let _ = write!(text, "| {} |", title(metric));
        for peer in &peers {
            let cell = results.spread(metric.id, *peer).map_or_else(|| "–".into(), cell);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

fn title(metric: &Metric) -> String {
    let unit = if metric.unit.is_empty() { String::new() } else { format!(", {}", metric.unit) };
    format!("{}{unit}", metric.title)
}

/// A row of the first table.
fn verdict(metric: &Metric, results: &Results, peers: &[Peer]) -> String {
    let ours = results.spread(metric.id, Peer::Longhaul);
    let best = best_peer(metric, results, peers);
    let ratio = match (ours, best) {
        (Some(ours), Some((_, best))) if best > 0.0 && best.is_finite() && ours.median >= 0.0 => {
            format!("{:.2}", ours.median / best)
        }
        _ => String::new(),
    };
    let (goal, verdict) = judge(metric, results, ours.map(|ours| ours.median));
    let ours = ours.map_or_else(|| "–".into(), cell);
    let (best, figure) = best.map_or(("", String::new()), |(peer, figure)| (peer.title(), number(figure)));
    format!("| {} | {ours} | {best} | {figure} | {ratio} | {goal} | {verdict} |\n", title(metric))
}

/// The best of the others; the floor is no competitor.
fn best_peer(metric: &Metric, results: &Results, peers: &[Peer]) -> Option<(Peer, f64)> {
    let better = metric.better?;
    let others = peers.iter().filter(|peer| !matches!(peer, Peer::Longhaul | Peer::Direct));
    let figures = others.filter_map(|peer| Some((*peer, results.spread(metric.id, *peer)?.median)));
    figures.min_by(|(_, a), (_, b)| if better == Better::Less { a.total_cmp(b) } else { b.total_cmp(a) })
}

/// The goal in words, and whether it is met.
fn judge(metric: &Metric, results: &Results, ours: Option<f64>) -> (String, &'static str) {
    let (words, limit) = match metric.goal {
        None => return (String::new(), ""),
        Some(Goal::AtMost(most)) => (format!("≤ {}", number(most)), Some(most)),
        Some(Goal::Times(times, peer)) => {
            let theirs = results.spread(metric.id, peer).map(|spread| spread.median);
            (format!("≤ {times} × {}", peer.title()), theirs.map(|theirs| theirs * times))
        }
    };
    let verdict = match (ours, limit) {
        (Some(ours), Some(limit)) if ours <= limit => "met",
        (Some(_), Some(_)) => "not met",
        _ => "",
    };
    (words, verdict)
}

fn cell(spread: Spread) -> String {
    let around = (spread.most - spread.least) / 2.0;
    if around > 0.0 && around.is_finite() {
        format!("{} ±{}", number(spread.median), number(around))
    } else {
        number(spread.median)
    }
}

/// Three significant digits; thousands apart.
pub fn number(value: f64) -> String {
    if value.is_infinite() {
        return "stays".into();
    }
    let size = value.abs();
    let decimals = match size {
        _ if size >= 99.95 || size == 0.0 => 0,
        _ if size >= 9.995 => 1,
        _ => 2,
    };
    let text = format!("{value:.decimals$}");
    let (digits, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        let left = digits.len() - at;
        if at > 0 && left % 3 == 0 && grouped != "-" {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_and_thousands_apart() {
        let cases = [
            (0.0, "0"),
            (0.312, "0.31"),
            (6.45, "6.45"),
            (56.04, "56.0"),
            (499.4, "499"),
            (1109.0, "1,109"),
            (1234567.0, "1,234,567"),
            (-0.5, "-0.50"),
            (-123.4, "-123"),
            (f64::INFINITY, "stays"),
        ];
        for (value, wanted) in cases {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn a_row_names_the_best_peer_the_ratio_and_the_verdict() {
        let mut results = Results::default();
        for (peer, figures) in [(Peer::Longhaul, [5.0, 6.0]), (Peer::Nginx, [10.0, 10.0]), (Peer::Haproxy, [8.0, 8.0])]
        {
            for figure in figures {
                results.add("echo64.cpu", peer, figure);
            }
        }
        let text = markdown(&results);
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| echo")).collect();
        let judged = "| echo 64 B, 64 tunnels: CPU, µs | 5.50 ±0.50 | HAProxy | 8.00 | 0.69 | ≤ 0.9 × nginx | met |";
        assert_eq!(rows, [judged, "| echo 64 B, 64 tunnels: CPU, µs | 5.50 ±0.50 | 10.0 | 8.00 |"]);
    }

    #[test]
    fn without_the_peer_of_the_goal_there_is_no_verdict() {
        let mut results = Results::default();
        results.add("stream.cpu", Peer::Longhaul, 300.0);
        assert!(markdown(&results).contains("| 300 |  |  |  | ≤ 0.7 × Envoy |  |\n"));
    }
}
