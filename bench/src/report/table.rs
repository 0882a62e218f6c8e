//! The tables of goals, with Longhaul's figure and the verdict, and of all figures.

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
        let _ = write!(text, "| {} |", metric.title());
        for peer in &peers {
            let cell = results.spread(metric.id, *peer).map_or_else(|| "–".into(), cell);
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text
}

/// A row of the first table.
fn verdict(metric: &Metric, results: &Results, peers: &[Peer]) -> String {
    let ours = results.spread(metric.id, Peer::Longhaul);
    let best = best_peer(metric, results, peers);
    let ratio = best.and_then(|(peer, _)| results.ratio(metric.id, Peer::Longhaul, peer));
    let ratio = ratio.map_or_else(String::new, |ratio| format!("{:.2}", ratio.median));
    let (goal, verdict) = judge(metric, results, ours.map(|ours| ours.median));
    let ours = ours.map_or_else(|| "–".into(), cell);
    let (best, figure) = best.map_or(("", String::new()), |(peer, figure)| (peer.title(), number(figure)));
    format!("| {} | {ours} | {best} | {figure} | {ratio} | {goal} | {verdict} |\n", metric.whole_title())
}

/// The best of the other gateways.
fn best_peer(metric: &Metric, results: &Results, peers: &[Peer]) -> Option<(Peer, f64)> {
    let better = metric.better?;
    let others = peers.iter().filter(|peer| !matches!(peer, Peer::Longhaul | Peer::Direct));
    let figures = others.filter_map(|peer| Some((*peer, results.spread(metric.id, *peer)?.median)));
    figures.min_by(|(_, a), (_, b)| if better == Better::Less { a.total_cmp(b) } else { b.total_cmp(a) })
}

/// The goal in words, and the verdict. A goal beside a peer is judged by the ratio, round by round.
fn judge(metric: &Metric, results: &Results, ours: Option<f64>) -> (String, String) {
    let verdict = |is_met: bool| String::from(if is_met { "met" } else { "not met" });
    match metric.goal {
        None => (String::new(), String::new()),
        Some(Goal::AtMost(most)) => {
            (format!("≤ {}", number(most)), ours.map_or_else(String::new, |ours| verdict(ours <= most)))
        }
        Some(Goal::Times(times, peer)) => {
            let words = format!("≤ {times} × {}", peer.title());
            let Some(ratio) = results.ratio(metric.id, Peer::Longhaul, peer) else { return (words, String::new()) };
            let is_certain = results.self_check(metric.id).is_none_or(|check| check.is_one());
            let doubt = if is_certain { "" } else { ", not certain" };
            (words, format!("{} at {:.2}{doubt}", verdict(ratio.median <= times), ratio.median))
        }
    }
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
        let judged = "| echo 64 B, 64 tunnels: CPU, µs | 5.50 ±0.50 | HAProxy | 8.00 | 0.69 | ≤ 0.9 × nginx | \
             met at 0.55 |";
        assert_eq!(rows, [judged, "| echo 64 B, 64 tunnels: CPU, µs | 5.50 ±0.50 | 10.0 | 8.00 |"]);
    }

    #[test]
    fn without_the_peer_of_the_goal_there_is_no_verdict() {
        let mut results = Results::default();
        results.add("stream.cpu", Peer::Longhaul, 300.0);
        assert!(markdown(&results).contains("| 300 |  |  |  | ≤ 0.73 × Envoy |  |\n"));
    }

    #[test]
    fn a_verdict_is_not_certain_where_the_self_check_does_not_hold() {
        let mut results = Results::default();
        for (peer, figure) in [(Peer::Longhaul, 8.0), (Peer::Again, 9.0), (Peer::Nginx, 10.0)] {
            results.add("echo64.cpu", peer, figure);
        }
        assert!(markdown(&results).contains("| ≤ 0.9 × nginx | met at 0.80, not certain |\n"));
    }
}
