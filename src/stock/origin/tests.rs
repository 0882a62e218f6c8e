//! Pages that `origin` lets in.

use proptest::prelude::*;

use crate::hook::testing::{Harness, TestRequest};

use super::*;

fn harness(with: &str) -> Harness {
    Harness::new::<Origin>(with).unwrap()
}

/// Returns true if a page of `origin` may connect to `host`.
async fn lets_in(harness: &Harness, origin: &str, host: &str) -> bool {
    let request = TestRequest::get("/").host(host).header("origin", origin);
    let upgrade = harness.upgrade(request).await;
    assert!(upgrade.continues() || upgrade.answer().is_some_and(|answer| answer.status() == 403));
    upgrade.continues()
}

#[tokio::test]
async fn by_default_pages_of_the_host_that_is_asked_for_may_connect() {
    let harness = harness("");
    for (origin, host) in [
        ("https://chat.example.com", "chat.example.com"),
        ("http://chat.example.com", "chat.example.com"),
        ("https://chat.example.com", "Chat.Example.com:443"),
        ("https://chat.example.com:443", "chat.example.com"),
        ("http://chat.example.com", "chat.example.com:80"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://[2001:db8::1]:8080", "[2001:db8::1]:8080"),
        ("http://[2001:db8::1]", "[2001:db8::1]"),
    ] {
        assert!(lets_in(&harness, origin, host).await, "{origin} at {host}");
    }
    for (origin, host) in [
        ("https://evil.example", "chat.example.com"),
        ("https://chat.example.com.evil.example", "chat.example.com"),
        ("https://evilchat.example.com", "chat.example.com"),
        ("https://chat.example.com:8443", "chat.example.com"),
        ("https://chat.example.com", "chat.example.com:8443"),
        ("http://chat.example.com", "chat.example.com:443"),
        ("https://chat.example.com@evil.example", "chat.example.com"),
        ("https://chat.example.com/", "chat.example.com"),
        ("https://chat.example.com https://evil.example", "chat.example.com"),
        ("chrome-extension://chat.example.com", "chat.example.com"),
        ("null", "chat.example.com"),
        ("null", "null"),
        ("", "chat.example.com"),
        ("https://", ""),
        ("://", ""),
        ("file://", ""),
        ("chat.example.com", "chat.example.com"),
        ("https://chat.example.com:+443", "chat.example.com"),
        ("https://chat.example.com:99999", "chat.example.com:99999"),
    ] {
        assert!(!lets_in(&harness, origin, host).await, "{origin} at {host}");
    }
}

#[tokio::test]
async fn pages_without_tls_are_others_where_the_client_came_by_tls() {
    let harness = harness("");
    for (origin, proto, lets_in) in [
        ("http://example.com", "https", false),
        ("http://example.com", "https, http", false),
        ("https://example.com", "https", true),
        ("http://example.com", "http", true),
        // A proxy further in may not know better.
        ("https://example.com", "http", true),
    ] {
        let request = TestRequest::get("/").header("origin", origin).header("x-forwarded-proto", proto);
        assert_eq!(harness.upgrade(request).await.continues(), lets_in, "{origin} by {proto}");
    }
}

#[tokio::test]
async fn origins_may_be_named() {
    let with = "allow: [https://app.example.com, 'https://*.example.org', http://localhost:3000, \
                'capacitor://localhost', https://Exact.example.com:8443]";
    let harness = harness(with);
    for origin in [
        "https://app.example.com",
        "https://APP.example.com",
        "https://app.example.com:443",
        "https://a.example.org",
        "https://a.b.example.org",
        "http://localhost:3000",
        "capacitor://localhost",
        "https://exact.example.com:8443",
    ] {
        assert!(lets_in(&harness, origin, "chat.example.com").await, "{origin}");
    }
    for origin in [
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://b.app.example.com",
        "https://example.org",
        "https://.example.org",
        "https://evilexample.org",
        "https://a.example.org.evil.example",
        "https://a.example.org:8443",
        "http://a.example.org",
        "http://localhost:3001",
        "ionic://localhost",
        "null",
        "https://chat.example.com",
    ] {
        assert!(!lets_in(&harness, origin, "chat.example.com").await, "{origin}");
    }
}

#[tokio::test]
async fn what_comes_from_no_page_may_pass_unless_it_is_to_be_refused() {
    for (with, passes) in [("", true), ("missing: allow", true), ("missing: refuse", false)] {
        assert_eq!(harness(with).upgrade(TestRequest::get("/")).await.continues(), passes, "{with}");
    }
}

#[tokio::test]
async fn two_origins_are_none() {
    let request = TestRequest::get("/").header("origin", "https://example.com");
    assert!(harness("").upgrade(request.clone()).await.continues());
    let twice = request.header("origin", "https://example.com");
    assert!(!harness("").upgrade(twice).await.continues());
}

#[tokio::test]
async fn plain_requests_are_looked_at_where_that_is_wanted() {
    for (with, passes) in [("", true), ("requests: true", false)] {
        let request = TestRequest::get("/").header("origin", "https://evil.example");
        assert_eq!(harness(with).request(request.clone()).await.continues(), passes, "{with}");
        assert!(!harness(with).upgrade(request).await.continues());
    }
}

#[test]
fn what_is_no_origin_is_told_with_its_place() {
    for (with, complaint) in [
        ("allow: []", "1:8: allow: no page could ever connect"),
        ("allow: ['*']", "1:9: allow[0]: every page could connect"),
        ("allow: [same, 'null']", "1:15: allow[1]: `null` is what any sandboxed page sends"),
        ("allow: [example.com]", "`example.com` is not an origin"),
        ("allow: [https://example.com/]", "has a path, which no origin has"),
        ("allow: ['https://*']", "is not an origin"),
        ("allow: ['https://a.*.example.com']", "is not an origin"),
        ("allow: [https://example.com:http]", "is not an origin"),
        ("missing: deny", "expected: one of allow, refuse"),
        ("alow: [same]", "did you mean `allow`?"),
    ] {
        let said = Harness::new::<Origin>(with).unwrap_err().to_string();
        assert!(said.contains(complaint), "{with}\n{said}");
    }
}

proptest! {
    #[test]
    fn nothing_but_names_below_is_covered_by_a_wildcard(prefix in "[a-z.@/:-]{0,8}", suffix in "[a-z.@/:-]{0,8}") {
        let origin = format!("https://{prefix}example.com{suffix}");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let lets_in = runtime.block_on(lets_in(&harness("allow: ['https://*.example.com']"), &origin, "chat.test"));
        let is_name = !prefix.contains(['@', '/', ':']) && suffix.is_empty();
        let is_below = prefix.len() > 1 && prefix.ends_with('.') && is_name;
        prop_assert_eq!(lets_in, is_below, "{}", origin);
    }
}
