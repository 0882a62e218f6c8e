//! Requests, upgrades and messages under `rate_limit`.

use std::net::IpAddr;

use crate::hook::testing::{Harness, TestRequest, TestTunnel};
use crate::hook::{Answer, Direction, Message, Verdict};

use super::*;

fn harness(with: &str) -> Harness {
    Harness::new::<RateLimit>(with).unwrap()
}

fn reloaded(previous: &Harness, with: &str) -> Harness {
    Harness::builder().hook::<RateLimit>("hook", with).replacing(previous).build().unwrap()
}

fn said(with: &str) -> String {
    Harness::new::<RateLimit>(with).unwrap_err().to_string()
}

fn get() -> TestRequest {
    TestRequest::get("/")
}

/// Number of these requests that pass.
async fn passed(harness: &Harness, requests: impl IntoIterator<Item = TestRequest>) -> usize {
    let mut passed = 0;
    for request in requests {
        passed += usize::from(harness.request(request).await.continues());
    }
    passed
}

async fn say(tunnel: &mut TestTunnel, text: &str) -> Verdict {
    tunnel.message(Direction::ToBackend, Message::text(text)).await.unwrap()
}

#[tokio::test]
async fn a_request_over_the_limit_is_answered_429_and_told_when_to_come_again() {
    let harness = harness("requests: 1/h");
    assert!(harness.request(get()).await.continues());
    let refused = harness.request(get()).await;
    let answer = refused.answer().unwrap();
    assert_eq!((answer.status().as_u16(), answer.sentence()), (429, "too many requests"));
    let seconds: u32 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&seconds), "{seconds}");
    assert!(harness.upgrade(get()).await.answer().is_some(), "an upgrade is a request");
}

#[tokio::test]
async fn upgrades_have_a_limit_of_their_own() {
    let harness = harness("upgrades: 2/d");
    for _ in 0..2 {
        assert!(harness.upgrade(get()).await.continues());
    }
    assert_eq!(harness.upgrade(get()).await.answer().map(Answer::sentence), Some("too many new connections"));
    assert!(harness.request(get()).await.continues());
}

#[tokio::test]
async fn tunnels_count_while_they_are_open() {
    let harness = harness("tunnels: 2");
    let first = harness.open().await.unwrap();
    let _second = harness.open().await.unwrap();
    let refused = harness.upgrade(get()).await;
    let answer = refused.answer().unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after")), (429, None));
    assert!(harness.upgrade(get().client([192, 0, 2, 99])).await.continues(), "another client's");
    drop(first);
    assert!(harness.upgrade(get()).await.continues());
}

#[tokio::test]
async fn an_upgrade_that_comes_to_nothing_is_no_tunnel() {
    let harness = harness("tunnels: 1");
    for _ in 0..3 {
        assert!(harness.upgrade(get()).await.continues());
    }
}

#[tokio::test]
async fn messages_over_the_limit_close_the_tunnel_or_are_dropped() {
    for (with, third) in [
        ("messages: 2/d", Verdict::close(1008, "too many messages")),
        ("{ messages: 2/d, on_excess: drop }", Verdict::Drop),
        ("bytes: 2B/d", Verdict::close(1008, "too many bytes")),
        ("{ messages: 100/d, bytes: 2B/d, on_excess: drop }", Verdict::Drop),
    ] {
        let mut tunnel = harness(with).open().await.unwrap();
        assert_eq!([say(&mut tunnel, "a").await, say(&mut tunnel, "b").await], [Verdict::Pass, Verdict::Pass]);
        assert_eq!(say(&mut tunnel, "c").await, third, "{with}");
    }
}

#[tokio::test]
async fn a_hook_without_limits_on_messages_sees_none() {
    assert_eq!(harness("{ requests: 1/s, tunnels: 1 }").messages(), Messages::NONE);
    assert_eq!(harness("messages: 1/s").messages(), Messages::TO_BACKEND);
    assert_eq!(harness("{ bytes: 1kB/s, on_excess: delay }").messages(), Messages::TO_BACKEND.awaited());
}

#[tokio::test]
async fn a_delayed_message_waits_for_its_turn() {
    // The limiter reads the real clock: the pace is tested in the limiter's tests, here that waiting ends.
    let mut tunnel = harness("{ messages: 1000/s burst 1, on_excess: delay }").open().await.unwrap();
    for _ in 0..5 {
        assert_eq!(say(&mut tunnel, "a").await, Verdict::Pass);
    }
}

#[tokio::test]
async fn a_message_longer_than_the_burst_is_delayed_piece_by_piece() {
    let mut tunnel = harness("{ bytes: 1MB/s burst 100B, on_excess: delay }").open().await.unwrap();
    assert_eq!(say(&mut tunnel, &"a".repeat(1_000)).await, Verdict::Pass);
}

#[tokio::test]
async fn a_message_that_would_wait_too_long_closes_the_tunnel() {
    let mut tunnel = harness("{ messages: 1/h, on_excess: delay }").open().await.unwrap();
    assert_eq!(say(&mut tunnel, "a").await, Verdict::Pass);
    assert_eq!(say(&mut tunnel, "b").await, Verdict::close(1008, "too many messages"));
    let mut tunnel = harness("{ bytes: 1B/h, on_excess: delay }").open().await.unwrap();
    assert_eq!(say(&mut tunnel, "too long").await, Verdict::close(1008, "too many bytes"));
}

#[tokio::test]
async fn clients_are_told_apart_by_network() {
    let from = |addresses: &[&str]| {
        let address = |text: &&str| get().client(text.parse::<IpAddr>().unwrap());
        addresses.iter().map(address).collect::<Vec<_>>()
    };
    let two_v4 = ["192.0.2.1", "192.0.2.2"];
    let two_v6 = ["2001:db8:0:1::1", "2001:db8:0:1::2"];
    let mapped = ["192.0.2.1", "::ffff:192.0.2.1"];
    for (by, addresses, passes) in [
        ("client_ip", two_v4, 2),
        ("client_ip", two_v6, 1),
        ("client_ip", mapped, 1),
        ("{ client_ip: { ipv4_prefix: 24 } }", two_v4, 1),
        ("{ client_ip: { ipv6_prefix: 128 } }", two_v6, 2),
        ("route", two_v4, 1),
    ] {
        let harness = harness(&format!("{{ requests: 1/d, by: {by} }}"));
        assert_eq!(passed(&harness, from(&addresses)).await, passes, "{by} {addresses:?}");
    }
}

#[tokio::test]
async fn values_of_requests_are_keys() {
    let header = |value| get().header("x-key", value);
    let cookie = |value| get().cookie("id", value);
    let query = |value| TestRequest::get(&format!("/?id={value}"));
    for (by, requests) in [
        ("header: X-Key", ["a", "a", "b"].map(header)),
        ("cookie: id", ["a", "a", "b"].map(cookie)),
        ("query: id", ["a", "a", "b"].map(query)),
    ] {
        assert_eq!(passed(&harness(&format!("{{ requests: 1/d, by: {{ {by} }} }}")), requests).await, 2, "{by}");
    }
}

#[tokio::test]
async fn leaving_the_key_out_lifts_no_limit() {
    let harness = harness("{ requests: 1/d, by: { header: x-key } }");
    assert_eq!(passed(&harness, [get(), get().header("x-key", ""), get().client([192, 0, 2, 2])]).await, 2);
    let like_an_address = get().header("x-key", "192.0.2.1");
    assert_eq!(passed(&harness, [like_an_address]).await, 1, "a value is never taken for an address");
}

#[tokio::test]
async fn tunnels_of_one_client_are_counted_together_unless_by_tunnel() {
    for (by, second) in [("client_ip", Verdict::Drop), ("tunnel", Verdict::Pass)] {
        let harness = harness(&format!("{{ messages: 1/d, by: {by}, on_excess: drop }}"));
        let (mut one, mut other) = (harness.open().await.unwrap(), harness.open().await.unwrap());
        assert_eq!([say(&mut one, "a").await, say(&mut other, "b").await], [Verdict::Pass, second]);
        assert_eq!(say(&mut one, "c").await, Verdict::Drop);
    }
}

#[tokio::test]
async fn a_reload_forgets_nothing_of_limits_that_stay() {
    let with = "{ requests: 1/d, upgrades: 5/d, tunnels: 1 }";
    let before = harness(with);
    let _open = before.open().await.unwrap();
    let same = reloaded(&before, "{ requests: 1/d, upgrades: 6/d, tunnels: 1 }");
    assert!(!same.request(get()).await.continues());
    let other_rate = reloaded(&same, "{ requests: 2/d, tunnels: 1 }");
    let refused = other_rate.upgrade(get()).await;
    assert_eq!(refused.answer().map(Answer::sentence), Some("too many open connections"));
    let other_key = reloaded(&other_rate, "{ requests: 2/d, tunnels: 1, by: route }");
    assert!(other_key.upgrade(get()).await.continues(), "who was counted by address is nobody here");
}

#[tokio::test]
async fn a_handover_takes_along_what_was_counted() {
    let with = "{ requests: 1/d, messages: 1/d, tunnels: 1, on_excess: drop }";
    let (before, after) = (harness(with), harness(with));
    let mut tunnel = before.open().await.unwrap();
    assert_eq!(say(&mut tunnel, "a").await, Verdict::Pass);
    before.hand_over(&after);
    assert!(!after.request(get()).await.continues());
    let mut tunnel = tunnel.hand_over(&after).unwrap();
    assert_eq!(say(&mut tunnel, "b").await, Verdict::Drop);
    let with = "{ tunnels: 1 }";
    let (before, after) = (harness(with), harness(with));
    let tunnel = before.open().await.unwrap().hand_over(&after).unwrap();
    assert!(!after.upgrade(get()).await.continues());
    assert!(before.upgrade(get()).await.continues(), "it has left");
    drop(tunnel);
    assert!(after.upgrade(get()).await.continues());
}

#[test]
fn settings_that_make_no_sense_are_told_with_their_place() {
    for (with, complaint) in [
        ("{}", "1:1: there is no limit: give one of `requests`"),
        ("requests: fast", "1:11: requests: `fast` is not a rate"),
        ("requests: 5", "expected: a number and a period, such as `100/s` or `10/m burst 20`"),
        ("requests: 5/w", "`w` is not a period: it is s, m, h or d"),
        ("requests: 0/s", "nothing would ever be let through"),
        ("requests: 1/s burst 0", "nothing would ever be let through"),
        ("requests: 1/s bursts 5", "`1/s bursts 5` is not a rate"),
        ("requests: 5000000/s", "more in a second than can be told apart"),
        ("requests: 1/d burst 400", "the burst would take more than a year"),
        ("bytes: 100/s", "`100` does not fit here"),
        ("bytes: 1MB/s burst 5", "`5` does not fit here"),
        ("{ requests: 1/s, by: ip }", "1:22: by: `ip` is not known here"),
        ("{ requests: 1/s, by: header }", "expected: `header: NAME`"),
        ("{ requests: 1/s, by: { header: a, cookie: b } }", "name the hook twice for two"),
        ("{ requests: 1/s, by: { header: 'a b' } }", "1:32: by.header: `a b` is not the name of a header"),
        ("{ requests: 1/s, by: { client_ip: { ipv4_prefix: 33 } } }", "a prefix has 1 to 32 bits"),
        ("{ requests: 1/s, by: { client_ip: { ipv4: 24 } } }", "unknown key"),
        ("{ requests: 1/s, by: tunnel }", "only `messages` and `bytes` can be counted"),
        ("{ requests: 1/s, max_keys: 0 }", "max_keys"),
        ("{ requests: 1/s, max_keys: 20000000 }", "at most 10000000"),
        ("request: 1/s", "did you mean `requests`?"),
    ] {
        let said = said(with);
        assert!(said.contains(complaint), "{with}\n{said}");
    }
}
