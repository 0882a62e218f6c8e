//! The same requests through Longhaul, nginx and HAProxy: the answers, and what reaches the backend.
//!
//! `cases.yaml` has the requests. The tables of docs/differences.md are the expected outcomes, one for each of the
//! three, with the reason where they differ. `UPDATE_GOLDEN=1 cargo test --test comparison` writes them anew; read the
//! difference before committing it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends there")]

#[path = "../support/mod.rs"]
mod support;

mod case;
mod peers;
mod recorder;
mod talk;

use std::fmt::Write as _;
use std::path::Path;

use self::case::Case;
use self::peers::Peers;
use self::recorder::Recorder;

/// Outcomes of one request, for the client and for the backend, at each of the three.
struct Row {
    case: Case,
    /// Of Longhaul, nginx and HAProxy.
    outcomes: [String; 3],
}

#[tokio::test]
async fn requests_go_through_three_proxies_as_the_table_says() {
    let cases = case::all();
    assert!(cases.len() >= 60, "only {} cases", cases.len());
    let recorder = Recorder::start().await;
    let peers = Peers::start(recorder.address).await;
    let mut rows = Vec::new();
    for case in cases {
        let mut outcomes = Vec::new();
        for address in peers.addresses() {
            outcomes.push(talk::outcome(&case, address, &recorder).await);
        }
        rows.push(Row { case, outcomes: outcomes.try_into().unwrap() });
    }
    let without: Vec<_> = rows.iter().filter(|row| row.differs() == row.case.why.is_empty()).map(Row::plain).collect();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/differences.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, expected) = text.split_once(MARK).expect("the page has the mark");
    let found = tables(&rows);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&page, format!("{before}{MARK}{found}")).unwrap();
    }
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (expected, found) = (lines(expected), lines(&found));
    let gone: Vec<_> = expected.difference(&found).collect();
    let new: Vec<_> = found.difference(&expected).collect();
    assert!(gone.is_empty() && new.is_empty(), "docs/differences.md says\n{gone:#?}\nand it is\n{new:#?}");
    assert!(without.is_empty(), "a reason is missing, or given where nothing differs:\n{}", without.join("\n"));
}

/// Everything behind this line of the page is written by the test.
const MARK: &str = "<!-- written by tests/comparison -->\n";

impl Row {
    fn differs(&self) -> bool {
        self.outcomes.iter().any(|outcome| *outcome != self.outcomes[0])
    }

    fn plain(&self) -> String {
        let [longhaul, nginx, haproxy] = &self.outcomes;
        format!("{}\n  longhaul {longhaul}\n  nginx    {nginx}\n  haproxy  {haproxy}", self.case.name)
    }
}

/// The tables of the page: the requests that go differently, and those that do not.
fn tables(rows: &[Row]) -> String {
    let cell = |text: &str| format!("`{}`", text.replace('|', "\\|"));
    let name = |row: &Row| row.case.name.replace('|', "\\|");
    let heads = "| request | Longhaul | nginx | HAProxy | why |\n|---|---|---|---|---|\n";
    let mut text = format!("\n## Where they differ\n\n{heads}");
    for row in rows.iter().filter(|row| row.differs()) {
        let outcomes = row.outcomes.each_ref().map(|outcome| cell(outcome)).join(" | ");
        let _ = writeln!(text, "| {} | {outcomes} | {} |", name(row), row.case.why);
    }
    text.push_str("\n## Where they agree\n\n| request | all three |\n|---|---|\n");
    for row in rows.iter().filter(|row| !row.differs()) {
        let _ = writeln!(text, "| {} | {} |", name(row), cell(&row.outcomes[0]));
    }
    text
}
