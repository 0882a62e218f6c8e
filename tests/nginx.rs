//! For the same servers, weights and key Longhaul picks the backend that Debian's nginx picks.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be set up fails it")]

#[path = "nginx/compare.rs"]
mod compare;
#[path = "nginx/library.rs"]
mod library;
#[path = "nginx/running.rs"]
mod running;
#[path = "nginx/server.rs"]
mod server;
#[path = "support/mod.rs"]
mod support;

use std::net::Ipv4Addr;

use longhaul::config::{AffinitySource, Backend};

use self::compare::{Question, compare};
use self::library::Longhaul;
use self::running::Running;
use self::server::{Nginx, Variant};

const QUESTIONS: u32 = 1_200;

/// Each weight's share of the ring differs, so that no two backends could be mistaken for each other.
const WEIGHTS: [u16; 4] = [1, 2, 3, 5];

#[test]
fn clients_keep_the_backend_that_hash_remote_addr_gave_them() {
    let source = AffinitySource::ClientIp { ipv4_prefix: 32, ipv6_prefix: 64 };
    let client = |n: u32| Ipv4Addr::new(127, 100 + (n % 50) as u8, (n / 50) as u8, 1 + (n * 37 % 250) as u8);
    agrees(Nginx::start(0, "$remote_addr", &WEIGHTS), "$remote_addr", &source, |n| Question {
        client: client(n),
        ..Question::default()
    });
}

#[test]
fn clients_keep_the_backend_that_hash_cookie_gave_them() {
    let cookie = |n: u32| match n % 4 {
        0 => format!("session_id={:032x}", u128::from(n) * 0x9e37_79b9_7f4a_7c15_f39c_c060),
        1 => format!("theme=dark; session_id=\"user {n}\"; lang=en"),
        2 => format!("session_idx=no; session_id=a=b+%20{n}&c,d; session_id=second"),
        _ => format!("a=1;session_id = {n} ; b=2"),
    };
    agrees(
        Nginx::start(1, "$cookie_session_id", &WEIGHTS),
        "$cookie_session_id",
        &AffinitySource::Cookie("session_id".to_owned()),
        |n| Question::with_header("Cookie", &cookie(n)),
    );
}

#[test]
fn clients_keep_the_backend_that_hash_http_header_gave_them() {
    agrees(
        Nginx::start(2, "$http_x_room", &WEIGHTS),
        "$http_x_room",
        &AffinitySource::Header("x-room".to_owned()),
        |n| Question::with_header(if n % 2 == 0 { "X-Room" } else { "x-room" }, &format!("room {n}, \"größe\"")),
    );
}

#[test]
fn clients_keep_the_backend_that_hash_arg_gave_them() {
    let query = |n: u32| match n % 4 {
        0 => format!("room={n}"),
        1 => format!("xroom=1&ROOM=a%20b+{n}&room=other"),
        2 => format!("room&a=room=7&room=x=y{n}&b"),
        _ => format!("a=1&&room={n}?c/d&room="),
    };
    agrees(Nginx::start(3, "$arg_room", &WEIGHTS), "$arg_room", &AffinitySource::Query("room".to_owned()), |n| {
        Question { query: Some(query(n)), ..Question::default() }
    });
}

#[test]
fn clients_keep_an_ipv6_backend_too() {
    let nginx = Nginx::start_ipv6(4, "$arg_room", &WEIGHTS);
    agrees(nginx, "IPv6 $arg_room", &AffinitySource::Query("room".to_owned()), |n| Question {
        query: Some(format!("room={n}")),
        ..Question::default()
    });
}

/// nginx hashes what stands behind `server`, and its addresses are of no account; a name of several addresses is one
/// server to the ring, whose addresses take turns.
#[test]
fn clients_keep_a_backend_that_is_named_as_nginx_has_its_host_name() {
    for (lab, addresses) in [(5, 1), (6, 3)] {
        let nginx = Nginx::start_named(lab, "$arg_room", &WEIGHTS, addresses);
        let variable = format!("names of {addresses} addresses, $arg_room");
        agrees_on_the_ring(&nginx, &variable, &AffinitySource::Query("room".to_owned()), |n| Question {
            query: Some(format!("room={n}")),
            ..Question::default()
        });
    }
}

/// Asks nginx and Longhaul the same questions: a running gateway with all backends, and with each of them removed.
fn agrees_on_the_ring(nginx: &Nginx, variable: &str, source: &AffinitySource, question: impl Fn(u32) -> Question) {
    let questions: Vec<Question> = (0..QUESTIONS).map(question).collect();
    let gone = std::iter::once(None).chain((0..WEIGHTS.len()).map(Some));
    for gone in gone {
        let mut left = nginx.backends.clone();
        gone.map(|gone| left.remove(gone));
        let variant = gone.map_or(Variant::All, Variant::Removed);
        let gateway = Running::with(&left, source);
        let agreement = compare(nginx.address, &variant.path(), &questions, |question| Some(gateway.ask(question)));
        println!("{variable} {variant:?}: {agreement}");
        assert!(agreement.compared >= 1_000, "{variable} {variant:?}: {agreement}");
        assert_eq!(agreement.disagreements, [], "{variable} {variant:?}: {agreement}");
    }
}

/// Asks nginx and Longhaul the same questions: the library with all backends, and with each of them removed and down in
/// turn; a running gateway before and after one of them leaves its file.
fn agrees(nginx: Nginx, variable: &str, source: &AffinitySource, question: impl Fn(u32) -> Question) {
    let questions: Vec<Question> = (0..QUESTIONS).map(question).collect();

    let ask = |variant: Variant, longhaul: &Longhaul| {
        let agreement = compare(nginx.address, &variant.path(), &questions, |question| {
            longhaul.is_decided(question, variant).then(|| longhaul.ask(question))
        });
        println!("{variable} {variant:?}: {agreement}");
        assert!(agreement.compared >= 1_000, "{variable} {variant:?}: {agreement}");
        assert_eq!(agreement.disagreements, [], "{variable} {variant:?}: {agreement}");
    };
    ask(Variant::All, &Longhaul::with_all(&nginx.backends, source));
    for gone in 0..WEIGHTS.len() {
        ask(Variant::Removed(gone), &Longhaul::with_removed(&nginx.backends, source, gone));
        ask(Variant::Removed(gone), &Longhaul::with_drained(&nginx.backends, source, gone));
        ask(Variant::Down(gone), &Longhaul::with_down(&nginx.backends, source, gone));
    }

    let ask_running = |variant: Variant, backends: &[Backend]| {
        let gateway = Running::with(backends, source);
        let agreement = compare(nginx.address, &variant.path(), &questions, |question| Some(gateway.ask(question)));
        println!("{variable} {variant:?}, a running gateway: {agreement}");
        assert!(agreement.compared >= 1_000, "{variable} {variant:?}: {agreement}");
        assert_eq!(agreement.disagreements, [], "{variable} {variant:?}: {agreement}");
    };
    ask_running(Variant::All, &nginx.backends);
    let gone = WEIGHTS.len() - 1;
    let mut left = nginx.backends.clone();
    left.remove(gone);
    ask_running(Variant::Removed(gone), &left);
}
