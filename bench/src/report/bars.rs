//! Bar charts: a panel for each row, a bar for each peer, Longhaul's in colour.

use std::fmt::Write;

use super::svg::{self, LEFT, MUTED, Svg, TEXT};
use super::table::number;
use super::{Results, metric};
use crate::peer::Peer;

/// A picture of some rows.
pub(super) struct Chart {
    /// Its file, without the ending.
    pub(super) name: &'static str,
    title: &'static str,
    /// Id of the row and title of each panel.
    panels: &'static [(&'static str, &'static str)],
}

/// The pictures of a run.
pub(super) const CHARTS: &[Chart] = &[
    Chart {
        name: "cpu",
        title: "CPU time of the gateway: shorter is better; in brackets: Longhaul ÷ it, median of rounds",
        panels: &[
            ("echo64.cpu", "64 B echoed, 64 tunnels"),
            ("echo1.cpu", "64 B echoed, 1 tunnel on one core"),
            ("echo1000.cpu", "64 B echoed, 1,000 tunnels"),
            ("handshake.cpu", "Handshake, echo and close"),
            ("stream.cpu", "A MiB echoed in 64 KiB messages"),
            ("http.cpu", "HTTP request, kept connection"),
        ],
    },
    Chart {
        name: "fairness",
        title: "64 B echoed beside four bulk tunnels on one worker: shorter is better",
        panels: &[("fairness.beside50", "Latency, half of all"), ("fairness.beside99", "Latency, 99 %")],
    },
    Chart {
        name: "memory",
        title: "Memory of the gateway: shorter is better",
        panels: &[
            ("idle.user", "Idle tunnel"),
            ("idle.traffic", "The same tunnel after traffic"),
            ("idle.left", "Left when all 9,900 have closed"),
        ],
    },
    Chart {
        name: "latency",
        title: "Latency at a fixed rate, from the moment a message was due: shorter is better",
        panels: &[("paced.p50", "Half of all"), ("paced.p99", "99 %"), ("paced.p999", "99.9 %")],
    },
];

/// Panels side by side.
const COLUMNS: usize = 3;
const PANEL: f64 = 300.0;
const BAR: f64 = 22.0;

/// Draws a chart; `None` without figures.
pub(super) fn draw(chart: &Chart, results: &Results) -> Option<String> {
    let shown: Vec<_> = chart.panels.iter().filter(|(id, _)| !bars(id, results).is_empty()).collect();
    let most = shown.iter().map(|(id, _)| bars(id, results).len()).max()?;
    let height = 46.0 + most as f64 * BAR;
    let lines = shown.len().div_ceil(COLUMNS);
    let columns = shown.len().min(COLUMNS);
    let mut picture = Svg::new(LEFT * 2.0 + PANEL * columns as f64, 44.0 + height * lines as f64, chart.title);
    for (at, (id, title)) in shown.iter().enumerate() {
        let (x, y) = (LEFT + PANEL * (at % COLUMNS) as f64, 58.0 + height * (at / COLUMNS) as f64);
        panel(&mut picture, id, title, results, x, y);
    }
    Some(picture.end())
}

fn panel(picture: &mut Svg, id: &str, title: &str, results: &Results, x: f64, y: f64) {
    let unit = metric(id).map_or("", |row| row.unit);
    picture.text(x, y, TEXT, "600", "start", &format!("{}, {unit}", svg::escape(title)));
    let bars = bars(id, results);
    // Bars begin at zero and fill the panel but for names and figures.
    let most = bars.iter().map(|(_, figure)| *figure).fold(f64::MIN_POSITIVE, f64::max);
    let room = PANEL - 84.0 - 96.0;
    for (at, (peer, figure)) in bars.iter().enumerate() {
        let top = y + 10.0 + at as f64 * BAR;
        let width = (figure.max(0.0) / most * room).max(1.0);
        let (class, weight) = if *peer == Peer::Longhaul { ("ours", "600") } else { ("theirs", "400") };
        picture.text(x + 70.0, top + 14.0, TEXT, weight, "end", peer.title());
        let _ = write!(
            picture,
            r#"<rect class="{class}" x="{:.0}" y="{:.0}" width="{width:.1}" height="{:.0}" rx="2"/>"#,
            x + 76.0,
            top + 2.0,
            BAR - 6.0
        );
        picture.text(
            x + 82.0 + width,
            top + 14.0,
            if *peer == Peer::Longhaul { TEXT } else { MUTED },
            weight,
            "start",
            &label(id, *peer, *figure, results),
        );
    }
}

/// The figure, with Longhaul's ratio to it where rounds are compared.
fn label(id: &str, peer: Peer, figure: f64, results: &Results) -> String {
    let row = metric(id).filter(|row| row.is_paired && peer != Peer::Longhaul);
    match row.and_then(|row| results.ratio(row.id, Peer::Longhaul, peer)) {
        Some(ratio) => format!("{} ({:.2})", number(figure), ratio.median),
        None => number(figure),
    }
}

/// Longhaul first, then the others from the best; the floor is not a gateway.
fn bars(id: &str, results: &Results) -> Vec<(Peer, f64)> {
    let Some(row) = metric(id) else { return Vec::new() };
    let peers = results.peers().into_iter().filter(|peer| *peer != Peer::Direct);
    let mut bars: Vec<(Peer, f64)> =
        peers.filter_map(|peer| Some((peer, results.spread(row.id, peer)?.median))).collect();
    bars.sort_by(|(a, x), (b, y)| (*a != Peer::Longhaul).cmp(&(*b != Peer::Longhaul)).then(x.total_cmp(y)));
    bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longhaul_stands_first_and_the_others_from_the_best() {
        let mut results = Results::default();
        for (peer, figure) in [(Peer::Haproxy, 8.0), (Peer::Longhaul, 9.0), (Peer::Nginx, 6.0), (Peer::Direct, 1.0)] {
            results.add("echo64.cpu", peer, figure);
        }
        let order: Vec<Peer> = bars("echo64.cpu", &results).into_iter().map(|(peer, _)| peer).collect();
        assert_eq!(order, [Peer::Longhaul, Peer::Nginx, Peer::Haproxy]);
    }

    #[test]
    fn a_bar_has_its_ratio_where_rounds_are_compared() {
        let mut results = Results::default();
        for id in ["echo64.cpu", "idle.user"] {
            results.add(id, Peer::Longhaul, 8.0);
            results.add(id, Peer::Nginx, 10.0);
        }
        assert_eq!(label("echo64.cpu", Peer::Nginx, 10.0, &results), "10.0 (0.80)");
        assert_eq!(label("echo64.cpu", Peer::Longhaul, 8.0, &results), "8.00");
        assert_eq!(label("idle.user", Peer::Nginx, 10.0, &results), "10.0");
    }

    #[test]
    fn every_row_of_a_chart_exists() {
        for chart in CHARTS {
            assert!(chart.panels.iter().all(|(id, _)| metric(id).is_some()), "{}", chart.name);
        }
    }

    #[test]
    fn without_figures_there_is_no_picture() {
        assert_eq!(draw(&CHARTS[0], &Results::default()), None);
    }
}
