//! Promises of routing: the route that wins, and the cost of finding it.

use proptest::prelude::*;

use super::*;

fn route(host: &str, path: &str) -> Route {
    let host = match host.strip_prefix("*.") {
        Some(domain) => HostPattern::Wildcard(domain.to_owned()),
        None if host == "*" => HostPattern::Any,
        None => HostPattern::Exact(host.to_owned()),
    };
    Route {
        host,
        path: path.to_owned(),
        upstream: "u".to_owned(),
        affinity: None,
        hooks: Vec::new(),
        compression: Default::default(),
        handshake: Default::default(),
        body_size: None,
        limits: Default::default(),
        reattach: None,
    }
}

fn routes(list: &[(&str, &str)]) -> Routes {
    Routes::compile(&list.iter().map(|(host, path)| route(host, path)).collect::<Vec<_>>())
}

#[test]
fn a_prefix_ends_on_a_segment_border() {
    let routes = routes(&[("*", "/ws"), ("*", "/ws/chat")]);
    for (path, expected) in [
        ("/ws", Some(0)),
        ("/ws/", Some(0)),
        ("/ws/a/b", Some(0)),
        ("/ws/chat", Some(1)),
        ("/ws/chat/room", Some(1)),
        ("/ws/chatter", Some(0)),
        ("/wsx", None),
        ("/w", None),
        ("/", None),
        ("", None),
    ] {
        assert_eq!(routes.find(None, path), expected, "{path}");
    }
}

#[test]
fn every_spelling_of_a_path_leads_to_its_route() {
    let routes = routes(&[("*", "/a/b"), ("*", "/")]);
    for path in ["/a//b", "/a/./b", "/x/../a/b", "/%61/b", "//a/b", "/a/b/", "/../a/b"] {
        assert_eq!(routes.find(None, path), Some(0), "{path}");
    }
    for path in ["/A/b", "a/b", "/a%2Fb", "/a/b;v=1", "/a/b/..", "/a/b%2Fc/../c"] {
        assert_eq!(routes.find(None, path), Some(1), "{path}");
    }
    assert_eq!(super::Routes::compile(&[route("*", "/%61//b")]).find(None, "/a/b"), Some(0));
}

#[test]
fn a_path_that_a_backend_may_read_as_a_guarded_one_evades() {
    let routes = routes(&[("*", "/admin"), ("*", "/")]);
    let guarded = |route| route == 0;
    for path in [
        "/admin%2fx",
        "/admin%2Fx/../y",
        "/x%2f..%2fadmin",
        "/x\\..\\admin",
        "/admin/a%5cb",
        "/../admin",
        "/admin;v=1/x",
        "/x/..;/admin",
        "/;/admin",
    ] {
        assert!(routes.may_evade(None, path, guarded), "{path}");
    }
    for path in
        ["/", "/admin", "/%61dmin", "//admin", "/x/../admin", "/a%2fb", "/a\\b", "/../x", "/admin/x;v=1", "/a;b", "*"]
    {
        assert!(!routes.may_evade(None, path, guarded), "{path}");
        assert!(!routes.may_evade(None, path, |_| false), "{path}");
    }
}

#[test]
fn the_asterisk_and_an_empty_path_stand_where_the_root_does() {
    let routes = routes(&[("*", "/a"), ("*", "/")]);
    assert_eq!(routes.find(None, "*"), Some(1));
    assert_eq!(routes.find(None, ""), Some(1));
    assert_eq!(super::Routes::compile(&[]).find(Some("h"), "/"), None);
}

#[test]
fn the_most_specific_host_wins_over_the_longer_path() {
    let routes = routes(&[
        ("*", "/a/b/c"),
        ("*.example.com", "/a/b"),
        ("*.chat.example.com", "/a"),
        ("eu.chat.example.com", "/"),
    ]);
    assert_eq!(routes.find(Some("eu.chat.example.com"), "/a/b/c"), Some(3));
    assert_eq!(routes.find(Some("us.chat.example.com"), "/a/b/c"), Some(2));
    assert_eq!(routes.find(Some("x.us.chat.example.com"), "/a/b/c"), Some(2));
    assert_eq!(routes.find(Some("chat.example.com"), "/a/b/c"), Some(1));
    assert_eq!(routes.find(Some("example.com"), "/a/b/c"), Some(0));
    assert_eq!(routes.find(None, "/a/b/c"), Some(0));
}

#[test]
fn a_host_without_a_fitting_path_leaves_it_to_less_specific_hosts() {
    let routes = routes(&[("a.b.c", "/one"), ("*.b.c", "/two"), ("*.c", "/three"), ("*", "/four")]);
    for (path, expected) in [("/one", Some(0)), ("/two", Some(1)), ("/three", Some(2)), ("/four", Some(3)), ("/", None)]
    {
        assert_eq!(routes.find(Some("a.b.c"), path), expected, "{path}");
    }
}

#[test]
fn a_wildcard_is_not_for_the_domain_itself_nor_for_a_longer_word() {
    let routes = routes(&[("*.example.com", "/")]);
    assert_eq!(routes.find(Some("example.com"), "/"), None);
    assert_eq!(routes.find(Some("badexample.com"), "/"), None);
    assert_eq!(routes.find(Some("a.example.com"), "/"), Some(0));
}

#[test]
fn a_host_may_carry_a_port_letter_case_and_a_dot() {
    let routes = routes(&[("chat.example.com", "/"), ("[2001:db8::1]", "/"), ("192.0.2.7", "/")]);
    for (host, expected) in [
        ("Chat.Example.COM", Some(0)),
        ("chat.example.com:8080", Some(0)),
        ("chat.example.com.", Some(0)),
        ("CHAT.example.com.:443", Some(0)),
        ("[2001:db8::1]", Some(1)),
        ("[2001:DB8::1]:8443", Some(1)),
        ("192.0.2.7:80", Some(2)),
        ("", None),
        (":80", None),
        (".", None),
        ("[", None),
        ("]", None),
        ("[]", None),
        ("[2001:db8::1", None),
    ] {
        assert_eq!(routes.find(Some(host), "/"), expected, "{host}");
    }
}

#[test]
fn of_two_equal_routes_the_first_counts() {
    assert_eq!(routes(&[("h", "/a"), ("h", "/a")]).find(Some("h"), "/a"), Some(0));
}

#[test]
fn half_a_million_slashes_overflow_no_stack() {
    let long = "/a".repeat(250_000);
    let deep = Routes::compile(&[route("*", &long), route("*", "/")]);
    assert_eq!(deep.find(Some(&".".repeat(500_000)), &long), Some(0));
    assert_eq!(deep.find(None, &long[2..]), Some(1));
    assert_eq!(deep.find(None, &"/".repeat(500_000)), Some(1));
    drop(deep);
}

/// The rule, written the slow way: of all routes that fit, the best by host, then by path.
fn find_slowly(list: &[Route], host: &str, path: &str) -> Option<usize> {
    let path: String = path.split('/').filter(|part| !part.is_empty()).map(|part| format!("/{part}")).collect();
    let fits = |route: &Route| {
        route.path == "/"
            || path == route.path
            || path.strip_prefix(&route.path).is_some_and(|rest| rest.starts_with('/'))
    };
    let rank = |route: &Route| match &route.host {
        HostPattern::Any => Some(0),
        HostPattern::Exact(exact) => (exact == host).then_some(usize::MAX),
        HostPattern::Wildcard(domain) => host.ends_with(&format!(".{domain}")).then_some(domain.len()),
    };
    let ranked = list.iter().enumerate().filter(|(_, route)| fits(route));
    let ranked = ranked.filter_map(|(index, route)| Some((rank(route)?, route.path.len(), index)));
    ranked.max_by_key(|&(host, path, index)| (host, path, std::cmp::Reverse(index))).map(|(_, _, index)| index)
}

proptest! {
    #[test]
    fn finding_agrees_with_the_rule(
        list in prop::collection::vec(("(\\*|(\\*\\.)?[ab](\\.[ab]){0,3})", "(/|(/[xy]){1,4})"), 0..40),
        host in "[ab](\\.[ab]){0,4}",
        path in "(/[xyz]?){1,6}",
    ) {
        let list: Vec<_> = list.iter().map(|(host, path)| route(host, path)).collect();
        prop_assert_eq!(Routes::compile(&list).find(Some(&host), &path), find_slowly(&list, &host, &path));
    }

    #[test]
    fn no_host_or_path_panics(host in ".*", path in ".*") {
        let routes = routes(&[("*.b", "/a"), ("[::1]", "/"), ("*", "/")]);
        prop_assert!(routes.find(Some(&host), &path).is_some());
    }
}
