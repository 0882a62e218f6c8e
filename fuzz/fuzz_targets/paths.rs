//! Hosts and paths: every spelling of a path has one form, which is its own form, and the route that is found is the
//! most specific one that fits.
//!
//! The bytes are a host, a line feed and a path.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use longhaul::config::{self, HostPattern, NoHooks, Route};
use longhaul::http1::host;
use longhaul::route::{Routes, path};

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (host, path) = text.split_once('\n').unwrap_or(("", text));
    let normal = path::normalized(path).into_owned();
    is_its_own_form(&normal);
    if path.starts_with('/') {
        assert!(normal.starts_with('/'));
        let segments = || normal.split('/').skip(1);
        let last = segments().count() - 1;
        assert!(
            segments().enumerate().all(|(at, segment)| at == last || !["", ".", ".."].contains(&segment)),
            "{normal}"
        );
    }
    if let Some(other) = path::other_reading(path) {
        is_its_own_form(&other);
        assert!(!other.contains(|character: char| character.is_ascii_control()), "{other:?}");
        assert!(!path.starts_with('/') || !other.contains(['\\', ';']), "{other}");
    }
    assert_eq!(ROUTES.find(Some(host), path), ROUTES.find(Some(host), &normal));
    if !ROUTES.may_evade(Some(host), path, |_| true) {
        assert!(!path::is_ambiguous(path));
    }
    if host::is_valid(host) {
        let expected = expected(host, &normal);
        assert_eq!(ROUTES.find(Some(host), path), expected, "{host} {normal}");
        assert_eq!(ROUTES.find(Some(&host.to_uppercase()), path), expected);
    }
});

fn is_its_own_form(normal: &str) {
    assert_eq!(path::normalized(normal), normal);
}

/// The index of the route for a host and a path in its normal form, by looking at each.
fn expected(host: &str, path: &str) -> Option<usize> {
    let name = if host.starts_with('[') {
        host.split_inclusive(']').next().unwrap_or_default()
    } else {
        host.split(':').next().unwrap_or_default()
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
    let fits = |route: &Route| {
        let by_host = match &route.host {
            HostPattern::Any => 0,
            _ if name.is_empty() => return None,
            HostPattern::Exact(host) if *host == name => usize::MAX,
            HostPattern::Wildcard(domain) if name.ends_with(&format!(".{domain}")) => domain.len(),
            _ => return None,
        };
        let prefix = path::normalized(&route.path).into_owned();
        let by_path = prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"));
        by_path.then_some((by_host, prefix.len()))
    };
    let fitting = CONFIG.routes.iter().enumerate().filter_map(|(index, route)| Some((fits(route)?, index)));
    fitting.max_by_key(|(rank, index)| (*rank, usize::MAX - index)).map(|(_, index)| index)
}

static ROUTES: LazyLock<Routes> = LazyLock::new(|| Routes::compile(&CONFIG.routes));
static CONFIG: LazyLock<config::Config> = LazyLock::new(|| {
    let routes = [
        ("", "/"),
        ("", "/admin"),
        ("", "/admin/x"),
        ("example.com", "/"),
        ("example.com", "/ws"),
        ("example.com", "/ws/a/b"),
        ("\"*.example.com\"", "/ws"),
        ("\"*.a.example.com\"", "/"),
        ("\"[::1]\"", "/v6"),
        ("127.0.0.1", "/v4"),
    ];
    let mut text = "version: 1\nlisteners: [{ address: 127.0.0.1:0 }]\nroutes:\n".to_owned();
    for (host, path) in routes {
        let host = if host.is_empty() { String::new() } else { format!("host: {host}, ") };
        text += &format!("  - {{ {host}path: {path}, upstream: u }}\n");
    }
    text += "upstreams:\n  u: { backends: [127.0.0.1:1] }\n";
    config::parse(&text, &NoHooks).unwrap_or_else(|problems| panic!("{}", problems.in_file("routes"))).config
});
