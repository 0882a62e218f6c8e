//! The board and the alerts that ship: a real Prometheus scrapes a live gateway and is asked what the board asks.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Certificate;
use serde_json::Value;
use tempfile::TempDir;

use crate::metrics::{documented_families, drive, traffic};
use crate::support::{Gateway, Lines};

/// A Prometheus on a free port.
struct Prometheus {
    process: Child,
    url: String,
    _dir: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `gateway` and knows the alerts.
    async fn start(gateway: &Gateway) -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("prometheus.yml");
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }}\n\
             rule_files: [{}]\nscrape_configs:\n  - job_name: longhaul\n    static_configs: [{{ targets: ['{}'] }}]\n",
            alerts().display(),
            gateway.metrics.unwrap()
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:0").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("`tests/install.sh test` installs Prometheus");
        let log = Lines::of(process.stderr.take().unwrap());
        let listening = log.find(&["msg=\"Listening on\"", "address="]).await;
        let address = listening.split_once("address=").unwrap().1.trim();
        // It listens before it can answer, and says 503 until then.
        log.find(&["Server is ready to receive web requests"]).await;
        Self { process, url: format!("http://{address}/api/v1"), _dir: dir }
    }

    async fn ask(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("{}/{path}", self.url)).await.unwrap().json::<Value>().await.unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    /// Results of a query that are numbers: the quotient of nothing by nothing is none.
    async fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = form_urlencoded::byte_serialize(query.as_bytes()).collect();
        let data = self.ask(&format!("query?query={encoded}")).await;
        let results = data["result"].as_array().unwrap_or_else(|| panic!("{query}: {data}")).clone();
        results.into_iter().filter(|result| result["value"][1] != "NaN").collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One more client, which comes by TLS.
async fn come_by_tls(gateway: &Gateway) {
    let pem = std::fs::read(gateway.dir.path().join("ca.pem")).unwrap();
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([Certificate::from_pem(&pem).unwrap()]);
    let client = client.resolve("a.test", gateway.addresses[1]).build().unwrap();
    let url = format!("https://a.test:{}/known", gateway.addresses[1].port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 200);
}

/// Time limit of the queries: data comes with the second or third scrape, and the traffic takes long on a busy machine.
const SCRAPES: Duration = Duration::from_secs(300);

fn packaged(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)
}

fn alerts() -> PathBuf {
    packaged("prometheus/alerts.yaml")
}

fn board() -> Value {
    serde_json::from_str(&std::fs::read_to_string(packaged("grafana/longhaul.json")).unwrap()).unwrap()
}

/// The queries of the board, its variables standing for everything.
fn queries(board: &Value) -> BTreeSet<String> {
    let targets = board["panels"].as_array().unwrap().iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let annotations = board["annotations"]["list"].as_array().unwrap().iter();
    let written = targets.chain(annotations).filter_map(|query| query["expr"].as_str());
    let all = |text: &str| text.replace("$instance", ".+").replace("$upstream", ".+");
    written.map(|query| all(query).replace("$__rate_interval", "30s")).collect()
}

/// The label and the metric of each variable that is filled from a label's values.
fn variables(board: &Value) -> Vec<(String, String)> {
    let list = board["templating"]["list"].as_array().unwrap();
    let queries = list.iter().filter_map(|variable| variable["definition"].as_str());
    let parts = queries.map(|query| {
        let inner = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (metric, label) = inner.rsplit_once(", ").unwrap();
        (label.to_owned(), metric.replace("$instance", ".+"))
    });
    parts.collect()
}

#[tokio::test]
async fn every_query_of_the_board_returns_data_from_a_live_gateway() {
    let (gateway, _echo, _backend) = traffic().await;
    let prometheus = Prometheus::start(&gateway).await;
    let board = board();
    let mut left = queries(&board);
    assert!(left.len() > 60, "only {} queries were found: has the way they are written changed?", left.len());
    let all = async {
        // The board marks reloads, which it sees by a change from one scrape to another.
        while prometheus.query("longhaul_last_reload_timestamp_seconds").await.is_empty() {}
        while !left.is_empty() {
            gateway.signal("HUP");
            drive(&gateway).await;
            come_by_tls(&gateway).await;
            let mut without = BTreeSet::new();
            for query in &left {
                if prometheus.query(query).await.is_empty() {
                    without.insert(query.clone());
                }
            }
            if without.len() < left.len() {
                println!("{} of the queries have no data yet: {without:#?}", without.len());
            }
            left = without;
        }
    };
    tokio::time::timeout(SCRAPES, all).await.expect("data for every query");
    for (label, metric) in variables(&board) {
        let results = prometheus.query(&metric).await;
        assert!(!results.is_empty() && results.iter().all(|result| result["metric"][&label].is_string()), "{metric}");
    }
    let rules = prometheus.ask("rules").await;
    let rules = rules["groups"][0]["rules"].as_array().unwrap().clone();
    assert!(rules.len() > 20 && rules.iter().all(|rule| rule["health"] != "err"), "{rules:#?}");
}

#[test]
fn the_board_and_the_alerts_name_documented_metrics_alone() {
    let documented = documented_families();
    for file in ["grafana/longhaul.json", "prometheus/alerts.yaml"] {
        let text = std::fs::read_to_string(packaged(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let named: BTreeSet<&str> =
            words.filter(|word| word.starts_with("longhaul_") || word.starts_with("process_")).collect();
        assert!(named.len() > 20, "{file}: {named:?}");
        for name in named {
            let parts = ["_bucket", "_sum", "_count"].into_iter().filter_map(|part| name.strip_suffix(part));
            let is_histogram = |family: &str| documented.get(family).is_some_and(|(kind, _)| kind == "histogram");
            assert!(documented.contains_key(name) || parts.into_iter().any(is_histogram), "{file}: {name}");
        }
    }
}

#[test]
fn the_board_has_a_row_for_each_concern_and_its_panels_do_not_overlap() {
    let board = board();
    let panels = board["panels"].as_array().unwrap();
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| &row["title"]).collect();
    for row in ["Traffic", "Tunnels", "Health", "Admission", "Discovery", "TLS", "Process"] {
        assert!(rows.iter().any(|title| *title == row), "{row}: {rows:?}");
    }
    let mut taken = BTreeSet::new();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(x < 24 && taken.insert((x, y)), "{}", panel["title"]);
        }
    }
}

#[test]
fn the_alerts_are_rules_that_fire_when_they_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for arguments in
        [["check", "rules", "packaging/prometheus/alerts.yaml"], ["test", "rules", "tests/prometheus/alerts.yaml"]]
    {
        let mut promtool = Command::new("promtool");
        let said =
            promtool.args(arguments).current_dir(root).output().expect("`tests/install.sh test` installs promtool");
        assert!(
            said.status.success(),
            "{}{}",
            String::from_utf8_lossy(&said.stdout),
            String::from_utf8_lossy(&said.stderr)
        );
    }
}
