//! Hooks that fail in a tunnel, in every phase and every way: that tunnel ends with 1011, and no other.

use crate::talk::{BOTH, Ends, Talk, other};
use crate::wire::{self, From};

/// Asserts that a failure was logged and counted as often as it happened.
async fn assert_told(talk: &Talk, phase: &str, cause: &str, says: &str, times: usize) {
    let line = format!("hook talking failed in its phase {phase}: {says}");
    let line = [line.as_str()];
    talk.gateway.log.find_nth(&line, times - 1).await;
    assert_eq!(talk.gateway.log.count(&line), times, "{phase} {cause}");
    let counted = format!("longhaul_hook_failures_total{{cause=\"{cause}\",hook=\"talking\",phase=\"{phase}\"}}");
    talk.gateway.metric_becomes(&counted, times as f64).await;
}

async fn assert_lives(ends: &mut Ends) {
    for from in BOTH {
        ends.say(from, "still here").await;
        ends.expect(other(from), 0x81, "still here").await;
    }
}

#[tokio::test]
async fn a_hook_that_fails_over_a_message_ends_its_tunnel_with_1011_both_ways() {
    let mut talk = Talk::start().await;
    for (path, failures) in [("/sync", &FAILURES[..2]), ("/brief", &FAILURES)] {
        let (client, server) = talk.open(path, "").await;
        let mut neighbour = Ends(client, server);
        for (verb, cause, says) in failures {
            for from in BOTH {
                let (client, server) = talk.open(path, "").await;
                let mut ends = Ends(client, server);
                let bytes = ["before", verb, "after"].map(|text| wire::text(from, text)).concat();
                ends.send(from, bytes).await;
                ends.expect(other(from), 0x81, "before").await;
                ends.expect_close(1011, "hook_failed").await;
            }
            assert_lives(&mut neighbour).await;
            let times = if path == "/brief" && *verb != "hang" { 4 } else { 2 };
            assert_told(&talk, "message", cause, says, times).await;
        }
    }
    talk.gateway.access.find_nth(&["tunnel_end", "close_code=1011 by=gateway reason=hook_failed"], 9).await;
    assert_eq!(talk.gateway.access.count(&["tunnel_end", "reason=hook_failed"]), 10);
    talk.gateway.log.find_nth(&["x was closed: hook_failed 1011, "], 9).await;
}

#[tokio::test]
async fn a_hook_that_fails_to_open_a_tunnel_ends_it_before_anything_has_passed() {
    let mut talk = Talk::start().await;
    let (client, server) = talk.open("/brief", "").await;
    let mut neighbour = Ends(client, server);
    for (verb, cause, says) in FAILURES {
        let (client, server) = talk.open("/brief", &format!("X-Open: {verb}\r\n")).await;
        let mut ends = Ends(client, server);
        for from in BOTH {
            ends.say(from, "early").await;
        }
        ends.expect_close(1011, "hook_failed").await;
        assert_lives(&mut neighbour).await;
        assert_told(&talk, "open", cause, says, 1).await;
    }
    // A hook that was told of the opening is told of the end.
    talk.gateway.log.find_nth(&["x was closed: hook_failed 1011, 0 up, 0 down, seen 0, "], 2).await;
}

#[tokio::test]
async fn a_hook_that_fails_at_the_end_or_at_the_log_changes_nothing_for_anybody() {
    let mut talk = Talk::start().await;
    let (client, server) = talk.open("/brief", "").await;
    let mut neighbour = Ends(client, server);
    let failures =
        [("panic", "close", "panic", "it panicked: as told"), ("hang", "close", "timeout", "no answer within 200ms")];
    for (verb, phase, cause, says) in
        failures.into_iter().chain([("panic_log", "log", "panic", "it panicked: as told")])
    {
        let (client, server) = talk.open("/brief", &format!("X-Close: {verb}\r\nX-Request-Id: {verb}.\r\n")).await;
        let mut ends = Ends(client, server);
        ends.send(From::Client, wire::close(From::Client, 1000)).await;
        ends.expect(From::Backend, 0x88, 1000_u16.to_be_bytes()).await;
        ends.send(From::Backend, wire::close(From::Backend, 1000)).await;
        ends.expect(From::Client, 0x88, 1000_u16.to_be_bytes()).await;
        let (request, closed) = (format!("request_id={verb}. "), format!("seen 0, of {verb}."));
        talk.gateway.access.find(&["tunnel_end", &request, " close_code=1000 by=client reason=client_close"]).await;
        talk.gateway.log.find(&["x was closed: client_close 1000, 0 up, 0 down, ", &closed]).await;
        assert_told(&talk, phase, cause, says, 1).await;
        assert_lives(&mut neighbour).await;
    }
    assert_eq!(talk.gateway.access.count(&["tunnel_end"]), 3);
}

/// Verbs that make a hook fail, the cause that is counted, and the text that is logged.
const FAILURES: [(&str, &str, &str); 3] = [
    ("error", "error", "as told (route"),
    ("panic", "panic", "it panicked: as told"),
    ("hang", "timeout", "no answer within 200ms"),
];
