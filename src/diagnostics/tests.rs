//! The budgets of lines that repeat.

use std::hash::RandomState;

use super::limit::{LineKind, PER_KIND, PER_PLACE, WINDOW, kind_of};
use super::*;

fn with<T>(line: u32, target: &str, text: &str, look: impl FnOnce(&Record<'_>) -> T) -> T {
    let args = format_args!("{text}");
    look(&Record::builder().level(Level::Warn).target(target).file(Some("a.rs")).line(Some(line)).args(args).build())
}

fn kind(hashing: &RandomState, line: u32, text: &str) -> LineKind {
    with(line, "longhaul_lab", text, |record| kind_of(record, hashing))
}

/// Number of `times` equal lines that are written.
fn written(limiter: &mut Budgets, line: u32, text: &str, times: u32, now: Instant) -> u32 {
    let hashing = limiter.hashing();
    let mut written = 0;
    for _ in 0..times {
        let passes = with(line, "longhaul_lab", text, |record| {
            let kind = kind_of(record, &hashing);
            let admission = limiter.admit(kind, record, now);
            if let LineDecision::HeldBackFirst { .. } = admission {
                limiter.describe(kind, text);
            }
            admission == LineDecision::Pass
        });
        written += u32::from(passes);
    }
    written
}

#[test]
fn the_subject_of_a_line_ends_at_its_first_colon() {
    let hashing = RandomState::new();
    let of = |text| kind(&hashing, 1, text);
    assert_eq!(
        of("connect to backend a/[::1]:80 failed: refused (request 1)"),
        of("connect to backend a/[::1]:80 failed: 2")
    );
    assert_ne!(
        of("connect to backend a/[::1]:80 failed: refused"),
        of("connect to backend b/[::1]:80 failed: refused")
    );
    assert_ne!(of("x"), kind(&hashing, 2, "x"));
    let pingora = |text| with(1, "pingora_proxy", text, |record| kind_of(record, &hashing));
    assert_eq!(pingora("GET /a failed: x"), pingora("GET /b failed: x"));
}

#[test]
fn a_kind_that_repeats_is_held_back_and_summed_up_and_leaves_others_their_budget() {
    let (mut limiter, now) = (Budgets::default(), Instant::now());
    assert_eq!(written(&mut limiter, 1, "backend a failed: why", 1_000, now), PER_KIND);
    assert_eq!(written(&mut limiter, 1, "backend b failed: why", 1_000, now), PER_KIND);
    assert_eq!(written(&mut limiter, 2, "backend a failed: why", 1, now), 1);
    let (none, next) = limiter.summaries(now);
    assert_eq!((none, next), (vec![], Some(now + WINDOW)));
    let (due, next) = limiter.summaries(now + WINDOW);
    let mut due: Vec<_> = due.into_iter().map(|held| (held.text, held.count)).collect();
    due.sort();
    let expected = ["backend a failed: why", "backend b failed: why"];
    assert_eq!(due, expected.map(|text| (text.to_owned(), u64::from(1_000 - PER_KIND))));
    assert_eq!(next, None);
    assert_eq!(written(&mut limiter, 1, "backend a failed: why", 1_000, now + WINDOW), PER_KIND);
}

#[test]
fn a_client_that_chooses_the_subject_gains_nothing_and_the_table_has_a_bound() {
    let (mut limiter, now) = (Budgets::default(), Instant::now());
    let all: u32 = (0..5_000).map(|n| written(&mut limiter, 1, &format!("path {n} failed: x"), 1, now)).sum();
    assert_eq!(all, PER_PLACE);
    assert_eq!(written(&mut limiter, 9_999, "backend a failed: x", 1_000, now), PER_KIND, "other places are unharmed");
    let places: u32 = (2..5_000).map(|line| written(&mut limiter, line, "x", 1, now)).sum();
    assert!(places < 1_100, "{places} lines were written");
    assert_eq!(written(&mut limiter, 1, "path 1 failed: x", 1, now + WINDOW), 0, "no summary was taken yet");
    limiter.summaries(now + WINDOW);
    assert_eq!(written(&mut limiter, 1, "path 1 failed: x", 1, now + WINDOW), 1);
}
