//! Every figure, for programs.

use serde_json::{Map, Value, json};

use super::{About, METRICS, Ratio, Results};
use crate::peer::Peer;

/// All figures of each row and peer, in the order of the rounds, with ratios and circumstances. A figure that never
/// came (an old process that stays) is `null`.
pub fn json(results: &Results, about: &About) -> Value {
    let mut rows = Map::new();
    let ratio =
        |ratio: Ratio| json!({ "median": ratio.median, "quartiles": [ratio.low, ratio.high], "pairs": ratio.pairs });
    for metric in METRICS {
        let mut peers = Map::new();
        for peer in results.peers() {
            let figures = results.all(metric.id, peer);
            if let Some(spread) = results.spread(metric.id, peer) {
                let mut cell = json!({ "median": spread.median, "all": figures });
                if metric.is_paired && !matches!(peer, Peer::Longhaul | Peer::Direct) {
                    cell["ratio"] = json!(results.ratio(metric.id, Peer::Longhaul, peer).map(ratio));
                }
                peers.insert(peer.name().into(), cell);
            }
        }
        if !peers.is_empty() {
            let mut row = json!({ "title": metric.title, "unit": metric.unit, "peers": peers });
            if let Some(check) = results.self_check(metric.id).filter(|_| metric.is_paired) {
                row["self_check"] = ratio(check);
            }
            rows.insert(metric.id.into(), row);
        }
    }
    json!({ "about": about, "rows": rows, "failures": results.failures, "warnings": results.warnings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_and_the_self_check_stand_beside_the_figures() {
        let mut results = Results::default();
        for (peer, figure) in [(Peer::Longhaul, 8.0), (Peer::Again, 8.0), (Peer::Nginx, 10.0)] {
            results.add("echo64.cpu", peer, figure);
        }
        let row = &json(&results, &About::here(&[], "/".as_ref(), String::new()))["rows"]["echo64.cpu"];
        assert_eq!(row["peers"]["nginx"]["ratio"], json!({ "median": 0.8, "quartiles": [0.8, 0.8], "pairs": 1 }));
        assert_eq!(row["self_check"]["median"], json!(1.0));
        assert_eq!(row["peers"].get("longhaul-again"), None);
    }

    #[test]
    fn figures_stand_under_row_and_peer_and_what_never_came_is_null() {
        let mut results = Results::default();
        results.add("echo64.cpu", Peer::Nginx, 6.5);
        results.add("upgrade.old", Peer::Nginx, f64::INFINITY);
        let json = json(&results, &About::here(&[], "/".as_ref(), String::new()));
        assert_eq!(json["rows"]["echo64.cpu"]["peers"]["nginx"]["all"], json!([6.5]));
        assert_eq!(json["rows"]["upgrade.old"]["peers"]["nginx"]["median"], Value::Null);
    }
}
