//! Faults on a worker, and the tunnels that they cost: the one, or none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::plain::{Far, plain};
use crate::access_log::AccessLog;
use crate::config::TunnelLimits;
use crate::tunnel::{Reason, RuleVerdict, Scope, Seen, Tunnels};

fn open(tunnels: &Tunnels, name: &str, limits: TunnelLimits) -> Far {
    let (tunnel, far) = plain(name, limits);
    tunnels.open(tunnel);
    far
}

fn start(workers: usize) -> Tunnels {
    Tunnels::start(workers, &AccessLog::off()).unwrap()
}

#[tokio::test]
async fn a_rule_that_panics_costs_the_tunnel_that_it_was_asked_about() {
    let tunnels = start(1);
    let [mut one, mut bad, mut other] =
        ["one", "bad", "other"].map(|name| open(&tunnels, name, TunnelLimits::default()));
    let rule = |standing: &crate::tunnel::Standing<'_>| {
        assert_ne!(standing.record.request_id, "bad".into());
        RuleVerdict::Keep
    };
    tunnels.judge(Arc::new(rule)).await;
    assert_eq!(bad.close_frame(), (1011, "internal_error".into()));
    one.exchange();
    other.exchange();
    let mut late = open(&tunnels, "bad", TunnelLimits::default());
    assert_eq!(late.close_frame(), (1011, "internal_error".into()), "the same when it opens later");
    open(&tunnels, "good", TunnelLimits::default()).exchange();
    assert_eq!(tunnels.lost_workers(), 0);
}

#[tokio::test]
async fn a_look_that_panics_costs_nothing() {
    let tunnels = start(1);
    let mut far = open(&tunnels, "seen", TunnelLimits::default());
    tunnels.visit(Arc::new(|_| panic!("as told"))).await;
    far.exchange();
}

#[test]
fn times_that_cannot_be_added_to_a_moment_are_limits_that_never_come() {
    let tunnels = start(1);
    let longest = Some(Duration::MAX);
    let limits = TunnelLimits {
        idle: longest,
        max_age: longest,
        ping: longest,
        stall: longest,
        tcp_user_timeout: None,
        max_message: Some(u64::MAX),
    };
    let mut far = open(&tunnels, "for ever", limits);
    far.exchange();
    tunnels.end(&Scope::All, Reason::Shutdown { code: 1001 }, Duration::MAX);
    far.exchange();
    open(&tunnels, "opens while all end", limits).exchange();
    assert_eq!(tunnels.lost_workers(), 0);
}

#[test]
fn a_worker_that_fails_hands_its_tunnels_to_the_others() {
    let tunnels = start(2);
    let mut fars: Vec<Far> = (0..6).map(|n| open(&tunnels, &n.to_string(), TunnelLimits::default())).collect();
    fars.iter_mut().for_each(Far::exchange);
    tunnels.lose_a_worker();
    fars.iter_mut().for_each(Far::exchange);
    assert_eq!((tunnels.count(), tunnels.lost_workers()), (6, 1));
    let mut late: Vec<Far> = (0..4).map(|_| open(&tunnels, "late", TunnelLimits::default())).collect();
    late.iter_mut().for_each(Far::exchange);
    tunnels.stop();
    assert_eq!(tunnels.lost_workers(), 1, "the one that was told to stop is not lost");
}

#[tokio::test]
async fn a_turn_is_as_long_as_what_the_worker_did_in_it() {
    let tunnels = start(1);
    let mut far = open(&tunnels, "a", TunnelLimits::default());
    far.exchange();
    let seconds = || tunnels.metrics().turns(0).get_sample_sum();
    let before = seconds();
    let work = Duration::from_millis(30);
    let look = move |_: &Seen<'_>| {
        let begun = Instant::now();
        while begun.elapsed() < work {
            std::hint::spin_loop();
        }
    };
    tunnels.visit(Arc::new(look)).await;
    // In another turn.
    far.exchange();
    assert!(seconds() - before >= work.as_secs_f64());
}
