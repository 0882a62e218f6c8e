//! Every reason for which a client is refused, and every rate that holds one back, is reached in a test of this folder
//! while ten legitimate clients are served. A reason that is added to the code fails here until it has such a test.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{backends, rates, requests};

/// Reasons that have a test of their own instead of a row in a table: the reason, the file and the test.
const SHOWN: [(&str, &str, &str); 15] = [
    ("address", "addresses", "who_may_not_connect_is_closed_before_tls_counted_and_logged_a_little"),
    ("connections", "process", "one_more_than_the_process_may_have_is_told_to_come_back_and_nobody_else_notices"),
    ("listener_connections", "places", "a_listener_that_is_full_refuses_and_the_other_one_serves"),
    ("route_tunnels", "places", "a_route_with_as_many_tunnels_as_it_may_have_refuses_one_more_by_either_driver"),
    (
        "route_requests",
        "places",
        "a_route_with_as_many_requests_as_it_may_have_refuses_one_more_and_keeps_the_connection",
    ),
    ("descriptors", "descriptors", "where_the_last_descriptors_begin_clients_are_told_and_those_inside_notice_nothing"),
    ("memory", "memory", "above_the_limit_new_work_is_refused_and_open_tunnels_go_on"),
    ("client_connections", "per_client", "a_client_with_too_many_connections_is_refused_and_nobody_else"),
    ("client_tunnels", "per_client", "a_client_with_too_many_tunnels_is_refused_the_next_handshake_by_either_driver"),
    ("client_handshakes", "per_client", "a_client_that_shakes_hands_too_fast_is_refused_and_nobody_else"),
    ("silent", "requests", "who_does_not_end_a_head_in_time_is_cut_off_and_nobody_else_notices"),
    ("slow", "requests", "who_does_not_end_a_head_in_time_is_cut_off_and_nobody_else_notices"),
    ("answer_slow", "requests", "who_does_not_take_an_answer_is_reset_and_nobody_else_notices"),
    ("left", "backends", "who_leaves_the_queue_is_counted_and_nobody_else_notices"),
    ("draining", "backends", "whoever_waits_when_the_process_begins_to_end_is_told_and_open_tunnels_go_on"),
];

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The names that `as_str` of a type has.
fn names(file: &str, of: &str) -> BTreeSet<String> {
    let code = read(file);
    let code = code.split(&format!("impl {of} {{")).nth(1).and_then(|code| code.split("fn as_str").nth(1));
    let body = code.unwrap_or_else(|| panic!("{of} of {file} has no names")).split("\n    }\n").next().unwrap();
    body.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The reasons of the code.
fn reasons() -> BTreeSet<String> {
    let types = [
        ("src/admission/reason.rs", "RefusalReason"),
        ("src/http1/refused.rs", "RequestRefused"),
        ("src/http1/framing.rs", "FramingError"),
        ("src/metrics/upstream.rs", "UpstreamRefusal"),
    ];
    types.iter().flat_map(|(file, of)| names(file, of)).collect()
}

#[test]
fn every_reason_is_reached_while_the_company_is_served() {
    let in_tables = requests::broken().into_iter().map(|case| case.reason);
    let in_tables = in_tables.chain(backends::CASES.iter().map(|case| case.reason));
    let shown: BTreeSet<String> = in_tables.chain(SHOWN.map(|(reason, ..)| reason)).map(str::to_owned).collect();
    assert_eq!(shown, reasons());
}

#[test]
fn every_rate_holds_back_and_closes_while_the_company_is_served() {
    let limits = names("src/metrics/upstream.rs", "LimitedRate");
    for table in [rates::THROTTLED, rates::CLOSED] {
        assert_eq!(table.map(|case| case.limit.to_owned()).into_iter().collect::<BTreeSet<_>>(), limits);
    }
}

#[test]
fn tests_that_stand_for_a_reason_ask_for_it_and_serve_the_company() {
    for (reason, file, test) in SHOWN {
        let code = read(&format!("tests/admission/{file}.rs"));
        let body = code.split(&format!("async fn {test}() {{\n")).nth(1).and_then(|code| code.split("\n}\n").next());
        let body = body.unwrap_or_else(|| panic!("{file}.rs has no test {test}"));
        let serves = ["company.is_served", "company.talks", "lab.beside(&mut company"];
        assert!(serves.iter().any(|call| body.contains(call)), "{test} serves nobody");
        let asks = [format!("\"{reason}\""), format!("error={reason}\"")];
        assert!(asks.iter().any(|words| body.contains(words)), "{test} does not ask for {reason}");
    }
}

#[test]
fn the_documentation_has_every_reason_and_no_other() {
    let page = read("docs/limits.md");
    let mut told = BTreeSet::new();
    let mut is_of_reasons = false;
    for line in page.lines() {
        is_of_reasons = line.starts_with("| reason |") || is_of_reasons && line.starts_with('|');
        let first = line.split('|').nth(1).filter(|_| is_of_reasons).unwrap_or_default();
        told.extend(first.split('`').skip(1).step_by(2).map(str::to_owned));
    }
    assert_eq!(told, reasons());
}
