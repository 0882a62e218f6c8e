//! The client of a request and its cookies: nobody but a trusted proxy names an address, nothing that stands left of a
//! trusted proxy's own word changes it, and a session's place on the ring is taken off as it was put on.
//!
//! The bytes are lines, each a letter for a field and its value: `x` X-Forwarded-For, `f` Forwarded, `p`
//! X-Forwarded-Proto, `c` Cookie, `s` Set-Cookie, `k` Cache-Control. Flags: 0 the peer is a trusted proxy, 1 by TLS,
//! 2 the peer's address is mapped into IPv6.
#![no_main]

use std::net::IpAddr;

use http::header::{CACHE_CONTROL, COOKIE, FORWARDED, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use libfuzzer_sys::fuzz_target;
use longhaul::affinity::{self, AffinityInput, born, made_private};
use longhaul::client::Client;
use longhaul::config::AffinitySource;
use longhaul::http1::forward::{FORWARDED_FOR, FORWARDED_PROTO};
use longhaul::upstream::Ring;
use longhaul_fuzz::Input;

fuzz_target!(|input: &[u8]| {
    let Some(input) = Input::read(input) else { return };
    let headers = headers(input.bytes);
    whose_request(&input, &headers);
    key(&headers);
    for line in headers.get_all(COOKIE) {
        // What nobody marked and what was unmarked are both values of the application's.
        if let Some(unmarked) = born::unmarked(line.as_bytes(), NAMES.into_iter()) {
            assert!(unmarked.len() < line.len());
        }
    }
    for line in headers.get_all(SET_COOKIE) {
        marked_and_unmarked(
            line.as_bytes(),
            u32::from_be_bytes([input.flags, input.plan[0], input.plan[1], input.plan[2]]),
        );
    }
    let lines = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes);
    if let Some(made) = made_private("GET", 200, lines) {
        assert_eq!(made_private("GET", 200, std::iter::once(made.as_bytes())), None, "{made}");
    }
});

fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(64) {
        let Some((letter, value)) = line.split_first() else { continue };
        let name: &HeaderName = match letter {
            b'x' => &FORWARDED_FOR,
            b'f' => &FORWARDED,
            b'p' => &FORWARDED_PROTO,
            b'c' => &COOKIE,
            b's' => &SET_COOKIE,
            b'k' => &CACHE_CONTROL,
            _ => continue,
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

fn whose_request(input: &Input<'_>, headers: &HeaderMap) {
    let peer = match (input.flag(0), input.flag(2)) {
        (true, false) => "10.0.0.1",
        (true, true) => "::ffff:10.0.0.1",
        (false, false) => "192.0.2.1",
        (false, true) => "::ffff:192.0.2.1",
    };
    let peer: IpAddr = peer.parse().expect("an address");
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let of = |headers: &HeaderMap| Client::of(peer, input.flag(1), headers, &trusted);
    let client = of(headers);
    assert_eq!(client.address, client.address.to_canonical());
    assert_eq!(client.via_trusted, input.flag(0));
    if !input.flag(0) {
        assert_eq!((client.address, client.secure), (peer.to_canonical(), input.flag(1)));
        return;
    }
    // A trusted proxy appends the address that it saw to what its client claims.
    let seen: IpAddr = "203.0.113.77".parse().expect("an address");
    for (name, own) in [(&FORWARDED_FOR, "203.0.113.77"), (&FORWARDED, "for=203.0.113.77;proto=https")] {
        for claimed in headers.get_all(name) {
            let line = [claimed.as_bytes(), b", ", own.as_bytes()].concat();
            let line = HeaderValue::from_bytes(&line).expect("a value behind a value");
            let client = of(&HeaderMap::from_iter([(name.clone(), line)]));
            // A quote that is not closed hides what stands behind it: then the proxy itself is the client.
            let hidden = name == FORWARDED && client.address == peer.to_canonical();
            assert!(client.address == seen || hidden, "{claimed:?} names {}", client.address);
        }
        // The same in a line of its own.
        if name == FORWARDED_FOR || !headers.contains_key(&FORWARDED_FOR) {
            let mut appended = headers.clone();
            appended.append(name, own.parse().expect("a value"));
            let stands = headers.get_all(name).iter().next().is_some() || name == FORWARDED_FOR;
            assert!(!stands || of(&appended).address == seen);
        }
    }
}

/// A key is never empty, and a cookie's value ends before the next cookie.
fn key(headers: &HeaderMap) {
    let sources = [
        AffinitySource::BackendCookie(NAMES[0].into()),
        AffinitySource::Cookie(NAMES[1].into()),
        AffinitySource::Header("forwarded".into()),
    ];
    let request = AffinityInput { headers, query: None, client: IpAddr::from([192, 0, 2, 1]), certificate: None };
    for sources in [&sources[..1], &sources[1..2], &sources[2..]] {
        let Some(key) = affinity::key(sources, &request, || "minted".into()) else { continue };
        assert!(!key.bytes.is_empty() && key.digest().to_string().len() == 8);
        assert!(key.source != affinity::KeySource::Cookie || !key.bytes.contains(&b';'));
    }
}

/// The application gets the value that it made.
fn marked_and_unmarked(line: &[u8], hash: u32) {
    let place = born::place(hash);
    assert_eq!(Ring::hash(&place), hash);
    let Some(marked) = born::marked(line, NAMES.into_iter(), &place) else { return };
    let pair = |line: &[u8]| line.split(|byte| *byte == b';').next().unwrap_or_default().to_vec();
    let unmarked = born::unmarked(&pair(marked.as_bytes()), NAMES.into_iter()).expect("it was marked");
    assert_eq!(unmarked.as_bytes(), pair(line));
    let headers = HeaderMap::from_iter([(COOKIE, HeaderValue::from_bytes(&pair(marked.as_bytes())).expect("a value"))]);
    let request = AffinityInput { headers: &headers, query: None, client: IpAddr::from([0; 4]), certificate: None };
    let sources = NAMES.map(|name| AffinitySource::BackendCookie(name.into()));
    let key = affinity::key(&sources, &request, String::new).expect("it has a place");
    assert_eq!(Ring::hash(&key.bytes), hash, "the session is at its place");
}

const NAMES: [&str; 2] = ["sid", "room"];
