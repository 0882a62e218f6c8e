//! Whom `ip_filter` lets in.

use std::fs;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use crate::hook::testing::{Harness, TestRequest};

use super::*;

fn harness(with: &str) -> Harness {
    Harness::new::<IpFilter>(with).unwrap()
}

async fn lets_in(harness: &Harness, address: &str) -> bool {
    let request = TestRequest::get("/").client(address.parse::<IpAddr>().unwrap());
    let exchange = harness.request(request.clone()).await;
    assert!(exchange.continues() || exchange.answer().is_some_and(|answer| answer.status() == 403));
    assert_eq!(harness.upgrade(request).await.continues(), exchange.continues(), "no way around by an upgrade");
    exchange.continues()
}

#[tokio::test]
async fn the_most_specific_network_decides_and_else_who_is_allowed_is_listed() {
    for (with, allowed, denied) in [
        ("deny: [192.0.2.0/24]", ["192.0.3.1", "2001:db8::1"], ["192.0.2.1", "192.0.2.255"]),
        ("allow: [192.0.2.0/24]", ["192.0.2.1", "192.0.2.255"], ["192.0.3.1", "2001:db8::1"]),
        (
            "{ allow: [10.1.0.0/16], deny: [10.0.0.0/8], otherwise: allow }",
            ["10.1.2.3", "8.8.8.8"],
            ["10.2.0.1", "10.0.0.0"],
        ),
        ("{ allow: [10.0.0.0/8], deny: [10.1.0.0/16] }", ["10.2.0.1", "10.0.0.1"], ["10.1.2.3", "8.8.8.8"]),
        (
            "{ deny: [0.0.0.0/0], allow: ['2001:db8::/32', 192.0.2.7] }",
            ["2001:db8::1", "192.0.2.7"],
            ["192.0.2.8", "2001:db9::1"],
        ),
        ("deny: ['::/0']", ["192.0.2.1", "::ffff:192.0.2.1"], ["2001:db8::1", "::1"]),
        ("deny: ['::ffff:192.0.2.1']", ["192.0.2.2", "::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        ("deny: ['::ffff:192.0.2.0/120']", ["192.0.3.1", "::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        ("deny: ['::ffff:0:0/96']", ["2001:db8::1", "::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        ("deny: [192.0.2.1]", ["192.0.2.2", "::1"], ["192.0.2.1", "::ffff:192.0.2.1"]),
        (
            "{ deny: [192.0.2.1], otherwise: deny, allow: [192.0.2.0/30, '::1'] }",
            ["192.0.2.2", "::1"],
            ["192.0.2.1", "192.0.2.4"],
        ),
    ] {
        let harness = harness(with);
        for address in allowed {
            assert!(lets_in(&harness, address).await, "{with}: {address}");
        }
        for address in denied {
            assert!(!lets_in(&harness, address).await, "{with}: {address}");
        }
    }
}

#[tokio::test]
async fn the_address_is_the_client_s_or_its_proxy_s() {
    use crate::hook::{Contexts, Facts};
    use pingora::http::RequestHeader;

    for (on, passes) in [("client", false), ("peer", true)] {
        let settings = crate::config::Settings::parse(&format!("{{ deny: [192.0.2.0/24], on: {on} }}")).unwrap();
        let mut registry = crate::hook::HookRegistry::empty();
        registry.add::<IpFilter>("ip_filter");
        let timeout = std::time::Duration::from_secs(5);
        let entry = crate::config::HookEntry { name: "ip_filter".into(), settings, timeout };
        let metrics = crate::metrics::Metrics::new();
        let chain = crate::hook::Chain::build(&[entry], "* /", &registry, None, |name| metrics.hook(name)).unwrap();
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        let facts = Facts {
            id: "id",
            client: [192, 0, 2, 1].into(),
            peer: ([198, 51, 100, 1], 4711).into(),
            host: "example.com",
            route: "* /",
            upstream: "u",
            upgrade: false,
            secure: false,
            certificate: None,
            injector: crate::hook::Injector::to_nobody(),
        };
        let mut contexts: Contexts = chain.contexts().unwrap();
        let next = chain.on_request(&mut Request::bare(&mut header, facts), &mut contexts).await.unwrap();
        assert_eq!(next == Next::Continue, passes, "{on}");
    }
}

#[tokio::test]
async fn lists_are_read_from_files_and_again_at_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("denied");
    fs::write(&file, "# a list\n192.0.2.1\n\n  198.51.100.0/24 ; SBL1\n2001:db8::/32 # documentation\r\n").unwrap();
    let with = format!("{{ deny_file: {}, allow: [198.51.100.7], otherwise: allow }}", file.display());
    let before = harness(&with);
    for (address, passes) in [
        ("192.0.2.1", false),
        ("192.0.2.2", true),
        ("198.51.100.6", false),
        ("198.51.100.7", true),
        ("2001:db8::5", false),
    ] {
        assert_eq!(lets_in(&before, address).await, passes, "{address}");
    }
    fs::write(&file, "192.0.2.2").unwrap();
    let after = Harness::builder().hook::<IpFilter>("hook", &with).replacing(&before).build().unwrap();
    assert_eq!([lets_in(&after, "192.0.2.1").await, lets_in(&after, "192.0.2.2").await], [true, false]);
}

#[tokio::test]
async fn a_network_in_both_files_is_denied() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("both");
    fs::write(&file, "192.0.2.0/24").unwrap();
    let harness = harness(&format!("{{ deny_file: {0}, allow_file: {0} }}", file.display()));
    assert!(!lets_in(&harness, "192.0.2.1").await);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("list");
    fs::write(&file, "192.0.2.0/24\nhome\n").unwrap();
    for (with, complaint) in [
        ("", "1:1: there is no list"),
        ("{ allow: [10.0.0.0/8], deny: [10.0.0.0/8] }", "1:11: allow[0]: 10.0.0.0/8 is also denied"),
        ("{ allow: ['::ffff:10.0.0.0/104'], deny: [10.0.0.0/8] }", "1:11: allow[0]: 10.0.0.0/8 is also denied"),
        ("allow: [10.0.0.1/8]", "1:9: allow[0]:"),
        ("allow: [home]", "1:9: allow[0]:"),
        ("deny_file: /nowhere/list", "1:12: deny_file: /nowhere/list cannot be read: No such file"),
        (&format!("\nallow_file: {}", file.display()), "/list:2: "),
        ("{ deny: [10.0.0.0/8], on: proxy }", "expected: one of client, peer"),
        ("{ denied: [10.0.0.0/8] }", "unknown key"),
    ] {
        let said = Harness::new::<IpFilter>(with).unwrap_err().to_string();
        assert!(said.contains(complaint), "{with}\n{said}");
    }
}

proptest! {
    #[test]
    fn networks_answer_as_a_search_through_all_of_them_would(
        rules in prop::collection::vec((any::<u32>(), 0_u8..=32, any::<bool>()), 0..40),
        addresses in prop::collection::vec(any::<u32>(), 1..20),
    ) {
        let mut networks = Networks::default();
        let mut all: Vec<(IpNet, NetworkRule)> = Vec::new();
        // Few bits differ, so that networks lie in each other.
        for (bits, length, allow) in rules {
            let rule = if allow { NetworkRule::Allow } else { NetworkRule::Deny };
            let network = IpNet::new(IpAddr::V4((bits & 0xc000_0003).into()), length).unwrap().trunc();
            networks.add(network, rule);
            all.retain(|(other, _)| *other != network);
            all.push((network, rule));
        }
        for bits in addresses {
            let address = IpAddr::V4((bits & 0xc000_0003).into());
            let covering = all.iter().filter(|(network, _)| network.contains(&address));
            let most_specific = covering.max_by_key(|(network, _)| network.prefix_len()).map(|(_, rule)| *rule);
            prop_assert_eq!(networks.rule(address), most_specific);
        }
    }
}
