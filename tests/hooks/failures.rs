//! Hooks that fail, in every phase and every way: one request is lost, and nothing else.

use crate::lab::{Lab, UPGRADE, told};
use crate::support::{Message, Wire};

/// A secret stands in every error and panic of the hooks.
fn assert_discreet(answer: &Message, what: &str) {
    assert_eq!(answer.status(), 500, "{what}");
    assert!(answer.text().starts_with("500 the gateway failed\nrequest id: "), "{what}: {answer:?}");
    assert!(!format!("{answer:?}").contains("secret"), "{what}");
}

#[tokio::test]
async fn a_failure_in_any_phase_ends_that_request_with_500_logged_once_and_counted() {
    let lab = Lab::start().await;
    for phase in ["request", "pick", "response"] {
        for (verb, cause, says) in FAILURES {
            let answer = lab.get("/", &[&format!("b {phase} {verb}")], "").await;
            assert_discreet(&answer, &format!("{phase} {verb}"));
            assert_told_once(&lab, phase, cause, says).await;
            assert_eq!(lab.get("/", &[], "").await.status(), 200, "after {phase} {verb}");
        }
    }
    lab.gateway.metric_becomes("longhaul_requests_total{code=\"5xx\",upstream=\"u\"}", 9.0).await;
    // None of it is a backend's fault.
    assert!(!lab.gateway.scrape().await.contains("longhaul_backend_failures_total{"));
}

#[tokio::test]
async fn a_failure_of_an_upgrade_ends_it_with_500_and_opens_no_tunnel() {
    let lab = Lab::start().await;
    for phase in ["request", "upgrade", "pick"] {
        for (verb, cause, says) in FAILURES {
            let answer = lab.get("/", &[&format!("b {phase} {verb}")], UPGRADE).await;
            assert_discreet(&answer, &format!("{phase} {verb}"));
            assert_told_once(&lab, phase, cause, says).await;
        }
    }
    // These backends know no WebSockets: the gateway relays their answer unless a hook fails.
    assert_eq!(lab.get("/", &[], UPGRADE).await.status(), 200);
    assert_discreet(&lab.get("/", &["a response error"], UPGRADE).await, "a refusal");
    assert_eq!(lab.gateway.metric("longhaul_tunnels_opened_total{upstream=\"u\"}").await, 0.0);
}

#[tokio::test]
async fn a_failure_at_the_log_changes_nothing_and_keeps_no_other_hook_from_it() {
    let lab = Lab::start().await;
    let answer = lab.get("/", &["a log panic", "b log note mine"], "X-Request-Id: me.\r\n").await;
    assert_eq!(answer.status(), 200);
    lab.gateway.access.find(&["request_id=me. ", " noted=mine"]).await;
    assert_told_once(&lab, "log", "panic", "panicked").await;
}

#[tokio::test]
async fn hooks_are_told_of_the_end_even_where_nothing_is_logged() {
    let lab = Lab::start_with("access_log: off\n").await;
    assert_eq!(lab.get("/", &["a log panic"], "").await.status(), 200);
    assert_told_once(&lab, "log", "panic", "panicked").await;
}

#[tokio::test]
async fn a_client_that_leaves_while_a_hook_is_asked_is_logged_all_the_same() {
    let lab = Lab::start().await;
    let mut client = Wire::connect(lab.gateway.address()).await;
    client.send(format!("GET / HTTP/1.1\r\nHost: lab\r\n{}\r\n", told(&["a request hang", "a log note gone"]))).await;
    drop(client);
    lab.gateway.access.find(&[" request ", " noted=gone"]).await;
    assert_eq!(lab.get("/", &[], "").await.status(), 200);
}

async fn assert_told_once(lab: &Lab, phase: &str, cause: &str, says: &str) {
    let line = [&format!("hook acting failed in its phase {phase}: "), says, "route * /"];
    lab.gateway.log.find(&line).await;
    assert_eq!(lab.gateway.log.count(&line), 1, "{phase} {cause}");
    let counted = format!("longhaul_hook_failures_total{{cause=\"{cause}\",hook=\"acting\",phase=\"{phase}\"}}");
    lab.gateway.metric_becomes(&counted, 1.0).await;
}

/// Verbs that make a hook fail, and the cause that is counted and logged for each.
const FAILURES: [(&str, &str, &str); 3] = [
    ("error", "error", "a secret that no client is to see"),
    ("panic", "panic", "it panicked: a secret"),
    ("hang", "timeout", "no answer within 200ms"),
];
