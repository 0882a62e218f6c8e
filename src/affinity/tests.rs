//! Promises of affinity: the source that gives the key, and its bytes.

use std::collections::HashSet;
use std::time::Duration;

use http::HeaderValue;
use proptest::prelude::*;

use crate::config::{SameSite, Secure};

use super::*;

const CLIENT: &str = "203.0.113.77";

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// The key's text, for the request with these headers, query and client.
fn ask(source: AffinitySource, lines: &[(&'static str, &str)], query: Option<&str>, client: &str) -> Option<String> {
    let headers = headers(lines);
    let request = AffinityInput { headers: &headers, query, client: client.parse().unwrap(), certificate: None };
    let sources = [source];
    let key = key(&sources, &request, || "minted".to_owned())?;
    assert!(!key.bytes.is_empty());
    Some(String::from_utf8(key.bytes).unwrap())
}

fn cookie_of(lines: &[&str]) -> Option<String> {
    let lines: Vec<_> = lines.iter().map(|line| ("cookie", *line)).collect();
    ask(AffinitySource::Cookie("sid".to_owned()), &lines, None, CLIENT)
}

fn query_of(query: &str) -> Option<String> {
    ask(AffinitySource::Query("room".to_owned()), &[], Some(query), CLIENT)
}

fn client_ip(client: &str, ipv4_prefix: u8, ipv6_prefix: u8) -> String {
    ask(AffinitySource::ClientIp { ipv4_prefix, ipv6_prefix }, &[], None, client).unwrap()
}

fn issue(max_age: Option<Duration>, same_site: SameSite) -> IssueCookie {
    IssueCookie {
        name: "longhaul".to_owned(),
        max_age,
        same_site,
        path: "/".to_owned(),
        domain: None,
        secure: Secure::Auto,
        partitioned: false,
    }
}

#[test]
fn a_cookie_is_the_raw_text_up_to_the_semicolon() {
    for (line, expected) in [
        ("sid=abc", Some("abc")),
        ("a=1; sid=abc; b=2", Some("abc")),
        ("a=1;sid=abc;b=2", Some("abc")),
        ("sid=\"abc\"; b=2", Some("\"abc\"")),
        ("sid=a=b&c%20d", Some("a=b&c%20d")),
        ("sid=a,b", Some("a,b")),
        ("sid = abc ; b=2", Some("abc ")),
        ("sid=;sid=second", Some("second")),
        ("sid", None),
        ("sid=", None),
        ("sid=   ", None),
        ("sidx=1; xsid=2; SID=3; x=1,sid=4", None),
        ("", None),
        (";;=;", None),
    ] {
        assert_eq!(cookie_of(&[line]).as_deref(), expected, "{line}");
    }
}

#[test]
fn cookies_may_come_in_several_lines() {
    assert_eq!(cookie_of(&["a=1", "sid=", "b=2; sid=x", "sid=y"]).as_deref(), Some("x"));
}

#[test]
fn header_lines_of_one_name_are_joined() {
    let source = || AffinitySource::Header("x-room".to_owned());
    let of = |lines: &[(&'static str, &str)]| ask(source(), lines, None, CLIENT);
    assert_eq!(of(&[("X-Room", "7")]).as_deref(), Some("7"));
    assert_eq!(of(&[("x-room", "7"), ("x-other", "1"), ("x-room", "8")]).as_deref(), Some("7, 8"));
    assert_eq!(of(&[("x-room", "")]), None);
    assert_eq!(of(&[("x-room", ""), ("x-room", "")]), None);
    assert_eq!(of(&[]), None);
}

#[test]
fn a_query_argument_is_raw_and_its_name_has_no_letter_case() {
    for (query, expected) in [
        ("room=7", Some("7")),
        ("a=1&ROOM=7&b=2", Some("7")),
        ("room=a%20b+c", Some("a%20b+c")),
        ("room=a=b", Some("a=b")),
        ("room=1&room=2", Some("1")),
        ("room=&room=2", Some("2")),
        ("xroom=1", None),
        ("room", None),
        ("room=", None),
        ("", None),
        ("&&=&", None),
    ] {
        assert_eq!(query_of(query).as_deref(), expected, "{query}");
    }
    assert_eq!(ask(AffinitySource::Query("room".to_owned()), &[], None, CLIENT), None);
}

#[test]
fn a_client_ip_is_cut_to_its_prefix() {
    assert_eq!(client_ip(CLIENT, 32, 64), "203.0.113.77");
    assert_eq!(client_ip(CLIENT, 24, 64), "203.0.113.0");
    assert_eq!(client_ip(CLIENT, 1, 64), "128.0.0.0");
    assert_eq!(client_ip("2001:DB8:1:2:3:4:5:6", 32, 128), "2001:db8:1:2:3:4:5:6");
    assert_eq!(client_ip("2001:db8:1:2:3:4:5:6", 32, 64), "2001:db8:1:2::");
    assert_eq!(client_ip("2001:db8:1:2ff:3:4:5:6", 32, 56), "2001:db8:1:200::");
    assert_eq!(client_ip("::ffff:203.0.113.77", 32, 64), "203.0.113.77");
    assert_eq!(client_ip("::ffff:203.0.113.77", 16, 64), "203.0.0.0");
}

#[test]
fn sources_are_asked_in_the_order_written() {
    let issue_cookie = issue(None, SameSite::Lax);
    let sources = [
        AffinitySource::Cookie("sid".to_owned()),
        AffinitySource::Header("x-room".to_owned()),
        AffinitySource::Query("room".to_owned()),
        AffinitySource::IssueCookie(issue_cookie.clone()),
        AffinitySource::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 },
    ];
    let ask = |lines: &[(&'static str, &str)], query| {
        let headers = headers(lines);
        let request = AffinityInput { headers: &headers, query, client: CLIENT.parse().unwrap(), certificate: None };
        let key = key(&sources, &request, || "minted".to_owned()).unwrap();
        (key.source.as_str(), String::from_utf8(key.bytes).unwrap(), key.issued.is_some())
    };
    let all = [("cookie", "sid=c; longhaul=i"), ("x-room", "h")];
    assert_eq!(ask(&all, Some("room=q")), ("cookie", "c".to_owned(), false));
    assert_eq!(ask(&all[1..], Some("room=q")), ("header", "h".to_owned(), false));
    assert_eq!(ask(&[("cookie", "sid="), ("x-room", "")], Some("room=q")), ("query", "q".to_owned(), false));
    assert_eq!(ask(&[("cookie", "longhaul=i")], Some("room=")), ("issue_cookie", "i".to_owned(), false));
    assert_eq!(ask(&[("cookie", "longhaul=")], None), ("issue_cookie", "minted".to_owned(), true));
}

#[test]
fn no_source_with_a_value_means_no_key_and_nothing_minted() {
    let sources = [AffinitySource::Cookie("sid".to_owned()), AffinitySource::Header("x-room".to_owned())];
    let headers = HeaderMap::new();
    let request = AffinityInput { headers: &headers, query: None, client: CLIENT.parse().unwrap(), certificate: None };
    assert_eq!(key(&sources, &request, || panic!("minted for nothing")), None);
    assert_eq!(key(&[], &request, || panic!("minted for nothing")), None);
}

#[test]
fn a_minted_value_comes_back_as_the_same_key() {
    let sources = [AffinitySource::IssueCookie(issue(None, SameSite::Lax))];
    let none = HeaderMap::new();
    let first = key(
        &sources,
        &AffinityInput { headers: &none, query: None, client: CLIENT.parse().unwrap(), certificate: None },
        mint,
    )
    .unwrap();
    let set_cookie = first.set_cookie(false).unwrap();
    let brought = headers(&[("cookie", set_cookie.split(';').next().unwrap())]);
    let request = AffinityInput { headers: &brought, query: None, client: CLIENT.parse().unwrap(), certificate: None };
    let again = key(&sources, &request, mint).unwrap();
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(again.set_cookie(false), None);
}

#[test]
fn minted_values_are_32_hex_digits_and_differ() {
    let minted: HashSet<String> = (0..1000).map(|_| mint()).collect();
    assert_eq!(minted.len(), 1000);
    assert!(minted.iter().all(|value| value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit())));
}

#[test]
fn a_set_cookie_line_carries_its_attributes() {
    let month = Some(Duration::from_secs(30 * 86_400));
    assert_eq!(
        set_cookie(&issue(month, SameSite::Lax), "00ff", false),
        "longhaul=00ff; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"
    );
    assert_eq!(
        set_cookie(&issue(None, SameSite::Strict), "00ff", true),
        "longhaul=00ff; HttpOnly; SameSite=Strict; Secure; Path=/"
    );
    assert!(set_cookie(&issue(Some(Duration::MAX), SameSite::None), "0", true).contains("SameSite=None; Secure"));
    let embedded = IssueCookie {
        path: "/app".to_owned(),
        domain: Some("example.com".to_owned()),
        secure: Secure::Always,
        partitioned: true,
        ..issue(None, SameSite::None)
    };
    assert_eq!(
        set_cookie(&embedded, "00ff", false),
        "longhaul=00ff; HttpOnly; SameSite=None; Partitioned; Secure; Path=/app; Domain=example.com"
    );
}

#[test]
fn a_cookie_born_on_the_backend_gives_the_place_before_its_value() {
    let sources = [AffinitySource::BackendCookie("JSESSIONID".to_owned()), AffinitySource::Query("room".to_owned())];
    let place = String::from_utf8(born::place(1).to_vec()).unwrap();
    let with_place = format!("a=b; JSESSIONID=dummy; JSESSIONID={place}~abc");
    for (cookie, query, expected) in [
        (with_place.as_str(), Some("room=r"), place.as_str()),
        ("JSESSIONID=abc", Some("room=r"), "r"),
        ("JSESSIONID=dummy", None, "drawn"),
        ("", None, "drawn"),
    ] {
        let headers = headers(&[("cookie", cookie)]);
        let request = AffinityInput { headers: &headers, query, client: CLIENT.parse().unwrap(), certificate: None };
        let key = key(&sources, &request, || "drawn".to_owned()).unwrap();
        assert_eq!(String::from_utf8(key.bytes).unwrap(), expected, "{cookie}");
        assert!(key.issued.is_none());
    }
}

#[test]
fn logs_see_a_digest_and_never_the_value() {
    let key = Key { bytes: b"abc".to_vec(), source: KeySource::Cookie, issued: None };
    assert_eq!(key.digest().to_string(), "a9993e36");
    assert_eq!("a9993e36".parse(), Ok(key.digest()));
    assert_eq!(format!("{key:?}"), r#"Key { source: Cookie, digest: "a9993e36", issued: false }"#);
}

proptest! {
    #[test]
    fn no_request_panics_or_gives_an_empty_key(
        lines in prop::collection::vec("[ -~]{0,40}", 0..4),
        query in proptest::option::of(".{0,40}"),
        client in any::<IpAddr>(),
        ipv4_prefix in any::<u8>(),
        ipv6_prefix in any::<u8>(),
    ) {
        let lines: Vec<_> = lines.iter().map(|line| ("cookie", line.as_str())).collect();
        let headers = headers(&lines);
        let sources = [
            AffinitySource::Cookie("a".to_owned()),
            AffinitySource::Header("cookie".to_owned()),
            AffinitySource::Query("a".to_owned()),
            AffinitySource::ClientIp { ipv4_prefix, ipv6_prefix },
        ];
        let request = AffinityInput { headers: &headers, query: query.as_deref(), client, certificate: None };
        prop_assert!(!key(&sources, &request, mint).unwrap().bytes.is_empty());
    }
}

#[test]
fn every_kind_of_source_is_found_by_its_name() {
    for source in KeySource::ALL {
        assert_eq!(KeySource::named(source.as_str()), Some(*source));
    }
    assert_eq!(KeySource::named("none"), None);
}
