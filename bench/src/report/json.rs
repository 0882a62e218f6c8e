//! Every figure, for programs.

use serde_json::{Map, Value, json};

use super::{About, METRICS, Results};

/// All figures of each row and peer, in the order they were measured, with their circumstances. A figure that never came
/// (an old process that stays) is `null`.
pub fn json(results: &Results, about: &About) -> Value {
    let mut rows = Map::new();
    for metric in METRICS {
        let mut peers = Map::new();
        for peer in results.peers() {
            let figures = results.all(metric.id, peer);
            if let Some(spread) = results.spread(metric.id, peer) {
                peers.insert(peer.name().into(), json!({ "median": spread.median, "all": figures }));
            }
        }
        if !peers.is_empty() {
            rows.insert(metric.id.into(), json!({ "title": metric.title, "unit": metric.unit, "peers": peers }));
        }
    }
    json!({ "about": about, "rows": rows, "failures": results.failures })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

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
